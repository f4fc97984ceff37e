//! Generation of many sentences by several workers, each decoding many at a time.

use crate::config::Config;
use crate::decoding::{Arrival, Limits, Programs, Request, ThreadShare, Worker};
use crate::error::Result;
use crate::generation::{GenerationOptions, Hypothesis};
use crate::numerics::Numerics;
use core_affinity::CoreId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use tfm_core::Session;
use tfm_text::Shortlist;

/// Generates targets for sources of one model, on one device.
pub struct Generator {
    workers: Vec<Worker>,
    /// Where workers run, one after the other; empty: wherever the system puts them.
    processors: Vec<CoreId>,
}

impl Generator {
    /// A generator whose `workers` share the parameters of `session`, each with `threads` threads. A worker that
    /// has nothing to do leaves its threads to the others: a sentence alone has them all.
    ///
    /// # Errors
    /// The backend's.
    pub fn new(
        session: &Session,
        config: &Arc<Config>,
        numerics: Numerics,
        workers: usize,
        threads: usize,
    ) -> Result<Self> {
        let share = Arc::new(ThreadShare::new(workers.max(1) * threads.max(1)));
        let programs = Arc::new(Programs::default());
        let workers = (0..workers.max(1)).map(|_| {
            let (config, share, programs) = (config.clone(), share.clone(), programs.clone());
            Worker::new(session.fork(threads)?, config, numerics, share, programs)
        });
        Ok(Generator { workers: workers.collect::<Result<_>>()?, processors: Vec::new() })
    }

    /// Whether each worker is bound to a processor of its own, of those that this process may use; where there are fewer, some
    /// share one. Where the system binds no threads, this does nothing.
    pub fn pin(&mut self, pinned: bool) {
        let processors = pinned.then(core_affinity::get_core_ids).flatten();
        self.processors = processors.unwrap_or_default();
    }

    /// Lets each sentence choose among the tokens that `shortlist` has for its source; with `None`, among all. The
    /// shortlist is one of the model's vocabularies.
    pub fn set_shortlist(&mut self, shortlist: Option<Arc<Shortlist>>) {
        self.workers.iter_mut().for_each(|worker| worker.set_shortlist(shortlist.clone()));
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Decodes the requests and hands each result to `done`, in the order of completion, on this thread.
    /// A request's result does not depend on the others. `requests` is called from the workers' threads,
    /// also at the same time: one that waits must not keep the others from their work. Its argument says whether
    /// the worker has nothing else to do and may wait; after a while it is to answer
    /// [`Arrival::NothingYet`] even so, for another worker may have failed. It is then asked again.
    ///
    /// # Errors
    /// As [`Worker::generate`]; the first one. What was done before it has been handed over.
    pub fn generate(
        &mut self,
        options: &Arc<GenerationOptions>,
        limits: Limits,
        requests: impl Fn(bool) -> Arrival + Sync,
        mut done: impl FnMut(usize, Vec<Hypothesis>),
    ) -> Result<()> {
        // The caller's thread is left where it is.
        if let ([worker], true) = (&mut self.workers[..], self.processors.is_empty()) {
            return worker.generate(
                options,
                limits,
                &mut |wait| ask(&requests, wait, None),
                &mut done,
            );
        }
        let stopped = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (send, results) = mpsc::channel();
            let processors = self.processors.iter().copied().map(Some).cycle();
            let processors = processors.chain(std::iter::repeat(None));
            let workers: Vec<_> = self
                .workers
                .iter_mut()
                .zip(processors)
                .map(|(worker, processor)| {
                    let (send, requests, stopped) = (send.clone(), &requests, &stopped);
                    scope.spawn(move || {
                        if let Some(processor) = processor {
                            core_affinity::set_for_current(processor);
                        }
                        let mut next = |wait| ask(requests, wait, Some(stopped));
                        let mut done = |id, hypotheses| {
                            // The receiver outlives the workers; a send can't fail.
                            let _ = send.send((id, hypotheses));
                        };
                        let outcome = worker.generate(options, limits, &mut next, &mut done);
                        if outcome.is_err() {
                            stopped.store(true, Ordering::Relaxed);
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
        options: &Arc<GenerationOptions>,
        limits: Limits,
        sources: &[Vec<u32>],
    ) -> Result<Vec<Vec<Hypothesis>>> {
        let queue = Mutex::new(sources.iter().enumerate());
        let requests = |_| match queue.lock().unwrap_or_else(PoisonError::into_inner).next() {
            Some((id, source)) => Arrival::Request(Request { id, source: source.clone() }),
            None => Arrival::End,
        };
        let mut results = vec![Vec::new(); sources.len()];
        self.generate(options, limits, requests, |id, hypotheses| results[id] = hypotheses)?;
        Ok(results)
    }
}

/// Asks for a request until there is an answer that the worker can use.
fn ask(requests: &impl Fn(bool) -> Arrival, wait: bool, stopped: Option<&AtomicBool>) -> Arrival {
    loop {
        if stopped.is_some_and(|stopped| stopped.load(Ordering::Relaxed)) {
            return Arrival::End;
        }
        match requests(wait) {
            Arrival::NothingYet if wait => {}
            answer => return answer,
        }
    }
}
