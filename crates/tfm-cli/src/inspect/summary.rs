//! What a person wants to know of a model.

use super::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use tfm::{Config, Model};
use tfm_model::config::{
    Heads, Norm, NormKind, NormPlacement, Position, PositionKind, PositionTable, SinusoidLayout,
    Stack,
};

/// The summary of a model.
pub(super) fn page(model: &Model) -> String {
    let (config, own, tokenizer) = (model.config(), model.generation(), model.tokenizer());
    let mut page = format!("{}\n", model.name());
    let mut row = |name: &str, value: String| {
        let _ = writeln!(page, "  {name:<18}{value}");
    };
    row("family", model.checkpoint().description().family.model_type().into());
    row("d_model", config.d_model.to_string());
    row("encoder", stack(&config.encoder));
    row("decoder", stack(&config.decoder));
    row("norm", norm(&config.encoder.norm));
    row("activation", json::activation(config.encoder.feed_forward.activation).into());
    row("positions", positions(config));
    row("embedding scale", config.source.scale.to_string());
    let tied = [
        (config.shared_embeddings, "source and target embeddings"),
        (config.output.tied, "target embeddings and output"),
    ];
    let tied: Vec<&str> = tied.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
    row("tied", if tied.is_empty() { "nothing".into() } else { tied.join("; ") });
    row(
        "source vocabulary",
        format!(
            "{} ({} in the tokeniser)",
            config.source.vocabulary,
            tokenizer.source_vocab_size()
        ),
    );
    row(
        "target vocabulary",
        format!(
            "{} ({} in the tokeniser)",
            config.target.vocabulary,
            tokenizer.target_vocab_size()
        ),
    );
    let special = &config.special;
    let (start, eos) = (special.decoder_start, &special.eos);
    let eos: Vec<String> = eos.iter().map(u32::to_string).collect();
    let pad = special.pad.map_or("none".to_owned(), |pad| pad.to_string());
    row(
        "special tokens",
        format!("decoder start {start}, end {}, padding {pad}", eos.join(" or ")),
    );
    let languages: Vec<&str> = model.languages().collect();
    if !languages.is_empty() {
        row("target languages", languages.join(" "));
    }
    let most = own.max_new_tokens.or(own.max_length);
    let most = most.map_or("the model's positions".to_owned(), |most| most.to_string());
    row(
        "generation",
        format!("beams {}, length penalty {}, length {most}", own.num_beams, own.length_penalty),
    );
    let (count, stored) = stored(model);
    let stored: Vec<String> = stored.iter().map(|(kind, n)| format!("{n} in {kind}")).collect();
    row("parameters", format!("{count} ({})", stored.join(", ")));
    for note in model.checkpoint().notes() {
        row("note", note.clone());
    }
    page
}

fn stack(stack: &Stack) -> String {
    let Stack { layers, attention, feed_forward, .. } = stack;
    let (heads, inner) = (self::heads(attention), feed_forward.inner);
    let gated = if feed_forward.gated { "gated " } else { "" };
    format!("{layers} layers, {heads}, {gated}feed-forward {inner}")
}

fn heads(heads: &Heads) -> String {
    let Heads { count, kv_count, size, window, soft_cap, .. } = heads;
    let mut text = format!("{count} heads of {size}");
    if kv_count < count {
        text += &format!(" ({kv_count} of keys)");
    }
    if let Some(window) = window {
        text += &format!(", window {window}");
    }
    if let Some(cap) = soft_cap {
        text += &format!(", scores capped at {cap}");
    }
    text
}

fn norm(norm: &Norm) -> String {
    let kind = match norm.kind {
        NormKind::Layer => "layer norm",
        NormKind::RootMeanSquare => "root mean square",
        _ => "another norm",
    };
    let place = match norm.placement {
        NormPlacement::Post => "after each residual sum",
        NormPlacement::Pre => "before each sublayer",
    };
    let first = if norm.after_embedding { ", one after the embeddings" } else { "" };
    let last = if norm.after_last_layer { ", one after the last layer" } else { "" };
    format!("{kind} {place}{first}{last}, epsilon {:e}", norm.epsilon)
}

fn positions(config: &Config) -> String {
    let table = match config.source.positions {
        None => "no table".to_owned(),
        Some(PositionTable { rows, kind }) => {
            let kind = match kind {
                PositionKind::Sinusoidal(SinusoidLayout::Interleaved) => "sinusoids, interleaved",
                PositionKind::Sinusoidal(SinusoidLayout::Halves) => "sinusoids, sines first",
                PositionKind::Sinusoidal(SinusoidLayout::Fairseq { .. }) => "sinusoids of fairseq",
                PositionKind::Learned { .. } => "learned",
                _ => "of another kind",
            };
            format!("{kind}, {rows} at most")
        }
    };
    match config.encoder.attention.position {
        Position::None => table,
        Position::Relative(relative) => {
            format!("{table}, biases by distance in {} buckets", relative.buckets)
        }
        _ => format!("{table}, distances of another kind"),
    }
}

/// How many numbers the parameters have: in all, and by the type in which the files store them.
fn stored(model: &Model) -> (usize, BTreeMap<String, usize>) {
    let mut by_type = BTreeMap::new();
    for parameter in model.checkpoint().parameters() {
        let kind = parameter.stored.map_or("no file".to_owned(), |(_, kind)| format!("{kind:?}"));
        *by_type.entry(kind).or_default() += parameter.shape.elements();
    }
    (by_type.values().sum(), by_type)
}
