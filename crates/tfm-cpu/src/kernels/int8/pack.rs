//! A weight as 8-bit integers, in the order in which the product reads it.

use std::collections::TryReserveError;

use super::super::aligned::Aligned;
use super::super::pack::Strided;
use super::super::selection::Identity;
use super::super::simd::Simd;
use super::super::threads::{SharedMut, Threads, share};
use super::quantize::LARGEST;
use super::{Dot, DotIsa, DotKernel, GROUP};

mod select;

/// The largest sum of two neighbouring weights of one sign, before rounding: 254·129 fits 15 bits.
const LARGEST_SUM: f32 = 128.0;

/// `W [n, k]`, each output column j a multiple `scale(j)` of integers from −127 to 127, as panels of `width` columns:
/// `[⌈n / width⌉, ⌈k / GROUP⌉, width, GROUP]`. Columns and inputs that are too many are zero.
#[derive(Debug)]
pub struct QuantizedWeight {
    identity: Identity,
    isa: DotIsa,
    n: usize,
    k: usize,
    width: usize,
    data: Aligned<i8>,
    scales: Aligned<f32>,
    /// What the sums of each column begin with; see [`Dot::start`].
    starts: Aligned<i32>,
}

impl QuantizedWeight {
    /// Quantises and packs a matrix for products on `isa`.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(
        isa: DotIsa,
        threads: &Threads,
        weight: Strided<'_>,
    ) -> Result<QuantizedWeight, TryReserveError> {
        let Strided { n, k, .. } = weight;
        let (width, offset) = isa.layout();
        let (panels, size) = (n.div_ceil(width), k.div_ceil(GROUP) * width * GROUP);
        let mut data = Aligned::new(panels * size)?;
        let mut scales = Aligned::new(panels * width)?;
        let mut starts = Aligned::new(panels * width)?;
        let shared =
            (SharedMut::new(&mut data), SharedMut::new(&mut scales), SharedMut::new(&mut starts));
        let tasks = threads.tasks((n * k).saturating_mul(10), panels);
        threads.run(tasks, |task| {
            let mine = share(panels, tasks, task);
            let columns = mine.start * width..mine.end * width;
            // SAFETY: tasks have different panels.
            let (data, scales, starts) = unsafe {
                (
                    shared.0.slice(mine.start * size..mine.end * size),
                    shared.1.slice(columns.clone()),
                    shared.2.slice(columns.clone()),
                )
            };
            let pack = Pack { weight, first: columns.start, width, offset, data, scales, starts };
            isa.run(pack);
        });
        let identity = Identity::new();
        Ok(QuantizedWeight { identity, isa, n, k, width, data, scales, starts })
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

    /// What the sums of the panels from `i` on begin with.
    pub(super) fn starts(&self, i: usize) -> &[i32] {
        &self.starts[i * self.width..]
    }

    /// Output column `j`'s weights as floats: a row of the matrix. Panics where `out` is not `k` long.
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

/// Whole panels, from output column `first` on.
struct Pack<'a> {
    weight: Strided<'a>,
    first: usize,
    width: usize,
    offset: i32,
    data: &'a mut [i8],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
}

impl DotKernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot>(self, d: D) {
        let s = d.floats();
        let lanes = <D::Floats as Simd>::LANES;
        let Strided { n, k, column_stride, input_stride, data } = self.weight;
        let size = k.div_ceil(GROUP) * GROUP * self.width;
        let mut copy = vec![0.0; k];
        let mut integers = vec![0.0; k.next_multiple_of(lanes)];
        let columns = self.scales.iter_mut().zip(self.starts).enumerate();
        for (i, (scale, start)) in columns.take(n - self.first.min(n)) {
            let column = &data[((self.first + i) * column_stride).min(data.len())..];
            let column = if input_stride == 1 {
                &column[..k]
            } else {
                copy.iter_mut().enumerate().for_each(|(p, x)| *x = column[p * input_stride]);
                &copy[..]
            };
            *scale = scale_of(column);
            let factor = s.splat(if *scale > 0.0 { 1.0 / *scale } else { 0.0 });
            for (x, out) in column.chunks(lanes).zip(integers.chunks_exact_mut(lanes)) {
                s.store(s.round(s.mul(s.load_partial(x), factor)), out);
            }
            let mut sum = 0;
            let panel = &mut self.data[i / self.width * size..][..size];
            let groups = panel.chunks_exact_mut(self.width * GROUP);
            for (x, group) in integers[..k].chunks(GROUP).zip(groups) {
                let weights = &mut group[i % self.width * GROUP..][..GROUP];
                for (w, &x) in weights.iter_mut().zip(x) {
                    *w = x as i8;
                    sum += i32::from(*w);
                }
            }
            *start = -self.offset * sum;
        }
    }
}

/// The least scale with which no integer of a column exceeds [`LARGEST`] and no sum of those of one sign of an even input and
/// the next [`LARGEST_SUM`], but for rounding.
#[inline(always)]
fn scale_of(column: &[f32]) -> f32 {
    let mut scales = [0.0f32; 16];
    let mut whole = column.chunks_exact(2 * scales.len());
    for x in &mut whole {
        for (scale, pair) in scales.iter_mut().zip(x.chunks_exact(2)) {
            *scale = larger(*scale, of_pair(pair[0], pair[1]));
        }
    }
    for pair in whole.remainder().chunks(2) {
        scales[0] = larger(scales[0], of_pair(pair[0], pair.get(1).copied().unwrap_or(0.0)));
    }
    scales.into_iter().fold(0.0, larger)
}

#[inline(always)]
fn of_pair(a: f32, b: f32) -> f32 {
    let positive = larger(a, 0.0) + larger(b, 0.0);
    let negative = larger(-a, 0.0) + larger(-b, 0.0);
    let largest = larger(larger(a, -a), larger(b, -b));
    larger(largest / LARGEST, larger(positive, negative) / LARGEST_SUM)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
