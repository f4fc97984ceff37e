//! What is ranked, and the order of it.

use half::{bf16, f16};

/// An entry of a row: a number and its column.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::kernels) struct Entry<T> {
    pub(in crate::kernels) value: T,
    pub(in crate::kernels) id: i32,
}

impl<T: PartialOrd + Copy> Entry<T> {
    /// Whether it ranks before another: the greater first, NaN with the lowest; of equals the lower
    /// column first. Without branches, which a sort could not predict.
    #[inline(always)]
    pub(super) fn precedes(&self, other: &Self) -> bool {
        let (before, behind) = (beats(self.value, other.value), beats(other.value, self.value));
        before | (!behind & (self.id < other.id))
    }
}

impl<T: Rankable> Entry<T> {
    /// A number in the order of [`Entry::precedes`]: that of an entry that ranks before another is
    /// less. A sort compares it in one instruction.
    #[inline(always)]
    pub(super) fn key(&self) -> u64 {
        u64::from(!self.value.ascending()) << 32 | u64::from(self.id as u32)
    }
}

/// Values that entries are ranked by.
pub trait Rankable: PartialOrd + Copy + Send + Sync {
    /// A number that is greater for the greater value, the same for equal ones, and 0 for NaN.
    fn ascending(self) -> u32;
}

const SIGN: u32 = 1 << 31;

impl Rankable for f32 {
    #[inline(always)]
    fn ascending(self) -> u32 {
        // The bits of positive numbers have their order, those of negative numbers the other.
        // Adding 0 makes 0 of −0, which equals it.
        let bits = (self + 0.0).to_bits();
        let is_negative = ((bits as i32) >> 31) as u32; // all bits, or none
        if self.is_nan() { 0 } else { bits ^ (is_negative | SIGN) }
    }
}

impl Rankable for f16 {
    #[inline(always)]
    fn ascending(self) -> u32 {
        self.to_f32().ascending()
    }
}

impl Rankable for bf16 {
    #[inline(always)]
    fn ascending(self) -> u32 {
        self.to_f32().ascending()
    }
}

impl Rankable for i32 {
    #[inline(always)]
    fn ascending(self) -> u32 {
        self as u32 ^ SIGN
    }
}

/// Whether `a` ranks before `b`, which stands before it.
#[inline(always)]
pub(super) fn beats<T: PartialOrd>(a: T, b: T) -> bool {
    // A number beats NaN, which alone is not equal to itself.
    #[allow(clippy::eq_op)]
    let (a_is_number, b_is_nan) = (a == a, b != b);
    (a > b) | (a_is_number & b_is_nan)
}
