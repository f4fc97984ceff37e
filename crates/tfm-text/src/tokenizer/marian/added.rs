//! Added tokens: texts such as `</s>` that are cut out of a sentence before SentencePiece sees it.

use super::config::Token;
use crate::{
    trie::Trie,
    whitespace::{strip_end, strip_start},
};

/// The added tokens of one side, with their ids.
#[derive(Debug)]
pub(super) struct AddedTokens {
    tokens: Vec<(Token, u32)>,
    /// From text to the index in `tokens`.
    trie: Trie,
}

/// A piece of a sentence that holds added tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Text(&'t str),
    /// An added token, by id.
    Token(u32),
}

impl AddedTokens {
    pub(super) fn new(tokens: Vec<(Token, u32)>) -> Self {
        let keys = tokens.iter().zip(0..).map(|((token, _), i)| (token.content.as_bytes(), i));
        let trie = Trie::new(keys.filter(|(content, _)| !content.is_empty()));
        AddedTokens { tokens, trie }
    }

    /// The id of the added token that reads `text`.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.trie.get(text.as_bytes()).map(|i| self.tokens[i as usize].1)
    }

    /// Cuts `text` at every added token: the leftmost first, and of those the longest.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        let mut parts = Vec::with_capacity(1);
        let mut begin = 0;
        let mut strip_left = false;
        let push_text = |parts: &mut Vec<Part<'t>>, mut part: &'t str, left: bool, right: bool| {
            if left {
                part = strip_start(part);
            }
            if right {
                part = strip_end(part);
            }
            if !part.is_empty() {
                parts.push(Part::Text(part));
            }
        };
        let mut at = 0;
        while at < text.len() {
            let found = self
                .trie
                .starts_with(text.as_bytes()[at])
                .then(|| self.trie.longest_prefix(&text.as_bytes()[at..]))
                .flatten();
            let Some((len, index)) = found else {
                at += 1;
                continue;
            };
            let (token, id) = &self.tokens[index as usize];
            push_text(&mut parts, &text[begin..at], strip_left, token.lstrip);
            parts.push(Part::Token(*id));
            strip_left = token.rstrip;
            at += len;
            begin = at;
        }
        push_text(&mut parts, &text[begin..], strip_left, false);
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(content: &str, lstrip: bool, rstrip: bool) -> Token {
        Token { content: content.into(), lstrip, rstrip, special: true }
    }

    #[test]
    fn cuts_leftmost_longest_and_strips() {
        let added = AddedTokens::new(vec![
            (token("<s>", false, false), 1),
            (token("<s>x", false, false), 2),
            (token("<m>", true, true), 3),
        ]);
        assert_eq!(
            added.split("a <s>x<s> é <m>  b"),
            [
                Part::Text("a "),
                Part::Token(2),
                Part::Token(1),
                Part::Text(" é"),
                Part::Token(3),
                Part::Text("b")
            ]
        );
        assert_eq!(added.split(""), []);
        assert_eq!(added.split("<s"), [Part::Text("<s")]);
        assert_eq!((added.id("<m>"), added.id("<")), (Some(3), None));
    }
}
