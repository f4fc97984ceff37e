//! The operands of attention by name.

use super::{Attention, KeyLookup, KeySet};
use crate::fused::List;

/// The operands of [`Attention`]: values of a graph, or what stands for them elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionOperands<T> {
    /// `[tq, heads, d_head]`
    pub query: T,
    /// The keys.
    pub keys: KeyOperands<T>,
    /// The second set of keys, if there is one.
    pub more_keys: Option<KeyOperands<T>>,
    /// `[3]` in `I32`: the key of the dropout's random numbers, if there is a dropout.
    pub random_key: Option<T>,
}

/// The operands of one set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyOperands<T> {
    /// `[rows, kv_heads, d_head]`
    pub key: T,
    /// `[rows, kv_heads, d_head]`
    pub value: T,
    /// Which rows each query sees.
    pub rows: KeyRows<T>,
    /// `[buckets, heads]` in `F32`: the biases by distance, if there are any.
    pub bias: Option<T>,
}

/// Which rows of keys and values each query sees. All operands are `I32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRows<T> {
    /// A ragged batch.
    Ranges {
        /// `[n + 1]`, ascending from 0 to tq: the queries of sequence s are
        /// `query_offsets[s] .. query_offsets[s + 1]`.
        query_offsets: T,
        /// `[n, 2]`: the keys of sequence s are the rows `start .. start + length`.
        key_ranges: T,
    },
    /// A list of rows for each query.
    Table {
        /// `[tq, width]`: query i sees the rows `row_table[i][0 .. lengths[i]]`. The rest of its
        /// list holds any row's number.
        row_table: T,
        /// `[tq]`, at most width.
        lengths: T,
    },
}

impl<T> KeyRows<T> {
    /// Which kind of rows these are.
    pub fn lookup(&self) -> KeyLookup {
        match self {
            KeyRows::Ranges { .. } => KeyLookup::Ranges,
            KeyRows::Table { .. } => KeyLookup::Table,
        }
    }

    /// The same kind of rows, each operand replaced by what `f` makes of it.
    pub fn map<'a, U>(&'a self, mut f: impl FnMut(&'a T) -> U) -> KeyRows<U> {
        match self {
            KeyRows::Ranges { query_offsets, key_ranges } => {
                KeyRows::Ranges { query_offsets: f(query_offsets), key_ranges: f(key_ranges) }
            }
            KeyRows::Table { row_table, lengths } => {
                KeyRows::Table { row_table: f(row_table), lengths: f(lengths) }
            }
        }
    }
}

impl<T: Copy> KeyOperands<T> {
    /// Keys and values by those rows, without biases.
    pub fn new([key, value]: [T; 2], rows: KeyRows<T>) -> Self {
        KeyOperands { key, value, rows, bias: None }
    }

    fn list(self) -> impl Iterator<Item = T> {
        let rows = match self.rows {
            KeyRows::Ranges { query_offsets, key_ranges } => [query_offsets, key_ranges],
            KeyRows::Table { row_table, lengths } => [row_table, lengths],
        };
        [self.key, self.value].into_iter().chain(rows).chain(self.bias)
    }
}

impl<T: Copy> AttentionOperands<T> {
    /// A query and one set of keys without biases, and nothing dropped.
    pub fn new(query: T, keys: [T; 2], rows: KeyRows<T>) -> Self {
        let keys = KeyOperands::new(keys, rows);
        AttentionOperands { query, keys, more_keys: None, random_key: None }
    }

    /// The items of the operands that are there, in the order of the node.
    pub fn list(self) -> List<T> {
        let more = self.more_keys.into_iter().flat_map(KeyOperands::list);
        let keys = [self.query].into_iter().chain(self.keys.list()).chain(more);
        keys.chain(self.random_key).collect()
    }
}

impl KeySet {
    fn operands<T>(&self, mut next: impl FnMut() -> T) -> KeyOperands<T> {
        let (key, value, first, second) = (next(), next(), next(), next());
        let rows = match self.lookup {
            KeyLookup::Ranges => KeyRows::Ranges { query_offsets: first, key_ranges: second },
            KeyLookup::Table => KeyRows::Table { row_table: first, lengths: second },
        };
        KeyOperands { key, value, rows, bias: self.bias.map(|_| next()) }
    }

    fn names(&self) -> KeyOperands<&'static str> {
        let rows = match self.lookup {
            KeyLookup::Ranges => {
                KeyRows::Ranges { query_offsets: "query_offsets", key_ranges: "key_ranges" }
            }
            KeyLookup::Table => KeyRows::Table { row_table: "row_table", lengths: "lengths" },
        };
        KeyOperands { key: "key", value: "value", rows, bias: self.bias.map(|_| "bias") }
    }
}

impl Attention {
    /// Names the items of a list in the order of the node.
    ///
    /// # Panics
    /// If the list is shorter than that of a node, which [`infer`](crate::fused::FusedOp::infer)
    /// refuses.
    pub fn operands<T: Copy>(&self, list: &[T]) -> AttentionOperands<T> {
        let mut list = list.iter();
        let mut next = || *list.next().expect("the operands were counted by `infer`");
        AttentionOperands {
            query: next(),
            keys: self.keys.operands(&mut next),
            more_keys: self.more_keys.map(|set| set.operands(&mut next)),
            random_key: self.dropout.map(|_| next()),
        }
    }

    /// Where each operand stands in the list.
    pub fn positions(&self) -> AttentionOperands<usize> {
        let all: List<usize> = (0..self.operand_names().len()).collect();
        self.operands(&all)
    }

    /// The names of the operands that are there.
    pub fn operand_names(&self) -> List<&'static str> {
        let names = AttentionOperands {
            query: "query",
            keys: self.keys.names(),
            more_keys: self.more_keys.map(|set| set.names()),
            random_key: self.dropout.map(|_| "random_key"),
        };
        names.list()
    }
}
