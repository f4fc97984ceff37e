//! The greatest entries of each row of a product of floats, most of which is never computed.
//!
//! A product of 8-bit integers gives bounds for the greatest entry of each block of columns. Only
//! the blocks that may hold one of the wanted entries are computed in floats. So the result is that
//! of the whole product, bit for bit.
//!
//! Let `x = x̂ + δ` and `w = ŵ + ε`, where the product of integers multiplies x̂ and ŵ. Then
//! `|x·w − x̂·ŵ| = |δ·ŵ + x·ε| ≤ ‖δ‖·‖ŵ‖ + ‖x‖·‖ε‖`.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::candidates::{CHUNK, Found, Product};
use super::gemm;
use super::int8::{self, pack::QuantizedWeight, quantize::QuantizedRows};
use super::pack::Panels;
use super::rows::Rows;
use super::scratch::Scratch;
use super::simd::{Isa, Kernel, Simd};
use super::threads::{SharedMut, Threads, share};
use super::top_k::{Best, Entry, room};

/// Columns that share a bound and are computed together. They are whole panels in every instruction
/// set.
const BLOCK: usize = 32;
/// The blocks of a chunk.
const BLOCKS: usize = CHUNK / BLOCK;
/// Rows that are searched together.
const ROWS: usize = 128;

/// How far products with a quantised weight may be from products with the weight itself.
#[derive(Debug)]
pub struct Distances {
    /// For each block, the greatest ‖ŵ‖ and the greatest ‖ε‖ among its columns.
    blocks: Vec<[f32; 2]>,
}

impl Distances {
    /// The distances of a weight `[n, k]` from what it was quantised to.
    pub fn new(threads: &Threads, exact: Panels<'_>, quantized: &QuantizedWeight) -> Distances {
        let (n, k) = (exact.n(), exact.k());
        assert!(quantized.n() == n && quantized.k() == k, "the same weight twice");
        let mut blocks = vec![[0.0f32; 2]; n.div_ceil(BLOCK)];
        threads.rows(&mut blocks, 1, 20 * BLOCK * k, |range, blocks| {
            let (mut w, mut near) = (vec![0.0; k], vec![0.0; k]);
            for (block, out) in range.zip(blocks) {
                for column in block * BLOCK..n.min((block + 1) * BLOCK) {
                    exact.row(column, &mut w);
                    quantized.row(column, &mut near);
                    let error = w.iter().zip(&near).map(|(w, near)| f64::from(w - near).powi(2));
                    let norm = near.iter().map(|&near| f64::from(near).powi(2));
                    for (out, squares) in out.iter_mut().zip([norm.sum::<f64>(), error.sum()]) {
                        let length = squares.sqrt() as f32;
                        // A NaN stays a NaN.
                        *out = if out.is_nan() || *out > length { *out } else { length };
                    }
                }
            }
        });
        Distances { blocks }
    }
}

/// ‖x‖ and ‖δ‖ of a row that is quantised with a given scale.
#[derive(Clone, Copy)]
struct Lengths {
    whole: f32,
    error: f32,
}

impl Lengths {
    fn of(x: &[f32], scale: f32) -> Lengths {
        let factor = if scale > 0.0 { 1.0 / scale } else { scale };
        let mut sums = [0.0; 2];
        for &x in x {
            let error = x - (x * factor).round_ties_even() * scale;
            sums[0] += f64::from(x).powi(2);
            sums[1] += f64::from(error).powi(2);
        }
        let [whole, error] = sums.map(|sum: f64| sum.sqrt() as f32);
        Lengths { whole, error }
    }

    /// The most by which the products with a block's columns may differ between floats and
    /// integers, without a multiple of their own magnitude.
    fn distance(self, [norm, error]: [f32; 2], k: usize) -> f32 {
        let bound = self.error * norm + self.whole * error;
        // The rounding of k sums in either product, and that of the lengths, also for subnormal
        // numbers.
        let steps = (k + 16) as f32;
        let relative = steps * f32::EPSILON * (self.whole + self.error) * (norm + error);
        1.001 * bound + relative + steps * f32::MIN_POSITIVE
    }
}

/// The share of a magnitude by which scaling, bias and bans round.
const ROUNDING: f32 = 16.0 * f32::EPSILON;

/// A product with a weight, computed in floats.
#[derive(Clone, Copy, Debug)]
pub struct Screened<'a> {
    /// `[m, k]`
    pub x: Rows<'a>,
    /// `[n, k]`
    pub weight: Panels<'a>,
    /// The same weight, quantised.
    pub screen: &'a QuantizedWeight,
    /// `[n]`
    pub bias: Option<&'a [f32]>,
}

impl Screened<'_> {
    /// The k greatest entries of each row of `x·Wᵀ + bias + bans` and their columns, as
    /// [`super::top_k::top_k`] finds them. Returns how many blocks of 32 columns had to be
    /// computed.
    ///
    /// # Errors
    /// There is no memory.
    pub fn greatest(
        &self,
        isa: Isa,
        threads: &Threads,
        scratch: &Scratch,
        bans: &[f32],
        k: usize,
        (values, ids): (&mut [f32], &mut [i32]),
    ) -> Result<usize, TryReserveError> {
        let (m, n, depth) = (self.x.rows(), self.weight.n(), self.weight.k());
        assert!(bans.len() == n && k <= n && values.len() == m * k && ids.len() == m * k);
        if m == 0 || k == 0 {
            return Ok(0);
        }
        let distances = self.screen.distances(|| Distances::new(threads, self.weight, self.screen));
        let x = QuantizedRows::new(self.screen.isa(), threads, scratch, self.x)?;
        let coarse = int8::gemm::Projection { x: &x, weight: self.screen, bias: self.bias };
        let chunks = n.div_ceil(CHUNK);
        let tasks = threads.tasks(m.saturating_mul(n * depth), chunks);

        // The greatest entry of each block by the product of integers, `[chunk, row, block]`.
        let mut greatest = scratch.take(chunks * m * BLOCKS)?;
        let size = ROWS.min(m) * CHUNK;
        let mut logits = scratch.take(tasks * size)?;
        let shared = (SharedMut::new(&mut greatest), SharedMut::new(&mut logits));
        threads.run(tasks, |task| {
            let mine = share(chunks, tasks, task);
            // SAFETY: tasks have different chunks, and each has memory of its own.
            let (greatest, logits) = unsafe {
                (
                    shared.0.slice(mine.start * m * BLOCKS..mine.end * m * BLOCKS),
                    shared.1.slice(task * size..(task + 1) * size),
                )
            };
            for (chunk, greatest) in mine.zip(greatest.chunks_exact_mut(m * BLOCKS)) {
                let columns = chunk * CHUNK..((chunk + 1) * CHUNK).min(n);
                for first in (0..m).step_by(ROWS) {
                    let rows = first..(first + ROWS).min(m);
                    coarse.part(rows.clone(), columns.clone(), logits, CHUNK);
                    let greatest = &mut greatest[rows.start * BLOCKS..rows.end * BLOCKS];
                    let rows = logits.chunks_exact(CHUNK).zip(greatest.chunks_exact_mut(BLOCKS));
                    for (logits, out) in rows {
                        let (logits, bans) = (&logits[..columns.len()], &bans[columns.clone()]);
                        isa.run(Greatest { logits, bans, out });
                    }
                }
            }
        });

        // The upper bound of each block's greatest entry, and for each row the lower bound of the
        // least of the wanted entries.
        let mut least = vec![f32::NEG_INFINITY; m];
        let mut lengths = Vec::with_capacity(m);
        lengths.extend((0..m).map(|row| Lengths::of(self.x.row(row), x.scales()[row])));
        let mut entries = vec![Entry::default(); room(k, distances.blocks.len())];
        for (row, least) in least.iter_mut().enumerate() {
            let mut best = Best::new(&mut entries, k, 0);
            for (block, &distances) in distances.blocks.iter().enumerate() {
                let at = (block / BLOCKS * m + row) * BLOCKS + block % BLOCKS;
                let middle = greatest[at];
                let distance = lengths[row].distance(distances, depth) + ROUNDING * middle.abs();
                best.offer(middle - distance, block);
                greatest[at] = middle + distance;
            }
            // Each of the best blocks has at least one entry as great as this.
            *least = best.last().unwrap_or(f32::NEG_INFINITY);
        }

        // The blocks that may hold one of the wanted entries.
        let product = gemm::Projection { x: self.x, weight: self.weight, bias: self.bias };
        let blocks = |task| {
            let mine = share(chunks, tasks, task);
            mine.start * BLOCKS..(mine.end * BLOCKS).min(n.div_ceil(BLOCK))
        };
        let mut found = Found::of_tasks(tasks, m, k, |task| blocks(task).len() * BLOCK);
        let computed = AtomicUsize::new(0);
        let shared = SharedMut::new(&mut found);
        let greatest = &greatest[..];
        threads.run(tasks, |task| {
            // SAFETY: each task has an element of its own.
            let found = &mut unsafe { shared.slice(task..task + 1) }[0];
            for block in blocks(task) {
                let columns = block * BLOCK..n.min((block + 1) * BLOCK);
                for (row, &least) in least.iter().enumerate() {
                    let most = greatest[(block / BLOCKS * m + row) * BLOCKS + block % BLOCKS];
                    if most < least {
                        continue;
                    }
                    let mut logits = [0.0; BLOCK];
                    product.part(row..row + 1, columns.clone(), &mut logits, BLOCK);
                    let mut best = found.best(row);
                    for (column, logit) in columns.clone().zip(logits) {
                        best.offer(logit + bans[column], column);
                    }
                    found.lengths[row] = best.len();
                    computed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Found::merge(&found, threads, (values, ids), |_, values, ids, best| {
            for ((value, id), entry) in values.iter_mut().zip(ids).zip(best) {
                (*value, *id) = (entry.value, entry.id);
            }
        });
        Ok(computed.into_inner())
    }
}

/// The greatest of each block of a row's logits with their bans. NaN is ignored.
struct Greatest<'a> {
    logits: &'a [f32],
    bans: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Greatest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let blocks = self.logits.chunks(BLOCK).zip(self.bans.chunks(BLOCK));
        for ((logits, bans), out) in blocks.zip(self.out) {
            if logits.len() < BLOCK {
                let all = logits.iter().zip(bans).map(|(x, ban)| x + ban);
                *out = all.fold(f32::NEG_INFINITY, f32::max);
                continue;
            }
            let mut most = s.splat(f32::NEG_INFINITY);
            for (x, ban) in logits.chunks_exact(S::LANES).zip(bans.chunks_exact(S::LANES)) {
                most = s.max(s.add(s.load(x), s.load(ban)), most);
            }
            *out = s.max_lane(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::int8::DotIsa;
    use super::super::pack::{PackedWeight, Strided};
    use super::super::top_k::top_k;
    use super::*;
    use crate::kernels::testing::{everywhere, noise};

    const NOT: f32 = f32::NEG_INFINITY;

    /// Compares with the whole product. Returns the share of blocks that were computed.
    fn check(
        [m, n, depth]: [usize; 3],
        k: usize,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        bans: &[f32],
    ) -> f64 {
        let whole = Strided { data: weight, n, k: depth, column_stride: depth, input_stride: 1 };
        let x = Rows::contiguous(x, depth);
        let mut share = 0.0;
        everywhere(|isa, threads| {
            let packed = PackedWeight::new(isa, threads, whole).unwrap();
            let screen = QuantizedWeight::new(DotIsa::of(isa), threads, whole).unwrap();
            let weight = packed.panels();
            let product = gemm::Projection { x, weight, bias };
            let mut logits = vec![0.0; m * n];
            product.part(0..m, 0..n, &mut logits, n);
            for row in logits.chunks_exact_mut(n) {
                row.iter_mut().zip(bans).for_each(|(x, ban)| *x += ban);
            }
            let [mut want, mut got] = [(); 2].map(|()| (vec![9.0; m * k], vec![-1; m * k]));
            top_k(threads, Rows::contiguous(&logits, n), k, &mut want.0, &mut want.1);
            let out = (&mut got.0[..], &mut got.1[..]);
            let screened = Screened { x, weight, screen: &screen, bias };
            let computed = screened.greatest(isa, threads, &Scratch::new(), bans, k, out).unwrap();
            assert_eq!(got.1, want.1, "{isa:?}");
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&got.0), bits(&want.0), "{isa:?}");
            share = computed as f64 / (m * n.div_ceil(BLOCK)) as f64;
        });
        share
    }

    #[test]
    fn finds_what_the_whole_product_has_and_computes_little_of_it() {
        for (seed, ([m, n, depth], k)) in
            [([1, 1, 1], 1), ([3, 40, 7], 5), ([2, 1300, 33], 8), ([5, 5000, 256], 1)]
                .into_iter()
                .enumerate()
        {
            let seed = 10 * seed as u64;
            let (x, weight) = (noise(seed, m * depth), noise(seed + 1, n * depth));
            let bias = noise(seed + 2, n);
            let mut bans = vec![0.0; n];
            bans.iter_mut().step_by(7).skip(1).for_each(|ban| *ban = NOT);
            let share = check([m, n, depth], k, &x, &weight, Some(&bias), &bans);
            assert!(n < 5000 || share < 0.2, "{share} of all blocks");
            check([m, n, depth], k, &x, &weight, None, &bans);
        }
    }

    #[test]
    fn tells_apart_what_integers_do_not() {
        // All columns are equal but for less than a step of the integers. So a bound that is too
        // tight would show.
        let ([m, n, depth], k) = ([20, 900, 64], 2);
        let column = noise(1, depth);
        let mut weight = noise(2, n * depth);
        for row in weight.chunks_exact_mut(depth) {
            row.iter_mut().zip(&column).for_each(|(w, x)| *w = x + 0.004 * *w);
        }
        check([m, n, depth], k, &noise(3, m * depth), &weight, None, &vec![0.0; n]);
    }

    #[test]
    fn equals_and_what_is_not_finite_come_out_as_from_the_whole_product() {
        let ([m, n, depth], k) = ([6, 300, 20], 3);
        let (mut x, mut weight) = (noise(1, m * depth), noise(2, n * depth));
        // Equal columns, columns of very different scales, columns of 0 and of NaN; rows of 0 and
        // of NaN.
        let column = weight[..depth].to_vec();
        for j in [90, 33, 299] {
            weight[j * depth..(j + 1) * depth].copy_from_slice(&column);
        }
        weight[40 * depth..41 * depth].iter_mut().for_each(|w| *w *= 1e20);
        weight[41 * depth..42 * depth].iter_mut().for_each(|w| *w *= 1e-30);
        weight[42 * depth..43 * depth].fill(0.0);
        (weight[200 * depth], weight[201 * depth]) = (f32::NAN, f32::INFINITY);
        x[depth..2 * depth].fill(0.0);
        (x[2 * depth], x[3 * depth]) = (f32::NAN, f32::INFINITY);
        x[4 * depth..5 * depth].iter_mut().for_each(|x| *x *= 1e30);
        let mut bias = noise(3, n);
        (bias[7], bias[8], bias[9]) = (f32::INFINITY, f32::NAN, NOT);
        let none = vec![0.0; n];
        let all = vec![NOT; n];
        let far: Vec<f32> = noise(4, n).iter().map(|x| x * 1e6).collect();
        for bans in [&none, &all, &far] {
            check([m, n, depth], k, &x, &weight, Some(&bias), bans);
            check([m, n, depth], k, &x, &weight, None, bans);
        }
    }
}
