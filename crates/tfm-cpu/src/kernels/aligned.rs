//! Memory that begins at a cache line, so that no vector lies across two.

use std::collections::TryReserveError;
use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A slice of a fixed length that begins at a cache line.
#[derive(Debug, Default)]
pub struct Aligned<T> {
    /// Longer than the slice, by what it takes to reach the next line.
    data: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// `len` elements of the type's default.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn new(len: usize) -> Result<Aligned<T>, TryReserveError> {
        let spare = LINE / size_of::<T>();
        let mut data = Vec::new();
        data.try_reserve_exact(len.saturating_add(spare))?;
        ask_for_huge_pages(&mut data);
        data.resize(len + spare, T::default());
        // Never more than the spare elements, for types whose size divides a line.
        let start = data.as_ptr().align_offset(LINE).min(spare);
        Ok(Aligned { data, start, len })
    }
}

/// Asks the system for pages of 2 MiB where a vector is to be larger: walking through megabytes with a stride then
/// misses few translations of addresses, and the first touch of memory is one fault instead of 512.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages<T>(memory: &mut Vec<T>) {
    const PAGE: usize = 4096;
    const WORTHWHILE: usize = 2 << 20;
    let memory = memory.spare_capacity_mut();
    let offset = memory.as_ptr().cast::<u8>().align_offset(PAGE);
    let len = size_of_val(memory).saturating_sub(offset) / PAGE * PAGE;
    if len >= WORTHWHILE {
        // SAFETY: whole pages within the vector's memory; the advice does not change what is in them. That it is
        // not taken (an old system, another page size) is no error.
        unsafe {
            libc::madvise(memory.as_mut_ptr().byte_add(offset).cast(), len, libc::MADV_HUGEPAGE);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages<T>(_: &mut Vec<T>) {}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_line_and_has_its_length() {
        for len in [0, 1, 5, 16, 1000] {
            let (mut floats, halves) =
                (Aligned::<f32>::new(len).unwrap(), Aligned::<u16>::new(len).unwrap());
            assert_eq!((floats.len(), halves.len()), (len, len));
            assert_eq!((floats.as_ptr() as usize % LINE, halves.as_ptr() as usize % LINE), (0, 0));
            floats.fill(1.0);
            assert!(floats.iter().all(|&x| x == 1.0));
        }
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(Aligned::<f32>::new(usize::MAX).is_err());
        assert!(Aligned::<f32>::new(usize::MAX / 4).is_err());
    }
}
