//! Multi-head attention (section 3.2.2).

use super::Network;
use tfm_core::fused::Attention;
use tfm_core::{Graph, Value};

/// Which queries and keys belong together: the ragged batch that attention sees.
#[derive(Debug, Clone, Copy)]
pub struct Sequences {
    /// `[n + 1]`: where each sequence's queries begin and end.
    pub query_offsets: Value,
    /// `[n, 2]`: the first row of its keys, and how many.
    pub key_ranges: Value,
}

impl Sequences {
    /// The inputs `<name>_offsets` and `<name>_ranges` of `n` sequences, `queries` queries and `keys` rows.
    pub fn input(graph: &mut Graph, name: &str, n: usize, queries: usize, keys: usize) -> Self {
        Sequences {
            query_offsets: graph.indices(&format!("{name}_offsets"), queries + 1, [n + 1]),
            key_ranges: graph.indices(&format!("{name}_ranges"), keys + 1, [n, 2]),
        }
    }
}

impl Network<'_> {
    /// `MultiHead(Q, K, V) = Concat(head₁, …, head_h)·W^O`, where `context` computes all heads at once from
    /// the query `[t, heads, d_head]`.
    pub(crate) fn multi_head(
        &mut self,
        x: Value,
        heads: usize,
        context: impl FnOnce(&mut Self, Value) -> Value,
    ) -> Value {
        let d = self.config.d_model;
        let query = self.project(x, "query", heads);
        let context = context(self, query); // [t, heads, d_head]
        let rows = self.graph.shape(context).first().copied().unwrap_or(0);
        let joined = self.graph.reshape(context, [rows, d]);
        self.linear(joined, "output", d, d)
    }

    /// A projection of x, seen as heads: `[t, heads, d_head]`.
    pub(crate) fn project(&mut self, x: Value, name: &str, heads: usize) -> Value {
        let d = self.config.d_model;
        let projected = self.linear(x, name, d, d);
        let rows = self.graph.shape(projected).first().copied().unwrap_or(0);
        self.graph.reshape(projected, [rows, heads, d / heads])
    }

    /// Attention of the sequences of `x` to those of `memory`; to themselves where both are the same.
    pub(crate) fn attend(
        &mut self,
        x: Value,
        memory: Value,
        heads: usize,
        causal: bool,
        sequences: Sequences,
    ) -> Value {
        let scale = self.score_scale(heads);
        self.multi_head(x, heads, |net, query| {
            let key = net.project(memory, "key", heads);
            let value = net.project(memory, "value", heads);
            let Sequences { query_offsets, key_ranges } = sequences;
            let dropped = net.mask(|rates| rates.attention);
            let dropout = dropped.map(|(mask, _)| mask);
            let op = Attention { scale, causal, dropout, ..Attention::default() };
            let mut inputs = vec![query, key, value, query_offsets, key_ranges];
            inputs.extend(dropped.map(|(_, key)| key));
            net.graph.fused(op, &inputs)
        })
    }

    /// `1/√d_head`.
    pub(crate) fn score_scale(&self, heads: usize) -> f64 {
        1.0 / ((self.config.d_model / heads) as f64).sqrt()
    }
}
