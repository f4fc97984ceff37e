//! The encoder: a stack of self-attention and feed-forward layers (section 3.1).

use super::{Network, Sequences};
use crate::config::Stack;
use crate::roles::{SOURCE_EMBEDDING, Side};
use tfm_core::Value;

impl Network<'_> {
    /// The encoder's output for the source `tokens [t]` at `positions [t]`: `[t, d_model]`.
    pub fn encoder(&mut self, tokens: Value, positions: Value, sequences: Sequences) -> Value {
        let config = self.config;
        self.scoped("encoder", |net| {
            let norm = &config.encoder.norm;
            let mut x = net.embed(&config.source, norm, SOURCE_EMBEDDING, tokens, positions);
            for layer in 0..config.encoder.layers {
                x = net.scoped(&format!("layers.{layer}"), |net| net.encoder_layer(x, sequences));
            }
            if norm.after_last_layer {
                x = net.norm(norm, x, "final_norm");
            }
            net.graph.label(x, "output");
            x
        })
    }

    fn encoder_layer(&mut self, x: Value, sequences: Sequences) -> Value {
        let Stack { attention, feed_forward, norm, .. } = &self.config.encoder;
        let x = self.residual(norm, x, "self_attention", |net, x| {
            let bias = net.relative_bias(Side::Encoder);
            net.attend(attention, x, false, bias, sequences.rows(), |net| {
                net.keys_and_values(attention, x)
            })
        });
        self.residual(norm, x, "feed_forward", |net, x| net.feed_forward(feed_forward, x))
    }
}
