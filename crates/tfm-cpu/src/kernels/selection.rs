//! Some columns of a packed weight, which are updated when other columns are wanted.

use std::collections::TryReserveError;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::threads::Threads;

/// Identifies a packed weight, even among weights that had the same memory before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64);

impl Identity {
    /// An identity that nothing else has.
    #[allow(clippy::new_without_default)] // each is another
    pub fn new() -> Identity {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Identity(MADE.fetch_add(1, Ordering::Relaxed))
    }
}

/// A column of a selection that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The column of the selection.
    pub to: usize,
    /// The column of the source that replaces it.
    pub from: usize,
}

impl Change {
    /// The part of `changes`, which are sorted by column, that concerns these columns.
    pub(super) fn within(changes: &[Change], columns: Range<usize>) -> &[Change] {
        let place = |column| changes.partition_point(|change| change.to < column);
        &changes[place(columns.start)..place(columns.end)]
    }
}

/// A packed weight that columns can be taken from.
pub trait Selectable: Sized {
    /// The identity of the weight.
    fn identity(&self) -> Identity;
    /// How many output columns it has.
    fn columns(&self) -> usize;
    /// A weight of `n` columns of zeros that is like this one otherwise.
    ///
    /// # Errors
    /// There is no memory for it.
    fn blank(&self, n: usize) -> Result<Self, TryReserveError>;
    /// Copies the first columns of `other`, as many as both have.
    fn begin_as(&mut self, other: &Self);
    /// Copies columns of `source`. `changes` are sorted by the columns of this weight.
    fn take_columns(&mut self, threads: &Threads, source: &Self, changes: &[Change]);
}

/// The work of updating the panels of a selection, in operations of a product. Two weights of one
/// column lie a cache line apart.
pub(super) fn work(inputs: usize, changes: usize, panels: usize) -> usize {
    const OPERATIONS_AN_INPUT: usize = 40;
    (OPERATIONS_AN_INPUT * inputs * changes).div_ceil(panels.max(1))
}

/// The columns `wanted` of `source`. `old` is a selection of the same source, with the columns that
/// it has; columns that both share are not copied again.
///
/// # Errors
/// There is no memory for it.
pub fn select<W: Selectable>(
    threads: &Threads,
    source: &W,
    old: Option<(W, &[i32])>,
    wanted: &[i32],
) -> Result<W, TryReserveError> {
    let (mut weight, has): (W, &[i32]) = match old {
        Some((weight, has)) if has.len() == wanted.len() => (weight, has),
        Some((other, has)) => {
            let mut weight = source.blank(wanted.len())?;
            weight.begin_as(&other);
            (weight, has)
        }
        None => (source.blank(wanted.len())?, &[]),
    };
    let changes = wanted.iter().enumerate().filter(|(to, column)| has.get(*to) != Some(column));
    let changes: Vec<Change> =
        changes.map(|(to, &column)| Change { to, from: column as usize }).collect();
    assert!(changes.iter().all(|change| change.from < source.columns()));
    weight.take_columns(threads, source, &changes);
    Ok(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::int8::DotIsa;
    use crate::kernels::int8::pack::QuantizedWeight;
    use crate::kernels::pack::{PackedWeight, Strided, Weight};
    use crate::kernels::pairs::Pair;
    use crate::kernels::testing::{assert_same_bits, everywhere, noise};

    /// Wanted columns that become more, become fewer, move and stay.
    const STEPS: [&[i32]; 6] = [
        &[3, 1, 2],
        &[3, 40, 2],
        &[
            3, 40, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 0, 99, 98, 33, 33,
            34,
        ],
        &[
            4, 40, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 0, 99, 98, 33, 1,
            34,
        ],
        &[7, 40],
        &[],
    ];

    fn check<W: Selectable>(threads: &Threads, source: &W, row: impl Fn(&W, usize) -> Vec<f32>) {
        let mut kept: Option<(W, &[i32])> = None;
        for wanted in STEPS {
            let weight = select(threads, source, kept.take(), wanted).unwrap();
            assert_eq!(weight.columns(), wanted.len());
            assert_ne!(weight.identity(), source.identity());
            for (to, &from) in wanted.iter().enumerate() {
                assert_same_bits(&row(&weight, to), &row(source, from as usize));
            }
            kept = Some((weight, wanted));
        }
    }

    fn rows<W: Weight>(k: usize) -> impl Fn(&PackedWeight<W>, usize) -> Vec<f32> {
        move |weight, j| {
            let mut row = vec![0.0; k];
            weight.panels().row(j, &mut row);
            row
        }
    }

    #[test]
    fn selections_have_the_columns_that_are_wanted() {
        for k in [1, 7, 64] {
            let data = noise(3, 100 * k);
            let weight = Strided { data: &data, n: 100, k, column_stride: k, input_stride: 1 };
            everywhere(|isa, threads| {
                check(threads, &PackedWeight::new(isa, threads, weight).unwrap(), rows::<f32>(k));
                let short = PackedWeight::rounded(isa, threads, weight).unwrap();
                check(threads, &short, rows::<Pair>(k));
                let quantized = QuantizedWeight::new(DotIsa::of(isa), threads, weight).unwrap();
                check(threads, &quantized, |weight, j| {
                    let mut row = vec![0.0; k];
                    weight.row(j, &mut row);
                    row
                });
            });
        }
    }
}
