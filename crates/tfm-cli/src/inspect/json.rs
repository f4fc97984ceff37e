//! What a program wants to know of a model: an object with the field's names.

use crate::render::json_line;
use serde_json::{Value, json};
use tfm::Model;
use tfm_model::config::{
    Activation, Embedding, Heads, NormKind, NormPlacement, OutputBias, Position, PositionKind,
    SinusoidLayout, Stack,
};

/// What this program has no word for yet.
const OTHER: &str = "other";

/// The object, with a line end.
pub(super) fn page(model: &Model) -> String {
    let (config, own, tokenizer) = (model.config(), model.generation(), model.tokenizer());
    let special = &config.special;
    let parameters = model.checkpoint().parameters();
    let parameters: Vec<Value> = parameters
        .map(|parameter| {
            json!({
                "name": parameter.name,
                "shape": &parameter.shape[..],
                "elements": parameter.shape.elements(),
                "tensor": parameter.stored.as_ref().map(|(tensor, _)| tensor),
                "dtype": parameter.stored.map(|(_, kind)| format!("{kind:?}").to_lowercase()),
            })
        })
        .collect();
    let elements = parameters.iter().filter_map(|parameter| parameter["elements"].as_u64());
    json_line(&json!({
        "name": model.name(),
        "model_type": model.checkpoint().description().family.model_type(),
        "d_model": config.d_model,
        "encoder": stack(&config.encoder),
        "decoder": stack(&config.decoder),
        "cross_attention": heads(&config.cross_attention),
        "source": embedding(&config.source, tokenizer.source_vocab_size()),
        "target": embedding(&config.target, tokenizer.target_vocab_size()),
        "shared_embeddings": config.shared_embeddings,
        "tied_word_embeddings": config.output.tied,
        "output_scale": config.output.scale,
        "output_bias": match config.output.bias {
            OutputBias::None => "none",
            OutputBias::Learnt => "learned",
            OutputBias::Constant => "constant",
            _ => OTHER,
        },
        "bos_token_id": special.bos,
        "eos_token_id": special.eos,
        "pad_token_id": special.pad,
        "decoder_start_token_id": special.decoder_start,
        "target_languages": model.languages().collect::<Vec<_>>(),
        "generation": {
            "num_beams": own.num_beams,
            "length_penalty": own.length_penalty,
            "max_length": own.max_length,
            "max_new_tokens": own.max_new_tokens,
            "do_sample": own.do_sample,
        },
        "num_parameters": elements.sum::<u64>(),
        "parameters": parameters,
        "notes": model.checkpoint().notes(),
    }))
}

fn stack(stack: &Stack) -> Value {
    let (feed_forward, norm) = (&stack.feed_forward, &stack.norm);
    json!({
        "layers": stack.layers,
        "attention": heads(&stack.attention),
        "ffn_dim": feed_forward.inner,
        "activation": activation(feed_forward.activation),
        "gated": feed_forward.gated,
        "norm": match norm.kind {
            NormKind::Layer => "layer_norm",
            NormKind::RootMeanSquare => "rms_norm",
            _ => OTHER,
        },
        "norm_placement": match norm.placement {
            NormPlacement::Post => "post",
            NormPlacement::Pre => "pre",
        },
        "norm_epsilon": norm.epsilon,
        "norm_after_embedding": norm.after_embedding,
        "norm_after_last_layer": norm.after_last_layer,
    })
}

fn heads(heads: &Heads) -> Value {
    json!({
        "heads": heads.count,
        "key_value_heads": heads.kv_count,
        "head_dim": heads.size,
        "scale": heads.scale,
        "window": heads.window,
        "soft_cap": heads.soft_cap,
        "biases": heads.biases,
        "relative_positions": match heads.position {
            Position::None => Value::Null,
            Position::Relative(relative) => json!({
                "buckets": relative.buckets,
                "max_distance": relative.max_distance,
                "per_layer": relative.per_layer,
            }),
            _ => OTHER.into(),
        },
    })
}

fn embedding(embedding: &Embedding, tokens: usize) -> Value {
    let (kind, rows) = match embedding.positions {
        None => (None, None),
        Some(table) => (Some(table.kind), Some(table.rows)),
    };
    let kind = kind.map(|kind| match kind {
        PositionKind::Sinusoidal(SinusoidLayout::Interleaved) => "sinusoidal_interleaved",
        PositionKind::Sinusoidal(SinusoidLayout::Halves) => "sinusoidal_halves",
        PositionKind::Sinusoidal(SinusoidLayout::Fairseq { .. }) => "sinusoidal_fairseq",
        PositionKind::Learned { .. } => "learned",
        _ => OTHER,
    });
    json!({
        "vocab_size": embedding.vocabulary,
        "tokenizer_vocab_size": tokens,
        "scale": embedding.scale,
        "positions": kind,
        "max_positions": rows,
    })
}

/// The name of an activation in `config.json`.
pub(super) fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Relu => "relu",
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::Swish => "swish",
        Activation::Tanh => "tanh",
    }
}
