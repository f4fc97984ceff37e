//! One worker: decodes a stream of sentences, many at a time. A sentence that ends makes room at once, and
//! the next is admitted (continuous batching).

use super::batch::{Sentence, StepInputs, reorder};
use super::memory::{Memory, SPARE};
use super::programs::{EncodeShape, Programs, StepShape};
use super::share::{Busy, ThreadShare};
use super::shortlists::Shortlists;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::generation::{
    Advance, GenerationOptions, Hypothesis, Needs, Rows, Search, SearchInput, static_bans,
};
use crate::numerics::Numerics;
use std::sync::Arc;
use tfm_core::{HostSlice, Session};
use tfm_text::Shortlist;

/// A sentence to decode.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the caller calls it.
    pub id: usize,
    /// The source's tokens, with what the model expects around them.
    pub source: Vec<u32>,
}

/// What a source of requests answers.
#[derive(Debug)]
pub enum Arrival {
    /// A sentence.
    Request(Request),
    /// None at the moment, but more may come. A worker that has nothing else to do stops at this answer;
    /// [`Generator`](crate::Generator) asks again in its stead.
    NothingYet,
    /// There will be no more.
    End,
}

/// How much a worker takes on at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Hypotheses decoded together; a sentence counts as many as it has beams. The more, the less often weights are read.
    pub hypotheses: usize,
    /// Sentences decoded together. They take memory for keys and values, hypotheses of one sentence little more.
    pub sentences: usize,
    /// Source tokens encoded together.
    pub source_tokens: usize,
    /// Bytes of keys and values up to which another sentence is taken on. A sentence counts with its source and, for each beam, with
    /// as many tokens as it has or, while that is more, as its source is long twice over; one alone is always taken on.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { hypotheses: 128, sentences: 64, source_tokens: 1024, memory: 512 << 20 }
    }
}

/// Target tokens that a sentence is taken to have, for each token of its source.
const EXPECTED: usize = 2;

/// Rows of keys and values of a sentence that has found `found` tokens.
fn rows(options: &GenerationOptions, source: usize, found: usize, positions: usize) -> usize {
    let expected = (EXPECTED * source).min(options.longest(positions));
    source + options.num_beams * found.max(expected)
}

/// Decodes sentences on one session.
pub struct Worker {
    session: Session,
    config: Arc<Config>,
    numerics: Numerics,
    programs: Arc<Programs>,
    memory: Memory,
    inputs: StepInputs,
    sentences: Vec<Sentence>,
    /// A request for which there was no memory yet.
    waiting: Option<Request>,
    shortlists: Option<Shortlists>,
    share: Arc<ThreadShare>,
    /// While there are sentences.
    busy: Option<Busy>,
}

impl Worker {
    /// A worker for the model of `config`, whose parameters the session has, on threads that it shares with others, as it
    /// does the programs with those on forks of the session.
    ///
    /// # Errors
    /// The backend's.
    pub fn new(
        mut session: Session,
        config: Arc<Config>,
        numerics: Numerics,
        share: Arc<ThreadShare>,
        programs: Arc<Programs>,
    ) -> Result<Self> {
        let memory = Memory::new(&mut session, &config, numerics.key_dtype)?;
        Ok(Worker {
            session,
            config,
            numerics,
            programs,
            memory,
            inputs: StepInputs::default(),
            sentences: Vec::new(),
            waiting: None,
            shortlists: None,
            share,
            busy: None,
        })
    }

    /// Lets each sentence from now on choose among the tokens that `shortlist` has for its source; with `None`, among all.
    /// The shortlist is one of the model's vocabularies.
    pub fn set_shortlist(&mut self, shortlist: Option<Arc<Shortlist>>) {
        let vocabulary = self.config.target.vocabulary;
        self.shortlists = shortlist.map(|shortlist| Shortlists::new(shortlist, vocabulary));
    }

    /// Decodes all that `next` yields (its argument says whether to wait for one: true when there is nothing
    /// else to do) and hands each result to `done` as soon as it is there, in the order
    /// of completion.
    ///
    /// # Errors
    /// A source longer than the model's positions or with a token outside its vocabulary; the backend's.
    pub fn generate(
        &mut self,
        options: &Arc<GenerationOptions>,
        limits: Limits,
        next: &mut dyn FnMut(bool) -> Arrival,
        done: &mut dyn FnMut(usize, Vec<Hypothesis>),
    ) -> Result<()> {
        let outcome = self.decode(options, limits, next, done);
        for mut sentence in self.sentences.drain(..) {
            sentence.release(&mut self.memory, &mut self.shortlists); // there are some only after an error
        }
        (self.busy, self.waiting) = (None, None);
        outcome
    }

    fn decode(
        &mut self,
        options: &Arc<GenerationOptions>,
        limits: Limits,
        next: &mut dyn FnMut(bool) -> Arrival,
        done: &mut dyn FnMut(usize, Vec<Hypothesis>),
    ) -> Result<()> {
        options.validate(self.config.target.vocabulary, self.config.target.longest_sequence())?;
        let capacity = (limits.hypotheses / options.num_beams).min(limits.sentences).max(1);
        self.memory.ban(&mut self.session, &static_bans(options))?;
        if let Some(shortlists) = &mut self.shortlists {
            shortlists.begin(options);
        }
        let mut exhausted = false;
        loop {
            if self.sentences.is_empty() {
                self.busy = None; // it may wait for its next sentence
            }
            // Room is let gather to a quarter before it is filled, so that the encoder sees many rows.
            let room = capacity - self.sentences.len();
            if !exhausted && (room >= capacity.div_ceil(4) || self.sentences.is_empty()) {
                exhausted = self.admit(options, room, limits, next)?;
            }
            if self.sentences.is_empty() {
                return Ok(());
            }
            self.step(done)?;
        }
    }

    /// Admits up to `room` sentences: encodes them and opens their searches. Whether no more are to come.
    fn admit(
        &mut self,
        options: &Arc<GenerationOptions>,
        room: usize,
        limits: Limits,
        next: &mut dyn FnMut(bool) -> Arrival,
    ) -> Result<bool> {
        let mut tokens: Vec<i32> = Vec::new();
        let mut positions: Vec<i32> = Vec::new();
        let mut offsets = vec![0];
        let mut ranges = Vec::new();
        let mut cross_rows: Vec<i32> = Vec::new();
        let mut exhausted = false;
        let first = self.sentences.len();
        let limit = self.config.target.longest_sequence();
        let in_use = self.sentences.iter().map(|x| rows(options, x.cross.1, x.position, limit));
        let (mut in_use, most) = (in_use.sum::<usize>(), limits.memory / self.row_bytes());
        if self.waiting.is_some() && first > 0 && in_use > most - most / 4 {
            return Ok(false); // let room gather here too
        }
        while self.sentences.len() - first < room && tokens.len() < limits.source_tokens {
            let waiting = self.waiting.take().map(Arrival::Request);
            let request = match waiting.unwrap_or_else(|| next(self.sentences.is_empty())) {
                Arrival::Request(request) => request,
                Arrival::NothingYet => break,
                Arrival::End => {
                    exhausted = true;
                    break;
                }
            };
            self.check(&request)?;
            let length = request.source.len();
            in_use += rows(options, length, 0, limit);
            if in_use > most && !self.sentences.is_empty() {
                self.waiting = Some(request);
                break;
            }
            let start = self.memory.take_range(&mut self.session, length)?;
            ranges.extend([tokens.len() as i32, length as i32]);
            tokens.extend(request.source.iter().map(|&token| token as i32));
            positions.extend(0..length as i32);
            cross_rows.extend(start as i32..(start + length) as i32);
            offsets.push(tokens.len() as i32);
            let list = self.shortlists.as_mut().map(|lists| lists.admit(&request.source));
            self.sentences.push(Sentence {
                id: request.id,
                search: Search::new(
                    options,
                    SearchInput {
                        source: &request.source,
                        number: request.id as u64,
                        positions: limit,
                    },
                ),
                list: list.unwrap_or_default(),
                cross: (start, length),
                rows: vec![Vec::new()],
                taken: Vec::new(),
                position: 0,
            });
        }
        if tokens.is_empty() {
            return Ok(exhausted);
        }
        let busy = self.busy.get_or_insert_with(|| self.share.enter());
        self.session.limit_threads(busy.threads());
        // Few different numbers, so that programs are found again: the rest are tokens that nobody reads.
        let all = tokens.len().next_multiple_of(SPARE + 1);
        let spare = self.memory.spare_rows().take(all - tokens.len());
        cross_rows.extend(spare.map(|row| row as i32));
        tokens.resize(all, 0);
        positions.resize(all, 0);
        // The sequence after the last has them, and sees no keys; the others are empty.
        let sequences = all.max(ranges.len() / 2);
        offsets.resize(sequences + 1, all as i32);
        ranges.resize(2 * sequences, 0);
        let shape = EncodeShape { tokens: all, sequences, pools: self.memory.pools() };
        let program =
            self.programs.encode(&mut self.session, &self.config, self.numerics, shape)?;
        let inputs = [
            ("tokens", HostSlice::I32(&tokens)),
            ("positions", HostSlice::I32(&positions)),
            ("source_offsets", HostSlice::I32(&offsets)),
            ("source_ranges", HostSlice::I32(&ranges)),
            ("cross_rows", HostSlice::I32(&cross_rows)),
        ];
        self.session.run(&program, &inputs, &mut self.memory.states())?;
        Ok(exhausted)
    }

    /// Bytes of a token's keys and values in all layers.
    fn row_bytes(&self) -> usize {
        let config = &self.config;
        let size = self.numerics.key_dtype.size();
        (2 * config.decoder.layers * config.decoder.attention.width() * size).max(1)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let (length, limit) = (request.source.len(), self.config.source.longest_sequence());
        if length > limit {
            return Err(Error::SourceTooLong { id: request.id, length, limit });
        }
        let vocabulary = self.config.source.vocabulary;
        match request.source.iter().find(|&&token| token as usize >= vocabulary) {
            Some(&token) => Err(Error::TokenOutOfVocabulary { id: request.id, token, vocabulary }),
            None => Ok(()),
        }
    }

    /// One step of all sentences; those that end are handed over and leave.
    fn step(&mut self, done: &mut dyn FnMut(usize, Vec<Hypothesis>)) -> Result<()> {
        if let Some(busy) = &self.busy {
            self.session.limit_threads(busy.threads());
        }
        let hypotheses: usize = self.sentences.iter().map(|sentence| sentence.rows.len()).sum();
        self.memory.reserve_rows(&mut self.session, hypotheses)?;
        let needs = self.sentences.iter().map(|sentence| sentence.search.needs());
        // The options are the same for all sentences, so the output is.
        let Some(Needs { output, candidates }) = needs.max() else { return Ok(()) };
        // Few different numbers, so that programs are found again.
        let candidates = candidates.next_power_of_two().min(self.config.target.vocabulary);
        let shortlists = self.shortlists.as_mut();
        let shortlist = shortlists.map(|lists| lists.gather(&mut self.sentences, candidates));
        self.inputs.gather(&mut self.sentences, &mut self.memory);
        let inputs = &self.inputs;
        let shape = StepShape {
            hypotheses,
            width: inputs.width,
            output,
            candidates,
            shortlist,
            pools: self.memory.pools(),
        };
        let program = self.programs.step(&mut self.session, &self.config, self.numerics, shape)?;
        let mut bindings = vec![
            ("tokens", HostSlice::I32(&inputs.tokens)),
            ("positions", HostSlice::I32(&inputs.positions)),
            ("new_rows", HostSlice::I32(&inputs.new_rows)),
            ("row_table", HostSlice::I32(&inputs.row_table)),
            ("lengths", HostSlice::I32(&inputs.lengths)),
            ("cross_offsets", HostSlice::I32(&inputs.cross_offsets)),
            ("cross_ranges", HostSlice::I32(&inputs.cross_ranges)),
        ];
        bindings.extend(self.shortlists.iter().flat_map(Shortlists::inputs));
        let outputs = self.session.run(&program, &bindings, &mut self.memory.states())?;
        let (Some(values), Some(ids)) = (outputs[0].as_f32(), outputs[1].as_i32()) else {
            unreachable!("the step's program returns f32 and i32");
        };

        let normalizers = outputs.get(2).and_then(tfm_core::Tensor::as_f32);
        let mut row = 0;
        let mut fault = None;
        let (memory, shortlists) = (&mut self.memory, &mut self.shortlists);
        self.sentences.retain_mut(|sentence| {
            let live = sentence.rows.len();
            let rows = row..row + live;
            let range = rows.start * candidates..rows.end * candidates;
            row += live;
            let (values, ids) = (&values[range.clone()], &ids[range]);
            let normalizers = normalizers.map_or(&[][..], |normalizers| &normalizers[rows]);
            let rows = Rows { values, ids, width: candidates, normalizers };
            match sentence.search.advance(rows) {
                Ok(Advance::Continue) => {
                    reorder(&mut sentence.rows, sentence.search.parents());
                    sentence.prune(memory);
                    sentence.position += 1;
                    true
                }
                Ok(Advance::Finished) => {
                    sentence.release(memory, shortlists);
                    done(sentence.id, sentence.search.finish());
                    false
                }
                Err(not_finite) => {
                    sentence.release(memory, shortlists);
                    fault.get_or_insert(not_finite);
                    false
                }
            }
        });
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }
}
