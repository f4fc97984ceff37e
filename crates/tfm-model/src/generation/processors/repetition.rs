//! `repetition_penalty` and `encoder_repetition_penalty`: tokens that occurred become less probable
//! (or, with a penalty below 1, more), tokens of the source more (or less).

use super::{Change, Edits, Past, Processor};
use crate::generation::GenerationOptions;

#[derive(Debug)]
struct OfPast(f32);

#[derive(Debug)]
struct OfSource {
    tokens: Vec<u32>,
    penalty: f32,
}

pub(super) fn of_past(options: &GenerationOptions) -> Option<Box<dyn Processor>> {
    let penalty = options.repetition_penalty;
    (penalty != 1.0).then(|| Box::new(OfPast(factor(penalty))) as Box<dyn Processor>)
}

pub(super) fn of_source(options: &GenerationOptions, source: &[u32]) -> Option<Box<dyn Processor>> {
    let penalty = options.encoder_repetition_penalty;
    (penalty != 1.0).then(|| {
        let mut tokens = source.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        Box::new(OfSource { tokens, penalty: factor(1.0 / penalty) }) as Box<dyn Processor>
    })
}

/// A penalty that neither multiplies nor divides by zero or infinity.
fn factor(penalty: f64) -> f32 {
    (penalty as f32).clamp(f32::MIN_POSITIVE, f32::MAX)
}

impl Processor for OfPast {
    fn edit(&self, past: &Past, edits: &mut Edits) {
        past.seen.iter().for_each(|&token| edits.push(token, Change::Penalise(self.0)));
    }
}

impl Processor for OfSource {
    fn edit(&self, _: &Past, edits: &mut Edits) {
        self.tokens.iter().for_each(|&token| edits.push(token, Change::Penalise(self.penalty)));
    }
}
