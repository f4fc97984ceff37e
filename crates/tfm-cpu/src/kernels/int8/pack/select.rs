//! Some columns of a weight of 8-bit integers.

use std::collections::TryReserveError;
use std::sync::OnceLock;

use super::super::super::aligned::Aligned;
use super::super::super::selection::{Change, Identity, Selectable, work};
use super::super::super::threads::Threads;
use super::super::GROUP;
use super::QuantizedWeight;

impl Selectable for QuantizedWeight {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn columns(&self) -> usize {
        self.n
    }

    fn blank(&self, n: usize) -> Result<Self, TryReserveError> {
        let panels = n.div_ceil(self.width);
        Ok(QuantizedWeight {
            identity: Identity::new(),
            isa: self.isa,
            n,
            k: self.k,
            width: self.width,
            data: Aligned::new(panels * self.size())?,
            scales: Aligned::new(panels * self.width)?,
            starts: Aligned::new(panels * self.width)?,
            distances: OnceLock::new(),
        })
    }

    fn begin_as(&mut self, other: &Self) {
        let data = self.data.len().min(other.data.len());
        self.data[..data].copy_from_slice(&other.data[..data]);
        let columns = self.scales.len().min(other.scales.len());
        self.scales[..columns].copy_from_slice(&other.scales[..columns]);
        self.starts[..columns].copy_from_slice(&other.starts[..columns]);
    }

    fn take_columns(&mut self, threads: &Threads, source: &Self, changes: &[Change]) {
        for change in changes {
            self.scales[change.to] = source.scales[change.from];
            self.starts[change.to] = source.starts[change.from];
        }
        let (width, size) = (self.width, self.size());
        if size == 0 || changes.is_empty() {
            return;
        }
        let work = work(size / width, changes.len(), self.count());
        threads.rows(&mut self.data, size, work, |range, out| {
            for (panel, out) in range.zip(out.chunks_exact_mut(size)) {
                for change in Change::within(changes, panel * width..(panel + 1) * width) {
                    let from = source.from(change.from / width)[..size].as_chunks::<GROUP>().0;
                    let to = out.as_chunks_mut::<GROUP>().0;
                    let from = from[change.from % width..].iter().step_by(width);
                    let to = to[change.to % width..].iter_mut().step_by(width);
                    to.zip(from).for_each(|(to, from)| *to = *from);
                }
            }
        });
    }
}
