//! Reading `config.json`.

use super::check::CONFIG_FILE;
use super::fields::Fields;
use super::{
    Activation, Config, Family, NormPlacement, Positions, SinusoidLayout, SpecialTokens, Stack,
};
use crate::checkpoint::{Fault, shortened};
use crate::generation::GenerationOptions;

const GENERATION_FILE: &str = "generation_config.json";

/// `activation_function` as files write it. "gelu_new" and its like are the tanh approximation.
pub(super) const ACTIVATIONS: [(&str, Activation); 8] = [
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("swish", Activation::Swish),
    ("silu", Activation::Swish),
    ("tanh", Activation::Tanh),
];

/// `positions` as files of [`Family::Transformer`] write it. A learned table's offset stands beside it.
pub(super) const POSITIONS: [(&str, Positions); 3] = [
    ("sinusoidal_interleaved", Positions::Sinusoidal(SinusoidLayout::Interleaved)),
    ("sinusoidal_halves", Positions::Sinusoidal(SinusoidLayout::Halves)),
    ("learned", Positions::Learned { offset: 0 }),
];

/// The epsilon of `torch.nn.LayerNorm` unless told otherwise.
const TORCH_EPSILON: f64 = 1e-5;

pub(super) fn read(
    config: &[u8],
    generation: Option<&[u8]>,
) -> Result<(Config, GenerationOptions), Vec<Fault>> {
    let mut fields = Fields::parse(CONFIG_FILE, config);
    let mut generation = generation.map(|json| Fields::parse(GENERATION_FILE, json));
    let mut result = None;
    if fields.is_object()
        && let Some(family) = family(&mut fields)
    {
        let special = special_tokens(&mut fields, generation.as_mut(), family);
        let config = read_family(&mut fields, family, special);
        let from = generation.as_mut().unwrap_or(&mut fields);
        let defaults = GenerationOptions::read(from, &config.special, config.target_vocabulary);
        result = Some((config, defaults));
    }
    let mut faults = fields.faults;
    if let Some(Err(found)) = result.as_ref().map(|(config, _)| config.check()) {
        // A missing field reads as 0, and that it is missing has been said.
        let said: Vec<_> = faults.iter().filter_map(field_of).map(String::from).collect();
        let is_new = |fault: &Fault| {
            field_of(fault).is_none_or(|field| !said.iter().any(|said| said == field))
        };
        faults.extend(found.into_iter().filter(is_new));
    }
    faults.extend(generation.into_iter().flat_map(|fields| fields.faults));
    result.filter(|_| faults.is_empty()).ok_or(faults)
}

fn field_of(fault: &Fault) -> Option<&str> {
    match fault {
        Fault::Field { field, .. } => Some(field),
        _ => None,
    }
}

fn family(fields: &mut Fields) -> Option<Family> {
    let supported = Family::ALL.map(Family::model_type).join(", ");
    if fields.get("model_type").is_none() {
        fields.fault("model_type", format!("is missing; supported are: {supported}"));
        return None;
    }
    let name = fields.text("model_type")?;
    let family = Family::ALL.into_iter().find(|family| family.model_type() == name);
    if family.is_none() {
        let name = shortened(&name);
        fields.fault("model_type", format!("is \"{name}\"; supported are: {supported}"));
    }
    family
}

fn read_family(fields: &mut Fields, family: Family, special: SpecialTokens) -> Config {
    let d_model = fields.required_count("d_model");
    let source_vocabulary = fields.required_count("vocab_size");
    let shared_embeddings = fields.flag("share_encoder_decoder_embeddings").unwrap_or(true);
    // `transformers` writes the decoder's size also where the table is shared, and then goes by the source's.
    let target_vocabulary = fields.count("decoder_vocab_size").filter(|_| !shared_embeddings);
    let scales = fields.flag("scale_embedding").unwrap_or(family == Family::Transformer);
    let common = Config {
        family,
        d_model,
        encoder: stack(fields, "encoder"),
        decoder: stack(fields, "decoder"),
        source_vocabulary,
        target_vocabulary: target_vocabulary.unwrap_or(source_vocabulary),
        norm_placement: NormPlacement::Post,
        final_norm: false,
        norm_epsilon: TORCH_EPSILON,
        positions: Positions::Sinusoidal(SinusoidLayout::Halves),
        max_positions: fields.required_count("max_position_embeddings"),
        embedding_scale: if scales { (d_model as f64).sqrt() } else { 1.0 },
        activation: activation(fields, family),
        linear_biases: true,
        shared_embeddings,
        tied_output: fields.flag("tie_word_embeddings").unwrap_or(true),
        output_bias: true,
        special,
    };
    match family {
        Family::Marian => common,
        Family::Transformer => Config {
            norm_placement: match fields.flag("norm_first") {
                Some(true) => NormPlacement::Pre,
                _ => NormPlacement::Post,
            },
            // `torch.nn.Transformer` ends each stack with a norm, wherever the others stand.
            final_norm: fields.flag("final_norm").unwrap_or(true),
            norm_epsilon: fields.number("norm_eps").unwrap_or(TORCH_EPSILON),
            positions: positions(fields),
            linear_biases: fields.flag("bias").unwrap_or(true),
            // The paper's tied projection has none (section 3.4); `torch.nn.Linear` has one.
            output_bias: fields.flag("output_bias").unwrap_or(!common.tied_output),
            ..common
        },
    }
}

fn stack(fields: &mut Fields, name: &str) -> Stack {
    Stack {
        layers: fields.required_count(&format!("{name}_layers")),
        heads: fields.required_count(&format!("{name}_attention_heads")),
        ffn_dim: fields.required_count(&format!("{name}_ffn_dim")),
    }
}

fn activation(fields: &mut Fields, family: Family) -> Activation {
    let default = match family {
        Family::Marian => Activation::Gelu,
        Family::Transformer => Activation::Relu,
    };
    choice(fields, "activation_function", &ACTIVATIONS).unwrap_or(default)
}

fn positions(fields: &mut Fields) -> Positions {
    let offset = fields.count("position_offset").unwrap_or(0);
    match choice(fields, "positions", &POSITIONS) {
        Some(Positions::Learned { .. }) => Positions::Learned { offset },
        Some(sinusoidal) => sinusoidal,
        None => Positions::Sinusoidal(SinusoidLayout::Interleaved),
    }
}

/// What a word stands for; a word that is not among the choices is a fault.
fn choice<T: Copy>(fields: &mut Fields, field: &str, choices: &[(&str, T)]) -> Option<T> {
    let word = fields.text(field)?;
    let found = choices.iter().find(|(name, _)| *name == word);
    if found.is_none() {
        let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        fields.fault(field, format!("is \"{}\"; supported are: {names}", shortened(&word)));
    }
    found.map(|&(_, meaning)| meaning)
}

/// The tokens with a role. Where `generation_config.json` names one, generation goes by it.
fn special_tokens(
    fields: &mut Fields,
    mut generation: Option<&mut Fields>,
    family: Family,
) -> SpecialTokens {
    let mut token = |fields: &mut Fields, field: &str| {
        let override_ = generation.as_mut().and_then(|generation| generation.tokens(field));
        override_.or_else(|| fields.tokens(field)).filter(|tokens| !tokens.is_empty())
    };
    let first = |tokens: Option<Vec<u32>>| tokens.and_then(|tokens| tokens.first().copied());
    let (bos, pad) = (first(token(fields, "bos_token_id")), first(token(fields, "pad_token_id")));
    let eos = token(fields, "eos_token_id").unwrap_or_default();
    let start = first(token(fields, "decoder_start_token_id"));
    let start = start.or(match family {
        Family::Marian => pad,
        Family::Transformer => bos,
    });
    if start.is_none() {
        fields
            .fault("decoder_start_token_id", "is missing: the decoder must start with some token");
    }
    SpecialTokens { bos, eos, pad, decoder_start: start.unwrap_or(0) }
}
