//! One translation, token by token.

use crate::engine::{Engine, Prepared, Source};
use crate::{Result, Translation};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use tfm_model::generation::{Hypothesis, Settled};
use tfm_model::scheduler::{Flow, Request, Sink};

/// A part of a translation that no later step changes.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Piece {
    /// The text. The pieces' texts, one after the other, are the translation.
    pub text: String,
    /// The tokens, as the vocabulary writes them. They may be more than the text shows, such as the
    /// first bytes of a character.
    pub tokens: Vec<String>,
}

/// One translation, piece by piece: what is settled leaves at once, under beam search too.
///
/// Dropping it cancels the translation.
pub struct TranslationStream {
    engine: Arc<Engine>,
    prepared: Arc<Prepared>,
    source: Source,
    messages: Receiver<Message>,
    cancelled: Arc<AtomicBool>,
    /// The tokens so far.
    tokens: Vec<u32>,
    /// The text so far.
    shown: String,
    outcome: Option<tfm_model::Result<Vec<Hypothesis>>>,
}

/// What the sink tells the consumer.
enum Message {
    Settled(Vec<u32>),
    End(tfm_model::Result<Vec<Hypothesis>>),
}

impl TranslationStream {
    /// Starts to translate `text`.
    pub(crate) fn start(engine: Arc<Engine>, prepared: Arc<Prepared>, text: &str) -> Result<Self> {
        let source = engine.source(&prepared, text)?;
        let (send, messages) = channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        if source.tokens.is_empty() {
            let _ = send.send(Message::End(Ok(Vec::new())));
        } else {
            let sink = PieceSink { send, cancelled: cancelled.clone() };
            engine.submit(Request::new(source.tokens.clone(), &prepared.generation, sink))?;
        }
        let (tokens, shown) = (Vec::new(), String::new());
        Ok(TranslationStream {
            engine,
            prepared,
            source,
            messages,
            cancelled,
            tokens,
            shown,
            outcome: None,
        })
    }

    /// Cancels the translation: its memory is free for others before the next step.
    /// [`TranslationStream::finish`] then says that it was cancelled, if it was not done yet.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Waits for the end: the whole translation, with what the options ask for.
    ///
    /// # Errors
    /// As [`Translator::translate`](crate::Translator::translate); that it was cancelled.
    pub fn finish(mut self) -> Result<Translation> {
        while self.next().is_some() {}
        let outcome = self.outcome.take();
        let hypotheses = outcome.unwrap_or(Err(tfm_model::Error::WorkerFailed))?;
        self.engine.translation(&self.prepared, &self.source, hypotheses)
    }

    /// The piece that `tokens` add to what was shown. A character of which bytes are missing waits.
    fn piece(&mut self, tokens: &[u32], is_whole: bool) -> Option<Piece> {
        let new = self.engine.target_tokens(&tokens[self.tokens.len().min(tokens.len())..]);
        self.tokens = tokens.to_vec();
        let text = self.engine.target_text(tokens).ok()?;
        let settled = if is_whole { &text[..] } else { text.trim_end_matches('\u{FFFD}') };
        // Decoders only append; one that did otherwise would be shown whole by `finish`.
        let text = settled.strip_prefix(&self.shown).unwrap_or_default().to_owned();
        self.shown.push_str(&text);
        (!text.is_empty() || !new.is_empty()).then_some(Piece { text, tokens: new })
    }
}

impl Iterator for TranslationStream {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        while self.outcome.is_none() {
            match self.messages.recv() {
                Ok(Message::Settled(more)) => {
                    let tokens = [&self.tokens[..], &more].concat();
                    if let Some(piece) = self.piece(&tokens, false) {
                        return Some(piece);
                    }
                }
                Ok(Message::End(outcome)) => {
                    let best = outcome.as_ref().ok().and_then(|hypotheses| hypotheses.first());
                    let tokens = best.map(|best| best.tokens.clone());
                    self.outcome = Some(outcome);
                    return self.piece(&tokens?, true);
                }
                Err(_) => self.outcome = Some(Err(tfm_model::Error::WorkerFailed)),
            }
        }
        None
    }
}

impl Drop for TranslationStream {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Hands settled tokens and the end to the consumer.
struct PieceSink {
    send: Sender<Message>,
    cancelled: Arc<AtomicBool>,
}

impl Sink for PieceSink {
    fn settled(&mut self, tokens: &[Settled]) -> Flow {
        if self.cancelled.load(Ordering::Relaxed) {
            return Flow::Cancel;
        }
        if !tokens.is_empty() {
            let tokens = tokens.iter().map(|settled| settled.token).collect();
            // A consumer that has gone has cancelled, too.
            let _ = self.send.send(Message::Settled(tokens));
        }
        Flow::Continue
    }

    fn end(self: Box<Self>, outcome: tfm_model::Result<Vec<Hypothesis>>) {
        let _ = self.send.send(Message::End(outcome));
    }
}
