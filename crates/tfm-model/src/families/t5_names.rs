//! The names of T5's tensors.

use super::TensorSlice;
use crate::config::Config;
use crate::roles::{Attention, Leaf, Module, Projection, Role, Side};
use tfm_core::Shape;

/// Where files keep the parameter with this role and shape.
pub(super) fn slice(config: &Config, role: Role, shape: &Shape) -> Option<TensorSlice> {
    let one = |name: String| Some(TensorSlice::whole(vec![name], shape));
    let distances = "layer.0.SelfAttention.relative_attention_bias.weight";
    match role {
        Role::SourceEmbedding => {
            let tied = config.output.tied.then_some("lm_head.weight");
            let names =
                ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
            let names = names.into_iter().chain(tied).map(String::from).collect();
            Some(TensorSlice::whole(names, shape))
        }
        Role::Output(Leaf::Weight) => one("lm_head.weight".into()),
        Role::RelativePositions(side) => one(format!("{side}.block.0.{distances}")),
        Role::Layer(side, layer, Module::RelativePositions, _) => {
            one(format!("{side}.block.{layer}.{distances}"))
        }
        Role::FinalNorm(side, _) => one(format!("{side}.final_layer_norm.weight")),
        Role::Layer(side, layer, module, _) => {
            let gated = config.encoder.feed_forward.gated;
            one(format!("{side}.block.{layer}.layer.{}.weight", in_layer(side, module, gated)?))
        }
        // Its tables are shared, and it has no biases and no tables of positions.
        Role::TargetEmbedding | Role::Output(_) | Role::Positions(_) | Role::EmbeddingNorm(..) => {
            None
        }
    }
}

fn in_layer(side: Side, module: Module, gated: bool) -> Option<String> {
    let last = if side == Side::Encoder { 1 } else { 2 };
    let attention = |which| match which {
        Attention::Own => (0, "SelfAttention"),
        Attention::Cross => (1, "EncDecAttention"),
    };
    let name = match module {
        Module::Attention(which, projection) => {
            let (layer, name) = attention(which);
            let projection = match projection {
                Projection::Query => "q",
                Projection::Key => "k",
                Projection::Value => "v",
                Projection::Output => "o",
            };
            format!("{layer}.{name}.{projection}")
        }
        Module::AttentionNorm(which) => format!("{}.layer_norm", attention(which).0),
        Module::Gate => format!("{last}.DenseReluDense.wi_0"),
        Module::Inner if gated => format!("{last}.DenseReluDense.wi_1"),
        Module::Inner => format!("{last}.DenseReluDense.wi"),
        Module::Outer => format!("{last}.DenseReluDense.wo"),
        Module::FeedForwardNorm => format!("{last}.layer_norm"),
        Module::RelativePositions => return None,
    };
    Some(name)
}
