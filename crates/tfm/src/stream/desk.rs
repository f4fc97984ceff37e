//! Where sources come in and translations go out.

use super::ordered::Ordered;
use super::queue::Queue;
use crate::engine::{Engine, Source};
use crate::{Error, Result, Translation};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tfm_model::decoding::Request;

/// What the reader's thread and the worker's thread of one stream share.
pub(super) struct Desk {
    engine: Arc<Engine>,
    queue: Arc<Queue>,
    papers: Mutex<Papers>,
}

struct Papers {
    /// The sources whose translations are not there yet.
    sources: HashMap<usize, Source>,
    results: Ordered<Result<Translation>>,
    /// To the consumer; `None` says that there is nothing more.
    send: Sender<Option<Result<Translation>>>,
}

impl Desk {
    pub(super) fn new(
        engine: Arc<Engine>,
        queue: Arc<Queue>,
        send: Sender<Option<Result<Translation>>>,
    ) -> Self {
        let papers = Papers { sources: HashMap::new(), results: Ordered::default(), send };
        Desk { engine, queue, papers: Mutex::new(papers) }
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and tokenises all lines, up to the first that cannot be read.
    pub(super) fn read(&self, mut lines: impl Iterator<Item = io::Result<String>>) {
        for id in 0.. {
            if !self.queue.wait_for_room(id) {
                break;
            }
            // The lines are the caller's code. If it panics, the stream must end, and not as if all were well.
            let line = catch_unwind(AssertUnwindSafe(|| lines.next()))
                .unwrap_or_else(|_| Some(Err(io::Error::other("the iterator of lines panicked"))));
            let Some(line) = line else { break };
            match line.map_err(Error::from).and_then(|line| self.engine.source(&line)) {
                Ok(source) if source.tokens.is_empty() => {
                    self.papers().put(id, Ok(Translation::default()));
                }
                Ok(source) => {
                    let request = Request { id, source: source.tokens.clone() };
                    self.papers().sources.insert(id, source);
                    self.queue.push(request);
                }
                Err(error) => {
                    self.papers().put(id, Err(error));
                    break;
                }
            }
        }
        self.queue.close();
    }

    /// Translates all that is read.
    pub(super) fn work(&self) {
        let _end = End(self);
        let requests = |wait| self.queue.take(wait);
        let outcome = self.engine.generate(requests, |id, hypotheses| {
            let source = self.papers().sources.remove(&id).unwrap_or_default();
            let translation = self.engine.translation(&source, hypotheses);
            self.papers().put(id, translation);
        });
        if let Err(error) = outcome {
            self.papers().send(Some(Err(error)));
        }
    }
}

impl Papers {
    fn put(&mut self, id: usize, result: Result<Translation>) {
        let Papers { results, send, .. } = self;
        for result in results.put(id, result) {
            // A consumer that has gone wants nothing more; the queue tells the workers.
            let _ = send.send(Some(result));
        }
    }

    fn send(&self, message: Option<Result<Translation>>) {
        let _ = self.send.send(message);
    }
}

/// Tells the consumer that the work is over, also when it panicked.
struct End<'a>(&'a Desk);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.papers().send(None);
    }
}
