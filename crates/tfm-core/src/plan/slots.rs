//! Slots: memory that values share which don't live at the same time.

use crate::DType;

/// Whether the slot of a value that nobody reads any more serves others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It does.
    Always,
    /// It does not.
    Never,
}

/// The slots of each type, and which of them are free.
#[derive(Default)]
pub(super) struct Slots {
    /// The elements that each slot must hold, by type and number.
    pub(super) sizes: Vec<(DType, Vec<usize>)>,
    free: Vec<(DType, usize)>,
}

impl Slots {
    /// A slot for `elements`: the smallest free one that is large enough, else the largest free
    /// one, grown, else a new one.
    pub(super) fn take(&mut self, dtype: DType, elements: usize) -> usize {
        if !self.sizes.iter().any(|(other, _)| *other == dtype) {
            self.sizes.push((dtype, Vec::new()));
        }
        let sizes =
            &mut self.sizes.iter_mut().find(|(other, _)| *other == dtype).expect("pushed above").1;
        let best = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, (other, _))| *other == dtype)
            .min_by_key(|(_, (_, slot))| {
                let size = sizes[*slot];
                if size >= elements { (0, size) } else { (1, usize::MAX - size) }
            })
            .map(|(position, _)| position);
        match best {
            Some(position) => {
                let (_, slot) = self.free.swap_remove(position);
                sizes[slot] = sizes[slot].max(elements);
                slot
            }
            None => {
                sizes.push(elements);
                sizes.len() - 1
            }
        }
    }

    /// Frees a slot.
    pub(super) fn give_back(&mut self, dtype: DType, slot: usize) {
        self.free.push((dtype, slot));
    }
}
