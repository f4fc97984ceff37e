//! A model directory in the layout of Marian (OPUS-MT) models, as `transformers` and this crate's
//! [`Tokenizer`](crate::Tokenizer) read it.

use super::{TrainedModel, tokenizer_json::tokenizer_json};
use crate::Error;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use tfm_files::Aside;

/// The models of the two sides.
#[derive(Debug, Clone, Copy)]
pub enum Vocabularies<'m> {
    /// One model and one vocabulary for both languages.
    Joint(&'m TrainedModel),
    /// Each language has its own.
    Separate {
        /// Cuts source texts.
        source: &'m TrainedModel,
        /// Cuts target texts.
        target: &'m TrainedModel,
    },
}

/// Writes `source.spm`, `target.spm`, `vocab.json`, `tokenizer_config.json` and, by what there is,
/// `target_vocab.json` (separate vocabularies) or `tokenizer.json` (a joint one; not for BPE with
/// user-defined symbols, which the format cannot express). The folder is made if it is absent.
///
/// Ids: `</s>` is 0, `<unk>` 1, then come the pieces in the order of the model, and `<pad>` is the
/// last. Two vocabularies of one size so have the same special ids, which `transformers` expects.
///
/// Every file is written under another name, and renamed when all of them are complete. After a
/// failure to write, the folder is unchanged.
///
/// # Errors
/// [`Error::Files`], naming the file.
pub fn write_marian(folder: &Path, vocabularies: Vocabularies<'_>) -> Result<(), Error> {
    let (source, target, joint) = match vocabularies {
        Vocabularies::Joint(model) => (model, model, true),
        Vocabularies::Separate { source, target } => (source, target, false),
    };
    let mut files = vec![
        ("source.spm", source.to_bytes()),
        ("target.spm", target.to_bytes()),
        ("vocab.json", text(&vocab(source))),
        ("tokenizer_config.json", text(&configuration(source, !joint))),
    ];
    let mut stale = Vec::new();
    match tokenizer_json(source).filter(|_| joint) {
        Some(json) => files.push(("tokenizer.json", text(&json))),
        None => stale.push("tokenizer.json"),
    }
    if joint {
        stale.push("target_vocab.json");
    } else {
        files.push(("target_vocab.json", text(&vocab(target))));
    }
    write_together(folder, &files, &stale)
}

fn text(json: &Value) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}

fn vocab(model: &TrainedModel) -> Value {
    let entries = model.in_marian_order().zip(0u32..).map(|(piece, id)| (piece.text, json!(id)));
    Value::Object(entries.collect::<Map<String, Value>>())
}

fn configuration(source: &TrainedModel, separate: bool) -> Value {
    let special: Map<String, Value> = source
        .in_marian_order()
        .zip(0u32..)
        .filter(|(piece, _)| ["</s>", "<unk>", "<pad>"].contains(&piece.text.as_str()))
        .map(|(piece, id)| {
            let token = json!({
                "content": piece.text, "lstrip": false, "normalized": false, "rstrip": false,
                "single_word": false, "special": true
            });
            (id.to_string(), token)
        })
        .collect();
    json!({
        "added_tokens_decoder": special,
        "eos_token": "</s>",
        "model_max_length": 512,
        "pad_token": "<pad>",
        "separate_vocabs": separate,
        "source_lang": null,
        "sp_model_kwargs": {},
        "target_lang": null,
        "tokenizer_class": "MarianTokenizer",
        "unk_token": "<unk>"
    })
}

/// Writes all files under other names, then renames them and removes the files of an earlier
/// vocabulary that would contradict them.
fn write_together(folder: &Path, files: &[(&str, Vec<u8>)], stale: &[&str]) -> Result<(), Error> {
    let fault = |path: &Path, source| tfm_files::Error::Write { path: path.into(), source };
    fs::create_dir_all(folder).map_err(|error| fault(folder, error))?;
    let write = |(name, content): &(&str, Vec<u8>)| {
        let place = folder.join(name);
        let mut aside = Aside::create(&place)?;
        aside.file.write_all(content).map_err(|error| fault(&place, error))?;
        Ok(aside)
    };
    let written = files.iter().map(write).collect::<Result<Vec<_>, tfm_files::Error>>()?;
    written.into_iter().try_for_each(Aside::finish)?;
    for name in stale {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fault(&path, error).into());
            }
            _ => {}
        }
    }
    Ok(())
}
