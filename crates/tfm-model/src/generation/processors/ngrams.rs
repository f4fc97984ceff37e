//! `no_repeat_ngram_size` and `encoder_no_repeat_ngram_size`: no n-gram comes twice, or comes that
//! the source has.

use super::{Change, Edits, Past, Processor};
use crate::generation::GenerationOptions;

#[derive(Debug)]
struct OfPast(usize);

#[derive(Debug)]
struct OfSource {
    size: usize,
    source: Vec<u32>,
}

pub(super) fn of_past(options: &GenerationOptions) -> Option<Box<dyn Processor>> {
    let size = options.no_repeat_ngram_size;
    (size > 0).then(|| Box::new(OfPast(size)) as Box<dyn Processor>)
}

pub(super) fn of_source(options: &GenerationOptions, source: &[u32]) -> Option<Box<dyn Processor>> {
    let size = options.encoder_no_repeat_ngram_size;
    (size > 0).then(|| Box::new(OfSource { size, source: source.to_vec() }) as Box<dyn Processor>)
}

impl Processor for OfPast {
    fn edit(&self, past: &Past, edits: &mut Edits) {
        if past.tokens.len() >= self.0 {
            ban_repetitions(self.0, &past.tokens, &past.tokens, edits);
        }
    }
}

impl Processor for OfSource {
    fn edit(&self, past: &Past, edits: &mut Edits) {
        ban_repetitions(self.size, &self.source, &past.tokens, edits);
    }
}

/// Bans what would complete an n-gram of `text` after `tokens`.
fn ban_repetitions(size: usize, text: &[u32], tokens: &[u32], edits: &mut Edits) {
    let Some(start) = (tokens.len() + 1).checked_sub(size) else { return };
    let suffix = &tokens[start..];
    for ngram in text.windows(size).filter(|ngram| ngram[..size - 1] == *suffix) {
        edits.push(ngram[size - 1], Change::Ban);
    }
}
