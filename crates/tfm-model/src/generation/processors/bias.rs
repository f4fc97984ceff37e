//! `sequence_bias`: what the last token of a sequence gets more where the others stand before it.

use super::{Change, Edits, Past, Processor};
use crate::generation::GenerationOptions;

#[derive(Debug)]
struct Sequences(Vec<(Vec<u32>, f64)>);

pub(super) fn sequences(options: &GenerationOptions) -> Option<Box<dyn Processor>> {
    let all = options.sequence_bias.clone();
    (!all.is_empty()).then(|| Box::new(Sequences(all)) as Box<dyn Processor>)
}

impl Processor for Sequences {
    fn edit(&self, past: &Past, edits: &mut Edits) {
        for (sequence, bias) in &self.0 {
            if let [before @ .., last] = &sequence[..]
                && past.tokens.ends_with(before)
            {
                edits.push(*last, Change::Add(*bias as f32));
            }
        }
    }
}
