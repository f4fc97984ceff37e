//! Generation of many sentences by several workers, each decoding many at a time.

use crate::config::Config;
use crate::decoding::{Arrival, Limits, Request, Worker};
use crate::error::Result;
use crate::search::{Hypothesis, SearchOptions};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use tfm_core::Session;

/// Generates targets for sources of one model, on one device.
pub struct Generator {
    workers: Vec<Worker>,
}

impl Generator {
    /// A generator whose `workers` share the parameters of `session`, each with `threads` threads.
    ///
    /// # Errors
    /// The backend's.
    pub fn new(session: &Session, config: &Arc<Config>, workers: usize, threads: usize) -> Result<Self> {
        let workers = (0..workers.max(1)).map(|_| Worker::new(session.fork(threads)?, config.clone()));
        Ok(Generator { workers: workers.collect::<Result<_>>()? })
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Decodes the requests and hands each result to `done`, in the order of completion, on this thread.
    /// A request's result does not depend on the others. `requests` is called from the workers' threads,
    /// one at a time; its argument says whether the worker has nothing else to do and may wait.
    ///
    /// # Errors
    /// As [`Worker::generate`]; the first one. What was done before it has been handed over.
    pub fn generate(
        &mut self,
        options: &Arc<SearchOptions>,
        limits: Limits,
        requests: impl FnMut(bool) -> Arrival + Send,
        mut done: impl FnMut(usize, Vec<Hypothesis>),
    ) -> Result<()> {
        let mut requests = requests;
        if let [worker] = &mut self.workers[..] {
            return worker.generate(options, limits, &mut requests, &mut done);
        }
        let requests = Mutex::new((requests, false));
        std::thread::scope(|scope| {
            let (send, results) = mpsc::channel();
            let workers: Vec<_> = self
                .workers
                .iter_mut()
                .map(|worker| {
                    let (send, requests) = (send.clone(), &requests);
                    scope.spawn(move || {
                        let mut next = |wait| {
                            let mut guard = requests.lock().unwrap_or_else(PoisonError::into_inner);
                            let (requests, stopped) = &mut *guard;
                            if *stopped { Arrival::End } else { requests(wait) }
                        };
                        let mut done = |id, hypotheses| {
                            // The receiver outlives the workers; a send can't fail.
                            let _ = send.send((id, hypotheses));
                        };
                        let outcome = worker.generate(options, limits, &mut next, &mut done);
                        if outcome.is_err() {
                            requests.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
                        }
                        outcome
                    })
                })
                .collect();
            drop(send);
            for (id, hypotheses) in results {
                done(id, hypotheses);
            }
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    /// Decodes sources that are all there already; the results in their order.
    ///
    /// # Errors
    /// As [`Generator::generate`].
    pub fn generate_all(
        &mut self,
        options: &Arc<SearchOptions>,
        limits: Limits,
        sources: &[Vec<u32>],
    ) -> Result<Vec<Vec<Hypothesis>>> {
        let mut queue = sources.iter().enumerate();
        let requests = move |_| match queue.next() {
            Some((id, source)) => Arrival::Request(Request { id, source: source.clone() }),
            None => Arrival::End,
        };
        let mut results = vec![Vec::new(); sources.len()];
        self.generate(options, limits, requests, |id, hypotheses| results[id] = hypotheses)?;
        Ok(results)
    }
}
