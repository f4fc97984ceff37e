//! The translations of a stream of lines: one thread reads and tokenises them and submits them to
//! the scheduler, and the consumer takes the results in the order of the lines.

use super::ordered::Ordered;
use super::window::Window;
use crate::engine::{Engine, Prepared, Source};
use crate::{Error, Result, Translation};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tfm_model::generation::{Hypothesis, Settled};
use tfm_model::scheduler::{Flow, Request, Sink};

/// The translations of a stream of sentences, in the sentences' order. A sentence at fault is an
/// error ([`Error::is_of_a_text`]), and those after it follow; any other error is the last item.
///
/// Dropping it cancels the sentences that are not done.
pub struct Translations {
    engine: Arc<Engine>,
    prepared: Arc<Prepared>,
    messages: Receiver<Message>,
    window: Arc<Window>,
    results: Ordered<Found>,
    /// How many sentences there are, when all have been read.
    all: Option<usize>,
    /// Nothing more will come.
    over: bool,
}

/// A sentence, and what the search found.
type Found = Result<(Source, Vec<Hypothesis>)>;

/// What the reader and the sinks tell the consumer.
enum Message {
    /// The result of the sentence of that number.
    Found(usize, Found),
    /// There are so many sentences and no more.
    End(usize),
}

impl Translations {
    /// Starts to translate `lines`.
    pub(crate) fn start<I>(engine: Arc<Engine>, prepared: Arc<Prepared>, lines: I) -> Self
    where
        I: Iterator<Item = io::Result<String>> + Send + 'static,
    {
        let window = Arc::new(Window::new(engine.stream_depth()));
        let (send, messages) = channel();
        let reader = Reader {
            engine: engine.clone(),
            prepared: prepared.clone(),
            window: window.clone(),
            send: send.clone(),
        };
        // The reader may be waiting for a line that never comes: nobody waits for its end.
        let thread = thread::Builder::new().name("tfm-reader".into());
        if let Err(error) = thread.spawn(move || reader.read(lines)) {
            // The receiver is just below.
            let _ = send.send(Message::Found(0, Err(error.into())));
        }
        let results = Ordered::default();
        Translations { engine, prepared, messages, window, results, all: None, over: false }
    }

    /// The next result, waited for; none at the end.
    fn receive(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.results.next() {
                return Some(found);
            }
            if self.all == Some(self.results.taken()) {
                return None;
            }
            match self.messages.recv() {
                Ok(Message::Found(number, found)) => self.results.put(number, found),
                Ok(Message::End(count)) => self.all = Some(count),
                // Neither reader nor sinks are there any more, and none has said why.
                Err(_) => return Some(Err(tfm_model::Error::WorkerFailed.into())),
            }
        }
    }
}

impl Iterator for Translations {
    type Item = Result<Translation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let result = self.receive().map(|found| {
            let (source, hypotheses) = found?;
            self.engine.translation(&self.prepared, &source, hypotheses)
        });
        match &result {
            Some(Ok(_)) => self.window.delivered(),
            Some(Err(error)) if error.is_of_a_text() => self.window.delivered(),
            Some(Err(_)) | None => {
                self.over = true;
                self.window.stop();
            }
        }
        result
    }
}

impl Drop for Translations {
    fn drop(&mut self) {
        self.window.stop();
    }
}

/// Reads lines and submits them.
struct Reader {
    engine: Arc<Engine>,
    prepared: Arc<Prepared>,
    window: Arc<Window>,
    send: Sender<Message>,
}

impl Reader {
    /// Reads all lines.
    fn read(self, mut lines: impl Iterator<Item = io::Result<String>>) {
        for number in 0.. {
            if !self.window.wait_for_room(number) {
                return;
            }
            // The lines are the caller's code. If it panics, the stream must end, and not as if all
            // were well.
            let line = catch_unwind(AssertUnwindSafe(|| lines.next()))
                .unwrap_or_else(|_| Some(Err(io::Error::other("the iterator of lines panicked"))));
            let Some(line) = line else {
                self.tell(Message::End(number));
                return;
            };
            if let Err(error) = self.submit(number, line) {
                let others_follow = error.is_of_a_text();
                self.tell(Message::Found(number, Err(error)));
                if !others_follow {
                    return;
                }
            }
        }
    }

    fn submit(&self, number: usize, line: io::Result<String>) -> Result<()> {
        let source = self.engine.source(&self.prepared, &line?)?;
        if source.tokens.is_empty() {
            self.tell(Message::Found(number, Ok((source, Vec::new()))));
            return Ok(());
        }
        let tokens = source.tokens.clone();
        let (window, send) = (self.window.clone(), self.send.clone());
        let sink = LineSink { number, source, window, send };
        self.window.submitted();
        let request = Request::new(tokens, &self.prepared.generation, sink);
        self.engine.submit(Request { number: number as u64, ..request })
    }

    fn tell(&self, message: Message) {
        // A consumer that has gone wants nothing more.
        let _ = self.send.send(message);
    }
}

/// Hands the result of one line to the consumer.
struct LineSink {
    number: usize,
    source: Source,
    window: Arc<Window>,
    send: Sender<Message>,
}

impl Sink for LineSink {
    fn settled(&mut self, _: &[Settled]) -> Flow {
        if self.window.is_stopped() { Flow::Cancel } else { Flow::Continue }
    }

    fn end(self: Box<Self>, outcome: tfm_model::Result<Vec<Hypothesis>>) {
        let LineSink { number, source, window, send } = *self;
        window.ended();
        let found = outcome.map(|hypotheses| (source, hypotheses)).map_err(Error::from);
        let _ = send.send(Message::Found(number, found));
    }
}
