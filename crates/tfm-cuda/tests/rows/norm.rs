//! Layer and RMS normalisation, their gradients, and softmax. A row has the same bits in any
//! company.

use crate::bench::{
    FLOATS, Operand, assert_near, everywhere, fused, noise, packed, rows, tolerance,
};
use tfm_core::DType;
use tfm_core::fused::{
    CrossEntropy, Fused, LayerNorm, LayerNormGradient, RmsNorm, RmsNormGradient, Softmax,
};

const WIDTHS: [usize; 10] = [1, 31, 32, 33, 511, 512, 1000, 1024, 1025, 2100];
const EPSILON: f64 = 1e-5;

/// (x − μ)/√(σ² + ε) and 1/√(σ² + ε); μ is 0 unless `centred`.
fn normal(x: &[f64], centred: bool) -> (Vec<f64>, f64) {
    let d = x.len() as f64;
    let mean = if centred { x.iter().sum::<f64>() / d } else { 0.0 };
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d;
    let factor = 1.0 / (variance + EPSILON).sqrt();
    (x.iter().map(|x| (x - mean) * factor).collect(), factor)
}

#[test]
fn norms() {
    everywhere("norm::norms", |cuda| {
        for (case, d) in WIDTHS.into_iter().enumerate() {
            let n = if d > 500 { 3 } else { 7 };
            for dtype in FLOATS {
                // Rows at multiples of 16 bytes, and rows at odd addresses.
                let (offset, gap) = if case % 2 == 0 { (8, 16) } else { (3, 5) };
                let what = format!("d = {d}, {dtype}");
                let values: Vec<f64> = noise(1, n * d, 2.0).iter().map(|x| x + 3.0).collect();
                let x = rows(cuda, dtype, &[n, d], &values, [offset, gap]);
                let [weight, bias] =
                    [2, 3].map(|seed| packed(cuda, dtype, &[d], &noise(seed, d, 1.0), offset));
                for centred in [true, false] {
                    let bias = centred.then_some(&bias);
                    let inputs: Vec<_> = [&x, &weight].into_iter().chain(bias).collect();
                    let op: Fused = match centred {
                        true => LayerNorm { epsilon: EPSILON }.into(),
                        false => RmsNorm { epsilon: EPSILON }.into(),
                    };
                    let got = fused(cuda, op, &inputs, &[(dtype, &[n, d])], offset);
                    let want: Vec<f64> = (0..n)
                        .flat_map(|row| normal(x.row(row), centred).0.into_iter().enumerate())
                        .map(|(i, x)| x * weight.values[i] + bias.map_or(0.0, |b| b.values[i]))
                        .collect();
                    assert_near(&what, &got[0], &want, tolerance(dtype));
                }
            }
        }
    });
}

#[test]
fn norm_gradients() {
    everywhere("norm::norm_gradients", |cuda| {
        let cases = [(0, 8), (1, 1), (5, 31), (9, 33), (3, 511), (70, 512), (5, 1000), (6, 1025)];
        for (case, (n, d)) in cases.into_iter().enumerate() {
            for dtype in FLOATS {
                let (offset, gap) = if case % 2 == 0 { (8, 16) } else { (3, 5) };
                let what = format!("{n} rows of {d}, {dtype}");
                let x = rows(cuda, dtype, &[n, d], &noise(1, n * d, 2.0), [offset, gap]);
                let dy = rows(cuda, dtype, &[n, d], &noise(2, n * d, 1.0), [offset, 2 * gap]);
                let weight = packed(cuda, dtype, &[d], &noise(3, d, 1.0), offset);
                for centred in [true, false] {
                    let results: [(_, &[usize]); 3] =
                        [(dtype, &[n, d]), (dtype, &[d]), (dtype, &[d])];
                    let (op, results): (Fused, _) = match centred {
                        true => (LayerNormGradient { epsilon: EPSILON }.into(), &results[..]),
                        false => (RmsNormGradient { epsilon: EPSILON }.into(), &results[..2]),
                    };
                    let got = fused(cuda, op, &[&x, &weight, &dy], results, offset);
                    let (mut dx, mut d_weight, mut d_bias) = (vec![], vec![0.0; d], vec![0.0; d]);
                    for row in 0..n {
                        let (normal, factor) = normal(x.row(row), centred);
                        let dy = dy.row(row);
                        let mean_of =
                            |x: &dyn Fn(usize) -> f64| (0..d).map(x).sum::<f64>() / d as f64;
                        let g = |i: usize| dy[i] * weight.values[i];
                        let mean = if centred { mean_of(&g) } else { 0.0 };
                        let product = mean_of(&|i| g(i) * normal[i]);
                        dx.extend((0..d).map(|i| (g(i) - mean - normal[i] * product) * factor));
                        for i in 0..d {
                            d_weight[i] += dy[i] * normal[i];
                            d_bias[i] += dy[i];
                        }
                    }
                    let tolerance = 2.0 * tolerance(dtype);
                    // The gradient of a single element is only rounding error.
                    if d > 1 {
                        assert_near(&format!("dx, {what}"), &got[0], &dx, tolerance);
                        assert_near(&format!("dγ, {what}"), &got[1], &d_weight, tolerance);
                    }
                    if centred {
                        assert_near(&format!("dβ, {what}"), &got[2], &d_bias, tolerance);
                    }
                }
            }
        }
    });
}

#[test]
fn softmax() {
    everywhere("norm::softmax", |cuda| {
        for (case, n) in [1, 7, 32, 33, 511, 1000, 1024, 1025, 8195].into_iter().enumerate() {
            for (dtype, log) in
                FLOATS.into_iter().zip([case % 2 == 0, case % 3 == 0, case % 2 == 1])
            {
                let (offset, gap) = if case % 2 == 0 { (8, 16) } else { (3, 5) };
                let values: Vec<f64> = noise(4, 3 * n, 3.0).iter().map(|x| x + 50.0).collect();
                let x = rows(cuda, dtype, &[3, n], &values, [offset, gap]);
                let got = fused(cuda, Softmax { log }, &[&x], &[(dtype, &[3, n])], offset);
                let want: Vec<f64> = (0..3)
                    .flat_map(|row| {
                        let sum: f64 = x.row(row).iter().map(|x| (x - 50.0).exp()).sum();
                        x.row(row).iter().map(move |x| x - 50.0 - sum.ln())
                    })
                    .map(|y| if log { y } else { y.exp() })
                    .collect();
                let what = format!("n = {n}, {dtype}, log: {log}");
                assert_near(&what, &got[0], &want, tolerance(dtype));
            }
        }
    });
}

/// A row has the same bits whatever other rows there are and wherever it lies.
#[test]
fn a_row_has_the_same_bits_alone() {
    everywhere("norm::a_row_has_the_same_bits_alone", |cuda| {
        for (d, dtype) in [33, 512, 1000, 2100].into_iter().flat_map(|d| FLOATS.map(|t| (d, t))) {
            let together = rows(cuda, dtype, &[3, d], &noise(1, 3 * d, 2.0), [3, 5]);
            let alone = packed(cuda, dtype, &[1, d], together.row(2), 0);
            let other = packed(cuda, dtype, &[d], &noise(2, d, 1.0), 0);
            let targets = packed(cuda, DType::I32, &[3], &[5.0; 3], 0);
            let target = packed(cuda, DType::I32, &[1], &[5.0], 0);
            let norm: Fused = LayerNorm { epsilon: EPSILON }.into();
            let rms: Fused = RmsNorm { epsilon: EPSILON }.into();
            let gradient: Fused = LayerNormGradient { epsilon: EPSILON }.into();
            let (softmax, loss) =
                (Softmax { log: false }.into(), CrossEntropy { smoothing: 0.1 }.into());
            let last =
                |op: &Fused, x: &Operand, more: &[&Operand], results: &[(DType, &[usize])]| {
                    let inputs: Vec<&Operand> =
                        [x].into_iter().chain(more.iter().copied()).collect();
                    let y = fused(cuda, op.clone(), &inputs, results, 0)[0].to_f64();
                    let width = y.len() / x.layout.shape()[0];
                    y[y.len() - width..].to_vec()
                };
            let (many, one): ([usize; 2], [usize; 2]) = ([3, d], [1, d]);
            let vector = [d];
            for (op, more) in
                [(&norm, vec![&other, &other]), (&rms, vec![&other]), (&softmax, vec![])]
            {
                let want = last(op, &together, &more, &[(dtype, &many)]);
                assert_eq!(last(op, &alone, &more, &[(dtype, &one)]), want, "{op:?}, {d}, {dtype}");
            }
            let want = last(
                &gradient,
                &together,
                &[&other, &together],
                &[(dtype, &many), (dtype, &vector), (dtype, &vector)],
            );
            let results: [(_, &[usize]); 3] = [(dtype, &one), (dtype, &vector), (dtype, &vector)];
            assert_eq!(last(&gradient, &alone, &[&other, &alone], &results), want, "{d}, {dtype}");
            let [many, one] = [3, 1].map(|n| [(DType::F32, [n]); 2]);
            let [many, one] =
                [&many, &one].map(|results| results.each_ref().map(|(t, s)| (*t, &s[..])));
            let want = last(&loss, &together, &[&targets], &many);
            assert_eq!(last(&loss, &alone, &[&target], &one), want, "loss, {d}, {dtype}");
        }
    });
}
