//! Learns a shortlist from parallel text.

use rayon::prelude::*;

use super::Shortlist;
use super::model1::{Model1, Row, Sentences};
use crate::{Error, Tokenizer};

/// How to learn a shortlist.
#[derive(Debug, Clone, PartialEq)]
pub struct ShortlistOptions {
    /// Iterations of expectation maximisation.
    pub iterations: usize,
    /// The most tokens in the list of a source token: its most probable translations.
    pub best: usize,
    /// The least probability of a translation in a list.
    pub threshold: f32,
    /// How many of the most frequent target tokens every list has.
    pub frequent: usize,
    /// The most pairs that are kept in memory; later pairs are counted and left out.
    pub pairs: usize,
    /// Pairs with more tokens on a side are counted and left out.
    pub longest: usize,
    /// The threads that learn; 0 for one per processor. The result does not depend on it.
    pub threads: usize,
}

impl Default for ShortlistOptions {
    fn default() -> Self {
        ShortlistOptions {
            iterations: 5,
            best: 50,
            threshold: 1e-3,
            frequent: 100,
            pairs: 1_000_000,
            longest: 200,
            threads: 0,
        }
    }
}

/// The most pairs of tokens whose probability is kept: 512 MiB of them.
const MOST_ENTRIES: usize = 64 << 20;

/// Learns the translations of source tokens from parallel sentences.
pub struct ShortlistLearner<'a> {
    tokenizer: &'a Tokenizer,
    options: ShortlistOptions,
    thread_pool: rayon::ThreadPool,
    source: Sentences,
    target: Sentences,
    skipped: usize,
}

impl<'a> ShortlistLearner<'a> {
    /// A learner without text.
    ///
    /// # Errors
    /// [`Error::Option`] for a number out of its range, or if the system cannot start threads.
    pub fn new(tokenizer: &'a Tokenizer, options: ShortlistOptions) -> Result<Self, Error> {
        let fault = |option, problem: String| Error::Option { option, problem };
        if !(0.0..=1.0).contains(&options.threshold) {
            let problem = format!("{} is no probability: give 0 to 1", options.threshold);
            return Err(fault("threshold", problem));
        }
        if u32::try_from(options.pairs).is_err() {
            return Err(fault("pairs", format!("{} are too many: 2³² at most", options.pairs)));
        }
        let thread_pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
        let thread_pool = thread_pool
            .map_err(|error| fault("threads", format!("none are to be had: {error}")))?;
        let (source, target) = (Sentences::default(), Sentences::default());
        Ok(ShortlistLearner { tokenizer, options, thread_pool, source, target, skipped: 0 })
    }

    /// Adds pairs of sentences. Pairs with a blank side are ignored.
    ///
    /// # Errors
    /// [`Error::Pipeline`] of a text. A text that is too long is counted as skipped.
    pub fn add(&mut self, pairs: &[(String, String)]) -> Result<(), Error> {
        let tokenizer = self.tokenizer;
        let encode = |(source, target): &(String, String)| {
            if source.trim().is_empty() || target.trim().is_empty() {
                return Ok(None);
            }
            let sides = (tokenizer.encode_source(source), tokenizer.encode_target(target));
            match sides {
                (Err(Error::TextTooLong { .. }), _) | (_, Err(Error::TextTooLong { .. })) => {
                    Ok(Some((Vec::new(), Vec::new())))
                }
                (source, target) => Ok(Some((source?, target?))),
            }
        };
        let encoded: Vec<Result<_, Error>> =
            self.thread_pool.install(|| pairs.par_iter().map(encode).collect());
        for pair in encoded {
            let Some((source, target)) = pair? else { continue };
            // The end token of a source has no translations, and every list has the end token
            // anyway.
            let eos = tokenizer.eos_id();
            let is_text = |token: &u32| Some(*token) != eos;
            let tokens = [&source, &target].map(|side| side.iter().copied().filter(is_text));
            let lengths = tokens.clone().map(Iterator::count);
            let fits = lengths.iter().all(|length| (1..=self.options.longest).contains(length));
            if !fits || self.source.len() == self.options.pairs {
                self.skipped += 1;
                continue;
            }
            let [source, target] = tokens;
            self.source.push(source);
            self.target.push(target);
        }
        Ok(())
    }

    /// How many pairs were added.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.source.len()
    }

    /// How many pairs were left out, for their length or because there were enough.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Learns. After each iteration `progress` gets the number of iterations done.
    ///
    /// # Errors
    /// [`Error::NothingToLearn`] without text.
    pub fn learn(self, mut progress: impl FnMut(usize) + Send) -> Result<Shortlist, Error> {
        if self.source.len() == 0 {
            return Err(Error::NothingToLearn { skipped: self.skipped });
        }
        let vocabularies = (self.tokenizer.source_vocab_size(), self.tokenizer.target_vocab_size());
        let ShortlistOptions { iterations, best, threshold, frequent, .. } = self.options;
        let lists = self.thread_pool.install(|| {
            let mut model = Model1::new(&self.source, &self.target, vocabularies, MOST_ENTRIES);
            for iteration in 1..=iterations {
                model.iterate();
                progress(iteration);
            }
            let rows = model.into_rows();
            rows.par_iter().map(|row| chosen(row, best, threshold)).collect()
        });
        let mut counts = vec![0u64; vocabularies.1];
        self.target.tokens().iter().for_each(|&token| counts[token as usize] += 1);
        let mut order: Vec<u32> =
            (0..vocabularies.1 as u32).filter(|&token| counts[token as usize] > 0).collect();
        order.sort_by_key(|&token| std::cmp::Reverse(counts[token as usize]));
        order.truncate(frequent);
        Shortlist::new(self.tokenizer, order, lists)
    }
}

/// The most probable tokens of a row; of equally probable ones the lower ids.
fn chosen(row: &Row, best: usize, threshold: f32) -> Vec<u32> {
    let all = row.targets.iter().zip(&row.probabilities);
    let mut probable: Vec<(u32, f32)> = all
        .map(|(&target, &probability)| (target, probability))
        .filter(|(_, probability)| *probability > 0.0 && *probability >= threshold)
        .collect();
    probable.sort_by(|a, b| b.1.total_cmp(&a.1));
    probable.truncate(best);
    probable.into_iter().map(|(target, _)| target).collect()
}
