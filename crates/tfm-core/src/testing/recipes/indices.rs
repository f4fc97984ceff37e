//! Ops that read and write rows by index, and top-k.

use super::{Family, Range, Sameness, basics, extent};
use crate::testing::Recipe;
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

pub(super) fn families(range: &Range) -> Vec<Family> {
    vec![
        Family::new("gather", Sameness::Bits, gather(range)),
        Family::new("scatter_add", Sameness::Bits, scatter_add(range)),
        Family::new("write_rows", Sameness::Bits, write_rows(range)),
        Family::new("top_k", Sameness::Bits, top_k(range)),
    ]
}

fn gather(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), 1..20usize, proptest::collection::vec(0..9usize, 0..3), (0..9usize, 0..9usize))
        .prop_map(|((dtype, seed), rows, width, (n, m))| {
            let description = format!("gather {n}×{m} of {rows} rows of {width:?}");
            Recipe::new(description, dtype, seed, move |b| {
                let table: Vec<usize> = [rows].into_iter().chain(width.iter().copied()).collect();
                let table = b.floats(&table[..], 1.0);
                let ids = (0..n * m).map(|_| b.data.below(rows) as i32).collect();
                let ids = b.integers([n, m], ids);
                let y = b.graph.gather(table, ids);
                b.graph.output(y);
            })
        })
        .boxed()
}

fn scatter_add(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), 1..20usize, extent(range, 40), 0..40usize)
        .prop_map(|((dtype, seed), rows, width, n)| {
            let description = format!("scatter {n} rows of {width} to {rows}");
            Recipe::new(description, dtype, seed, move |b| {
                let x = b.floats([n, width], 1.0);
                let ids = (0..n).map(|_| b.data.below(rows) as i32).collect();
                let ids = b.integers([n], ids);
                let y = b.graph.scatter_add(x, ids, rows);
                b.graph.output(y);
            })
        })
        .boxed()
}

fn write_rows(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), 1..20usize, (0..4usize, 0..9usize), 0..20usize)
        .prop_map(|((dtype, seed), rows, (heads, width), n)| {
            let n = n.min(rows);
            let description = format!("write {n} rows of {heads}×{width} to {rows}");
            Recipe::new(description, dtype, seed, move |b| {
                let before = b.data.tensor(b.dtype, &[rows, heads, width].into(), 1.0);
                let state = b.state(before);
                let x = b.floats([n, heads, width], 1.0);
                let ids = b.data.distinct(n, rows);
                let ids = b.integers([n], ids);
                let first = b.data.below(rows);
                let old = b.graph.slice(state, 0, first, 1);
                let old = b.graph.neg(old); // read before the write
                let state = b.graph.write_rows(state, x, ids);
                b.graph.output(old);
                b.graph.output(state);
            })
        })
        .boxed()
}

fn top_k(range: &Range) -> BoxedStrategy<Recipe> {
    (basics(range), 0..6usize, extent(range, 600), 0..20usize, 1..200usize)
        .prop_map(|((dtype, seed), rows, width, k, levels)| {
            let k = k.min(width);
            let description = format!("top {k} of {rows}×{width} with {levels} levels");
            Recipe::new(description, dtype, seed, move |b| {
                // Few levels: many ties.
                let level = |b: &mut crate::testing::Builder| match b.data.below(40) {
                    0 => f64::NEG_INFINITY,
                    1 => f64::INFINITY,
                    _ => b.data.below(levels) as f64 - levels as f64 / 2.0,
                };
                let values = (0..rows * width).map(|_| level(b)).collect();
                let x = b.values([rows, width], values);
                let (values, indices) = b.graph.top_k(x, k);
                b.graph.output(values);
                b.graph.output(indices);
            })
        })
        .boxed()
}
