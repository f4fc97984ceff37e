//! Token embedding: rows of a table, scaled, plus rows of a table of positions.

use super::int8::pack::QuantizedWeight;
use super::pack::Panels;
use super::pairs::Pair;
use super::rows::Rows;

/// A table of embeddings, either as it lies or in the form that products with it read.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Table<'a> {
    Rows(Rows<'a>),
    Panels(Panels<'a>),
    Pairs(Panels<'a, Pair>),
    Quantized(&'a QuantizedWeight),
}

impl Table<'_> {
    /// Writes row `i` to `out`. Panics if there is no such row, or if its length is another.
    fn row(&self, i: usize, out: &mut [f32]) {
        match self {
            Table::Rows(rows) => out.copy_from_slice(rows.row(i)),
            Table::Panels(panels) => panels.row(i, out),
            Table::Pairs(panels) => panels.row(i, out),
            Table::Quantized(weight) => weight.row(i, out),
        }
    }

    fn cols(&self) -> usize {
        match self {
            Table::Rows(rows) => rows.cols(),
            Table::Panels(panels) => panels.k(),
            Table::Pairs(panels) => panels.k(),
            Table::Quantized(weight) => weight.k(),
        }
    }
}

/// `out[i] = scale·table[ids[i]] + positions`, where `positions`, if present, are rows of a table
/// of positions and their ids. Panics if an id is outside of its table.
pub fn embedding(
    table: Table<'_>,
    ids: &[i32],
    scale: f32,
    positions: Option<(Rows<'_>, &[i32])>,
    out: &mut [f32],
) {
    let d = table.cols();
    assert_eq!(out.len(), ids.len() * d);
    if d == 0 {
        return;
    }
    for (i, out) in out.chunks_exact_mut(d).enumerate() {
        table.row(ids[i] as usize, out);
        match positions {
            Some((position_table, positions)) => {
                let position = position_table.row(positions[i] as usize);
                out.iter_mut().zip(position).for_each(|(out, &p)| *out = scale * *out + p);
            }
            None => out.iter_mut().for_each(|out| *out *= scale),
        }
    }
}
