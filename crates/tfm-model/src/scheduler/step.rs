//! What a worker computes: the encoding of requests that it takes on, and the steps that follow.

use super::inputs::EncodeInputs;
use super::programs::{EncodeShape, Segment, Segments, StepShape};
use super::running::Running;
use super::shortlists::Shortlists;
use super::worker::Worker;
use crate::error::Error;
use crate::generation::{Advance, DeeperRow, Rows, StepFault};
use std::ops::Range;
use std::sync::atomic::Ordering;
use tfm_core::{NotFinite, Program, Tensor};

impl Worker {
    /// Encodes the requests from number `first` on and writes their cross-attention keys and
    /// values. Where that fails, each is tried alone, so that one that is too large takes no other
    /// with it.
    pub(super) fn encode_from(&mut self, first: usize) {
        let all = first..self.running.len();
        if all.is_empty() || self.encode(all.clone()).is_ok() {
            return;
        }
        for number in all.rev() {
            if let Err(error) = self.encode(number..number + 1) {
                let running = self.running.remove(number);
                self.end(running, Err(error.into()));
            }
        }
    }

    fn encode(&mut self, which: Range<usize>) -> tfm_core::Result<()> {
        self.take_threads();
        let inputs = EncodeInputs::gather(&self.running[which], &self.cache);
        let program = self.encoding(&inputs)?;
        self.session.run(&program, &inputs.bindings(), &mut self.cache.states())?;
        Ok(())
    }

    /// The program that encodes inputs of that shape.
    fn encoding(&mut self, inputs: &EncodeInputs) -> tfm_core::Result<Program> {
        let cache_rows = self.cache.cache_rows();
        let shape =
            EncodeShape { tokens: inputs.tokens(), sequences: inputs.sequences(), cache_rows };
        self.programs.encode(&mut self.session, &self.config, self.numerics, shape)
    }

    /// One step of all requests. Those that end are handed over and leave. Where the step itself
    /// fails, all end with its error.
    pub(super) fn step(&mut self) {
        self.take_threads();
        let computed = self.compute_step();
        self.queue.counters.steps.fetch_add(1, Ordering::Relaxed);
        match computed {
            Ok(computed) => self.advance(&computed),
            Err(error) => self.end_all(|| error.clone().into()),
        }
    }

    /// Runs the program of the step: for each segment values, ids and, where its kind of output
    /// has them, normalisers. Where a search needs more candidates, finds these as well.
    fn compute_step(&mut self) -> tfm_core::Result<Computed> {
        // Each kind of output is computed for rows that lie together.
        let kind = |running: &Running| (running.search.needs().output, running.bans);
        if !self.running.is_sorted_by_key(kind) {
            self.running.sort_by_key(kind);
            self.shortlists.iter_mut().for_each(Shortlists::reordered);
        }
        let (segments, deeper) = self.segments();
        let hypotheses: usize = segments.iter().map(|segment| segment.rows).sum();
        self.cache.reserve_rows(&mut self.session, hypotheses)?;
        let candidates = segments.iter().map(|segment| segment.candidates).max().unwrap_or(1);
        let shortlists = self.shortlists.as_mut();
        let shortlist = shortlists.map(|lists| lists.gather(&mut self.running, candidates));
        self.inputs.gather(&mut self.running, &mut self.cache);
        let shape = StepShape {
            width: self.inputs.width,
            segments: segments.clone(),
            ban_sets: self.bans.rows(),
            states: deeper,
            shortlist,
            cache_rows: self.cache.cache_rows(),
        };
        let program = self.programs.step(&mut self.session, &self.config, self.numerics, &shape)?;
        let mut bindings = self.inputs.bindings().to_vec();
        bindings.extend(self.shortlists.iter().flat_map(Shortlists::inputs));
        let mut states = self.cache.states();
        states.push(self.bans.state());
        let outputs = self.session.run(&program, &bindings, &mut states)?;
        let deeper = if deeper { self.look_deeper(&segments, &outputs)? } else { Vec::new() };
        Ok(Computed { program, segments, outputs, deeper })
    }

    /// The kinds of output of the next step, in the order of the requests, and whether some may
    /// turn out to have too few candidates.
    fn segments(&self) -> (Segments, bool) {
        let mut segments = Segments::new();
        let (listed, mut deeper) = (self.shortlists.is_some(), false);
        for running in &self.running {
            let (needs, rows) = (running.search.needs(), running.rows.len());
            // With a shortlist all are found at once.
            let candidates = if listed { needs.candidates } else { needs.first };
            deeper |= candidates < needs.candidates.min(self.config.target.vocabulary);
            match segments.last_mut() {
                Some(last) if (last.output, last.bans) == (needs.output, running.bans) => {
                    last.rows += rows;
                    last.candidates = candidates.max(last.candidates);
                }
                _ => {
                    let output = needs.output;
                    segments.push(Segment { output, bans: running.bans, rows, candidates });
                }
            }
        }
        for segment in &mut segments {
            // Few different numbers, so that programs are found again: powers of two, and of many
            // candidates, whose order takes time, multiples of an eighth of one.
            let vocabulary = self.config.target.vocabulary;
            let wanted = segment.candidates.min(vocabulary);
            let power = wanted.next_power_of_two();
            let step = if power > 64 { power / 8 } else { power };
            segment.candidates = wanted.next_multiple_of(step).min(vocabulary);
        }
        (segments, deeper)
    }

    /// Shows each search what the step found for it.
    fn advance(&mut self, computed: &Computed) {
        let Computed { program, segments, outputs, deeper } = computed;
        let mut found = Found::new(segments, outputs, self.shortlists.is_some());
        for (number, mut running) in std::mem::take(&mut self.running).into_iter().enumerate() {
            let deeper = deeper.get(number).map_or(&[][..], |rows| rows);
            let rows = Rows { deeper, ..found.next(running.rows.len()) };
            let outcome = match running.search.advance(rows) {
                Ok(Advance::Continue) => running.report().err().map(Err),
                Ok(Advance::Finished) => Some(Ok(running.search.finish())),
                Err(StepFault::AllBanned) => Some(Err(Error::AllBanned)),
                Err(StepFault::NotFinite) => Some(Err(self.name_not_finite(program, &running))),
            };
            match outcome {
                None => {
                    running.reorder(&mut self.cache);
                    self.running.push(running);
                }
                Some(outcome) => self.end(running, outcome),
            }
        }
    }

    /// The error that names the op which first made a number that is not finite: of the request's
    /// encoding or, if that is sound, of the step just taken.
    fn name_not_finite(&mut self, step: &Program, running: &Running) -> Error {
        let inputs = EncodeInputs::gather(std::slice::from_ref(running), &self.cache);
        let found = self.encoding(&inputs).and_then(|program| {
            let (bindings, states) = (inputs.bindings(), &mut self.cache.states());
            self.session.first_not_finite(&program, &bindings, states)
        });
        let found = match found {
            Ok(None) => {
                let mut bindings = self.inputs.bindings().to_vec();
                bindings.extend(self.shortlists.iter().flat_map(Shortlists::inputs));
                let mut states = self.cache.states();
                states.push(self.bans.state());
                self.session.first_not_finite(step, &bindings, &mut states)
            }
            other => other,
        };
        match found {
            Ok(Some(found)) => Error::NotFinite(Box::new(found)),
            // Logits of finite values may overflow only within the op that ranks them.
            Ok(None) => Error::NotFinite(Box::new(NotFinite {
                op: "the choice of candidates".into(),
                scope: "output".into(),
                shape: [self.config.target.vocabulary].into(),
                elements: 1,
            })),
            Err(error) => error.into(),
        }
    }
}

/// What a step has computed.
struct Computed {
    program: Program,
    segments: Segments,
    /// What the program returned.
    outputs: Vec<Tensor>,
    /// For each request the rows of which more candidates had to be found.
    deeper: Vec<Vec<DeeperRow>>,
}

/// What a step's program returned, handed out in the order of its rows.
pub(super) struct Found<'a> {
    segments: &'a [Segment],
    outputs: &'a [Tensor],
    /// Whether there is a shortlist.
    listed: bool,
    /// The next row of the first segment.
    row: usize,
}

impl<'a> Found<'a> {
    pub(super) fn new(segments: &'a [Segment], outputs: &'a [Tensor], listed: bool) -> Self {
        Found { segments, outputs, listed, row: 0 }
    }

    /// The next `count` rows, which are of one segment.
    pub(super) fn next(&mut self, count: usize) -> Rows<'a> {
        if self.row == self.segments[0].rows {
            self.outputs = &self.outputs[self.segments[0].outputs(self.listed)..];
            self.segments = &self.segments[1..];
            self.row = 0;
        }
        let tensors = self.segments[0].outputs(self.listed);
        let width = self.outputs[0].shape()[1];
        let rows = self.row..self.row + count;
        self.row = rows.end;
        let range = rows.start * width..rows.end * width;
        let Some(values) = self.outputs[0].as_f32() else {
            unreachable!("the step's program returns values in f32");
        };
        let ids = match tensors {
            1 => None,
            _ => self.outputs[1].as_i32().map(|all| &all[range.clone()]),
        };
        let normalizers = match tensors {
            3 => self.outputs[2].as_f32().map(|all| &all[rows]),
            _ => None,
        };
        Rows {
            values: &values[range],
            ids: ids.unwrap_or_default(),
            width,
            normalizers: normalizers.unwrap_or_default(),
            deeper: &[],
        }
    }
}
