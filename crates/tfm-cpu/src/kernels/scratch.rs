//! Memory that kernels need during a call. It is kept for the next call, since some megabytes of
//! fresh memory would cost their page faults each time.

use std::collections::TryReserveError;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use super::aligned::Aligned;

/// The most memory, in elements, that is kept while nobody uses it (128 MiB).
const KEPT: usize = 32 << 20;

/// Blocks of memory that are lent and given back.
#[derive(Debug, Default)]
pub struct Scratch {
    free: Mutex<Vec<Aligned<f32>>>,
}

impl Scratch {
    /// No memory yet.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Lends `len` or more elements of any content. They are given back when they are dropped.
    ///
    /// # Errors
    /// There is no memory.
    pub fn take(&self, len: usize) -> Result<Borrowed<'_>, TryReserveError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = free.iter().enumerate().filter(|(_, block)| block.len() >= len);
        let smallest = fitting.min_by_key(|(_, block)| block.len()).map(|(i, _)| i);
        let memory = match smallest {
            Some(i) => free.swap_remove(i),
            None => {
                // Blocks that were too small would be too small again, so a new block replaces one
                // of them.
                let largest = free.iter().enumerate().max_by_key(|(_, block)| block.len());
                if let Some(i) = largest.map(|(i, _)| i) {
                    free.swap_remove(i);
                }
                drop(free);
                Aligned::new(len)?
            }
        };
        Ok(Borrowed { memory, home: self })
    }

    fn give_back(&self, memory: Aligned<f32>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = free.iter().map(|block| block.len()).sum();
        if kept + memory.len() <= KEPT {
            free.push(memory);
        }
    }
}

/// A block of a [`Scratch`], for as long as this lives.
#[derive(Debug)]
pub struct Borrowed<'a> {
    memory: Aligned<f32>,
    home: &'a Scratch,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.home.give_back(memory);
    }
}

impl Deref for Borrowed<'_> {
    type Target = [f32];

    #[inline]
    fn deref(&self) -> &[f32] {
        &self.memory
    }
}

impl DerefMut for Borrowed<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_what_is_kept_is_bounded() {
        let scratch = Scratch::new();
        let first = scratch.take(1000).unwrap().as_ptr();
        let again = scratch.take(500).unwrap();
        assert_eq!(again.as_ptr(), first);
        // Two that are lent at the same time are two blocks.
        let other = scratch.take(500).unwrap();
        assert_ne!(other.as_ptr(), first);
        drop((again, other));
        drop(scratch.take(KEPT + 1).unwrap());
        let kept: usize = scratch.free.lock().unwrap().iter().map(|block| block.len()).sum();
        assert!(kept <= KEPT);
        assert!(scratch.take(usize::MAX).is_err());
    }
}
