//! Memory that begins at a cache line, so that no vector lies across two.

use std::alloc::{Layout, alloc_zeroed};
use std::collections::TryReserveError;
use std::ops::{Deref, DerefMut};

use half::{bf16, f16};

use super::pairs::Pair;

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A slice of a fixed length that begins at a cache line.
#[derive(Debug)]
pub struct Aligned<T> {
    /// As much longer than the slice as it may take to reach the next line.
    data: Memory<T>,
    start: usize,
    len: usize,
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

#[derive(Debug)]
enum Memory<T> {
    Allocated(Vec<T>),
    #[cfg(target_os = "linux")]
    Mapped(mapped::Mapped<T>),
}

impl<T> Deref for Memory<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Memory::Allocated(data) => data,
            #[cfg(target_os = "linux")]
            Memory::Mapped(data) => data,
        }
    }
}

impl<T> DerefMut for Memory<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Memory::Allocated(data) => data,
            #[cfg(target_os = "linux")]
            Memory::Mapped(data) => data,
        }
    }
}

/// A number whose bytes are all zero when it is.
///
/// # Safety
/// Zero bytes must be a valid value.
pub unsafe trait Zeroed: Copy {}

macro_rules! zeroed {
    ($($type:ty),*) => {
        $(
            // SAFETY: every bit pattern is a number.
            unsafe impl Zeroed for $type {}
        )*
    };
}
zeroed!(f32, f16, bf16, i32, i8, u16, Pair);

impl<T: Zeroed> Aligned<T> {
    /// `len` zeros. The system provides a page only when something is written to it.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn new(len: usize) -> Result<Aligned<T>, TryReserveError> {
        let spare = LINE / size_of::<T>();
        let data: Memory<T> = zeros(len.saturating_add(spare))?;
        // For types whose size divides a line, this is never more than the spare elements.
        let start = data.as_ptr().align_offset(LINE).min(spare);
        Ok(Aligned { data, start, len })
    }
}

impl<T: Zeroed> Aligned<T> {
    /// Makes the slice longer by zeros, if that is possible without a copy. Returns whether it was.
    pub(crate) fn enlarge(&mut self, len: usize) -> bool {
        #[cfg(target_os = "linux")]
        if let Memory::Mapped(data) = &mut self.data {
            let longer = len.checked_add(self.start);
            let layout = longer.and_then(|len| Layout::array::<T>(len).ok());
            if let (Some(longer), Some(layout)) = (longer, layout)
                && data.enlarge(longer, layout)
            {
                self.len = len;
                return true;
            }
        }
        let _ = len;
        false
    }
}

/// The elements stay where they are in memory, aligned or not. A vector may then lie across two
/// lines, which costs something where it is read again and again.
impl<T> From<Vec<T>> for Aligned<T> {
    fn from(data: Vec<T>) -> Aligned<T> {
        Aligned { start: 0, len: data.len(), data: Memory::Allocated(data) }
    }
}

fn zeros<T: Zeroed>(len: usize) -> Result<Memory<T>, TryReserveError> {
    let mut none = Vec::new();
    let layout = Layout::array::<T>(len).ok().filter(|layout| layout.size() > 0);
    #[cfg(target_os = "linux")]
    if let Some(memory) = layout.and_then(|layout| mapped::Mapped::new(len, layout)) {
        return Ok(Memory::Mapped(memory));
    }
    // SAFETY: the layout's size is not 0.
    let memory = layout.map_or(std::ptr::null_mut(), |layout| unsafe { alloc_zeroed(layout) });
    if memory.is_null() {
        // A failed allocation is the only way to get a `TryReserveError`.
        return none.try_reserve_exact(usize::MAX).map(|()| Memory::Allocated(none));
    }
    // SAFETY: the global allocator has allocated this memory for an array of `len` elements. All of
    // them are zero, which is a valid value.
    Ok(Memory::Allocated(unsafe { Vec::from_raw_parts(memory.cast(), len, len) }))
}

/// Large memory that the system gives and takes back when it is dropped. An allocator might keep
/// it, and buffers that grow would leave holes that nothing fits.
#[cfg(target_os = "linux")]
mod mapped {
    use super::{Deref, DerefMut, Layout, Zeroed};

    /// Smaller memory comes from the allocator.
    const WORTHWHILE: usize = 1 << 20;
    /// Memory of at least this size asks for pages of 2 MiB. A walk through megabytes with a stride
    /// then misses few address translations, and the first touch is one page fault instead of 512.
    const HUGE: usize = 2 << 20;
    const PAGE: usize = 4096;

    #[derive(Debug)]
    pub(super) struct Mapped<T> {
        start: *mut T,
        len: usize,
        bytes: usize,
    }

    // SAFETY: the value owns its memory, as a `Vec` does.
    unsafe impl<T: Send> Send for Mapped<T> {}
    // SAFETY: as above.
    unsafe impl<T: Sync> Sync for Mapped<T> {}

    impl<T: Zeroed> Mapped<T> {
        /// `len` zeros of this layout. `None` if they are few or the system gives no memory.
        pub(super) fn new(len: usize, layout: Layout) -> Option<Mapped<T>> {
            let bytes = layout.size();
            if bytes < WORTHWHILE || layout.align() > PAGE {
                return None;
            }
            let bytes = bytes.next_multiple_of(PAGE);
            Some(Mapped {
                start: map(bytes, libc::PROT_READ | libc::PROT_WRITE)?.cast(),
                len,
                bytes,
            })
        }

        /// Makes the memory longer by zeros, without a copy: its pages get other addresses. Returns
        /// whether that was possible.
        pub(super) fn enlarge(&mut self, len: usize, layout: Layout) -> bool {
            let bytes = layout.size().next_multiple_of(PAGE);
            if bytes <= self.bytes {
                return false;
            }
            // Reserve addresses that suit large pages.
            let Some(place) = map(bytes, libc::PROT_NONE) else { return false };
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            // SAFETY: both ranges belong to this value, and nothing else borrows them.
            let moved = unsafe { libc::mremap(self.start.cast(), self.bytes, bytes, flags, place) };
            if moved == libc::MAP_FAILED {
                // SAFETY: `map` has mapped this, and nothing uses it.
                unsafe { libc::munmap(place, bytes) };
                return false;
            }
            if bytes >= HUGE {
                // SAFETY: as above; this is only advice.
                unsafe { libc::madvise(moved, bytes, libc::MADV_HUGEPAGE) };
            }
            (self.start, self.len, self.bytes) = (moved.cast(), len, bytes);
            true
        }
    }

    /// New memory of whole pages with this protection; `None` if the system gives none. It begins
    /// at a multiple of a large page's size if it is long enough for one.
    fn map(bytes: usize, protection: libc::c_int) -> Option<*mut libc::c_void> {
        let spare = if bytes >= HUGE { HUGE } else { 0 };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let whole = bytes.checked_add(spare)?;
        // SAFETY: this maps new memory at a place that the system chooses.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), whole, protection, flags, -1, 0) };
        if memory == libc::MAP_FAILED || spare == 0 {
            return Some(memory).filter(|&memory| memory != libc::MAP_FAILED);
        }
        let before = memory.align_offset(HUGE).min(spare);
        // SAFETY: the unmapped parts are whole pages of the memory just mapped, which nothing uses.
        // The advice on the rest does not change its content, and it is no error if the system
        // ignores it.
        unsafe {
            let start = memory.byte_add(before);
            if before > 0 {
                libc::munmap(memory, before);
            }
            if before < spare {
                libc::munmap(start.byte_add(bytes), spare - before);
            }
            libc::madvise(start, bytes, libc::MADV_HUGEPAGE);
            Some(start)
        }
    }

    impl<T> Drop for Mapped<T> {
        fn drop(&mut self) {
            // SAFETY: `new` mapped this memory, and nothing borrows it any more. The elements are
            // plain numbers, which need no drop.
            unsafe { libc::munmap(self.start.cast(), self.bytes) };
        }
    }

    impl<T> Deref for Mapped<T> {
        type Target = [T];

        #[inline]
        fn deref(&self) -> &[T] {
            // SAFETY: there are `len` elements from the start of a page on, each zero or written
            // since.
            unsafe { std::slice::from_raw_parts(self.start, self.len) }
        }
    }

    impl<T> DerefMut for Mapped<T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut [T] {
            // SAFETY: as above, and `&mut self` makes this the only borrow.
            unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
        }
    }
}

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
    fn large_memory_is_zero_and_its_own() {
        let sizes = [1 << 20, (1 << 20) + 5, 3 << 20, (5 << 20) + 1];
        let mut all: Vec<_> = sizes.map(|len| Aligned::<i8>::new(len).unwrap()).into();
        all.remove(2);
        for (i, memory) in all.iter_mut().enumerate() {
            assert!(memory.iter().all(|&x| x == 0));
            memory.fill(i as i8 + 1);
        }
        assert!(all.iter().enumerate().all(|(i, memory)| memory.iter().all(|&x| x == i as i8 + 1)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn large_memory_gets_longer_and_keeps_what_is_in_it() {
        let mut memory = Aligned::<i32>::new(1 << 18).unwrap();
        for (i, x) in memory.iter_mut().enumerate() {
            *x = i as i32;
        }
        for len in [(1 << 18) + 5000, 1 << 20, (1 << 22) + 3] {
            let before = memory.len();
            assert!(memory.enlarge(len));
            assert_eq!((memory.len(), memory.as_ptr() as usize % LINE), (len, 0));
            assert!(memory[before..].iter().all(|&x| x == 0));
            assert!(memory[..1 << 18].iter().zip(0..).all(|(&x, i)| x == i));
        }
        assert!(!memory.enlarge(1000) && memory.len() == (1 << 22) + 3);
        assert!(!Aligned::<i32>::new(10).unwrap().enlarge(20));
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(Aligned::<f32>::new(usize::MAX).is_err());
        assert!(Aligned::<f32>::new(usize::MAX / 4).is_err());
    }
}
