//! Beam search, and greedy search as its case of one beam: the best continuations of all live
//! hypotheses live on or are finished.

use crate::generation::needs::{Output, Rows};
use crate::generation::options::EarlyStopping;
use crate::generation::processors::RowRules;
use crate::generation::ranking::Candidate;
use crate::generation::search::{Advance, Beam, Search};

impl Search {
    /// The live hypotheses of which `rows` has too few candidates: a candidate that is not there
    /// may be among those that are picked. [`Search::advance`] is exact once these have as many as
    /// [`Needs::candidates`](crate::generation::Needs::candidates) says.
    pub fn lacking(&mut self, rows: Rows<'_>) -> Vec<usize> {
        if rows.width >= self.candidates() || self.needs().first == self.candidates() {
            return Vec::new();
        }
        self.rank_all(rows);
        let worst = self.ranking.worst();
        let lacks = |&beam: &usize| {
            let last = rows.row(beam).and_then(|(values, _)| values.last().copied());
            // What follows it is no more probable, and rules never raise it.
            last.filter(|last| last.is_finite()).is_some_and(|last| {
                let sum = self.live[beam].sum + last;
                worst.is_none_or(|worst| sum >= worst)
            })
        };
        (0..self.live.len()).filter(lacks).collect()
    }

    /// Ranks what `rows` offer, and ends or continues hypotheses; `None` where nothing may come.
    pub(in crate::generation) fn advance_beams(&mut self, rows: Rows<'_>) -> Option<Advance> {
        self.rank_all(rows);
        self.choose()
    }

    /// Ranks what `rows` offer.
    fn rank_all(&mut self, rows: Rows<'_>) {
        self.ranking.clear();
        if self.forced_tokens().is_some() {
            self.rank_forced();
        } else {
            let whole = self.needs().output == Output::Row;
            let needed = self.candidates();
            for beam in 0..self.live.len() {
                let Some((values, ids)) = rows.row(beam) else { break };
                if whole {
                    self.rank_whole(beam, values, ids);
                } else {
                    // In beam search it is log-probabilities that are penalised.
                    let greedy = self.options.num_beams <= 1;
                    let log_sum_exp = if greedy { rows.normalizers.get(beam) } else { None };
                    let log_sum_exp = log_sum_exp.copied().unwrap_or(0.0);
                    self.rank(beam, values, ids, needed, log_sum_exp);
                }
            }
        }
    }

    /// Offers the tokens that are the only choice.
    fn rank_forced(&mut self) {
        let tokens = self.options.forced_tokens(self.length, self.longest).unwrap_or_default();
        for (beam, &Beam { sum, .. }) in (0..).zip(&self.live) {
            for &token in tokens {
                self.ranking.offer(Candidate { sum, log_probability: 0.0, token, beam });
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
        let ranking = &mut self.ranking;
        let row = RowRules {
            options: &self.options,
            banned: &[],
            eos_banned: self.length < self.shortest,
            edits: self.edits.get(beam),
            log_sum_exp,
        };
        let seen = needed.min(log_probabilities.len());
        let shift = row.normalizer(&log_probabilities[..seen], ids);
        for (&log_probability, &id) in log_probabilities.iter().zip(ids) {
            if !log_probability.is_finite() {
                continue;
            }
            if !ranking.admits(base + (log_probability - shift)) {
                break; // the rest is no more probable, and these edits never raise
            }
            let token = id as u32;
            let log_probability = row.edit(token, log_probability) - shift;
            if log_probability.is_finite() {
                let beam = beam as u32;
                if !self.options.needs_probabilities() {
                    // It is a logit, and the greatest.
                    ranking.offer(Candidate { sum: base, log_probability: 0.0, token, beam });
                    break;
                }
                let sum = base + log_probability;
                ranking.offer(Candidate { sum, log_probability, token, beam });
            }
        }
    }

    /// Offers the best of a row of all tokens' logits.
    fn rank_whole(&mut self, beam: usize, logits: &[f32], ids: &[i32]) {
        let base = self.live[beam].sum;
        let mut choices = self.choices(beam, logits, ids, None);
        let kept = self.kept;
        if choices.len() > kept {
            choices.select_nth_unstable_by(kept - 1, |a, b| a.better(b));
            choices.truncate(kept);
        }
        choices.sort_unstable_by(|a, b| a.better(b));
        for choice in choices {
            let (token, log_probability) = (choice.token, choice.log_probability);
            let sum = base + log_probability;
            self.ranking.offer(Candidate { sum, log_probability, token, beam: beam as u32 });
        }
    }

    /// Ends or continues hypotheses by the ranked candidates.
    fn choose(&mut self) -> Option<Advance> {
        let ranked = self.ranking.sort();
        if ranked == 0 {
            return self.stuck();
        }
        let in_prefix = self.length < self.options.prefix.len();
        let beams = self.options.num_beams.max(1);
        self.begin_step();
        let at_limit = self.length >= self.longest;
        for rank in 0..ranked {
            let candidate = self.ranking.of_rank(rank);
            let ended = self.options.eos_token_id.contains(&candidate.token) && !in_prefix;
            if ended || at_limit {
                // Those further down are only there to carry on in the place of others.
                if rank < beams {
                    self.end(&candidate, ended);
                }
            } else if self.live.len() < beams {
                self.carry_on(&candidate, 0);
            }
        }
        if self.live.is_empty() || !self.worth_continuing() {
            return Some(self.stop());
        }
        self.find_edits();
        Some(Advance::Continue)
    }

    /// Adds a candidate to the finished hypotheses, if it is one of the best.
    fn end(&mut self, candidate: &Candidate, at_end: bool) {
        let score = self.options.score(candidate.sum, self.length);
        let place = self.finished.partition_point(|better| better.score >= score);
        let beams = self.options.num_beams.max(1);
        if place < beams {
            let continued = self.extend(candidate, 0);
            self.finished.truncate(beams - 1);
            let finished = self.why(at_end);
            self.finished.insert(place, Beam { score, finished, ..continued });
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
}
