//! The search over shortlists.

use super::fused::{logits, named, precision};
use super::{Family, Range, Sameness, basics, extent, tensor};
use crate::fused::{LinearOperands, TopOfShortlist, TopOfShortlistOperands};
use crate::testing::{Builder, Data, Recipe};
use crate::{DType, Value};
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

pub(super) fn families(range: &Range) -> Vec<Family> {
    vec![Family::new("TopOfShortlist", Sameness::Bounds, top_of_shortlist(range))]
}

/// Lists of tokens as [`TopOfShortlist`] takes them.
#[derive(Debug, Clone)]
pub(crate) struct Lists {
    pub(crate) columns: Vec<i32>,
    /// `[lists, width]`
    pub(crate) places: Vec<i32>,
    pub(crate) width: usize,
    pub(crate) lengths: Vec<i32>,
}

impl Lists {
    /// These lists of tokens below `vocabulary`, their tokens and some others in the columns in any
    /// order, in rows of `width`, the longest list or more.
    pub(crate) fn new(
        data: &mut Data,
        lists: &[Vec<i32>],
        vocabulary: usize,
        width: usize,
    ) -> Self {
        let mut columns: Vec<i32> = lists.iter().flatten().copied().collect();
        columns.extend((0..data.below(9)).map(|_| data.below(vocabulary) as i32));
        columns.push(data.below(vocabulary) as i32);
        columns.sort_unstable();
        columns.dedup();
        for i in (1..columns.len()).rev() {
            columns.swap(i, data.below(i + 1));
        }
        let mut places = Vec::new();
        for list in lists {
            let place = |token| columns.iter().position(|column| column == token).unwrap_or(0);
            places.extend(list.iter().map(|token| place(token) as i32));
            places.extend((list.len()..width).map(|_| data.below(columns.len()) as i32));
        }
        let lengths = lists.iter().map(|list| list.len() as i32).collect();
        Lists { columns, places, width, lengths }
    }

    /// The operands of a search among these lists.
    pub(crate) fn operands(
        &self,
        b: &mut Builder,
        layer: LinearOperands<Value>,
        bans: Value,
        list_of: Vec<i32>,
    ) -> TopOfShortlistOperands<Value> {
        let LinearOperands { x, weight, bias, .. } = layer;
        let vocabulary = b.graph.shape(weight)[0];
        let (u, lists, rows) = (self.columns.len(), self.lengths.len(), list_of.len());
        TopOfShortlistOperands {
            x,
            weight,
            bias,
            bans,
            columns: b.indices(vocabulary, [u], self.columns.clone()),
            lists: b.indices(u, [lists, self.width], self.places.clone()),
            lengths: b.indices(self.width + 1, [lists], self.lengths.clone()),
            list_of: b.indices(lists.max(1), [rows], list_of),
        }
    }
}

/// Some tokens below `vocabulary`, at least one, sorted; sometimes all.
pub(crate) fn list(data: &mut Data, vocabulary: usize) -> Vec<i32> {
    let share = 1 + data.below(8);
    let mut tokens: Vec<i32> =
        (0..vocabulary as i32).filter(|_| share == 1 || data.once_in(share)).collect();
    if tokens.is_empty() {
        tokens.push(data.below(vocabulary) as i32);
    }
    tokens
}

fn top_of_shortlist(range: &Range) -> BoxedStrategy<Recipe> {
    let wide = if range.tiny {
        Just(1usize).boxed()
    } else {
        prop_oneof![1..70usize, 1..900usize].boxed()
    };
    let sizes = (extent(range, 20), wide, extent(range, 60), 0..=9usize, 1..=5usize);
    (basics(range), sizes, any::<bool>(), precision())
        .prop_map(|((dtype, seed), (n, v, d, k, lists), bias, precision)| {
            let description = format!(
                "top {k} of {lists} shortlists of {n}×{v}, from {d}, bias {bias}, {precision:?}"
            );
            Recipe::new(description, dtype, seed, move |b| {
                let tokens: Vec<_> = (0..lists).map(|_| list(&mut b.data, v)).collect();
                let longest = tokens.iter().map(Vec::len).max().unwrap_or(1);
                let width = longest + b.data.below(4);
                let lists = Lists::new(&mut b.data, &tokens, v, width);
                let op = TopOfShortlist { bias, k: k.min(lists.width), precision };
                let x = b.floats([n, d], 1.0);
                let weight = b.weight([v, d], 1.0);
                let bias = bias.then(|| b.weight([v], 2.0));
                let ban = |b: &mut Builder| match b.data.below(8) {
                    0 => f64::NEG_INFINITY,
                    1 => b.data.number(1.0),
                    _ => 0.0,
                };
                let bans = (0..v).map(|_| ban(b)).collect();
                let bans = b.weight_of(tensor(DType::F32, &[v], bans));
                let list_of: Vec<i32> = (0..n).map(|_| b.data.below(tokens.len()) as i32).collect();
                let layer = LinearOperands { x, weight, bias, residual: None };
                let operands = lists.operands(b, layer, bans, list_of.clone());
                let top = b.graph.fused_all(op, &operands.list());
                b.graph.output(top[0]);
                b.graph.output(top[2]);
                // Near-ties may change places, so the ids are judged by what they name, among
                // logits that are −∞ outside of a row's list.
                let logits = logits(b, precision, x, weight, bias);
                let mut unlisted = vec![f64::NEG_INFINITY; n * v];
                for (row, &list) in unlisted.chunks_exact_mut(v).zip(&list_of) {
                    tokens[list as usize].iter().for_each(|&token| row[token as usize] = 0.0);
                }
                let unlisted = b.weight_of(tensor(DType::F32, &[n, v], unlisted));
                let logits = b.graph.add(logits, unlisted);
                named(b, logits, bans, top[1]);
            })
        })
        .boxed()
}
