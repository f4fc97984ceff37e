//! `bad_words_ids`: sequences of tokens that are not generated. Those of one token are banned
//! whatever went before ([`static_bans`](crate::generation::static_bans)) and not found here.

use super::{Change, Edits, Past, Processor};
use crate::generation::GenerationOptions;

#[derive(Debug)]
struct Sequences(Vec<Vec<u32>>);

pub(super) fn sequences(options: &GenerationOptions) -> Option<Box<dyn Processor>> {
    let long = options.bad_words_ids.iter().filter(|sequence| sequence.len() > 1);
    let long: Vec<_> = long.cloned().collect();
    (!long.is_empty()).then(|| Box::new(Sequences(long)) as Box<dyn Processor>)
}

impl Processor for Sequences {
    fn edit(&self, past: &Past, edits: &mut Edits) {
        for sequence in &self.0 {
            if let [before @ .., last] = &sequence[..]
                && past.tokens.ends_with(before)
            {
                edits.push(*last, Change::Ban);
            }
        }
    }
}
