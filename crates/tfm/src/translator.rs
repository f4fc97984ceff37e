//! What users hold: it translates.

use crate::engine::{Engine, Prepared};
use crate::{
    Compute, Device, Model, Options, Result, Score, Stats, TokenVectors, Translation,
    TranslationStream, Translations,
};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use tfm_model::scheduler::Request;

/// A model on a device, ready to translate.
///
/// It is cheap to clone and can be shared between threads: what they ask for at the same time is
/// decoded together, and none waits for another's stream to be read.
#[derive(Clone)]
pub struct Translator {
    engine: Arc<Engine>,
    prepared: Arc<Prepared>,
}

impl Translator {
    /// Puts a model on a device.
    ///
    /// # Errors
    /// Options that make no sense with this model; a language it does not know; weights that cannot
    /// be read.
    pub fn new(model: &Model, device: Device, options: &Options) -> Result<Self> {
        Self::with_compute(model, device, &Compute::default(), options)
    }

    /// Puts a model on a device, to be computed as `compute` says.
    ///
    /// # Errors
    /// As [`Translator::new`]; a numeric type that the device does not compute in.
    pub fn with_compute(
        model: &Model,
        device: Device,
        compute: &Compute,
        options: &Options,
    ) -> Result<Self> {
        let (engine, prepared) = Engine::new(model, device, compute, options)?;
        Ok(Translator { engine: Arc::new(engine), prepared: Arc::new(prepared) })
    }

    /// The same model on the same device with other options. Both share workers and batches.
    ///
    /// # Errors
    /// Options that make no sense with this model; a language it does not know.
    pub fn with_options(&self, options: &Options) -> Result<Self> {
        let prepared = Arc::new(self.engine.prepare(options)?);
        Ok(Translator { engine: self.engine.clone(), prepared })
    }

    /// Translates one sentence. A blank one has a blank translation.
    ///
    /// # Errors
    /// A text that cannot be tokenised; numbers that are not finite; the device's.
    pub fn translate(&self, text: &str) -> Result<Translation> {
        let source = self.engine.source(&self.prepared, text)?;
        if source.tokens.is_empty() {
            return Ok(Translation::default());
        }
        let (send, outcome) = channel();
        let sink = move |outcome| drop(send.send(outcome));
        let request = Request::new(source.tokens.clone(), &self.prepared.generation, sink);
        self.engine.submit(request)?;
        let hypotheses = outcome.recv().unwrap_or(Err(tfm_model::Error::WorkerFailed))?;
        self.engine.translation(&self.prepared, &source, hypotheses)
    }

    /// Translates one sentence and yields what is settled as soon as it is, also under beam search.
    ///
    /// ```
    /// # fn main() -> Result<(), tfm::Error> {
    /// # use tfm::{Device, Model, Options, Translator};
    /// # let model = Model::bundled()?;
    /// let translator = Translator::new(&model, Device::auto(), &Options::default())?;
    /// let mut stream = translator.stream("She has been living in Paris for ten years.")?;
    /// let pieces: String = stream.by_ref().map(|piece| piece.text).collect();
    /// assert_eq!(pieces, stream.finish()?.text);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A text that cannot be tokenised. What goes wrong later, [`TranslationStream::finish`] says.
    pub fn stream(&self, text: &str) -> Result<TranslationStream> {
        TranslationStream::start(self.engine.clone(), self.prepared.clone(), text)
    }

    /// What its workers are doing and have done, for all translators that share them.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Translates sentences that are all there, together. Each has the translation that it has
    /// alone.
    ///
    /// # Errors
    /// As [`Translator::translate`].
    pub fn translate_batch<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Translation>> {
        let texts: Vec<_> = texts.iter().map(|text| Ok(text.as_ref().to_owned())).collect();
        self.translate_lines(texts).collect()
    }

    /// Translates a stream of sentences in bounded memory. The translations come in the order of
    /// the sentences, each as soon as it and those before it are done. A sentence that is at fault
    /// is an error in its place, and those after it follow; an error of the input or of the device
    /// is the last item.
    ///
    /// ```
    /// # fn main() -> Result<(), tfm::Error> {
    /// # use tfm::{Device, Model, Options, Translator};
    /// use std::io::{BufRead, BufReader};
    /// # let model = Model::bundled()?;
    /// let translator = Translator::new(&model, Device::auto(), &Options::default())?;
    /// for translation in translator.translate_lines(BufReader::new(std::io::stdin()).lines()) {
    ///     println!("{}", translation?.text);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn translate_lines<I>(&self, lines: I) -> Translations
    where
        I: IntoIterator<Item = io::Result<String>>,
        I::IntoIter: Send + 'static,
    {
        Translations::start(self.engine.clone(), self.prepared.clone(), lines.into_iter())
    }

    /// How probable the model holds a translation that is given to it.
    ///
    /// # Errors
    /// As [`Translator::score_batch`].
    pub fn score(&self, source: &str, target: &str) -> Result<Score> {
        self.score_batch(&[(source, target)]).map(|mut scores| scores.remove(0))
    }

    /// How probable the model holds each pair's second text as the translation of the first. All
    /// pairs are computed together: some dozens at a time are a good number.
    ///
    /// # Errors
    /// A text that cannot be tokenised or is longer than the model's positions; the device's.
    pub fn score_batch<S: AsRef<str>, T: AsRef<str>>(
        &self,
        pairs: &[(S, T)],
    ) -> Result<Vec<Score>> {
        let pairs: Vec<_> = pairs.iter().map(|(s, t)| (s.as_ref(), t.as_ref())).collect();
        self.engine.score(&self.prepared, &pairs)
    }

    /// What the encoder makes of texts: for each token a vector of the model's `d_model` features.
    /// All texts are computed together: some dozens at a time are a good number.
    ///
    /// ```
    /// # fn main() -> Result<(), tfm::Error> {
    /// # use tfm::{Device, Model, Options, Translator};
    /// # let model = Model::bundled()?;
    /// let translator = Translator::new(&model, Device::auto(), &Options::new())?;
    /// let states = translator.encode(&["Thank you."])?.remove(0);
    /// assert_eq!(states.width, model.config().d_model);
    /// assert_eq!(states.rows().len(), states.tokens.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Translator::score_batch`].
    pub fn encode<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<TokenVectors>> {
        let texts: Vec<_> = texts.iter().map(AsRef::as_ref).collect();
        self.engine.encode(&self.prepared, &texts)
    }

    /// The logits of a translation that is given to it: for each of its tokens those of the whole
    /// vocabulary, given the source and the tokens before. Nothing is banned.
    ///
    /// ```
    /// # fn main() -> Result<(), tfm::Error> {
    /// # use tfm::{Device, Model, Options, Translator};
    /// # let model = Model::bundled()?;
    /// let translator = Translator::new(&model, Device::auto(), &Options::new())?;
    /// let logits = translator.logits("Thank you.", "Merci.")?;
    /// assert_eq!(logits.width, model.config().target.vocabulary);
    /// assert_eq!(logits.tokens, ["▁Merci", ".", "</s>"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Translator::score_batch`].
    pub fn logits(&self, source: &str, target: &str) -> Result<TokenVectors> {
        self.engine.logits(&self.prepared, source, target)
    }
}
