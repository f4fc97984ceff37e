//! The search of one sequence, step by step.

use super::history::{History, Node};
use super::needs::{Needs, NotFinite, Output, Rows};
use super::options::{EarlyStopping, GenerationOptions, static_bans};
use super::processors::{RENORMALISING_MARGIN, RowEdits, RowRules};
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

/// A generated sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without the decoder's start; the end of sequence included if it was generated.
    pub tokens: Vec<u32>,
    /// The sum of log-probabilities divided by the number of generated tokens (the end of sequence
    /// counts, the prefix does not) to the power of the length penalty. This and the probabilities
    /// are 0 in a search that does not need them; see [`GenerationOptions::scores`].
    pub score: f32,
    /// The sum of log-probabilities.
    pub log_probability: f32,
    /// Each token's log-probability; 0 for those that were forced.
    pub token_log_probabilities: Vec<f32>,
    /// For each token the live hypothesis, as numbered at its step, whose row predicted it. Whoever
    /// keeps what a step computed (attention weights, say) finds it by this.
    pub beam_indices: Vec<u32>,
    /// Whether it came to an end of sequence; if not, it was cut off.
    pub finished: bool,
}

/// A hypothesis within the search.
#[derive(Debug, Clone, Copy)]
struct Beam {
    last: Node,
    /// Its tokens after the start token.
    length: usize,
    /// The sum of log-probabilities.
    sum: f32,
    /// The sum divided by the length divisor; of finished ones only.
    score: f32,
    ended: bool,
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
    options: Arc<GenerationOptions>,
    /// The most tokens of a hypothesis, and those that precede its end, after the start token.
    longest: usize,
    shortest: usize,
    /// The tokens of [`static_bans`], ascending.
    banned: Vec<u32>,
    history: History,
    /// Best first; never more than there are beams.
    live: Vec<Beam>,
    /// The live hypotheses of the step before.
    previous: Vec<Beam>,
    /// Those of `previous` that `live` continue.
    parents: Vec<usize>,
    /// Best first; never more than there are beams.
    finished: Vec<Beam>,
    /// The tokens of live hypotheses after the start token.
    length: usize,
    /// Whether no step follows.
    done: bool,
    /// For each live hypothesis; empty where history does not matter.
    edits: Vec<RowEdits>,
    ranking: Ranking,
    settling: Settling,
    /// Scratch: one hypothesis's tokens.
    tokens: Vec<u32>,
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
        let start = Beam { last: History::ROOT, length: 0, sum: 0.0, score: 0.0, ended: false };
        let mut banned = static_bans(options);
        banned.sort_unstable();
        let mut search = Search {
            longest: options.longest(input.positions),
            shortest: options.shortest(),
            banned,
            options: options.clone(),
            history: History::new(options.decoder_start_token_id),
            live: vec![start],
            previous: Vec::new(),
            parents: Vec::new(),
            finished: Vec::new(),
            length: 0,
            done: false,
            edits: Vec::new(),
            ranking: Ranking::new(kept),
            settling: Settling::new(),
            tokens: Vec::new(),
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
        let output = if options.needs_probabilities() {
            Output::LogProbabilities {
                renormalized: options.renormalize_logits,
                // Greedy search penalises logits, as `transformers` does there.
                normalizers: options.num_beams <= 1 && options.repetition_penalty != 1.0,
            }
        } else {
            Output::Logits
        };
        Needs { output, candidates: self.candidates() }
    }

    /// The beams and every end of sequence, and as many as history can take away.
    fn candidates(&self) -> usize {
        if self.forced().is_some() {
            return 1;
        }
        let (beams, eos) = (self.options.num_beams, self.options.eos_token_id.len());
        let eos = if beams > 1 || self.eos_banned() { eos } else { 0 };
        let edits = self.edits.iter().map(RowEdits::len).max().unwrap_or(0);
        let edited = edits > 0 || self.eos_banned();
        let renormalize = self.options.renormalize_logits && edited;
        let margin = if renormalize { RENORMALISING_MARGIN } else { 0 };
        beams.max(1) + eos + edits + margin
    }

    /// Takes a step. `rows` are of the kind that [`Search::needs`] names, and have at least as many
    /// candidates. Where none of them may come next, the search ends.
    ///
    /// # Errors
    /// A row holds NaN, +∞, or −∞ alone where not everything is banned.
    pub fn advance(&mut self, rows: Rows<'_>) -> Result<Advance, NotFinite> {
        self.check(rows)?;
        self.ranking.clear();
        if self.forced().is_some() {
            self.rank_forced();
        } else {
            let (width, needed) = (rows.width.max(1), self.candidates());
            let lines = rows.values.chunks_exact(width).zip(rows.ids.chunks_exact(width));
            for (beam, (log_probabilities, ids)) in lines.enumerate().take(self.live.len()) {
                // In beam search it is log-probabilities that are penalised.
                let greedy = self.options.num_beams <= 1;
                let log_sum_exp = if greedy { rows.normalizers.get(beam) } else { None };
                let log_sum_exp = log_sum_exp.copied().unwrap_or(0.0);
                self.rank(beam, log_probabilities, ids, needed, log_sum_exp);
            }
        }
        Ok(self.choose())
    }

    fn check(&self, rows: Rows<'_>) -> Result<(), NotFinite> {
        let width = rows.width.max(1);
        let normal = |value: &f32| *value < f32::INFINITY; // nor is NaN
        if !rows.values.iter().fold(true, |all, value| all & normal(value)) {
            return Err(NotFinite);
        }
        for (values, ids) in rows.values.chunks_exact(width).zip(rows.ids.chunks_exact(width)) {
            let nothing = values.iter().all(|&value| value == f32::NEG_INFINITY);
            let banned = |id: &i32| self.banned.binary_search(&(*id as u32)).is_ok();
            if nothing && !ids.iter().take(self.candidates()).all(banned) {
                return Err(NotFinite);
            }
        }
        Ok(())
    }

    /// The tokens that no later step can change and that were not told before: those that all
    /// hypotheses have in common which may yet be the best in the end, and of a search that is at its
    /// end, those of the best. Together, from call to call, they are the beginning of the best
    /// hypothesis of [`Search::finish`]; after the end, all of it.
    pub fn settled(&mut self) -> &[Settled] {
        let best = if self.done { self.results(1) } else { Vec::new() };
        // A finished hypothesis that is not the best can't become it.
        let open = self.finished.iter().take(1).chain(&self.live);
        let open = open.take(if self.done { 0 } else { usize::MAX });
        let hypotheses = best.iter().chain(open);
        self.settling.settle(&self.history, hypotheses.map(|beam| (beam.length, beam.last)))
    }

    /// The result, best first: as many hypotheses as asked for, or fewer if there are not so many.
    /// Before the end live hypotheses count as if cut off here. There is always one, even if
    /// without tokens.
    pub fn finish(&self) -> Vec<Hypothesis> {
        let results = self.results(self.options.num_return_sequences.max(1));
        results.iter().map(|beam| self.hypothesis(beam)).collect()
    }

    /// The best hypotheses as they stand, best first.
    fn results(&self, count: usize) -> Vec<Beam> {
        let cut_off = self
            .live
            .iter()
            .map(|beam| Beam { score: self.options.score(beam.sum, self.length), ..*beam });
        let mut beams: Vec<Beam> = self.finished.iter().copied().chain(cut_off).collect();
        beams.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
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
            finished: beam.ended,
        }
    }

    /// The tokens that are the only choice at the next step.
    fn forced(&self) -> Option<&[u32]> {
        self.options.forced(self.length, self.longest)
    }

    fn eos_banned(&self) -> bool {
        self.length < self.shortest
    }

    /// Offers the tokens that are the only choice.
    fn rank_forced(&mut self) {
        let tokens = self.options.forced(self.length, self.longest).unwrap_or_default();
        for (beam, &Beam { sum, .. }) in self.live.iter().enumerate() {
            for &token in tokens {
                self.ranking.offer(Candidate {
                    sum,
                    log_probability: 0.0,
                    token,
                    beam: beam as u32,
                });
            }
        }
    }

    /// Offers the candidates of one row, of which so many are `needed`.
    fn rank(
        &mut self,
        beam: usize,
        log_probabilities: &[f32],
        ids: &[i32],
        needed: usize,
        log_sum_exp: f32,
    ) {
        let base = self.live[beam].sum;
        let row = RowRules {
            options: &self.options,
            edits: self.edits.get(beam),
            eos_banned: self.length < self.shortest,
            log_sum_exp,
        };
        let seen = needed.min(log_probabilities.len());
        let shift = row.normalizer(&log_probabilities[..seen], ids);
        for (&log_probability, &id) in log_probabilities.iter().zip(ids) {
            if !log_probability.is_finite() {
                continue;
            }
            if !self.ranking.admits(base + (log_probability - shift)) {
                break; // the rest is no more probable, and edits never raise
            }
            let token = id as u32;
            let log_probability = row.edit(token, log_probability) - shift;
            if log_probability.is_finite() {
                let beam = beam as u32;
                if !self.options.needs_probabilities() {
                    // It is a logit, and the greatest.
                    self.ranking.offer(Candidate { sum: base, log_probability: 0.0, token, beam });
                    break;
                }
                let sum = base + log_probability;
                self.ranking.offer(Candidate { sum, log_probability, token, beam });
            }
        }
    }

    /// Ends or continues hypotheses by the ranked candidates.
    fn choose(&mut self) -> Advance {
        if self.ranking.best().is_empty() {
            return self.stop();
        }
        let in_prefix = self.length < self.options.prefix.len();
        let beams = self.options.num_beams.max(1);
        self.length += 1;
        let at_limit = self.length >= self.longest;
        std::mem::swap(&mut self.live, &mut self.previous);
        self.live.clear();
        self.parents.clear();
        for rank in 0..self.ranking.best().len() {
            let candidate = self.ranking.best()[rank];
            let ended = self.options.eos_token_id.contains(&candidate.token) && !in_prefix;
            if ended || at_limit {
                // Those further down are only there to carry on in the place of others.
                if rank < beams {
                    self.end(&candidate, ended);
                }
            } else if self.live.len() < beams {
                let continued = self.extend(&candidate);
                self.live.push(continued);
                self.parents.push(candidate.beam as usize);
            }
        }
        if self.live.is_empty() || !self.worth_continuing() {
            return self.stop();
        }
        self.find_edits();
        Advance::Continue
    }

    /// Adds a candidate to the history.
    fn extend(&mut self, candidate: &Candidate) -> Beam {
        let parent = self.previous[candidate.beam as usize].last;
        let &Candidate { token, beam, log_probability, sum } = candidate;
        let last = self.history.push(parent, token, beam, log_probability);
        Beam { last, length: self.length, sum, score: 0.0, ended: false }
    }

    /// Adds a candidate to the finished hypotheses, if it is one of the best.
    fn end(&mut self, candidate: &Candidate, ended: bool) {
        let score = self.options.score(candidate.sum, self.length);
        let place = self.finished.partition_point(|better| better.score >= score);
        let beams = self.options.num_beams.max(1);
        if place < beams {
            let continued = self.extend(candidate);
            self.finished.truncate(beams - 1);
            self.finished.insert(place, Beam { score, ended, ..continued });
        }
    }

    /// Whether a live hypothesis may yet come among the best.
    fn worth_continuing(&self) -> bool {
        let options = &*self.options;
        let [.., worst] = &self.finished[..] else { return true };
        if self.finished.len() < options.num_beams {
            return true;
        }
        let length = match options.early_stopping {
            EarlyStopping::Yes => return false,
            EarlyStopping::Never if options.length_penalty > 0.0 => self.longest,
            EarlyStopping::Never | EarlyStopping::No => self.length,
        };
        options.score(self.live[0].sum, length) > worst.score
    }

    /// Ends the search. Live hypotheses count only if there is no finished one.
    fn stop(&mut self) -> Advance {
        self.done = true;
        if !self.finished.is_empty() {
            self.live.clear();
        }
        Advance::Finished
    }

    /// Finds what the live hypotheses' pasts change at the next step.
    fn find_edits(&mut self) {
        if !self.options.watches_history() {
            return;
        }
        self.edits.resize_with(self.live.len(), RowEdits::default);
        for (beam, edits) in self.live.iter().zip(&mut self.edits) {
            self.history.read(beam.last, &mut self.tokens);
            edits.find(&self.options, &self.tokens);
        }
    }
}
