//! A row of a weight as 8-bit integers, as [`Precision::Int8`](super::Precision::Int8) has it: the
//! one definition in numbers, for kernels and for files.

/// The largest magnitude of an integer.
pub const LARGEST: i8 = 127;

/// The largest sum of two neighbours of one sign before they are rounded, which adds at most 1.
pub const LARGEST_SUM: f32 = 128.0;

/// Quantises a row: `row ≈ scale·integers`, each the nearest integer, ties to even. Returns the
/// scale: it is 0 for a row of zeros, and for one so small that the reciprocal of the scale
/// overflows. For a row that is not finite, integers and scale are unspecified.
///
/// Always inlined, so that kernels compile it for their own instruction sets.
#[inline(always)]
pub fn quantize(row: &[f32], integers: &mut [i8]) -> f32 {
    let scale = scale(row);
    let factor = 1.0 / scale;
    if factor == f32::INFINITY {
        integers.fill(0);
        return 0.0;
    }
    for (integer, x) in integers.iter_mut().zip(row) {
        *integer = nearest(x * factor);
    }
    scale
}

/// The nearest integer of a magnitude that [`LARGEST`] rounds to at most, ties to even: 1.5·2²³
/// leaves no room for a fraction, and the integer stands in the last bits of the sum.
#[inline(always)]
fn nearest(x: f32) -> i8 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits() as i8
}

/// The least scale with which, but for rounding, no integer of a row exceeds [`LARGEST`] and no two
/// of one sign, at an even position and the next, sum to more than [`LARGEST_SUM`].
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

/// Whether products may take these integers for a row of a weight: none beyond [`LARGEST`], and no
/// neighbours of one sign that sum to more than 1 beyond [`LARGEST_SUM`].
pub fn is_row(integers: &[i8]) -> bool {
    /// The pairs that are checked together, as in a vector register.
    const LANES: usize = 16;
    let (mut single, mut negative, mut positive) = ([0; LANES], [0; LANES], [0; LANES]);
    let (blocks, rest) = integers.as_chunks::<{ 2 * LANES }>();
    let mut last = [0; 2 * LANES];
    last[..rest.len()].copy_from_slice(rest);
    for block in blocks.iter().chain([&last]) {
        for (i, pair) in block.as_chunks().0.iter().enumerate() {
            let [a, b] = pair.map(i16::from);
            single[i] = a.min(b).min(single[i]);
            negative[i] = (a.min(0) + b.min(0)).min(negative[i]);
            positive[i] = (a.max(0) + b.max(0)).max(positive[i]);
        }
    }
    let largest_sum = LARGEST_SUM as i16 + 1;
    single.into_iter().all(|least| least >= -i16::from(LARGEST))
        && negative.into_iter().all(|least| least >= -largest_sum)
        && positive.into_iter().all(|most| most <= largest_sum)
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
    fn ties_go_to_even_and_tiny_rows_are_zero() {
        // A scale of exactly 1: 127, and ties beside it.
        let (row, mut integers) = ([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 0.0], [9; 7]);
        assert_eq!(quantize(&row, &mut integers), 1.0);
        assert_eq!(integers, [127, 0, 2, 2, 0, -2, 0]);
        // From where the scale has a reciprocal on, rows are as others.
        let mut integers = [9; 3];
        for exponent in -149..-100 {
            let tiny = 2f32.powi(exponent);
            let scale = quantize(&[tiny, 0.75 * tiny, -tiny], &mut integers);
            let expected = if exponent > -122 { [73, 55, -73] } else { [0; 3] };
            assert_eq!((integers, scale > 0.0), (expected, exponent > -122), "2^{exponent}");
        }
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
