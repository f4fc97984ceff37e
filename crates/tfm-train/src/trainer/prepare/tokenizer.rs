//! The tokeniser of a training: opened or learned, the roles of its tokens, and the encoding of
//! data.

use crate::config::{Corpora, TokenizerKind, TokenizerOrigin, TokenizerRecipe, TrainConfig};
use crate::data::{self, Encoder, Side};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tfm_model::config::SpecialTokens;
use tfm_text::training::{Kind, Options, SpecialIds, Trainer, Vocabularies, write_marian};
use tfm_text::{Sampling, Tokenizer};

/// The subfolder of the output folder for a tokeniser that the training has learned.
const TOKENIZER: &str = "tokenizer";

/// The folder of the tokeniser, which is learned if the training asks for one and has none yet.
pub(super) fn folder(config: &TrainConfig, say: &mut dyn FnMut(String)) -> Result<PathBuf> {
    let recipe = match &config.tokenizer.origin {
        TokenizerOrigin::Directory(folder) => return Ok(folder.clone()),
        TokenizerOrigin::Trained(recipe) => recipe,
    };
    let folder = config.run.output.join(TOKENIZER);
    if !folder.join("vocab.json").exists() {
        make_tokenizer(recipe, &config.data.train, &folder, say)?;
    }
    Ok(folder)
}

fn make_tokenizer(
    recipe: &TokenizerRecipe,
    corpora: &Corpora,
    folder: &Path,
    say: &mut dyn FnMut(String),
) -> Result<()> {
    let kind = match recipe.kind {
        TokenizerKind::Unigram => Kind::Unigram,
        TokenizerKind::Bpe => Kind::Bpe,
    };
    // The vocabulary of the model has `<pad>` besides the pieces.
    let options = Options {
        character_coverage: recipe.character_coverage,
        special: SpecialIds::marian(),
        ..Options::new(kind, recipe.vocabulary.saturating_sub(1))
    };
    let mut source = Trainer::new(options.clone())?;
    let mut target = if recipe.joint { None } else { Some(Trainer::new(options)?) };
    for corpus in 0..corpora.count() {
        for pair in corpora.open(corpus)? {
            let Some(pair) = pair? else { continue };
            source.add(&pair.source)?;
            target.as_mut().unwrap_or(&mut source).add(&pair.target)?;
        }
    }
    say(format!("making a tokeniser of {} tokens", recipe.vocabulary));
    let source = source.train(|_| {}).map_err(with_padding)?;
    let target = target.map(|target| target.train(|_| {}).map_err(with_padding)).transpose()?;
    let vocabularies = match &target {
        Some(target) => Vocabularies::Separate { source: &source, target },
        None => Vocabularies::Joint(&source),
    };
    Ok(write_marian(folder, vocabularies)?)
}

/// Sizes as the configuration counts them, with `<pad>`.
fn with_padding(error: tfm_text::Error) -> tfm_text::Error {
    use tfm_text::Error::{VocabularyTooLarge, VocabularyTooSmall};
    match error {
        VocabularyTooLarge { asked, most } => {
            VocabularyTooLarge { asked: asked + 1, most: most + 1 }
        }
        VocabularyTooSmall { asked, characters, symbols, special } => {
            VocabularyTooSmall { asked: asked + 1, characters, symbols, special: special + 1 }
        }
        other => other,
    }
}

/// The roles of tokens. Where the tokeniser puts a begin-of-sentence token before every text, the
/// decoder starts with it, and else with padding, as Marian's does.
pub(super) fn special_tokens(tokenizer: &Tokenizer) -> Result<SpecialTokens> {
    let missing = |role| Error::NoSuchToken { role };
    let eos = tokenizer.eos_id().ok_or_else(|| missing("end of sentence"))?;
    let pad = tokenizer.pad_id().ok_or_else(|| missing("padding"))?;
    let first = tokenizer.framing().target.before.first().copied();
    let bos = tokenizer.bos_id().filter(|&bos| first == Some(bos));
    let decoder_start = bos.unwrap_or(pad);
    Ok(SpecialTokens { bos, eos: vec![eos], pad: Some(pad), decoder_start })
}

/// The encoder of the data, which samples the pieces if the configuration says so.
pub(super) fn encoder(tokenizer: Arc<Tokenizer>, sampling: Option<f64>) -> Encoder {
    let Some(alpha) = sampling else { return data::plain(tokenizer) };
    let sampling = Sampling { alpha, dropout: alpha };
    Arc::new(move |side, text, seed| match (side, seed) {
        (Side::Source, None) => tokenizer.encode_source(text),
        (Side::Target, None) => tokenizer.encode_target(text),
        (Side::Source, Some(seed)) => tokenizer.encode_source_sampled(text, sampling, seed),
        (Side::Target, Some(seed)) => tokenizer.encode_target_sampled(text, sampling, seed),
    })
}
