//! What the tests of single kernels share: values of the element types as bytes, and the errors
//! that are allowed.

use half::{bf16, f16};
use tfm_core::DType;

pub(crate) const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Uniform numbers in [-1, 1), which the seed decides.
pub(crate) fn noise(seed: i32, n: usize) -> Vec<f64> {
    let draw = |i: usize| tfm_core::philox::uniform([seed, 0, 0], 0, i);
    (0..n).map(|i| f64::from(draw(i)) * 2.0 - 1.0).collect()
}

/// The type's part in the names of kernels.
pub(crate) fn name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        _ => "bf16",
    }
}

pub(crate) fn encode(dtype: DType, x: &[f64]) -> Vec<u8> {
    match dtype {
        DType::F32 => x.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        DType::F16 => x.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect(),
        _ => x.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect(),
    }
}

pub(crate) fn decode(dtype: DType, x: &[u8]) -> Vec<f64> {
    match dtype {
        DType::F32 => x.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
        DType::F16 => x.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect(),
        _ => x.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect(),
    }
}

/// Checks that ‖found − expected‖ is within the type's share of ‖expected‖. Otherwise says what is
/// wrong.
pub(crate) fn check(dtype: DType, found: &[f64], expected: &[f64]) -> Result<(), String> {
    assert_eq!(found.len(), expected.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let share = match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 1e-3,
        _ => 5e-3,
    };
    let bound = share * norm(&mut expected.iter().copied());
    if error <= bound {
        Ok(())
    } else {
        Err(format!("an error of {error:e}, allowed are {bound:e}"))
    }
}
