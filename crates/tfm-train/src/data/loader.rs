//! A thread that prepares batches while others are computed.

use super::stream::{Batch, Stream};
use crate::error::{Error, Result};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// The batches of a stream, prepared ahead by a thread of their own.
pub struct Loader {
    /// Taken when the loader is dropped, so that the thread ends.
    batches: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts the thread. It prepares at most `ahead` batches before they are asked for.
    ///
    /// # Errors
    /// [`Error::LoaderStopped`] if the operating system cannot start a thread.
    pub fn start(mut stream: Stream, ahead: usize) -> Result<Self> {
        let (sender, batches) = sync_channel(ahead);
        let make = move || {
            loop {
                let batch = stream.next_batch();
                let failed = batch.is_err();
                // The receiver is gone, or this was the last batch.
                if sender.send(batch).is_err() || failed {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("batches".into()).spawn(make);
        let thread = thread.map_err(|_| Error::LoaderStopped)?;
        Ok(Loader { batches: Some(batches), thread: Some(thread) })
    }

    /// Waits for the next batch.
    ///
    /// # Errors
    /// Those of [`Stream::next_batch`]. After an error, and if the thread has panicked,
    /// [`Error::LoaderStopped`].
    pub fn next_batch(&mut self) -> Result<Batch> {
        let received = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        received.unwrap_or(Err(Error::LoaderStopped))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            // The last batch has reported why the thread ended.
            let _ = thread.join();
        }
    }
}
