//! What users hold: it translates.

use crate::engine::Engine;
use crate::{Device, Model, Options, Result, Score, Translation, Translations};
use std::io;
use std::sync::Arc;

/// A model on a device, ready to translate.
///
/// It can be shared between threads; what they ask for is done one after the other.
#[derive(Clone)]
pub struct Translator {
    engine: Arc<Engine>,
}

impl Translator {
    /// Puts a model on a device.
    ///
    /// # Errors
    /// Options that make no sense with this model; a language it does not know; weights that cannot be read.
    pub fn new(model: &Model, device: Device, options: &Options) -> Result<Self> {
        Ok(Translator { engine: Arc::new(Engine::new(model, device, options)?) })
    }

    /// Translates one sentence. A blank one has a blank translation.
    ///
    /// # Errors
    /// A text that cannot be tokenised; the device's.
    pub fn translate(&self, text: &str) -> Result<Translation> {
        let lines = [Ok(text.to_owned())].into_iter();
        Translations::start(self.engine.clone(), lines)
            .next()
            .unwrap_or_else(|| Ok(Translation::default()))
    }

    /// Translates sentences that are all there, together. Each has the translation that it has alone.
    ///
    /// # Errors
    /// As [`Translator::translate`].
    pub fn translate_batch<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Translation>> {
        let texts: Vec<_> = texts.iter().map(|text| Ok(text.as_ref().to_owned())).collect();
        self.translate_lines(texts).collect()
    }

    /// Translates a stream of sentences in bounded memory, for example `std::io::stdin().lines()`. The
    /// translations come in the order of the sentences, each as soon as it and those before it are done.
    /// After a sentence that cannot be read, those before it still come, and then the error.
    pub fn translate_lines<I>(&self, lines: I) -> Translations
    where
        I: IntoIterator<Item = io::Result<String>>,
        I::IntoIter: Send + 'static,
    {
        Translations::start(self.engine.clone(), lines.into_iter())
    }

    /// How probable the model holds a translation that is given to it.
    ///
    /// # Errors
    /// As [`Translator::score_batch`].
    pub fn score(&self, source: &str, target: &str) -> Result<Score> {
        self.score_batch(&[(source, target)]).map(|mut scores| scores.remove(0))
    }

    /// How probable the model holds each pair's second text as the translation of the first. All pairs are
    /// computed together: some dozens at a time are a good number.
    ///
    /// # Errors
    /// A text that cannot be tokenised or is longer than the model's positions; the device's.
    pub fn score_batch<S: AsRef<str>, T: AsRef<str>>(
        &self,
        pairs: &[(S, T)],
    ) -> Result<Vec<Score>> {
        let pairs: Vec<_> = pairs.iter().map(|(s, t)| (s.as_ref(), t.as_ref())).collect();
        self.engine.score(&pairs)
    }
}
