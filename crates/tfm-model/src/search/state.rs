//! The search of one sentence, step by step.

use super::history::{History, Node};
use super::options::{EarlyStopping, SearchOptions};
use super::processors::{RENORMALISING_MARGIN, RowEdits, RowRules};
use super::ranking::{Candidate, Ranking};
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
    /// Its tokens, without the decoder's start; the end of sentence included if it was generated.
    pub tokens: Vec<u32>,
    /// The sum of log-probabilities divided by the number of generated tokens (the end of sentence
    /// counts, the prefix does not) to the power of the length penalty. This and the probabilities are 0 in a search that
    /// does not need them; see [`SearchOptions::scores`].
    pub score: f32,
    /// The sum of log-probabilities.
    pub log_probability: f32,
    /// Each token's log-probability; 0 for those that were forced.
    pub token_log_probabilities: Vec<f32>,
    /// For each token the live hypothesis, as numbered at its step, whose row predicted it. Whoever
    /// keeps what a step computed (attention weights, say) finds it by this.
    pub beam_indices: Vec<u32>,
    /// Whether it came to an end of sentence; if not, it was cut off.
    pub finished: bool,
}

/// A hypothesis within the search.
#[derive(Debug, Clone, Copy)]
struct Beam {
    last: Node,
    /// The sum of log-probabilities.
    sum: f32,
    /// The sum divided by the length divisor; of finished ones only.
    score: f32,
    ended: bool,
}

/// The search of one sentence.
#[derive(Debug, Clone)]
pub struct Search {
    options: Arc<SearchOptions>,
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
    /// For each live hypothesis; empty where history does not matter.
    edits: Vec<RowEdits>,
    ranking: Ranking,
    /// Scratch: one hypothesis's tokens.
    tokens: Vec<u32>,
}

impl Search {
    /// A search with the start token alone. The options are expected to be valid
    /// ([`SearchOptions::validate`]); others give odd results, but no panic.
    pub fn new(options: &Arc<SearchOptions>) -> Self {
        // Where every beam's best continuation is an end of sentence, the next best must carry on.
        let kept = match options.beams {
            0 | 1 => 1,
            beams => beams.saturating_mul(1 + options.eos.len()),
        };
        let start = Beam { last: History::ROOT, sum: 0.0, score: 0.0, ended: false };
        let mut search = Search {
            options: options.clone(),
            history: History::new(options.decoder_start),
            live: vec![start],
            previous: Vec::new(),
            parents: Vec::new(),
            finished: Vec::new(),
            length: 0,
            edits: Vec::new(),
            ranking: Ranking::new(kept),
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

    /// How many of the most probable tokens of each row [`Search::advance`] has to see to be exact:
    /// at least 1; more change nothing, and more than the vocabulary has are never needed. The
    /// beams and every end of sentence, and as many as history can take away.
    pub fn candidates_needed(&self) -> usize {
        if self.options.forced(self.length).is_some() {
            return 1;
        }
        let eos = self.options.eos.len();
        let eos = if self.options.beams > 1 || self.eos_banned() { eos } else { 0 };
        let edits = self.edits.iter().map(RowEdits::len).max().unwrap_or(0);
        let edited = edits > 0 || self.eos_banned();
        let margin = if self.options.renormalize && edited { RENORMALISING_MARGIN } else { 0 };
        self.options.beams.max(1) + eos + edits + margin
    }

    /// Takes a step. `log_probabilities` and `ids` have a row of `width` candidates for each live
    /// hypothesis: its most probable next tokens after a softmax and the bans of
    /// [`static_bans`](super::static_bans), most probable first, of equals the lower id first.
    /// Candidates that are not finite are passed over; where there are no others, the search ends.
    pub fn advance(&mut self, log_probabilities: &[f32], ids: &[i32], width: usize) -> Advance {
        self.advance_with_normalizers(log_probabilities, ids, width, &[])
    }

    /// As [`Search::advance`], with the logarithm of the sum of each row's exponentiated logits.
    /// They matter to greedy search with a repetition penalty: there `transformers` changes the
    /// logits, in beam search the log-probabilities. Without them the log-probabilities are changed
    /// in greedy search too.
    pub fn advance_with_normalizers(
        &mut self,
        log_probabilities: &[f32],
        ids: &[i32],
        width: usize,
        log_sum_exps: &[f32],
    ) -> Advance {
        self.ranking.clear();
        if self.options.forced(self.length).is_some() {
            self.rank_forced();
        } else {
            let width = width.max(1);
            let rows = log_probabilities.chunks_exact(width).zip(ids.chunks_exact(width));
            for (beam, (log_probabilities, ids)) in rows.enumerate().take(self.live.len()) {
                let greedy = self.options.beams <= 1;
                let log_sum_exp = if greedy { log_sum_exps.get(beam) } else { None };
                self.rank(beam, log_probabilities, ids, log_sum_exp.copied().unwrap_or(0.0));
            }
        }
        self.choose()
    }

    /// The result, best first: as many hypotheses as asked for, or fewer if there are not so many.
    /// Before the end live hypotheses count as if cut off here. There is always one, even if
    /// without tokens.
    pub fn finish(&self) -> Vec<Hypothesis> {
        let cut_off = self
            .live
            .iter()
            .map(|beam| Beam { score: self.options.score(beam.sum, self.length), ..*beam });
        let mut beams: Vec<Beam> = self.finished.iter().copied().chain(cut_off).collect();
        beams.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
        beams.iter().take(self.options.n_best.max(1)).map(|beam| self.hypothesis(beam)).collect()
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

    fn eos_banned(&self) -> bool {
        self.length < self.options.min_length
    }

    /// Offers the tokens that are the only choice.
    fn rank_forced(&mut self) {
        let tokens = self.options.forced(self.length).unwrap_or_default();
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

    /// Offers the candidates of one row.
    fn rank(&mut self, beam: usize, log_probabilities: &[f32], ids: &[i32], log_sum_exp: f32) {
        let base = self.live[beam].sum;
        let seen = self.candidates_needed().min(log_probabilities.len());
        let row = RowRules {
            options: &self.options,
            edits: self.edits.get(beam),
            eos_banned: self.eos_banned(),
            log_sum_exp,
        };
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
        let beams = self.options.beams.max(1);
        self.length += 1;
        let at_limit = self.length >= self.options.max_length;
        std::mem::swap(&mut self.live, &mut self.previous);
        self.live.clear();
        self.parents.clear();
        for rank in 0..self.ranking.best().len() {
            let candidate = self.ranking.best()[rank];
            let ended = self.options.eos.contains(&candidate.token) && !in_prefix;
            if ended || at_limit {
                // Those further down are only there to carry on in the place of others.
                if rank < beams {
                    self.end(&candidate, ended);
                }
            } else if self.live.len() < beams {
                let last = self.extend(&candidate);
                self.live.push(Beam { last, sum: candidate.sum, score: 0.0, ended: false });
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
    fn extend(&mut self, candidate: &Candidate) -> Node {
        let parent = self.previous[candidate.beam as usize].last;
        self.history.push(parent, candidate.token, candidate.beam, candidate.log_probability)
    }

    /// Adds a candidate to the finished hypotheses, if it is one of the best.
    fn end(&mut self, candidate: &Candidate, ended: bool) {
        let score = self.options.score(candidate.sum, self.length);
        let place = self.finished.partition_point(|better| better.score >= score);
        let beams = self.options.beams.max(1);
        if place < beams {
            let last = self.extend(candidate);
            self.finished.truncate(beams - 1);
            self.finished.insert(place, Beam { last, sum: candidate.sum, score, ended });
        }
    }

    /// Whether a live hypothesis may yet come among the best.
    fn worth_continuing(&self) -> bool {
        let options = &*self.options;
        let [.., worst] = &self.finished[..] else { return true };
        if self.finished.len() < options.beams {
            return true;
        }
        let length = match options.early_stopping {
            EarlyStopping::Yes => return false,
            EarlyStopping::Never if options.length_penalty > 0.0 => options.max_length,
            EarlyStopping::Never | EarlyStopping::No => self.length,
        };
        options.score(self.live[0].sum, length) > worst.score
    }

    /// Ends the search. Live hypotheses count only if there is no finished one.
    fn stop(&mut self) -> Advance {
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
