//! Sampling: the next token of each sequence is drawn by its probability, among those that the
//! truncations leave.
//!
//! What is drawn depends on the seed, on which sequence of its seed it is, and on the step alone:
//! so the text is the same on any backend, in any company and with any number of threads.

use super::truncation::{Weighted, truncate};
use crate::generation::needs::{Output, Rows};
use crate::generation::ranking::Candidate;
use crate::generation::search::{Advance, Beam, Search};
use tfm_core::philox::philox4x32;

impl Search {
    /// Draws the next token of each live sequence; `None` where nothing may come.
    pub(in crate::generation) fn advance_samples(&mut self, rows: Rows<'_>) -> Option<Advance> {
        let count = self.options.num_return_sequences.max(1);
        let first = self.length == 0;
        let sequences = if first { count } else { self.live.len() };
        let forced = self.forced_tokens().map(<[u32]>::to_vec);
        let whole = self.needs().output == Output::Row;
        let mut drawn = Vec::with_capacity(sequences);
        for place in 0..sequences {
            // All begin with the start token's row.
            let (beam, sequence) = match self.live.get(place) {
                Some(live) if !first => (place, live.sequence),
                _ => (0, place),
            };
            let weighted = match (&forced, rows.row(beam)) {
                (Some(tokens), _) => tokens.iter().map(|&token| Weighted::certain(token)).collect(),
                (None, Some((values, ids))) => {
                    let normalizer = rows.normalizers.get(beam).copied().unwrap_or(0.0);
                    let normalizer = (!whole).then_some(normalizer);
                    let choices = self.choices(beam, values, ids, normalizer);
                    truncate(&self.options, choices)
                }
                (None, None) => Vec::new(),
            };
            let number = self.uniform(sequence);
            if let Some(Weighted { token, log_probability, .. }) = draw(&weighted, number) {
                let sum = self.live[beam].sum + log_probability;
                let beam = beam as u32;
                drawn.push((sequence, Candidate { sum, log_probability, token, beam }));
            }
        }
        self.carry_on_samples(&drawn)
    }

    fn carry_on_samples(&mut self, drawn: &[(usize, Candidate)]) -> Option<Advance> {
        if drawn.is_empty() {
            if self.finished.is_empty() {
                return None;
            }
            // Nothing can be drawn for those that are left: they are cut off.
            let length = self.length;
            let score = |beam: &Beam| self.options.score(beam.sum, length);
            let cut_off: Vec<Beam> =
                self.live.iter().map(|beam| Beam { score: score(beam), ..*beam }).collect();
            self.finished.extend(cut_off);
            return Some(self.stop());
        }
        let in_prefix = self.length < self.options.prefix.len();
        self.begin_step();
        let at_limit = self.length >= self.longest;
        // A sequence of which nothing could be drawn is cut off.
        for (place, beam) in self.previous.iter().enumerate() {
            let goes_on = drawn.iter().any(|(_, candidate)| candidate.beam as usize == place);
            if !goes_on {
                self.finished
                    .push(Beam { score: self.options.score(beam.sum, beam.length), ..*beam });
            }
        }
        for (sequence, candidate) in drawn {
            let ended = self.options.eos_token_id.contains(&candidate.token) && !in_prefix;
            if ended || at_limit {
                let score = self.options.score(candidate.sum, self.length);
                let continued = self.extend(candidate, *sequence);
                let finished = self.why(ended);
                self.finished.push(Beam { score, finished, ..continued });
            } else {
                self.carry_on(candidate, *sequence);
            }
        }
        if self.live.is_empty() {
            return Some(self.stop());
        }
        self.find_edits();
        Some(Advance::Continue)
    }

    /// The uniform number in [0, 1) of this step of a sequence.
    fn uniform(&self, sequence: usize) -> f64 {
        let halves = |number: u64| [number as u32, (number >> 32) as u32];
        let [number, number_high] = halves(self.number);
        let counter = [self.length as u32, sequence as u32, number, number_high];
        let [high, low, ..] = philox4x32(counter, halves(self.options.seed));
        let bits = (u64::from(high) << 21) ^ (u64::from(low) >> 11);
        bits as f64 / (1u64 << 53) as f64
    }
}

/// The token at which the sum of weights passes the share `number` of all, in the order of ids: not
/// in that of weights, which on another backend may be another where two are almost equal.
fn draw(weighted: &[Weighted], number: f64) -> Option<Weighted> {
    let mut sum = 0.0;
    let threshold = number * weighted.iter().map(|choice| choice.weight).sum::<f64>();
    let passes = |choice: &&Weighted| {
        sum += choice.weight;
        sum > threshold
    };
    weighted.iter().find(passes).or(weighted.last()).copied()
}
