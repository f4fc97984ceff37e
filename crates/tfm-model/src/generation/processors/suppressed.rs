//! `begin_suppress_tokens`: tokens that are not generated first. (`suppress_tokens` are banned
//! whatever went before: [`static_bans`](crate::generation::static_bans).)

use super::{Change, Edits, Past, Processor};
use crate::generation::GenerationOptions;

#[derive(Debug)]
struct Beginning {
    tokens: Vec<u32>,
    /// The length, the start token included, after which they are banned.
    length: usize,
}

pub(super) fn at_the_beginning(options: &GenerationOptions) -> Option<Box<dyn Processor>> {
    let tokens = options.begin_suppress_tokens.clone();
    let given = 1 + options.prefix.len();
    let forced = given == 1 && options.forced_bos_token_id.is_some();
    let length = given + usize::from(forced);
    (!tokens.is_empty()).then(|| Box::new(Beginning { tokens, length }) as Box<dyn Processor>)
}

impl Processor for Beginning {
    fn edit(&self, past: &Past, edits: &mut Edits) {
        if past.tokens.len() == self.length {
            self.tokens.iter().for_each(|&token| edits.push(token, Change::Ban));
        }
    }
}
