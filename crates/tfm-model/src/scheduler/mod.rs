//! The scheduler: requests come and go, workers decode many of them together.
//!
//! Callers [submit](Scheduler::submit) requests from any thread. Each worker has a thread, a fork
//! of the session, and a batch of its own: a request that ends makes room at once, and the one that
//! has waited longest is admitted (continuous batching). Options, faults, cancels and ends belong
//! to the request. Its result has the bits that it has alone, in any company and with any number of
//! workers.

mod admission;
mod bans;
mod deeper;
mod inputs;
mod kv_cache;
mod programs;
mod queue;
mod ranges;
mod request;
mod rows;
mod running;
mod shortlists;
mod stats;
mod step;
mod threads;
mod worker;

pub use admission::Limits;
pub use request::{Flow, Rejected, Rejection, Request, Sink};
pub use stats::Stats;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::generation::{GenerationOptions, Hypothesis, Settled};
use crate::numerics::Numerics;
use core_affinity::CoreId;
use programs::Programs;
use queue::Queue;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use tfm_core::Session;
use tfm_text::Shortlist;
use threads::ThreadShare;
use worker::Worker;

/// How many workers there are, and what they may take on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Workers that decode at the same time, each a batch of its own; at least 1.
    pub workers: usize,
    /// Threads of each worker. A worker that has nothing to do leaves its threads to the others: a
    /// request alone has them all.
    pub threads: usize,
    /// What each worker takes on at a time.
    pub limits: Limits,
    /// How many requests may wait for a worker; more are rejected.
    pub waiting: usize,
    /// Whether each worker is bound to a processor of its own, of those that this process may use;
    /// where there are fewer, some share one. Where the system binds no threads, this does nothing.
    pub pin: bool,
    /// Lets each request choose among the tokens that the shortlist has for its source. The
    /// shortlist is one of the model's vocabularies.
    pub shortlist: Option<Arc<Shortlist>>,
}

impl Default for Settings {
    /// One worker with one thread.
    fn default() -> Self {
        Settings {
            workers: 1,
            threads: 1,
            limits: Limits::default(),
            waiting: 1 << 16,
            pin: false,
            shortlist: None,
        }
    }
}

/// Decodes the requests of one model on one device, whoever submits them.
///
/// Dropping it cancels what waits and what is being decoded, and waits for its workers.
pub struct Scheduler {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    capacity: usize,
    /// The process that has the workers: a fork of it has none.
    process: u32,
}

impl Scheduler {
    /// Starts workers for the model of `config`, whose parameters the session has, computed in
    /// `numerics`.
    ///
    /// # Errors
    /// The backend's; a thread that cannot be started.
    pub fn new(
        session: &Session,
        config: &Arc<Config>,
        numerics: Numerics,
        settings: &Settings,
    ) -> Result<Self> {
        let (workers, threads) = (settings.workers.max(1), settings.threads.max(1));
        let share = Arc::new(ThreadShare::new(workers * threads));
        let programs = Arc::new(Programs::default());
        let queue = Arc::new(Queue::new(workers, settings.waiting));
        let mut scheduler = Scheduler {
            queue: queue.clone(),
            workers: Vec::new(),
            capacity: workers.saturating_mul(settings.limits.sentences.max(1)),
            process: std::process::id(),
        };
        let model = (config.clone(), numerics);
        for processor in processors(settings.pin).take(workers) {
            let session = session.fork(threads)?;
            let shared = (queue.clone(), programs.clone(), share.clone());
            let worker = Worker::new(session, model.clone(), settings, shared)?;
            let run = move || {
                if let Some(processor) = processor {
                    core_affinity::set_for_current(processor);
                }
                worker.run();
            };
            let thread = thread::Builder::new().name("tfm-worker".into()).spawn(run);
            scheduler.workers.push(thread.map_err(Error::Thread)?);
        }
        Ok(scheduler)
    }

    /// Adds a request to those that wait.
    ///
    /// # Errors
    /// The request itself, where as many wait as may or none are taken any more.
    pub fn submit(&self, request: Request) -> Result<(), Box<Rejected>> {
        match self.forked(request) {
            Ok(request) => self.queue.push(request),
            Err(rejected) => Err(rejected),
        }
    }

    /// Adds a request to those that wait, as soon as there is room.
    ///
    /// # Errors
    /// The request itself, where none are taken any more.
    pub fn submit_when_there_is_room(&self, request: Request) -> Result<(), Box<Rejected>> {
        match self.forked(request) {
            Ok(request) => self.queue.push_when_there_is_room(request),
            Err(rejected) => Err(rejected),
        }
    }

    /// The request, unless this process is a fork. (The queue's lock may be held there for ever.)
    fn forked(&self, request: Request) -> Result<Request, Box<Rejected>> {
        if std::process::id() == self.process {
            return Ok(request);
        }
        Err(Box::new(Rejected { request, reason: Rejection::Forked }))
    }

    /// Takes no more requests. Those that wait and those that are being decoded are served.
    pub fn close(&self) {
        if std::process::id() == self.process {
            self.queue.close();
        }
    }

    /// What it is doing and has done.
    pub fn stats(&self) -> Stats {
        let waiting = if std::process::id() == self.process { self.queue.waiting() } else { 0 };
        self.queue.counters.read(waiting)
    }

    /// How many requests its workers decode together at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Decodes sources that are all there already and waits for them; the results in their order.
    ///
    /// # Errors
    /// The first error among the requests.
    pub fn generate(
        &self,
        options: &Arc<GenerationOptions>,
        sources: &[Vec<u32>],
    ) -> Result<Vec<Vec<Hypothesis>>> {
        let (send, outcomes) = mpsc::channel();
        let failed = Arc::new(AtomicBool::new(false));
        for (number, source) in sources.iter().enumerate() {
            let sink = OneOfMany { number, outcomes: send.clone(), failed: failed.clone() };
            let request = Request::new(source.clone(), options, sink);
            self.submit_when_there_is_room(Request { number: number as u64, ..request })
                .map_err(|rejected| Error::Rejected(rejected.reason))?;
        }
        drop(send);
        let mut results = vec![Vec::new(); sources.len()];
        for (number, outcome) in outcomes {
            results[number] = outcome.inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(results)
    }
}

/// The sink of a request of [`Scheduler::generate`].
struct OneOfMany {
    number: usize,
    outcomes: mpsc::Sender<(usize, Result<Vec<Hypothesis>>)>,
    /// Whether one of the requests has failed, so that nobody waits for the others.
    failed: Arc<AtomicBool>,
}

impl Sink for OneOfMany {
    fn settled(&mut self, _: &[Settled]) -> Flow {
        if self.failed.load(Ordering::Relaxed) { Flow::Cancel } else { Flow::Continue }
    }

    fn end(self: Box<Self>, outcome: Result<Vec<Hypothesis>>) {
        // The receiver is there until all have ended or one has failed.
        let _ = self.outcomes.send((self.number, outcome));
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // The threads are not in this process: there is nothing to wait for.
            self.workers.drain(..).for_each(std::mem::forget);
            return;
        }
        self.queue.stop();
        for worker in self.workers.drain(..) {
            // The last owner may be a sink, which a worker drops: it can't wait for itself.
            if worker.thread().id() != thread::current().id() {
                let _ = worker.join();
            }
        }
    }
}

/// Where workers run, one after the other.
fn processors(pinned: bool) -> impl Iterator<Item = Option<CoreId>> {
    let ids = pinned.then(core_affinity::get_core_ids).flatten().unwrap_or_default();
    let bound: Vec<Option<CoreId>> = ids.into_iter().map(Some).collect();
    bound.into_iter().cycle().chain(std::iter::repeat(None))
}
