//! Multi-head attention (section 3.2.2).

use super::Network;
use crate::config::{Heads, Position, RelativePositions};
use crate::roles::{Role, Side};
use tfm_core::fused::{Attention, AttentionOperands, KeyRows, KeySet, RelativeBias};
use tfm_core::{DType, Graph, Value};

/// Which queries and keys belong together: the ragged batch that attention sees.
#[derive(Debug, Clone, Copy)]
pub struct Sequences {
    /// `[n + 1]`: where each sequence's queries begin and end.
    pub query_offsets: Value,
    /// `[n, 2]`: the first row of its keys, and how many.
    pub key_ranges: Value,
}

impl Sequences {
    /// The inputs `<name>_offsets` and `<name>_ranges` of `n` sequences, `queries` queries and
    /// `keys` rows.
    pub fn input(graph: &mut Graph, name: &str, n: usize, queries: usize, keys: usize) -> Self {
        Sequences {
            query_offsets: graph.indices(&format!("{name}_offsets"), queries + 1, [n + 1]),
            key_ranges: graph.indices(&format!("{name}_ranges"), keys + 1, [n, 2]),
        }
    }

    /// The rows of keys that each query sees.
    pub(crate) fn rows(self) -> KeyRows<Value> {
        let Sequences { query_offsets, key_ranges } = self;
        KeyRows::Ranges { query_offsets, key_ranges }
    }
}

impl Network<'_> {
    /// `MultiHead(Q, K, V) = Concat(head₁, …, head_h)·W^O`, where `context` computes all heads at
    /// once from the query `[t, heads, d_head]`.
    pub(crate) fn multi_head(
        &mut self,
        heads: &Heads,
        x: Value,
        context: impl FnOnce(&mut Self, Value) -> Value,
    ) -> Value {
        let query = self.project(heads, x, "query", heads.count);
        let context = context(self, query); // [t, heads, d_head]
        let rows = self.graph.shape(context).first().copied().unwrap_or(0);
        let joined = self.graph.reshape(context, [rows, heads.width()]);
        self.linear(joined, "output", self.config.d_model, heads.biases)
    }

    /// A projection of x, seen as `count` heads: `[t, count, d_head]`.
    fn project(&mut self, heads: &Heads, x: Value, name: &str, count: usize) -> Value {
        let projected = self.linear(x, name, count * heads.size, heads.biases);
        let rows = self.graph.shape(projected).first().copied().unwrap_or(0);
        self.graph.reshape(projected, [rows, count, heads.size])
    }

    /// The projections of x that queries attend to: keys and values, `[t, kv_heads, d_head]` each.
    pub(crate) fn keys_and_values(&mut self, heads: &Heads, x: Value) -> [Value; 2] {
        ["key", "value"].map(|name| self.project(heads, x, name, heads.kv_count))
    }

    /// `Attention(Q, K, V) = softmax(scale·Q·Kᵀ + B)·V` of the heads of x to the keys and values
    /// that `keys_and_values` gives. Each query sees the keys of its `rows`; if `causal`, only
    /// those up to its own position. B is the `bias` by distance, where there is one.
    pub(crate) fn attend(
        &mut self,
        heads: &Heads,
        x: Value,
        causal: bool,
        bias: Option<(RelativeBias, Value)>,
        rows: KeyRows<Value>,
        keys_and_values: impl FnOnce(&mut Self) -> [Value; 2],
    ) -> Value {
        self.multi_head(heads, x, |net, query| {
            let mut operands = AttentionOperands::new(query, keys_and_values(net), rows);
            operands.keys.bias = bias.map(|(_, biases)| biases);
            let dropped = net.mask(|rates| rates.attention);
            operands.random_key = dropped.map(|(_, key)| key);
            let dropout = dropped.map(|(mask, _)| mask);
            let bias = bias.map(|(relative, _)| relative);
            let Heads { scale, window, soft_cap, .. } = *heads;
            let keys = KeySet { lookup: rows.lookup(), causal, window, bias };
            let op = Attention { scale, soft_cap, dropout, keys, ..Attention::default() };
            net.graph.attention(op, operands)
        })
    }

    /// The biases of self-attention by distance `[buckets, heads]`, which are F32 in any model.
    pub(crate) fn relative_bias(&mut self, side: Side) -> Option<(RelativeBias, Value)> {
        let stack = match side {
            Side::Encoder => &self.config.encoder,
            Side::Decoder => &self.config.decoder,
        };
        let Position::Relative(RelativePositions { buckets, max_distance, per_layer }) =
            stack.attention.position
        else {
            return None;
        };
        let shape = [buckets, stack.attention.count];
        let biases = if per_layer {
            self.parameter("relative_positions.weight", &shape)
        } else {
            self.named(&Role::RelativePositions(side).to_string(), &shape)
        };
        let biases = self.graph.cast(biases, DType::F32);
        // An encoder tells keys after the query from those before it.
        let bidirectional = side == Side::Encoder;
        Some((RelativeBias { buckets, max_distance, bidirectional }, biases))
    }
}
