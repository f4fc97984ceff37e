//! Random segmentations of a text, which make a model robust against any one of them.
//!
//! Unigram: a cut is drawn with its probability to the power α, renormalised (T. Kudo, "Subword
//! Regularization", 2018, section 3.3), over all cuts, by sums from the end of the text and draws
//! from its beginning. BPE: at each step every merge is left out with some probability (I.
//! Provilkov et al., "BPE-Dropout", 2020, algorithm 1), word by word.

use super::{Segment, bpe, normalizer::Normalizer, unigram::Unigram, vocabulary::Vocabulary};
use crate::Error;

/// How far segmentations may differ from the best one. Each algorithm reads its own number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// For Unigram: the power of the cuts' probabilities, at least 0. At 0 all cuts are equally
    /// probable; at infinity, the best one alone is taken. Kudo finds 0.1 to 0.5 useful.
    pub alpha: f64,
    /// For BPE: the probability of leaving a merge out, from 0 to 1. At 0 there is one cut; at 1,
    /// text is cut into characters. Provilkov et al. use 0.1.
    pub dropout: f64,
}

impl Sampling {
    /// No sampling: every text has its plain encoding.
    pub const OFF: Sampling = Sampling { alpha: f64::INFINITY, dropout: 0.0 };

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Option`] with the range that is right.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |option, problem| Err(Error::Option { option, problem });
        if self.alpha.is_nan() || self.alpha < 0.0 {
            return wrong("alpha", format!("{} is not 0 or more", self.alpha));
        }
        if !(0.0..=1.0).contains(&self.dropout) {
            return wrong("dropout", format!("{} is not between 0 and 1", self.dropout));
        }
        Ok(())
    }
}

/// Uniform numbers from a seed: SplitMix64 (G. Steele et al., "Fast Splittable Pseudorandom Number
/// Generators", 2014).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number, in [0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Which cut of a text is taken.
#[derive(Debug)]
pub(crate) enum Cut<'r> {
    /// The best one.
    Best,
    /// A random one. The sampling has been checked.
    Random(Sampling, &'r mut Random),
}

/// A random Unigram cut of normalised text. User-defined symbols stay whole.
pub(super) fn unigram(
    unigram: &Unigram,
    vocabulary: &Vocabulary,
    normalizer: &Normalizer,
    text: &[u8],
    alpha: f64,
    random: &mut Random,
) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(text.len() / 3 + 1);
    for (begin, end, is_symbol) in stretches(normalizer, text) {
        let id = vocabulary.normal().get(&text[begin..end]).filter(|_| is_symbol);
        match id {
            Some(id) => segments.push(Segment { id, begin: begin as u32, end: end as u32 }),
            None => {
                let drawn =
                    unigram.sample(vocabulary, &text[begin..end], alpha, || random.uniform());
                segments.extend(drawn.into_iter().map(|segment| segment.moved(begin)));
            }
        }
    }
    segments
}

/// A random BPE cut of normalised text. Merges do not cross the beginnings of words.
pub(super) fn bpe(
    vocabulary: &Vocabulary,
    normalizer: &Normalizer,
    text: &[u8],
    dropout: f64,
    random: &mut Random,
) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(text.len() / 2 + 1);
    for (begin, end) in normalizer.words(text) {
        let word = &text[begin..end];
        let cut = bpe::segment_with(vocabulary, normalizer, word, || random.uniform() < dropout);
        segments.extend(cut.into_iter().map(|segment| segment.moved(begin)));
    }
    segments
}

/// The user-defined symbols of a text and what is between them: begin, end, whether it is a symbol.
fn stretches(normalizer: &Normalizer, text: &[u8]) -> Vec<(usize, usize, bool)> {
    if !normalizer.has_symbols() {
        return vec![(0, text.len(), false)];
    }
    let mut stretches = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while at < text.len() {
        let (len, is_symbol) = normalizer.symbol_or_char(&text[at..]);
        if is_symbol {
            stretches.extend((begin < at).then_some((begin, at, false)));
            stretches.push((at, at + len, true));
            begin = at + len;
        }
        at += len;
    }
    stretches.extend((begin < at).then_some((begin, at, false)));
    stretches
}
