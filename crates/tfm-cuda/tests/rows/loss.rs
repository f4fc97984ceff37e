//! The loss, its gradient, and the best candidates of search.

use crate::bench::{
    FLOATS, Operand, assert_near, everywhere, fused, noise, packed, rows, tolerance,
};
use tfm_core::backend::ViewMut;
use tfm_core::fused::{CrossEntropy, CrossEntropyGradient, TopLogProbabilities};
use tfm_core::{Backend, DType};
use tfm_cuda::CudaBackend;

const VOCABULARIES: [usize; 5] = [1, 7, 1000, 8192 + 3, 20_008];

/// log Σ exp of a row.
fn log_sum_exp(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter().map(|x| (x - max).exp()).sum::<f64>().ln() + max
}

#[test]
fn cross_entropy_and_its_gradient() {
    everywhere("loss::cross_entropy_and_its_gradient", |cuda| {
        for (case, v) in VOCABULARIES.into_iter().enumerate() {
            for (dtype, smoothing) in FLOATS.into_iter().zip([0.1, 0.0, 0.1]) {
                let n = if v > 1000 { 2 } else { 5 };
                let (offset, gap) = if case % 2 == 0 { (8, 8) } else { (3, 5) };
                let values: Vec<f64> = noise(1, n * v, 4.0).iter().map(|x| x + 20.0).collect();
                let logits = rows(cuda, dtype, &[n, v], &values, [offset, gap]);
                let ids: Vec<f64> = (0..n).map(|i| ((7919 * i + v - 1) % v) as f64).collect();
                let targets = packed(cuda, DType::I32, &[n], &ids, 1);
                let what = format!("v = {v}, {dtype}, smoothing {smoothing}");

                let op = CrossEntropy { smoothing };
                let result: (_, &[usize]) = (DType::F32, &[n]);
                let got = fused(cuda, op, &[&logits, &targets], &[result, result], 3);
                let sums: Vec<f64> = (0..n).map(|row| log_sum_exp(logits.row(row))).collect();
                let loss: Vec<f64> = (0..n)
                    .map(|row| {
                        let x = logits.row(row);
                        let mean = x.iter().sum::<f64>() / v as f64;
                        let of_target = sums[row] - x[ids[row] as usize];
                        (1.0 - smoothing) * of_target + smoothing * (sums[row] - mean)
                    })
                    .collect();
                assert_near(&format!("log Σ exp, {what}"), &got[1], &sums, 1e-5);
                if v > 1 {
                    assert_near(&format!("loss, {what}"), &got[0], &loss, 1e-5);
                }

                let sums_given = packed(cuda, DType::F32, &[n], &sums, 1);
                let d_loss = packed(cuda, DType::F32, &[n], &noise(3, n, 1.0), 2);
                let mut logits = packed(cuda, dtype, &[n, v], &values, offset);
                let want: Vec<f64> = (0..n * v)
                    .map(|i| {
                        let (row, column) = (i / v, i % v);
                        let hot = if column as f64 == ids[row] { 1.0 - smoothing } else { 0.0 };
                        let p = (logits.values[i] - sums[row]).exp();
                        d_loss.values[row] * (p - hot - smoothing / v as f64)
                    })
                    .collect();
                let op = CrossEntropyGradient { smoothing };
                in_place(cuda, op, &mut logits, &[&targets, &sums_given, &d_loss]);
                let got = cuda.download(logits.view()).unwrap();
                if v > 1 {
                    assert_near(&format!("gradient, {what}"), &got, &want, 2.0 * tolerance(dtype));
                }
            }
        }
    });
}

fn in_place(
    cuda: &CudaBackend,
    op: CrossEntropyGradient,
    logits: &mut Operand,
    others: &[&Operand],
) {
    let others: Vec<_> = others.iter().map(|x| x.view()).collect();
    let Operand { buffer, dtype, layout, .. } = logits;
    let out = ViewMut { buffer, dtype: *dtype, layout };
    cuda.fused(&op.into(), &others, &mut [out]).unwrap();
}

#[test]
fn top_log_probabilities() {
    everywhere("loss::top_log_probabilities", |cuda| {
        for (case, v) in VOCABULARIES.into_iter().enumerate() {
            let ks = [(DType::F32, 1), (DType::F32, 5), (DType::F16, 8), (DType::BF16, 11)];
            for (dtype, k) in ks.into_iter().filter(|(_, k)| *k <= v) {
                let (offset, gap) = if case % 2 == 0 { (8, 8) } else { (3, 5) };
                let x = rows(cuda, dtype, &[2, v], &noise(5, 2 * v, 9.0), [offset, gap]);
                // A third of the tokens are banned, and some are favoured.
                let bias: Vec<f64> = (0..v)
                    .map(|i| if i % 3 == 1 { f64::NEG_INFINITY } else { (i % 7) as f64 / 4.0 })
                    .collect();
                let bias = packed(cuda, dtype, &[v], &bias, offset);
                let op = TopLogProbabilities { k };
                let results: [(_, &[usize]); 2] = [(dtype, &[2, k]), (DType::I32, &[2, k])];
                let got = fused(cuda, op, &[&x, &bias], &results, 1);
                let what = format!("v = {v}, k = {k}, {dtype}");
                let (values, ids) = (got[0].to_f64(), got[1].to_f64());
                for row in 0..2 {
                    let sum = log_sum_exp(x.row(row));
                    let all: Vec<f64> =
                        x.row(row).iter().zip(&bias.values).map(|(x, b)| x - sum + b).collect();
                    let score = |i: usize| x.row(row)[i] + bias.values[i];
                    let mut order: Vec<usize> = (0..v).collect();
                    order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
                    for j in 0..k {
                        let (value, id) = (values[row * k + j], ids[row * k + j] as usize);
                        // Sums that were equal before rounding may come in any order.
                        let short = score(order[j]) - score(id);
                        let is_next =
                            id == order[j] || short.abs() <= 1e-5 * (1.0 + score(id).abs());
                        let is_new = !ids[row * k..row * k + j].contains(&(id as f64));
                        assert!(is_next && is_new, "{what}, row {row}: candidate {j} is {id}");
                        let error = (value - all[id]).abs() / (1.0 + all[id].abs());
                        let exact = value == all[id] || error <= tolerance(dtype);
                        assert!(exact, "{what}: {value}, not {}", all[id]);
                    }
                }
            }
        }
    });
}

/// Equal candidates come in the order of their ids, whichever thread has them. NaN spoils only the
/// values.
#[test]
fn equal_candidates() {
    everywhere("loss::equal_candidates", |cuda| {
        for v in [9, 100, 5000] {
            let results: [(_, &[usize]); 2] = [(DType::F32, &[1, 9]), (DType::I32, &[1, 9])];
            let top = |x: &[f64], bias: &[f64]| {
                let x = packed(cuda, DType::F32, &[1, v], x, 0);
                let bias = packed(cuda, DType::F32, &[v], bias, 0);
                fused(cuda, TopLogProbabilities { k: 9 }, &[&x, &bias], &results, 0)
            };
            let in_order: Vec<i32> = (0..9).collect();
            let zeros = vec![0.0; v];
            assert_eq!(top(&zeros, &zeros)[1].as_i32().unwrap(), in_order);
            let banned = top(&zeros, &vec![f64::NEG_INFINITY; v]);
            assert_eq!(banned[1].as_i32().unwrap(), in_order);
            assert_eq!(banned[0].as_f32().unwrap(), [f32::NEG_INFINITY; 9]);
            let mut broken = zeros.clone();
            broken[v - 1] = f64::NAN;
            let broken = top(&broken, &zeros);
            assert!(broken[0].as_f32().unwrap().iter().all(|y| y.is_nan()));
            let mut ids = broken[1].as_i32().unwrap().to_vec();
            ids.dedup();
            assert!(ids.len() == 9 && ids.iter().all(|id| (0..v as i32).contains(id)), "{ids:?}");
        }
    });
}
