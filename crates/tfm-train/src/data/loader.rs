//! A thread that makes batches while others are computed.

use super::stream::{Batch, Stream};
use crate::error::{Error, Result};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Batches of a stream, made ahead by a thread of their own.
pub struct Loader {
    /// Taken when the loader is dropped, so that the thread ends.
    batches: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Begins to make batches, at most `ahead` more than were asked for.
    ///
    /// # Errors
    /// [`Error::LoaderStopped`] if the operating system gives no thread.
    pub fn start(mut stream: Stream, ahead: usize) -> Result<Self> {
        let (sender, batches) = sync_channel(ahead);
        let make = move || {
            loop {
                let batch = stream.next_batch();
                let failed = batch.is_err();
                // Nobody listens any more, or there is nothing more to say.
                if sender.send(batch).is_err() || failed {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("batches".into()).spawn(make);
        let thread = thread.map_err(|_| Error::LoaderStopped)?;
        Ok(Loader { batches: Some(batches), thread: Some(thread) })
    }

    /// The next batch; waits for it if it must.
    ///
    /// # Errors
    /// Those of [`Stream::next_batch`]; after one, and if the thread has died, [`Error::LoaderStopped`].
    pub fn next_batch(&mut self) -> Result<Batch> {
        let received = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        received.unwrap_or(Err(Error::LoaderStopped))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            // What it died of, the last batch has said.
            let _ = thread.join();
        }
    }
}
