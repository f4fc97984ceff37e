//! One worker: a thread that decodes the requests which it takes from the queue, many at a time.

use super::Settings;
use super::admission::Limits;
use super::bans::BanSets;
use super::inputs::StepInputs;
use super::kv_cache::KvCache;
use super::programs::Programs;
use super::queue::Queue;
use super::running::Running;
use super::shortlists::Shortlists;
use super::stats::Share;
use super::threads::{Busy, ThreadShare};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::generation::Hypothesis;
use crate::numerics::Numerics;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tfm_core::Session;

/// Decodes requests on one session.
pub(super) struct Worker {
    pub(super) session: Session,
    pub(super) config: Arc<Config>,
    pub(super) numerics: Numerics,
    pub(super) programs: Arc<Programs>,
    pub(super) queue: Arc<Queue>,
    pub(super) limits: Limits,
    pub(super) cache: KvCache,
    pub(super) bans: BanSets,
    pub(super) inputs: StepInputs,
    pub(super) running: Vec<Running>,
    /// Whether a request waits for which there was no room.
    pub(super) held_back: bool,
    /// For how many steps requests have waited for others since the last were admitted.
    pub(super) waited: usize,
    pub(super) shortlists: Option<Shortlists>,
    threads: Arc<ThreadShare>,
    /// While it has requests.
    busy: Option<Busy>,
    share: Share,
}

impl Worker {
    /// A worker for the model of `config`, whose parameters the session has. It shares the queue,
    /// the compiled programs and the threads with workers on other forks of the session.
    ///
    /// # Errors
    /// The backend's.
    pub(super) fn new(
        mut session: Session,
        (config, numerics): (Arc<Config>, Numerics),
        settings: &Settings,
        (queue, programs, threads): (Arc<Queue>, Arc<Programs>, Arc<ThreadShare>),
    ) -> Result<Self> {
        let cache = KvCache::new(&mut session, &config, numerics.key_dtype)?;
        let bans = BanSets::new(&session, config.target.vocabulary)?;
        let shortlists = settings.shortlist.clone();
        Ok(Worker {
            shortlists: shortlists.map(|list| Shortlists::new(list, config.target.vocabulary)),
            session,
            config,
            numerics,
            programs,
            queue,
            limits: settings.limits,
            cache,
            bans,
            inputs: StepInputs::default(),
            running: Vec::new(),
            held_back: false,
            waited: 0,
            threads,
            busy: None,
            share: Share::default(),
        })
    }

    /// Serves requests until the queue ends. If that panics, the requests that it has end with an
    /// error: it drops them.
    pub(super) fn run(mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.serve()));
        self.running.clear();
        self.count();
        self.queue.leave();
    }

    fn serve(&mut self) {
        loop {
            if self.queue.is_stopped() {
                self.end_all(|| Error::Cancelled);
                return;
            }
            if self.running.is_empty() {
                self.busy = None; // it may wait for its next request
                self.count();
                self.renew_cache();
            }
            if self.is_time_to_admit() && !self.admit() && self.running.is_empty() {
                return;
            }
            if !self.running.is_empty() {
                self.count();
                self.step();
            }
        }
    }

    /// Replaces the caches where one of them could not grow with the others. Where there is no
    /// memory for new ones either, the next requests fail, and it is tried again after them.
    fn renew_cache(&mut self) {
        if !self.cache.is_whole {
            let dtype = self.numerics.key_dtype;
            if let Ok(cache) = KvCache::new(&mut self.session, &self.config, dtype) {
                self.cache = cache;
            }
        }
    }

    /// Takes its share of the threads for the next run.
    pub(super) fn take_threads(&mut self) {
        let busy = self.busy.get_or_insert_with(|| self.threads.enter());
        self.session.limit_threads(busy.threads());
    }

    /// Ends a request that is no more among those that it has.
    pub(super) fn end(&mut self, running: Running, outcome: Result<Vec<Hypothesis>>) {
        if let Some(shortlists) = &mut self.shortlists {
            shortlists.release(&running.list);
        }
        self.bans.give_back(running.bans);
        running.end(&mut self.cache, outcome);
    }

    /// Ends all requests that it has.
    pub(super) fn end_all(&mut self, error: impl Fn() -> Error) {
        for running in std::mem::take(&mut self.running) {
            self.end(running, Err(error()));
        }
    }

    /// Counts what it has now.
    fn count(&mut self) {
        let hypotheses = self.running.iter().map(|running| running.rows.len()).sum();
        let rows: usize =
            self.running.iter().map(|running| running.cross.1 + running.taken.len()).sum();
        let cache_bytes = rows * self.row_bytes();
        let now = Share { running: self.running.len(), hypotheses, cache_bytes };
        self.share.replace(&self.queue.counters, now);
    }
}
