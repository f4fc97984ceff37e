//! What the kernels' tests share.

use super::simd::Isa;
use super::threads::Threads;

/// Reproducible numbers in [-1, 1).
pub(crate) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Every instruction set of this machine with 1, 2 and 3 threads.
pub(crate) fn everywhere(mut test: impl FnMut(Isa, &Threads)) {
    for isa in Isa::available() {
        for count in [1, 2, 3] {
            test(isa, &Threads::new(count).expect("threads start"));
        }
    }
}

/// Panics if two numbers differ by more than `bound`.
#[track_caller]
pub(crate) fn assert_near(got: &[f32], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (got as f64 - want).abs();
        assert!(error <= bound || got as f64 == want, "element {i}: {got}, not {want}");
    }
}

/// Panics if two slices differ in a bit.
#[track_caller]
pub(crate) fn assert_same_bits(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "element {i}: {a} and {b}");
    }
}
