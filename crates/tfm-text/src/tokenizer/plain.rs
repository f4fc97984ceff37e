//! A SentencePiece model alone, whose ids are the model's own: T5's.

use super::{
    Affixes, Framing, Special, Tokenizer, sampling,
    side::Side,
    words::{is_marked, of_pieces},
};
use crate::{Error, Files, Sampling, SentencePiece};
use std::{borrow::Cow, sync::Arc};

/// The model's file.
pub(super) const FILE: &str = "spiece.model";

/// Loads `spiece.model`. Texts are closed by its end-of-sentence piece.
pub(super) fn load(files: &Files<'_>) -> Result<Tokenizer, Error> {
    let bytes = files.require(FILE, "copy it from the repository the model came from")?;
    ids_are_the_models_own(files)?;
    sampling::refuse(files)?;
    let spm = SentencePiece::from_bytes(&bytes, &files.display(FILE))?;
    let special = Special {
        unk: Some(spm.unk_id()),
        bos: spm.bos_id(),
        eos: spm.eos_id(),
        pad: spm.pad_id(),
    };
    let closed = Affixes { before: Vec::new(), after: special.eos.into_iter().collect() };
    let side: Arc<dyn Side> = Arc::new(spm);
    Ok(Tokenizer {
        source: side.clone(),
        target: side,
        framing: Framing::alike(closed),
        special,
        languages: Default::default(),
    })
}

impl Side for SentencePiece {
    fn encode(&self, text: &str, sampling: Option<(Sampling, u64)>) -> Result<Vec<u32>, Error> {
        match sampling {
            None => SentencePiece::encode(self, text),
            Some((sampling, seed)) => self.encode_sampled(text, sampling, seed),
        }
    }

    fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let shown = ids.iter().filter(|&&id| id != self.unk_id());
        Ok(self.decode_pieces(shown.filter_map(|&id| self.piece(id))))
    }

    fn token(&self, id: u32) -> Option<Cow<'_, str>> {
        self.piece(id).map(Cow::Borrowed)
    }

    fn is_text(&self, id: u32) -> bool {
        self.piece(id).is_some() && !self.is_control(id)
    }

    fn begins_word(&self, word: &[u32], id: u32) -> bool {
        let piece = |id: u32| self.piece(id).unwrap_or_default();
        is_marked(word.last().map_or("", |&last| piece(last)), piece(id))
    }

    fn word(&self, ids: &[u32]) -> String {
        let unknown = self.piece(self.unk_id()).unwrap_or_default();
        let pieces = ids.iter().filter_map(|&id| self.piece(id));
        of_pieces(pieces, unknown, |known| self.decode_pieces(known.iter().copied()))
    }

    fn vocab_size(&self) -> usize {
        SentencePiece::vocab_size(self)
    }
}

/// Refuses a bare SentencePiece model whose family shifts the ids (Pegasus, mBART, …): its ids
/// would be wrong.
fn ids_are_the_models_own(files: &Files<'_>) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Class {
        tokenizer_class: Option<String>,
    }
    let Some(config) = files.read("tokenizer_config.json")? else { return Ok(()) };
    let class = serde_json::from_slice::<Class>(&config).ok().and_then(|c| c.tokenizer_class);
    match class {
        Some(class) if !class.starts_with("T5Tokenizer") => Err(Error::Missing {
            file: files.display("tokenizer.json"),
            remedy: format!(
                "{class} does not take its ids from {FILE} alone; save the tokeniser with `transformers` to get the file"
            ),
        }),
        _ => Ok(()),
    }
}
