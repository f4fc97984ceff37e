//! Some columns of a packed weight.

use std::collections::TryReserveError;

use super::super::aligned::{Aligned, Zeroed};
use super::super::selection::{Change, Identity, Selectable};
use super::super::threads::Threads;
use super::{PANEL_VECTORS, PackedWeight, Weight};

impl<W: Weight + Zeroed> Selectable for PackedWeight<W> {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn columns(&self) -> usize {
        self.n
    }

    fn blank(&self, n: usize) -> Result<Self, TryReserveError> {
        let width = PANEL_VECTORS * self.isa.lanes();
        let data = Aligned::new(n.div_ceil(width) * width * self.panels().words())?;
        Ok(PackedWeight { identity: Identity::new(), isa: self.isa, n, k: self.k, data })
    }

    fn begin_as(&mut self, other: &Self) {
        let same = self.data.len().min(other.data.len());
        self.data[..same].copy_from_slice(&other.data[..same]);
    }

    fn take_columns(&mut self, threads: &Threads, source: &Self, changes: &[Change]) {
        let (words, width) = (self.panels().words(), PANEL_VECTORS * self.isa.lanes());
        let (size, panels) = (words * width, self.n.div_ceil(width));
        if size == 0 || changes.is_empty() {
            return;
        }
        let source = source.panels();
        let work = super::super::selection::work(words, changes.len(), panels);
        threads.rows(&mut self.data, size, work, |range, out| {
            for (panel, out) in range.zip(out.chunks_exact_mut(size)) {
                for change in Change::within(changes, panel * width..(panel + 1) * width) {
                    let from = &source.from(change.from / width)[change.from % width..];
                    let from = from.iter().step_by(width);
                    let to = out[change.to % width..].iter_mut().step_by(width);
                    to.zip(from).for_each(|(to, from)| *to = *from);
                }
            }
        });
    }
}
