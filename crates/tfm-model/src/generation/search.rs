//! The search of one sequence, step by step.

use super::history::{History, Node};
use super::hypothesis::{Finished, Hypothesis};
use super::needs::{Needs, Output, Rows, StepFault};
use super::options::{GenerationOptions, static_bans};
use super::processors::{Edits, Past, Processor, RENORMALISING_MARGIN, processors};
use super::ranking::{Candidate, Ranking};
use super::settled::{Settled, Settling};
use std::cmp::Ordering;
use std::sync::Arc;

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Advance {
    /// Another step, of the hypotheses that [`Search::parents`] lists.
    Continue,
    /// Nothing: [`Search::finish`] has the result.
    Finished,
}

/// As many candidates are shown of each hypothesis at once.
const FEW: usize = 16;

/// A hypothesis within the search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beam {
    pub(super) last: Node,
    /// Its tokens after the start token.
    pub(super) length: usize,
    /// The sum of log-probabilities.
    pub(super) sum: f32,
    /// The sum divided by the length divisor; of finished ones only.
    pub(super) score: f32,
    /// Where it is finished, why.
    pub(super) finished: Finished,
    /// Which of the sequences that are sampled it is.
    pub(super) sequence: usize,
}

/// What a search is for.
#[derive(Debug, Clone, Copy)]
pub struct SearchInput<'a> {
    /// The source's tokens.
    pub source: &'a [u32],
    /// Which of the sequences of its seed this is: with the seed, it decides what is drawn.
    pub number: u64,
    /// How many positions the model has.
    pub positions: usize,
}

/// The search of one sequence.
#[derive(Debug, Clone)]
pub struct Search {
    pub(super) options: Arc<GenerationOptions>,
    /// See [`SearchInput::number`].
    pub(super) number: u64,
    /// The most tokens of a hypothesis, and those that precede its end, after the start token.
    pub(super) longest: usize,
    pub(super) shortest: usize,
    /// The tokens of [`static_bans`].
    pub(super) banned: Vec<u32>,
    processors: Arc<[Box<dyn Processor>]>,
    history: History,
    /// Best first; never more than there are beams. Where they are sampled, in the order of their
    /// numbers.
    pub(super) live: Vec<Beam>,
    /// The live hypotheses of the step before.
    pub(super) previous: Vec<Beam>,
    /// Those of `previous` that `live` continue.
    parents: Vec<usize>,
    /// Best first; never more than there are beams. Where they are sampled, as they ended.
    pub(super) finished: Vec<Beam>,
    /// The tokens of live hypotheses after the start token.
    pub(super) length: usize,
    /// Whether no step follows.
    done: bool,
    /// For each live hypothesis its past and what follows from it; both empty where there are no
    /// processors.
    pasts: Vec<Past>,
    pub(super) edits: Vec<Edits>,
    /// Candidates that are ranked at each step.
    pub(super) kept: usize,
    pub(super) ranking: Ranking,
    settling: Settling,
}

impl Search {
    /// A search with the start token alone. The options are expected to be valid
    /// ([`GenerationOptions::validate`]); others give odd results, but no panic.
    pub fn new(options: &Arc<GenerationOptions>, input: SearchInput<'_>) -> Self {
        // Where every beam's best continuation is an end of sequence, the next best must carry on.
        let kept = match options.num_beams {
            0 | 1 => 1,
            beams => beams.saturating_mul(1 + options.eos_token_id.len()),
        };
        let start = Beam {
            last: History::ROOT,
            length: 0,
            sum: 0.0,
            score: 0.0,
            finished: Finished::Length,
            sequence: 0,
        };
        let mut search = Search {
            number: input.number,
            longest: options.longest(input.positions),
            shortest: options.shortest(),
            banned: static_bans(options),
            processors: processors(options, input.source).into(),
            options: options.clone(),
            history: History::new(options.decoder_start_token_id),
            live: vec![start],
            previous: Vec::new(),
            parents: Vec::new(),
            finished: Vec::new(),
            length: 0,
            done: false,
            pasts: Vec::new(),
            edits: Vec::new(),
            kept,
            ranking: Ranking::new(kept),
            settling: Settling::new(),
        };
        search.find_edits();
        search
    }

    /// The hypotheses that the next step computes: 1 at first, later up to the number of beams, 0
    /// at the end.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// The last token of a live hypothesis: what the decoder reads next.
    ///
    /// # Panics
    /// If there are not so many live hypotheses.
    pub fn last_token(&self, hypothesis: usize) -> u32 {
        self.history.token(self.live[hypothesis].last)
    }

    /// The last tokens of the live hypotheses.
    pub fn last_tokens(&self) -> impl ExactSizeIterator<Item = u32> {
        self.live.iter().map(|beam| self.history.token(beam.last))
    }

    /// For each live hypothesis the one of the step before that it continues.
    pub fn parents(&self) -> &[usize] {
        &self.parents
    }

    /// What [`Search::advance`] has to be shown to be exact.
    pub fn needs(&self) -> Needs {
        let options = &*self.options;
        let output = if self.needs_whole_row() {
            Output::Row
        } else if options.needs_probabilities() {
            Output::LogProbabilities {
                renormalized: options.renormalize_logits,
                normalizers: options.num_beams <= 1 && options.penalises(),
            }
        } else {
            Output::Logits
        };
        let candidates = self.candidates();
        Needs { output, candidates, first: self.shown_first(output, candidates) }
    }

    /// See [`Needs::first`]. A beam search picks about as many of each live hypothesis, so four
    /// times as many most likely do. Few are sorted faster than the rest is asked for.
    fn shown_first(&self, output: Output, candidates: usize) -> usize {
        let options = &*self.options;
        let plain = Output::LogProbabilities { renormalized: false, normalizers: false };
        if output != plain || options.do_sample || options.num_beams <= 1 {
            return candidates;
        }
        let share = (4 * candidates).div_ceil(self.live.len().max(1));
        let first = share.next_power_of_two().max(FEW);
        if first <= candidates / 2 { first } else { candidates }
    }

    /// Whether a token may come next that is not among the best.
    fn needs_whole_row(&self) -> bool {
        let options = &*self.options;
        let any = options.do_sample && options.top_k == 0;
        self.forced_tokens().is_none() && (any || self.edits.iter().any(Edits::raises))
    }

    /// What may be picked, the beams and every end of sequence, and as many as rules can take away.
    pub(super) fn candidates(&self) -> usize {
        if self.forced_tokens().is_some() {
            return 1;
        }
        let (beams, eos) = (self.options.num_beams, self.options.eos_token_id.len());
        let picked = if self.options.do_sample { self.options.drawn_from() } else { beams };
        let eos = if beams > 1 || self.eos_banned() { eos } else { 0 };
        let edits = self.edits.iter().map(Edits::len).max().unwrap_or(0);
        let edited = edits > 0 || self.eos_banned();
        let renormalize = self.options.renormalize_logits && edited;
        let margin = if renormalize { RENORMALISING_MARGIN } else { 0 };
        picked.max(1) + eos + edits + margin
    }

    /// Takes a step. `rows` are of the kind that [`Search::needs`] names, and have at least as many
    /// candidates. Where none of them may come next, the search ends with what has ended before.
    ///
    /// # Errors
    /// A row holds NaN, +∞, or −∞ alone where not everything is banned; nothing may come next, and
    /// nothing has ended before.
    pub fn advance(&mut self, rows: Rows<'_>) -> Result<Advance, StepFault> {
        self.check(rows)?;
        let advance = match self.options.do_sample {
            true => self.advance_samples(rows),
            false => self.advance_beams(rows),
        };
        advance.ok_or(StepFault::AllBanned)
    }

    fn check(&self, rows: Rows<'_>) -> Result<(), StepFault> {
        let normal = |value: &f32| *value < f32::INFINITY; // nor is NaN
        if !rows.values.iter().fold(true, |all, value| all & normal(value)) {
            return Err(StepFault::NotFinite);
        }
        let candidates = self.candidates();
        let banned = |id: &i32| self.banned.binary_search(&(*id as u32)).is_ok();
        for (values, ids) in (0..self.live.len()).map_while(|row| rows.row(row)) {
            let nothing = values.iter().all(|&value| value == f32::NEG_INFINITY);
            if nothing && (ids.is_empty() || !ids.iter().take(candidates).all(banned)) {
                return Err(StepFault::NotFinite);
            }
        }
        Ok(())
    }

    /// The tokens that no later step can change and that were not told before: those that all
    /// hypotheses have in common which may yet be the best in the end, and of a search that is at
    /// its end, those of the best. Together, from call to call, they are the beginning of the best
    /// hypothesis of [`Search::finish`]; after the end, all of it.
    pub fn settled(&mut self) -> &[Settled] {
        let open: Vec<Beam> = if self.done || self.options.do_sample {
            self.results(1)
        } else {
            // A finished hypothesis that is not the best can't become it.
            self.finished.iter().take(1).chain(&self.live).copied().collect()
        };
        self.settling.settle(&self.history, open.iter().map(|beam| (beam.length, beam.last)))
    }

    /// The result, best first or, where they are sampled, in the order of their numbers: as many
    /// hypotheses as asked for, or fewer if there are not so many.
    /// Before the end live hypotheses count as if cut off here. There is always one, even if
    /// without tokens.
    pub fn finish(&self) -> Vec<Hypothesis> {
        let results = self.results(self.options.num_return_sequences.max(1));
        results.iter().map(|beam| self.hypothesis(beam)).collect()
    }

    /// The first hypotheses of the result as they stand.
    fn results(&self, count: usize) -> Vec<Beam> {
        let cut_off = self
            .live
            .iter()
            .map(|beam| Beam { score: self.options.score(beam.sum, self.length), ..*beam });
        let mut beams: Vec<Beam> = self.finished.iter().copied().chain(cut_off).collect();
        if self.options.do_sample {
            beams.sort_by_key(|beam| beam.sequence);
        } else {
            beams.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
        }
        beams.truncate(count);
        beams
    }

    fn hypothesis(&self, beam: &Beam) -> Hypothesis {
        let mut entries: Vec<_> = self.history.back(beam.last).collect();
        entries.reverse();
        Hypothesis {
            tokens: entries.iter().map(|entry| entry.token).collect(),
            score: beam.score,
            log_probability: beam.sum,
            token_log_probabilities: entries.iter().map(|entry| entry.log_probability).collect(),
            beam_indices: entries.iter().map(|entry| entry.beam).collect(),
            finished: beam.finished,
        }
    }

    /// The tokens to which the next step is forced; `None` if the choice is free.
    pub(super) fn forced_tokens(&self) -> Option<&[u32]> {
        self.options.forced_tokens(self.length, self.longest)
    }

    /// Why a hypothesis is finished that the step just taken ends, at an end of sequence or not.
    pub(super) fn why(&self, at_end: bool) -> Finished {
        let forced = self.length >= self.longest && !self.options.forced_eos_token_id.is_empty();
        if at_end && !forced { Finished::End } else { Finished::Length }
    }

    pub(super) fn eos_banned(&self) -> bool {
        self.length < self.shortest
    }

    /// Makes the live hypotheses those of the step before.
    pub(super) fn begin_step(&mut self) {
        self.length += 1;
        std::mem::swap(&mut self.live, &mut self.previous);
        self.live.clear();
        self.parents.clear();
    }

    /// Continues a hypothesis of the step before by a candidate.
    pub(super) fn carry_on(&mut self, candidate: &Candidate, sequence: usize) {
        let continued = self.extend(candidate, sequence);
        self.live.push(continued);
        self.parents.push(candidate.beam as usize);
    }

    /// Adds a candidate to the history.
    pub(super) fn extend(&mut self, candidate: &Candidate, sequence: usize) -> Beam {
        let parent = self.previous[candidate.beam as usize].last;
        let &Candidate { token, beam, log_probability, sum } = candidate;
        let last = self.history.push(parent, token, beam, log_probability);
        Beam { last, length: self.length, sum, score: 0.0, finished: Finished::Length, sequence }
    }

    /// Ends a search in which nothing may come next; `None` where nothing has ended before.
    pub(super) fn stuck(&mut self) -> Option<Advance> {
        (!self.finished.is_empty()).then(|| self.stop())
    }

    /// Ends the search. Live hypotheses count only if there is no finished one.
    pub(super) fn stop(&mut self) -> Advance {
        self.done = true;
        if !self.finished.is_empty() {
            self.live.clear();
        }
        Advance::Finished
    }

    /// Finds what the live hypotheses' pasts change at the next step.
    pub(super) fn find_edits(&mut self) {
        if self.processors.is_empty() {
            return;
        }
        if self.length == 0 {
            self.pasts = vec![Past::new(self.options.decoder_start_token_id)];
        } else {
            self.continue_pasts();
        }
        self.edits.resize_with(self.live.len(), Edits::default);
        for (past, edits) in self.pasts.iter().zip(&mut self.edits) {
            edits.clear();
            self.processors.iter().for_each(|processor| processor.edit(past, edits));
            edits.sort();
        }
    }

    /// Makes the pasts those of the live hypotheses. A parent's last child takes its past, the
    /// others copy it.
    fn continue_pasts(&mut self) {
        let mut children = vec![0usize; self.pasts.len()];
        self.parents.iter().for_each(|&parent| children[parent] += 1);
        let mut old = std::mem::take(&mut self.pasts);
        for (beam, &parent) in self.live.iter().zip(&self.parents) {
            children[parent] -= 1;
            let past = &mut old[parent];
            let last = children[parent] == 0;
            let mut past = if last { std::mem::take(past) } else { past.clone() };
            past.push(self.history.token(beam.last));
            self.pasts.push(past);
        }
    }
}
