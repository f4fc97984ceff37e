//! Ops on 8-bit integers through the host code: weights that are stored at load and weights that
//! are not, by both kernels of the linear layer.

use crate::bench::{Operand, assert_near, everywhere, fused, noise, packed, rows};
use tfm_core::backend::Signature;
use tfm_core::fused::{Activation, Embedding, Fused, Linear, Precision};
use tfm_core::{Backend, DType, Tensor};
use tfm_cuda::CudaBackend;

/// The allowed error. A step of 8 bits is up to a 64th of the greatest number of a row.
const TOLERANCE: f64 = 2e-2;

/// A weight, stored as the backend wants it for these ops, which all want it in the same way.
fn stored(cuda: &CudaBackend, ops: &[Fused], weight: &Operand) -> Operand {
    let signature = Signature { inputs: &[] };
    let formats: Vec<_> =
        ops.iter().map(|op| cuda.pack_format(op, 1, &signature).expect("it is stored")).collect();
    assert!(formats.iter().all(|format| *format == formats[0]), "{formats:?}");
    let buffer = cuda.pack(formats[0], weight.view()).unwrap();
    let Operand { dtype, layout, values, .. } = weight;
    Operand { buffer, dtype: *dtype, layout: layout.clone(), values: values.clone() }
}

fn bits(x: &[Tensor]) -> Vec<u32> {
    x[0].as_f32().unwrap().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn linear_and_embedding() {
    everywhere("quantized::linear_and_embedding", |cuda| {
        let precision = Precision::Int8;
        let activation = Some(Activation::Relu);
        let linear = Linear { bias: true, activation, residual: true, precision };
        let embedding = Embedding { scale: 2.0, precision, ..Embedding::default() };
        // The tile kernel for many rows computes the second.
        for (m, n, k) in [(3, 40, 70), (20, 4100, 33)] {
            let x = rows(cuda, DType::F32, &[m, k], &noise(1, m * k, 1.0), [3, 5]);
            let weight = rows(cuda, DType::F32, &[n, k], &noise(2, n * k, 1.0), [1, 2]);
            let bias = packed(cuda, DType::F32, &[n], &noise(3, n, 1.0), 1);
            let residual = rows(cuda, DType::F32, &[m, n], &noise(4, m * n, 1.0), [2, 7]);
            let kept = stored(cuda, &[linear.into(), embedding.into()], &weight);
            let result: (DType, &[usize]) = (DType::F32, &[m, n]);

            let run = |weight| fused(cuda, linear, &[&x, weight, &bias, &residual], &[result], 1);
            let (all, what) = (run(&kept), format!("{m}×{k}×{n}"));
            assert_eq!(bits(&run(&weight)), bits(&all), "{what}");
            let want: Vec<f64> = (0..m * n)
                .map(|i| {
                    let pairs = x.row(i / n).iter().zip(weight.row(i % n));
                    let sum: f64 = pairs.map(|(a, b)| a * b).sum();
                    (sum + bias.values[i % n]).max(0.0) + residual.values[i]
                })
                .collect();
            assert_near(&what, &all[0], &want, TOLERANCE);
            let row = packed(cuda, DType::F32, &[1, k], x.row(m - 1), 0);
            let below = packed(cuda, DType::F32, &[1, n], residual.row(m - 1), 0);
            let operands = [&row, &kept, &bias, &below];
            let alone = fused(cuda, linear, &operands, &[(DType::F32, &[1, n])], 0);
            assert_eq!(bits(&alone), bits(&all)[(m - 1) * n..], "{what}");

            let ids = [n - 1, 0, 5, 0];
            let at = packed(cuda, DType::I32, &[4], &ids.map(|id| id as f64), 0);
            let result: (DType, &[usize]) = (DType::F32, &[4, k]);
            let run = |table| fused(cuda, embedding, &[&at, table], &[result], 3);
            let found = run(&kept);
            assert_eq!(bits(&run(&weight)), bits(&found), "{what}");
            let want: Vec<f64> =
                ids.iter().flat_map(|id| weight.row(*id).iter().map(|x| 2.0 * x)).collect();
            assert_near(&what, &found[0], &want, TOLERANCE);
        }
    });
}
