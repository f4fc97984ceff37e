//! The memory that a worker's programs share: numbered slots of each element type, which only grow.

use crate::backend::Outcome;
use crate::{Backend, DType, Plan};

/// A slot's capacity in elements, and its buffer. A buffer is absent only while a step writes to
/// it.
type Slot<B> = Option<(usize, <B as Backend>::Buffer)>;

pub(super) struct Slots<B: Backend> {
    by_type: [Vec<Slot<B>>; DType::ALL.len()],
}

impl<B: Backend> Slots<B> {
    pub(super) fn new() -> Self {
        Slots { by_type: std::array::from_fn(|_| Vec::new()) }
    }

    /// Makes every slot at least as large as the plan asks. Returns whether it has replaced memory.
    pub(super) fn prepare(&mut self, backend: &B, plan: &Plan) -> Outcome<bool> {
        let mut replaced = false;
        for (dtype, sizes) in &plan.slots {
            let slots = &mut self.by_type[*dtype as usize];
            if slots.len() < sizes.len() {
                slots.resize_with(sizes.len(), || None);
            }
            for (slot, &size) in slots.iter_mut().zip(sizes) {
                if slot.as_ref().is_none_or(|(capacity, _)| *capacity < size) {
                    replaced |= slot.is_some();
                    *slot = None; // the old memory goes before the new comes
                    *slot = Some((size, backend.allocate(*dtype, size)?));
                }
            }
        }
        Ok(replaced)
    }

    pub(super) fn get(&self, dtype: DType, slot: usize) -> Option<&B::Buffer> {
        self.by_type[dtype as usize][slot].as_ref().map(|(_, buffer)| buffer)
    }

    pub(super) fn entry(&mut self, dtype: DType, slot: usize) -> &mut Slot<B> {
        &mut self.by_type[dtype as usize][slot]
    }
}
