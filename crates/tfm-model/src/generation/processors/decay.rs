//! `exponential_decay_length_penalty`: from some length on the end of sequence becomes ever more
//! probable (or, with a factor below 1, less).

use super::{Change, Edits, Past, Processor};
use crate::generation::GenerationOptions;

#[derive(Debug)]
struct End {
    eos: Vec<u32>,
    /// The length, the start token included, after which it begins.
    start: usize,
    factor: f64,
}

pub(super) fn of_end(options: &GenerationOptions) -> Option<Box<dyn Processor>> {
    let (start, factor) = options.exponential_decay_length_penalty?;
    let start = start.saturating_add(1 + options.prefix.len());
    Some(Box::new(End { eos: options.eos_token_id.clone(), start, factor }))
}

impl Processor for End {
    fn edit(&self, past: &Past, edits: &mut Edits) {
        let Some(beyond @ 1..) = past.tokens.len().checked_sub(self.start) else { return };
        let stretch = self.factor.powf(beyond as f64) - 1.0;
        for &eos in &self.eos {
            edits.push(eos, Change::Stretch(stretch.min(f64::from(f32::MAX)) as f32));
        }
    }
}
