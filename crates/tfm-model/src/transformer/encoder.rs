//! The encoder: a stack of self-attention and feed-forward layers (section 3.1).

use super::{Network, Sequences};
use tfm_core::Value;

impl Network<'_> {
    /// The encoder's output for the source `tokens [t]` at `positions [t]`: `[t, d_model]`.
    pub fn encoder(&mut self, tokens: Value, positions: Value, sequences: Sequences) -> Value {
        let config = self.config;
        self.scoped("encoder", |net| {
            let mut x =
                net.embed("source_embedding.weight", config.source_vocabulary, tokens, positions);
            for layer in 0..config.encoder.layers {
                x = net.scoped(&format!("layers.{layer}"), |net| net.encoder_layer(x, sequences));
            }
            if config.final_norm {
                x = net.norm(x, "final_norm");
            }
            net.graph.label(x, "output");
            x
        })
    }

    fn encoder_layer(&mut self, x: Value, sequences: Sequences) -> Value {
        let shape = self.config.encoder;
        let x = self.residual(x, "self_attention", |net, x| {
            net.attend(x, x, shape.heads, false, sequences)
        });
        self.residual(x, "feed_forward", |net, x| net.feed_forward(x, shape.ffn_dim))
    }
}
