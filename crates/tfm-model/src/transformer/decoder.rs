//! The decoder: masked self-attention, cross-attention and feed-forward layers, and the output
//! projection (sections 3.1 and 3.4). One description serves training-style passes over whole
//! targets and decoding step by step: they differ in where keys and values come from.

use super::{Network, Sequences};
use crate::config::{Heads, OutputBias, Stack};
use crate::roles::{Side, TARGET_EMBEDDING};
use tfm_core::fused::{
    KeyRows, Precision, TopLogits, TopLogitsOperands, TopOfLinear, TopOfLinearOperands,
    TopOfShortlist, TopOfShortlistOperands, Values,
};
use tfm_core::{DType, Value};

/// Where the decoder's attentions find their keys and values.
#[derive(Debug, Clone, Copy)]
pub enum DecoderKeys {
    /// Whole targets at once: self-attention among the target's own rows, cross-attention to the
    /// encoder's output.
    Whole {
        /// The targets among themselves.
        targets: Sequences,
        /// The encoder's output `[s, d_model]`.
        memory: Value,
        /// The targets' queries to the sources' keys.
        cross: Sequences,
    },
    /// One step of many hypotheses, whose keys and values are cached.
    Step {
        /// Rows of the caches.
        cache_rows: CacheRows,
        /// `[n]`: the row of the cache where each hypothesis' new key and value go.
        new_rows: Value,
        /// `[n, width]`: the rows each hypothesis sees, the new one included.
        row_table: Value,
        /// `[n]`: how many rows each sees.
        lengths: Value,
        /// The hypotheses of a sentence as queries to its range of the cross-attention cache.
        cross: Sequences,
    },
}

/// How many rows the caches of keys and values have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheRows {
    /// Rows of the self-attention caches.
    pub own: usize,
    /// Rows of the cross-attention caches.
    pub cross: usize,
}

/// Which tokens each hypothesis may choose among, as [`TopOfShortlist`] takes it.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    /// `[u]`: the tokens that are in any list.
    pub columns: Value,
    /// `[s, w]`: the lists, as places in `columns`.
    pub lists: Value,
    /// `[s]`: how many each has.
    pub lengths: Value,
    /// `[t]`: each hypothesis' list.
    pub list_of: Value,
}

/// What candidates are chosen by, and among which tokens.
#[derive(Debug, Clone, Copy)]
pub enum Among {
    /// By their logits, among all tokens.
    Logits,
    /// By their log-probabilities, among all tokens.
    LogProbabilities,
    /// By their log-probabilities, among the tokens of each hypothesis' list.
    Listed(Listed),
}

impl Network<'_> {
    /// What the logits are made of, for the target `tokens [t]` at `positions [t]`: `[t, d_model]`.
    pub fn decoder(&mut self, tokens: Value, positions: Value, keys: DecoderKeys) -> Value {
        let config = self.config;
        self.scoped("decoder", |net| {
            let norm = &config.decoder.norm;
            let mut x = net.embed(&config.target, norm, TARGET_EMBEDDING, tokens, positions);
            for layer in 0..config.decoder.layers {
                x = net.scoped(&format!("layers.{layer}"), |net| net.decoder_layer(x, layer, keys));
            }
            if norm.after_last_layer {
                x = net.norm(norm, x, "final_norm");
            }
            net.graph.scale(x, config.output.scale)
        })
    }

    /// Logits over the target vocabulary of the decoder's states `x [t, d_model]`: `[t, v]` in
    /// `F32`.
    pub fn logits(&mut self, x: Value) -> Value {
        self.scoped("output", |net| {
            let (weight, bias) = net.output_projection();
            let logits = net.product(x, weight, bias);
            net.graph.label(logits, "logits");
            // What is made of them (sums over the vocabulary, scores of hypotheses) needs more
            // digits than 16 bits have.
            net.graph.cast(logits, DType::F32)
        })
    }

    /// The best `k` tokens after each of the decoder's states `x [t, d_model]`, `bans [v]` added to
    /// what they are ranked by: values in `F32` and ids `[t, k]`. Those of a shortlist come with
    /// the logarithms of the sums of the lists' exponentiated logits `[t]`.
    pub fn candidates(&mut self, x: Value, among: Among, bans: Value, k: usize) -> Values {
        self.scoped("output", |net| {
            let (weight, bias) = net.output_projection();
            let precision = net.numerics.precision;
            let has_bias = bias.is_some();
            match among {
                Among::Logits => {
                    let screened = precision == Precision::Full;
                    let op = TopLogits { bias: has_bias, k, precision, screened };
                    let screen = screened.then_some(weight);
                    let operands = TopLogitsOperands { x, weight, screen, bias, bans };
                    net.graph.fused_all(op, &operands.list())
                }
                Among::LogProbabilities => {
                    let op = TopOfLinear { bias: has_bias, k, precision };
                    let operands = TopOfLinearOperands { x, weight, bias, bans };
                    net.graph.fused_all(op, &operands.list())
                }
                Among::Listed(Listed { columns, lists, lengths, list_of }) => {
                    let op = TopOfShortlist { bias: has_bias, k, precision };
                    let operands = TopOfShortlistOperands {
                        x,
                        weight,
                        bias,
                        bans,
                        columns,
                        lists,
                        lengths,
                        list_of,
                    };
                    net.graph.fused_all(op, &operands.list())
                }
            }
        })
    }

    /// Weight and bias of the logits.
    fn output_projection(&mut self) -> (Value, Option<Value>) {
        let (v, d) = (self.config.target.vocabulary, self.config.d_model);
        let weight = self.parameter("weight", &[v, d]);
        let has_bias = self.config.output.bias != OutputBias::None;
        (weight, has_bias.then(|| self.parameter("bias", &[v])))
    }

    fn decoder_layer(&mut self, x: Value, layer: usize, keys: DecoderKeys) -> Value {
        let Stack { norm, feed_forward, .. } = &self.config.decoder;
        let x =
            self.residual(norm, x, "self_attention", |net, x| net.masked_attention(x, layer, keys));
        let x =
            self.residual(norm, x, "cross_attention", |net, x| net.cross_attention(x, layer, keys));
        self.residual(norm, x, "feed_forward", |net, x| net.feed_forward(feed_forward, x))
    }

    /// Self-attention that sees no later token.
    fn masked_attention(&mut self, x: Value, layer: usize, keys: DecoderKeys) -> Value {
        let heads = &self.config.decoder.attention;
        let bias = self.relative_bias(Side::Decoder);
        let rows = match keys {
            DecoderKeys::Whole { targets, .. } => targets.rows(),
            DecoderKeys::Step { row_table, lengths, .. } => KeyRows::Table { row_table, lengths },
        };
        self.attend(heads, x, true, bias, rows, |net| {
            let new = net.keys_and_values(heads, x);
            match keys {
                DecoderKeys::Whole { .. } => new,
                DecoderKeys::Step { cache_rows, new_rows, .. } => {
                    let cache = net.kv_cache("self", heads, layer, cache_rows.own);
                    net.write_to_cache(cache, new, new_rows)
                }
            }
        })
    }

    /// Attention to the encoder's output.
    fn cross_attention(&mut self, x: Value, layer: usize, keys: DecoderKeys) -> Value {
        let heads = &self.config.cross_attention;
        let (DecoderKeys::Whole { cross, .. } | DecoderKeys::Step { cross, .. }) = keys;
        self.attend(heads, x, false, None, cross.rows(), |net| match keys {
            DecoderKeys::Whole { memory, .. } => net.keys_and_values(heads, memory),
            DecoderKeys::Step { cache_rows, .. } => {
                net.kv_cache("cross", heads, layer, cache_rows.cross)
            }
        })
    }

    /// Projects the encoder's output to every decoder layer's cross-attention keys and values and
    /// writes them to the rows `ids [s]` of the cross-attention caches, which have `rows` rows.
    pub fn write_cross_keys(&mut self, memory: Value, ids: Value, rows: usize) {
        let config = self.config;
        let heads = &config.cross_attention;
        self.scoped("decoder", |net| {
            for layer in 0..config.decoder.layers {
                net.scoped(&format!("layers.{layer}.cross_attention"), |net| {
                    let new = net.keys_and_values(heads, memory);
                    let cache = net.kv_cache("cross", heads, layer, rows);
                    net.write_to_cache(cache, new, ids);
                });
            }
        });
    }

    /// Writes keys and values to the rows `ids` of their caches, in the caches' type, and returns
    /// the caches after that.
    fn write_to_cache(&mut self, cache: [Value; 2], new: [Value; 2], ids: Value) -> [Value; 2] {
        [0, 1].map(|i| {
            let new = self.graph.cast(new[i], self.graph.dtype(cache[i]));
            self.graph.write_rows(cache[i], new, ids)
        })
    }

    /// The states that hold a layer's keys and values: `[rows, kv_heads, d_head]` each.
    fn kv_cache(&mut self, kind: &str, heads: &Heads, layer: usize, rows: usize) -> [Value; 2] {
        let (shape, dtype) = ([rows, heads.kv_count, heads.size], self.numerics.key_dtype);
        ["key", "value"]
            .map(|what| self.graph.state(&Self::cache_name(kind, layer, what), dtype, shape))
    }

    /// The name of a cache's state.
    pub fn cache_name(kind: &str, layer: usize, what: &str) -> String {
        format!("{kind}.{layer}.{what}")
    }
}
