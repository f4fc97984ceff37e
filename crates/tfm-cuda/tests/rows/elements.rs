//! Activation functions, dropout, Adam and the squared length of gradients.

use crate::bench::{FLOATS, Operand, assert_near, everywhere, fused, noise, packed, tolerance};
use tfm_core::backend::ViewMut;
use tfm_core::fused::{
    Activate, ActivateGradient, Activation, Adam, Dropout, DropoutMask, SumOfSquares,
};
use tfm_core::{Backend, DType, philox};
use tfm_cuda::CudaBackend;

const LENGTHS: [usize; 6] = [0, 1, 7, 8, 1025, 4099];

/// The error function by its series, for |x| < 6.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn function(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Swish => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
    }
}

/// The derivative by central differences, which is right to 1e-8.
fn slope(activation: Activation, x: f64) -> f64 {
    if activation == Activation::Relu {
        return f64::from(u8::from(x > 0.0));
    }
    let h = 1e-4;
    (function(activation, x + h) - function(activation, x - h)) / (2.0 * h)
}

#[test]
fn activations_and_their_gradients() {
    everywhere("elements::activations_and_their_gradients", |cuda| {
        for (case, n) in LENGTHS.into_iter().enumerate() {
            for (dtype, activation) in
                FLOATS.into_iter().flat_map(|t| Activation::ALL.map(|activation| (t, activation)))
            {
                let offset = if case % 2 == 0 { 8 } else { 3 };
                let bounded: Vec<f64> =
                    noise(1, n, 2.0).iter().map(|x| x.clamp(-5.0, 5.0)).collect();
                let x = packed(cuda, dtype, &[n], &bounded, offset);
                let dy = packed(cuda, dtype, &[n], &noise(2, n, 1.0), 8);
                let result: [(_, &[usize]); 1] = [(dtype, &[n])];
                let what = format!("{activation:?} of {n}, {dtype}");
                let y = fused(cuda, Activate(activation), &[&x], &result, offset);
                let want: Vec<f64> = x.values.iter().map(|x| function(activation, *x)).collect();
                assert_near(&what, &y[0], &want, tolerance(dtype));
                let dx = fused(cuda, ActivateGradient(activation), &[&x, &dy], &result, offset);
                let pairs = x.values.iter().zip(&dy.values);
                let want: Vec<f64> = pairs.map(|(x, dy)| dy * slope(activation, *x)).collect();
                let what = format!("gradient of {what}");
                assert_near(&what, &dx[0], &want, 2.0 * tolerance(dtype));
            }
        }
        // Nothing is NaN far from 0.
        let x = packed(cuda, DType::F32, &[4], &[-1e30, -200.0, 200.0, 1e30], 0);
        let dy = packed(cuda, DType::F32, &[4], &[1.0; 4], 0);
        for activation in Activation::ALL {
            let result: [(_, &[usize]); 1] = [(DType::F32, &[4])];
            let got = fused(cuda, ActivateGradient(activation), &[&x, &dy], &result, 0);
            let above = if activation == Activation::Tanh { 0.0 } else { 1.0 };
            assert_eq!(got[0].as_f32().unwrap(), [0.0, 0.0, above, above], "{activation:?}");
        }
    });
}

/// Dropout takes the numbers of `philox`, at every position.
#[test]
fn dropout() {
    everywhere("elements::dropout", |cuda| {
        for (case, n) in LENGTHS.into_iter().enumerate() {
            for (dtype, residual) in FLOATS.into_iter().flat_map(|t| [(t, false), (t, true)]) {
                let offset = if case % 2 == 0 { 8 } else { 3 };
                let mask = DropoutMask { rate: 0.3, stream: 5 };
                let ones: Vec<f64> = noise(1, n, 1.0).iter().map(|x| x + 20.0).collect();
                let x = packed(cuda, dtype, &[n], &ones, offset);
                let more = packed(cuda, dtype, &[n], &noise(2, n, 1.0), 8);
                let key = packed(cuda, DType::I32, &[3], &[11.0, -3.0, 77.0], 1);
                let inputs = [&x, &key, &more];
                let op = Dropout { mask, residual };
                let inputs = &inputs[..2 + usize::from(residual)];
                let got = fused(cuda, op, inputs, &[(dtype, &[n])], offset);
                let kept = |i: usize| philox::uniform([11, -3, 77], 5, i) >= 0.3;
                let want: Vec<f64> = (0..n)
                    .map(|i| {
                        let y = if kept(i) { x.values[i] * mask.scale() } else { 0.0 };
                        y + if residual { more.values[i] } else { 0.0 }
                    })
                    .collect();
                let what = format!("{n}, {dtype}, residual: {residual}");
                assert_near(&what, &got[0], &want, tolerance(dtype));
                if !residual {
                    let zeros = got[0].to_f64().iter().map(|y| *y == 0.0).collect::<Vec<_>>();
                    let dropped: Vec<bool> = (0..n).map(|i| !kept(i)).collect();
                    assert_eq!(zeros, dropped, "{what}");
                }
            }
        }
    });
}

#[test]
fn sum_of_squares() {
    everywhere("elements::sum_of_squares", |cuda| {
        for n in [0, 1, 9, 16_384, 16_385, 100_003] {
            for (dtype, offset) in FLOATS.into_iter().zip([8, 3, 8]) {
                let x = packed(cuda, dtype, &[n], &noise(1, n, 1.0), offset);
                let got = fused(cuda, SumOfSquares, &[&x], &[(DType::F32, &[])], 1);
                let want = x.values.iter().map(|x| x * x).sum::<f64>();
                assert_near(&format!("{n}, {dtype}"), &got[0], &[want], 1e-5);
            }
        }
    });
}

/// Parameter and moments after a step, which computes them in their own memory.
fn step(
    cuda: &CudaBackend,
    op: Adam,
    state: &[Vec<f64>; 3],
    gradient: &[f64],
    scale: f64,
    offset: usize,
) -> [Vec<f64>; 3] {
    let n = gradient.len();
    let mut state = state.each_ref().map(|x| packed(cuda, DType::F32, &[n], x, offset));
    let gradient = packed(cuda, DType::F32, &[n], gradient, offset);
    let rates = packed(cuda, DType::F32, &[3], &[0.01, 2.0, 8.0], 1);
    let scale = packed(cuda, DType::F32, &[], &[scale], 1);
    let inputs = [gradient.view(), rates.view(), scale.view()];
    let mut views = state.each_mut().map(|Operand { buffer, dtype, layout, .. }| ViewMut {
        buffer,
        dtype: *dtype,
        layout,
    });
    cuda.fused(&op.into(), &inputs, &mut views).unwrap();
    state.each_ref().map(|x| cuda.download(x.view()).unwrap().to_f64())
}

#[test]
fn adam() {
    everywhere("elements::adam", |cuda| {
        for (n, offset) in [(1, 0), (7, 3), (1024, 4), (1027, 1)] {
            let op = Adam { beta1: 0.9, beta2: 0.98, epsilon: 1e-9, weight_decay: 0.1 };
            let positive = |seed| noise(seed, n, 0.1).iter().map(|x| x.abs() + 0.01).collect();
            let state = [noise(1, n, 1.0), noise(2, n, 0.1), positive(3)];
            let gradient = noise(4, n, 1.0);
            let got = step(cuda, op, &state, &gradient, 0.5, offset);
            for i in 0..n {
                let [p, m, v] = state.each_ref().map(|x| f64::from(x[i] as f32));
                let g = 0.5 * f64::from(gradient[i] as f32);
                let (m, v) = (0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g);
                let p = p - 0.01 * (2.0 * m / ((8.0 * v).sqrt() + 1e-9) + 0.1 * p);
                for (got, want) in got.each_ref().map(|x| x[i]).into_iter().zip([p, m, v]) {
                    assert!(
                        (got - want).abs() <= 1e-6 * (1.0 + want.abs()),
                        "{i} of {n}: {got}, {want}"
                    );
                }
            }
            // A scale that is NaN: nothing changes, whatever the gradient.
            let after = step(cuda, op, &got, &vec![f64::NAN; n], f64::NAN, offset);
            assert_eq!(after, got);
        }
    });
}
