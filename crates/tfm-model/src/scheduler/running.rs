//! The requests that a worker decodes, and the inputs of their next step.

use super::kv_cache::KvCache;
use super::queue::Accepted;
use super::request::Caller;
use crate::error::{Error, Result};
use crate::generation::{GenerationOptions, Hypothesis, Search};
use std::sync::Arc;
use std::time::Instant;

/// A request that is being decoded.
pub(super) struct Running {
    caller: Caller,
    deadline: Option<Instant>,
    pub(super) options: Arc<GenerationOptions>,
    pub(super) source: Vec<u32>,
    pub(super) search: Search,
    /// The tokens it may have, ascending, where there is a shortlist.
    pub(super) list: Vec<u32>,
    /// The row of its bans.
    pub(super) bans: usize,
    /// Its range of the cross-attention caches: the first row and how many.
    pub(super) cross: (usize, usize),
    /// For each live hypothesis the rows of the self-attention caches that hold its past.
    pub(super) rows: Vec<Vec<u32>>,
    /// The rows that it has. Those that hypotheses have no more are freed on the way, the others
    /// when it ends.
    pub(super) taken: Vec<u32>,
    /// Tokens decoded so far.
    pub(super) position: usize,
}

impl Running {
    pub(super) fn new(
        request: Accepted,
        search: Search,
        bans: usize,
        cross: (usize, usize),
        list: Vec<u32>,
    ) -> Self {
        let Accepted { source, options, deadline, caller, .. } = request;
        Running {
            caller,
            deadline,
            options,
            source,
            search,
            list,
            bans,
            cross,
            rows: vec![Vec::new()],
            taken: Vec::new(),
            position: 0,
        }
    }

    /// The step after which hypotheses continue those numbered by [`Search::parents`].
    pub(super) fn reorder(&mut self, cache: &mut KvCache) {
        let parents = self.search.parents();
        // A parent's last child takes its list, the others copy it.
        let mut remaining = vec![0usize; self.rows.len()];
        parents.iter().for_each(|&parent| remaining[parent] += 1);
        let mut old = std::mem::take(&mut self.rows);
        self.rows.extend(parents.iter().map(|&parent| {
            remaining[parent] -= 1;
            if remaining[parent] == 0 {
                std::mem::take(&mut old[parent])
            } else {
                old[parent].clone()
            }
        }));
        cache.rows.keep(&mut self.taken, self.rows.iter().flatten().copied());
        self.position += 1;
    }

    /// Hands over what is settled.
    ///
    /// # Errors
    /// The request is not wanted any more, or its deadline has passed.
    pub(super) fn report(&mut self) -> Result<()> {
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::DeadlinePassed);
        }
        self.caller.settled(self.search.settled())
    }

    /// Frees its memory, and tells the caller.
    pub(super) fn end(mut self, cache: &mut KvCache, outcome: Result<Vec<Hypothesis>>) {
        cache.rows.give_back(self.taken.drain(..));
        cache.ranges.give_back(self.cross.0, self.cross.1);
        self.caller.end(outcome);
    }
}
