//! The names of tensors that BART and its relatives have in common.

use super::TensorSlice;
use crate::config::{Config, PositionKind};
use crate::roles::{Attention, Leaf, Module, Projection, Role, Side};
use tfm_core::Shape;

const SHARED: &str = "model.shared.weight";
const SOURCE: &str = "model.encoder.embed_tokens.weight";
const TARGET: &str = "model.decoder.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The start of the names which files lack that were saved without the model's output.
pub(super) const BASE_PREFIX: &str = "model.";

/// Where files keep the parameter with this role and shape.
pub(super) fn slice(config: &Config, role: Role, shape: &Shape) -> Option<TensorSlice> {
    let one = |name: String| TensorSlice::whole(vec![name], shape);
    let slice = match role {
        Role::SourceEmbedding | Role::TargetEmbedding => table(config, role, shape),
        Role::Output(Leaf::Weight) => one(HEAD.into()),
        // A buffer [1, V], which `transformers` leaves out of some files and takes for zero.
        Role::Output(Leaf::Bias) => TensorSlice::as_row("final_logits_bias", shape).or_zero(true),
        Role::Positions(side) => {
            let name = format!("model.{side}.embed_positions.weight");
            TensorSlice::after(offset(config, side), name, shape)
        }
        Role::EmbeddingNorm(side, leaf) => one(format!("model.{side}.layernorm_embedding.{leaf}")),
        Role::FinalNorm(side, leaf) => one(format!("model.{side}.layer_norm.{leaf}")),
        Role::Layer(side, layer, module, leaf) => {
            one(format!("model.{side}.layers.{layer}.{}.{leaf}", in_layer(module)?))
        }
        Role::RelativePositions(_) => return None,
    };
    Some(slice)
}

/// The rows before the first position's of a learned table.
fn offset(config: &Config, side: Side) -> usize {
    let embedding = if side == Side::Encoder { &config.source } else { &config.target };
    match embedding.positions.map(|table| table.kind) {
        Some(PositionKind::Learned { offset }) => offset,
        _ => 0,
    }
}

fn in_layer(module: Module) -> Option<String> {
    let attention = |which| match which {
        Attention::Own => "self_attn",
        Attention::Cross => "encoder_attn",
    };
    let name = match module {
        Module::Attention(which, projection) => {
            let projection = match projection {
                Projection::Query => "q_proj",
                Projection::Key => "k_proj",
                Projection::Value => "v_proj",
                Projection::Output => "out_proj",
            };
            format!("{}.{projection}", attention(which))
        }
        Module::AttentionNorm(which) => format!("{}_layer_norm", attention(which)),
        Module::Inner => "fc1".into(),
        Module::Outer => "fc2".into(),
        Module::FeedForwardNorm => "final_layer_norm".into(),
        Module::RelativePositions | Module::Gate => return None,
    };
    Some(name)
}

/// The embedding tables, which go by several names where they are shared or tied.
fn table(config: &Config, role: Role, shape: &Shape) -> TensorSlice {
    let names: &[&str] = match role {
        Role::SourceEmbedding if config.shared_embeddings => &[SHARED, SOURCE, TARGET],
        Role::SourceEmbedding => &[SOURCE],
        _ => &[TARGET],
    };
    let is_target = config.shared_embeddings || role == Role::TargetEmbedding;
    let head = (config.output.tied && is_target).then_some(HEAD);
    let names: Vec<String> = names.iter().copied().chain(head).map(String::from).collect();
    // `tie_word_embeddings: false` unties all three there, and `transformers` looks for each.
    let is_untied = role == Role::SourceEmbedding && !config.output.tied;
    let written = if is_untied { names.len() } else { 1 };
    TensorSlice { written, ..TensorSlice::whole(names, shape) }
}
