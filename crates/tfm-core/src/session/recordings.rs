//! Recorded runs, which a single call repeats.

use super::Program;
use crate::backend::{Outcome, Replay};
use crate::{Backend, Plan};
use std::sync::Arc;

/// The most recordings that are kept: each takes memory of the device.
const MOST: usize = 64;

/// The recorded runs of a worker.
pub(super) struct Recordings {
    entries: Vec<Entry>,
    /// Whether the backend records at all.
    possible: bool,
}

struct Entry {
    plan: Arc<Plan>,
    /// The states' identities, in the order of the plan.
    states: Vec<u64>,
    /// `None` after the first run, which prepares what later runs reuse.
    recorded: Option<Box<dyn Replay>>,
}

impl Recordings {
    pub(super) fn new() -> Self {
        Recordings { entries: Vec::new(), possible: true }
    }

    /// Drops all recordings, because memory that they touch is gone.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Runs `work`, the steps of the program on these states and on the worker's slots. The first
    /// run executes them, the second records them, and later runs repeat the recording.
    pub(super) fn run<B: Backend>(
        &mut self,
        backend: &B,
        program: &Program,
        states: Vec<u64>,
        work: &mut dyn FnMut() -> Outcome,
    ) -> Outcome {
        if !self.possible {
            return work();
        }
        let same =
            |entry: &Entry| Arc::ptr_eq(&entry.plan, &program.plan) && entry.states == states;
        let Some(number) = self.entries.iter().position(same) else {
            work()?;
            if self.entries.len() == MOST {
                self.entries.remove(0);
            }
            self.entries.push(Entry { plan: program.plan.clone(), states, recorded: None });
            return Ok(());
        };
        // The recording that has been unused for longest is the first.
        self.entries[number..].rotate_left(1);
        let entry = self.entries.last_mut().expect("it was found");
        if entry.recorded.is_none() {
            entry.recorded = backend.record(work)?;
        }
        match &entry.recorded {
            Some(recorded) => recorded.replay(),
            None => {
                self.possible = false;
                self.clear();
                work()
            }
        }
    }
}
