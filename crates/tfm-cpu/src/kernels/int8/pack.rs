//! A weight as 8-bit integers, in the order in which the product reads it.

use std::collections::TryReserveError;
use std::ops::Range;
use std::sync::OnceLock;

use tfm_core::RowSource;
use tfm_core::fused::quantized::quantize;

use super::super::aligned::{Aligned, Zeroed};
use super::super::columns::{Columns, pack_panels};
use super::super::pack::Strided;
use super::super::screen::Distances;
use super::super::selection::Identity;
use super::super::threads::{SharedMut, Threads};
use super::{Dot, DotIsa, DotKernel, GROUP};

mod select;

/// `W [n, k]` as panels of `width` columns: `[⌈n / width⌉, ⌈k / GROUP⌉, width, GROUP]`. Each output
/// column j is `scale(j)` times integers from −127 to 127. The columns and inputs that fill up the
/// panels are zero.
#[derive(Debug)]
pub struct QuantizedWeight {
    identity: Identity,
    isa: DotIsa,
    n: usize,
    k: usize,
    width: usize,
    data: Aligned<i8>,
    scales: Aligned<f32>,
    /// What the sums of each column begin with: see [`Dot::start`].
    starts: Aligned<i32>,
    /// How far the weight is from what it was made of. Computed when it is first asked for.
    distances: OnceLock<Distances>,
}

impl QuantizedWeight {
    /// Quantises and packs a matrix for products on `isa`.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(
        isa: DotIsa,
        threads: &Threads,
        weight: impl Columns,
    ) -> Result<QuantizedWeight, TryReserveError> {
        let [n, k] = weight.extents();
        let (width, _) = isa.layout();
        let memory = weight.memory(width);
        QuantizedWeight::packed(isa, threads, [n, k], memory, |columns, scales, memory, pack| {
            let weight = weight.part(columns, memory);
            isa.run(Quantize { weight, scales, pack });
        })
    }

    /// Packs a matrix that is already [quantised](RowSource::is_quantized).
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn of_integers(
        isa: DotIsa,
        threads: &Threads,
        source: &dyn RowSource,
    ) -> Result<QuantizedWeight, TryReserveError> {
        let [n, k] = source.extents();
        let (width, _) = isa.layout();
        let memory = width.saturating_mul(k);
        QuantizedWeight::packed(
            isa,
            threads,
            [n, k],
            memory,
            |columns, scales, memory, mut pack| {
                let integers: &mut [i8] = &mut memory[..columns.len() * k];
                source.read_quantized(columns.start, integers, scales);
                integers
                    .chunks_exact(k.max(1))
                    .enumerate()
                    .for_each(|(i, row)| pack.column(i, row));
            },
        )
    }

    /// Packs several panels at a time. `fill` gets the output columns of some whole panels, the
    /// place of their scales, and `memory` elements for each panel. It must pack each of the
    /// columns.
    fn packed<T: Zeroed + Send>(
        isa: DotIsa,
        threads: &Threads,
        [n, k]: [usize; 2],
        memory: usize,
        fill: impl Fn(Range<usize>, &mut [f32], &mut [T], Pack<'_>) + Sync,
    ) -> Result<QuantizedWeight, TryReserveError> {
        let (width, offset) = isa.layout();
        let (panels, size) = (n.div_ceil(width), k.div_ceil(GROUP) * width * GROUP);
        let mut data = Aligned::new(panels * size)?;
        let mut scales = Aligned::new(panels * width)?;
        let mut starts = Aligned::new(panels * width)?;
        let shared =
            (SharedMut::new(&mut data), SharedMut::new(&mut scales), SharedMut::new(&mut starts));
        pack_panels(threads, panels, 10 * width * k, memory, |mine, memory| {
            let columns = mine.start * width..n.min(mine.end * width);
            // SAFETY: calls have different panels.
            let (data, scales, starts) = unsafe {
                (
                    shared.0.slice(mine.start * size..mine.end * size),
                    shared.1.slice(columns.clone()),
                    shared.2.slice(columns.clone()),
                )
            };
            fill(columns, scales, memory, Pack { size, width, offset, data, starts });
        })?;
        let identity = Identity::new();
        let distances = OnceLock::new();
        Ok(QuantizedWeight { identity, isa, n, k, width, data, scales, starts, distances })
    }

    /// How far the weight is from what it was made of. `find` computes it the first time.
    pub(in crate::kernels) fn distances(&self, find: impl FnOnce() -> Distances) -> &Distances {
        self.distances.get_or_init(find)
    }

    /// The instruction set that the panels are made for.
    pub fn isa(&self) -> DotIsa {
        self.isa
    }

    /// The number of output columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Output columns of a panel.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of panels.
    pub fn count(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    /// Elements of a panel.
    pub(super) fn size(&self) -> usize {
        self.k.div_ceil(GROUP) * GROUP * self.width
    }

    /// The panels from `i` on.
    pub(super) fn from(&self, i: usize) -> &[i8] {
        &self.data[i * self.size()..]
    }

    /// The scales of the columns of the panels from `i` on.
    pub(super) fn scales(&self, i: usize) -> &[f32] {
        &self.scales[i * self.width..]
    }

    /// The initial sums of the panels from `i` on.
    pub(super) fn starts(&self, i: usize) -> &[i32] {
        &self.starts[i * self.width..]
    }

    /// The weights of output column `j` as floats: a row of the matrix. Panics if `out` does not
    /// have `k` elements.
    pub fn row(&self, j: usize, out: &mut [f32]) {
        assert!(j < self.n && out.len() == self.k);
        let (panel, column) = (self.from(j / self.width), j % self.width);
        let scale = self.scales[j];
        let groups = panel.chunks_exact(self.width * GROUP);
        for (out, group) in out.chunks_mut(GROUP).zip(groups) {
            let weights = &group[column * GROUP..][..GROUP];
            out.iter_mut().zip(weights).for_each(|(out, &w)| *out = f32::from(w) * scale);
        }
    }
}

/// The memory of some panels, which is filled column by column.
struct Pack<'a> {
    /// Elements of a panel.
    size: usize,
    width: usize,
    offset: i32,
    data: &'a mut [i8],
    starts: &'a mut [i32],
}

impl Pack<'_> {
    /// Writes the integers of column `i` to where the product reads them.
    #[inline(always)]
    fn column(&mut self, i: usize, integers: &[i8]) {
        let sum: i32 = integers.iter().map(|&w| i32::from(w)).sum();
        self.starts[i] = -self.offset * sum;
        let panel = &mut self.data[i / self.width * self.size..][..self.size];
        let place = i % self.width * GROUP;
        let mut groups = panel.chunks_exact_mut(self.width * GROUP);
        let mut whole = integers.chunks_exact(GROUP);
        for (weights, group) in (&mut whole).zip(&mut groups) {
            group[place..place + GROUP].copy_from_slice(weights);
        }
        if let Some(group) = groups.next() {
            group[place..].iter_mut().zip(whole.remainder()).for_each(|(w, x)| *w = *x);
        }
    }
}

/// Quantises columns and packs them.
struct Quantize<'a> {
    weight: Strided<'a>,
    scales: &'a mut [f32],
    pack: Pack<'a>,
}

impl DotKernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot>(mut self, _: D) {
        let Strided { k, column_stride, input_stride, data, .. } = self.weight;
        let mut copy = vec![0.0; if input_stride == 1 { 0 } else { k }];
        let mut integers = vec![0; k];
        for (i, scale) in self.scales.iter_mut().enumerate() {
            let column = &data[(i * column_stride).min(data.len())..];
            let column = if input_stride == 1 {
                &column[..k]
            } else {
                copy.iter_mut().enumerate().for_each(|(p, x)| *x = column[p * input_stride]);
                &copy[..]
            };
            *scale = quantize(column, &mut integers);
            self.pack.column(i, &integers);
        }
    }
}
