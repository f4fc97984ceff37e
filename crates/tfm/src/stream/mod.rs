//! Translating a stream: one thread reads and tokenises, the workers translate whatever is there, and the
//! consumer takes the results in the order of the sources, in bounded memory.

mod desk;
mod ordered;
mod queue;

use crate::engine::Engine;
use crate::{Result, Translation};
use desk::Desk;
use queue::Queue;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::{io, panic};

/// The translations of a stream of sentences, in the sentences' order. An error is the last item.
///
/// Dropping it ends the work: sentences already begun are finished and thrown away.
pub struct Translations {
    results: Receiver<Option<Result<Translation>>>,
    queue: Arc<Queue>,
    /// The thread that translates; none when all results have been taken.
    work: Option<JoinHandle<()>>,
}

impl Translations {
    /// Starts to translate `lines`.
    pub(crate) fn start<I>(engine: Arc<Engine>, lines: I) -> Self
    where
        I: Iterator<Item = io::Result<String>> + Send + 'static,
    {
        let queue = Arc::new(Queue::default());
        let (send, results) = channel();
        let desk = Arc::new(Desk::new(engine, queue.clone(), send));
        let reader = desk.clone();
        // The reader may be waiting for a line that never comes: nobody waits for its end.
        thread::spawn(move || reader.read(lines));
        Translations { results, queue, work: Some(thread::spawn(move || desk.work())) }
    }
}

impl Iterator for Translations {
    type Item = Result<Translation>;

    fn next(&mut self) -> Option<Self::Item> {
        let work = self.work.take()?;
        match self.results.recv() {
            Ok(Some(Ok(translation))) => {
                self.work = Some(work);
                self.queue.delivered();
                Some(Ok(translation))
            }
            Ok(Some(Err(error))) => {
                self.queue.stop();
                Some(Err(error))
            }
            Ok(None) | Err(_) => match work.join() {
                Ok(()) => None,
                Err(panic) => panic::resume_unwind(panic),
            },
        }
    }
}

impl Drop for Translations {
    fn drop(&mut self) {
        self.queue.stop();
    }
}
