//! Which requests a worker takes on, and when.

use super::queue::{Accepted, Next};
use super::running::Running;
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::generation::{GenerationOptions, Search, SearchInput, static_bans};
use std::time::Instant;

/// How much a worker takes on at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Hypotheses decoded together; a request counts as many as it has beams or, where it samples,
    /// sequences. The more, the less often weights are read.
    pub hypotheses: usize,
    /// Requests decoded together. They take memory for keys and values, hypotheses of one request
    /// little more.
    pub sentences: usize,
    /// Source tokens encoded together.
    pub source_tokens: usize,
    /// Bytes of keys and values up to which another request is taken on. A request counts with its
    /// source and, for each hypothesis, with as many tokens as it has or, while that is more, as
    /// its source is long twice over; one alone is always taken on.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { hypotheses: 128, sentences: 64, source_tokens: 1024, memory: 512 << 20 }
    }
}

impl Limits {
    /// The room of a worker in units of its own, of which [`Limits::cost`] counts requests.
    fn room(&self) -> usize {
        self.hypotheses.max(1).saturating_mul(self.sentences.max(1))
    }

    /// The part of the room that a request takes: of the hypotheses or of the requests that may be
    /// decoded together, whichever is the larger share.
    fn cost(&self, options: &GenerationOptions) -> usize {
        let hypotheses = hypotheses(options).saturating_mul(self.sentences.max(1));
        hypotheses.max(self.hypotheses.max(1))
    }
}

/// Steps for which a request that there is room for waits for others.
const PATIENCE: usize = 4;

/// Target tokens that a request is expected to have, for each token of its source.
const EXPECTED: usize = 2;

/// Whether these requests are worth a run of the encoder now, or have waited for others long
/// enough.
fn are_enough(waiting: usize, running: usize, steps_waited: usize) -> bool {
    waiting >= running.div_ceil(4) || steps_waited > PATIENCE
}

/// The most hypotheses of a request that are decoded at a time.
fn hypotheses(options: &GenerationOptions) -> usize {
    let sequences = if options.do_sample { options.num_return_sequences } else { 1 };
    options.num_beams.max(sequences).max(1)
}

/// Rows of keys and values of a request that has found `found` tokens.
fn rows(options: &GenerationOptions, positions: usize, source: usize, found: usize) -> usize {
    let expected = EXPECTED.saturating_mul(source).min(options.longest(positions));
    source.saturating_add(hypotheses(options).saturating_mul(found.max(expected)))
}

/// What a worker's requests take up.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    /// In the units of [`Limits::room`].
    room: usize,
    /// Rows of keys and values.
    rows: usize,
}

impl Load {
    fn add(self, limits: &Limits, options: &GenerationOptions, rows: usize) -> Self {
        Load {
            room: self.room.saturating_add(limits.cost(options)),
            rows: self.rows.saturating_add(rows),
        }
    }
}

impl Worker {
    fn load(&self) -> Load {
        self.running.iter().fold(Load::default(), |load, running| {
            let options = &running.options;
            let positions = self.config.target.longest_sequence();
            let rows = rows(options, positions, running.cross.1, running.position);
            load.add(&self.limits, options, rows)
        })
    }

    /// Bytes of a token's keys and values in all layers.
    pub(super) fn row_bytes(&self) -> usize {
        let (config, size) = (&self.config, self.numerics.key_dtype.size());
        (2 * config.decoder.layers * config.decoder.attention.kv_width() * size).max(1)
    }

    /// Whether it is time to admit requests: at once where none is being decoded; otherwise when a
    /// quarter of the room is free and a quarter as many requests wait as are being decoded, so
    /// that the encoder gets a large batch. No request waits for others longer than [`PATIENCE`].
    pub(super) fn is_time_to_admit(&mut self) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let waiting = self.queue.waiting();
        if waiting == 0 || !self.has_room() {
            return false;
        }
        self.waited += 1;
        are_enough(waiting, self.running.len(), self.waited)
    }

    /// Whether a quarter of the room is free.
    fn has_room(&self) -> bool {
        let (load, room) = (self.load(), self.limits.room());
        let most_rows = self.limits.memory / self.row_bytes();
        let has_memory = !self.held_back || load.rows <= most_rows - most_rows / 4;
        load.room <= room - room.div_ceil(4) && has_memory
    }

    /// Takes on the requests that there is room for, and encodes them. Whether the queue may have
    /// more at some time.
    pub(super) fn admit(&mut self) -> bool {
        let most = Load { room: self.limits.room(), rows: self.limits.memory / self.row_bytes() };
        let first = self.running.len();
        let (mut load, mut tokens) = (self.load(), 0);
        self.held_back = false;
        let mut more = true;
        // Where few requests are on their way, all workers have some. A request that has waited
        // long enough for a worker that has fewer does not wait for it any longer.
        let share = if self.waited > PATIENCE { usize::MAX } else { self.queue.share() };
        if self.running.is_empty() || self.running.len() < share {
            self.waited = 0;
        }
        while tokens < self.limits.source_tokens.max(1)
            && (self.running.is_empty() || self.running.len() < share)
        {
            let alone = self.running.is_empty();
            let (limits, positions) = (self.limits, self.config.target.longest_sequence());
            let after = |load: Load, request: &Accepted| {
                let rows = rows(&request.options, positions, request.source.len(), 0);
                load.add(&limits, &request.options, rows)
            };
            let next = self.queue.take(alone, |request| {
                let after = after(load, request);
                alone || after.room <= most.room && after.rows <= most.rows
            });
            let request = match next {
                Next::Request(request) => request,
                Next::NoRoom => {
                    self.held_back = true;
                    break;
                }
                Next::NothingYet => break,
                Next::End => {
                    more = false;
                    break;
                }
            };
            let after = after(load, &request);
            if let Some(running) = self.open(request) {
                (load, tokens) = (after, tokens + running.source.len());
                self.running.push(running);
            }
        }
        self.encode_from(first);
        more
    }

    /// Opens the search of a request and gives it memory for its source. A request that is not
    /// wanted any more, or that is at fault, ends here.
    fn open(&mut self, mut request: Accepted) -> Option<Running> {
        if let Err(error) = request.check_wanted(Instant::now()) {
            request.caller.end(Err(error));
            return None;
        }
        match self.prepare(&request) {
            Ok((search, bans, cross)) => {
                let list = self.shortlists.as_mut();
                let list = list.map(|lists| lists.admit(&request.source, &request.options));
                Some(Running::new(request, search, bans, cross, list.unwrap_or_default()))
            }
            Err(error) => {
                request.caller.end(Err(error));
                None
            }
        }
    }

    fn prepare(&mut self, request: &Accepted) -> Result<(Search, usize, (usize, usize))> {
        let (source, target) = (&self.config.source, &self.config.target);
        let positions = target.longest_sequence();
        request.options.validate(target.vocabulary, positions)?;
        let (length, limit) = (request.source.len(), source.longest_sequence());
        if length > limit {
            return Err(Error::SequenceTooLong { length, limit });
        }
        let vocabulary = source.vocabulary;
        if let Some(&token) = request.source.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(Error::TokenOutOfVocabulary { token, vocabulary });
        }
        let input = SearchInput { source: &request.source, number: request.number, positions };
        let search = Search::new(&request.options, input);
        let bans = self.bans.take(&mut self.session, static_bans(&request.options))?;
        match self.cache.take_range(&mut self.session, length) {
            Ok(start) => Ok((search, bans, (start, length))),
            Err(error) => {
                self.bans.give_back(bans);
                Err(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PATIENCE, are_enough};

    #[test]
    fn few_requests_wait_for_others_but_not_for_long() {
        assert!(are_enough(2, 8, 1), "a quarter as many as are being decoded");
        assert!(are_enough(1, 3, 1));
        for steps in 1..=PATIENCE {
            assert!(!are_enough(1, 8, steps));
        }
        assert!(are_enough(1, 8, PATIENCE + 1));
    }
}
