//! `tokenizer.json`: a learned model in the format of Hugging Face's `tokenizers`, with the ids of
//! Marian's `vocab.json` and the segmentation of the `.spm`.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Kind, TrainedModel, model::LearntPiece};
use crate::sentencepiece::proto::PieceKind;

/// The file's content, or `None` where the format cannot say what the model does: its BPE has no
/// symbols that are merged before all else and yet are not cut out of the text.
pub(super) fn tokenizer_json(model: &TrainedModel) -> Option<Value> {
    let pieces: Vec<LearntPiece> = model.in_marian_order().collect();
    let algorithm = match model.kind() {
        Kind::Unigram => unigram(&pieces),
        Kind::Bpe if model.options.symbols.is_empty() => bpe(&pieces),
        Kind::Bpe => return None,
    };
    let added = pieces.iter().enumerate().filter(|(_, piece)| is_special(piece));
    let added: Vec<Value> = added
        .map(|(id, piece)| {
            json!({
                "id": id, "content": piece.text, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true
            })
        })
        .collect();
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    Some(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer(),
        // The spaces are written as ▁ already; this cuts before them.
        "pre_tokenizer": metaspace("never"),
        "post_processor": post_processor(),
        "decoder": metaspace("always"),
        "model": algorithm
    }))
}

fn is_special(piece: &LearntPiece) -> bool {
    matches!(piece.kind, PieceKind::Unknown | PieceKind::Control)
}

/// What SentencePiece does with spaces: trims them (at the end also those that are written as ▁
/// already), makes one ▁ of each run, and puts one in front of any text.
fn normalizer() -> Value {
    let replace = |pattern: &str, content: &str| json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content});
    json!({"type": "Sequence", "normalizers": [
        replace(r"\A +", ""),
        replace(r"[ ▁]+\z", ""),
        replace(" +", "▁"),
        {"type": "Prepend", "prepend": "▁"}
    ]})
}

/// Closes a text with the end-of-sentence token.
fn post_processor() -> Value {
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let eos = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
    json!({
        "type": "TemplateProcessing",
        "single": [sequence("A"), eos],
        "pair": [sequence("A"), sequence("B"), eos],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [0], "tokens": ["</s>"]}}
    })
}

fn unigram(pieces: &[LearntPiece]) -> Value {
    let score = |piece: &LearntPiece| match piece.kind {
        // Above any log-probability, as the Unigram model of SentencePiece has it.
        PieceKind::UserDefined => 0.1 * (piece.text.len() - 1) as f64,
        _ => f64::from(piece.score),
    };
    let vocab: Vec<Value> = pieces.iter().map(|piece| json!([piece.text, score(piece)])).collect();
    json!({"type": "Unigram", "unk_id": 1, "vocab": vocab, "byte_fallback": false})
}

/// The merges are all pairs of pieces that make a piece, as SentencePiece merges whatever does.
fn bpe(pieces: &[LearntPiece]) -> Value {
    let ids: HashMap<&str, usize> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.text.as_str(), id)).collect();
    let mut merges = Vec::new();
    // Pieces stand in the order of their ranks.
    for piece in pieces.iter().filter(|piece| !is_special(piece)) {
        let text = piece.text.as_str();
        let mut pairs: Vec<(&str, &str)> = text
            .char_indices()
            .skip(1)
            .map(|(at, _)| text.split_at(at))
            .filter(|(left, right)| ids.contains_key(left) && ids.contains_key(right))
            .collect();
        pairs.sort_by_key(|(left, right)| (ids[left], ids[right]));
        merges.extend(pairs);
    }
    let vocab: serde_json::Map<String, Value> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), json!(id))).collect();
    json!({
        "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": false,
        "ignore_merges": false, "vocab": vocab, "merges": merges
    })
}
