//! A row of a weight as 8-bit integers, as [`Precision::Int8`](super::Precision::Int8) has it: the one definition in
//! numbers, for kernels and for files.

/// The largest magnitude of an integer.
pub const LARGEST: i8 = 127;

/// The largest sum of two neighbours of one sign before they are rounded, which adds at most 1.
pub const LARGEST_SUM: f32 = 128.0;

/// Quantises a row: `row ≈ scale·integers`, each the nearest integer, ties to even. Returns the scale: that of zeros is 0.
/// What is not finite gives some integers and scale.
///
/// Inlined, for kernels that are compiled for other instruction sets.
#[inline(always)]
pub fn quantize(row: &[f32], integers: &mut [i8]) -> f32 {
    let scale = scale(row);
    let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (integer, x) in integers.iter_mut().zip(row) {
        *integer = nearest(x * factor);
    }
    scale
}

/// The nearest integer of a magnitude up to [`LARGEST`], ties to even: adding and taking away 1.5·2²³ leaves no room for a
/// fraction. Larger ones, which a factor of ∞ makes of numbers below 2⁻¹²⁰, end there.
#[inline(always)]
fn nearest(x: f32) -> i8 {
    const MAGIC: f32 = 12_582_912.0;
    let most = f32::from(LARGEST);
    let clamped = smaller(larger(x, -most), most);
    // The integer stands in the last bits of the sum.
    ((clamped + MAGIC).to_bits() as u8) as i8
}

/// The least scale with which no integer of a row exceeds [`LARGEST`] and no sum of those of one sign at an even place and
/// the next [`LARGEST_SUM`], but for rounding.
#[inline(always)]
fn scale(row: &[f32]) -> f32 {
    let mut scales = [0.0f32; 16];
    let mut whole = row.chunks_exact(2 * scales.len());
    for x in &mut whole {
        for (scale, pair) in scales.iter_mut().zip(x.chunks_exact(2)) {
            *scale = larger(*scale, of_pair(pair[0], pair[1]));
        }
    }
    for pair in whole.remainder().chunks(2) {
        scales[0] = larger(scales[0], of_pair(pair[0], pair.get(1).copied().unwrap_or(0.0)));
    }
    scales.into_iter().fold(0.0, larger)
}

#[inline(always)]
fn of_pair(a: f32, b: f32) -> f32 {
    let positive = larger(a, 0.0) + larger(b, 0.0);
    let negative = larger(-a, 0.0) + larger(-b, 0.0);
    let largest = larger(larger(a, -a), larger(b, -b));
    larger(largest / f32::from(LARGEST), larger(positive, negative) / LARGEST_SUM)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Whether products may take these integers for a row of a weight: none beyond [`LARGEST`], and no neighbours of one sign that
/// sum to more than 1 beyond [`LARGEST_SUM`].
pub fn is_row(integers: &[i8]) -> bool {
    let mut most = 0i16;
    let mut pairs = integers.chunks_exact(2);
    for pair in &mut pairs {
        let (a, b) = (i16::from(pair[0]), i16::from(pair[1]));
        let sum = (a.max(0) + b.max(0)).max(-a.min(0) - b.min(0));
        // Of a single one 127 is the most, of both 129.
        most = most.max(sum).max(a.abs().max(b.abs()) + 2);
    }
    let last = pairs.remainder().iter().all(|&last| last >= -LARGEST);
    last && most <= LARGEST_SUM as i16 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_the_nearest_and_the_scale_is_the_least() {
        let mut state = 7u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        for columns in [0, 1, 2, 31, 32, 33, 100] {
            for size in [1.0, 1e-3, 1e30] {
                let row: Vec<f32> = (0..columns).map(|_| size * noise()).collect();
                let mut integers = vec![5; columns];
                let scale = quantize(&row, &mut integers);
                assert!(is_row(&integers), "{integers:?}");
                let pairs = row.chunks(2).map(|pair| {
                    let of_sign = |sign: f32| pair.iter().map(|x| (sign * x).max(0.0)).sum::<f32>();
                    let largest = pair.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                    (largest / 127.0).max(of_sign(1.0).max(of_sign(-1.0)) / 128.0)
                });
                assert_eq!(scale, pairs.fold(0.0, f32::max));
                for (&integer, x) in integers.iter().zip(&row) {
                    let expected = (x * (1.0 / scale)).round_ties_even();
                    assert_eq!(f32::from(integer), expected, "{x} by {scale}");
                }
            }
        }
    }

    #[test]
    fn ties_go_to_even_and_tiny_rows_end_at_the_largest() {
        // A scale of exactly 1: 127, and ties beside it.
        let (row, mut integers) = ([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 0.0], [9; 7]);
        assert_eq!(quantize(&row, &mut integers), 1.0);
        assert_eq!(integers, [127, 0, 2, 2, 0, -2, 0]);
        let tiny = f32::from_bits(1);
        let (row, mut integers) = ([200.0 * tiny, 0.0, -200.0 * tiny], [9; 3]);
        assert!(quantize(&row, &mut integers) > 0.0);
        assert!(is_row(&integers));
        assert_eq!((quantize(&[0.0; 3], &mut integers), integers), (0.0, [0; 3]));
    }

    #[test]
    fn rows_that_saturate_are_told_apart() {
        assert!(is_row(&[]) && is_row(&[127]) && is_row(&[-127]) && is_row(&[127, 2, 2, 127]));
        assert!(is_row(&[127, -127, -64, -65]));
        // Neighbours of different pairs are never added.
        assert!(is_row(&[0, 127, 127, 0]));
        for row in
            [&[-128][..], &[127, 3], &[-64, -66], &[0, 0, -128, 0], &[0, -128], &[1, 1, -127, -3]]
        {
            assert!(!is_row(row), "{row:?}");
        }
    }
}
