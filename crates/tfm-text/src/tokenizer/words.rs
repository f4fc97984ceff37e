//! Which tokens are one word.

use super::side::Side;

/// A word of a text, and its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// The word, without spaces around it. What the tokeniser does not know reads as its unknown
    /// token.
    pub text: String,
    /// Where its tokens stand among those of the sequence, ascending.
    pub tokens: Vec<usize>,
}

/// The words of a sequence: all tokens of texts, each of one word. Tokens that are `outside` of
/// texts, or are none, are of no word, nor are spaces with no word after them.
pub(super) fn words(side: &dyn Side, ids: &[u32], outside: impl Fn(u32) -> bool) -> Vec<Word> {
    let mut words: Vec<(Vec<u32>, Vec<usize>)> = Vec::new();
    for (place, &id) in ids.iter().enumerate() {
        if outside(id) || !side.is_text(id) {
            continue;
        }
        match words.last_mut() {
            Some((word, places)) if !side.begins_word(word, id) => {
                word.push(id);
                places.push(place);
            }
            _ => words.push((vec![id], vec![place])),
        }
    }
    let words = words.into_iter().map(|(ids, tokens)| Word { text: side.word(&ids), tokens });
    words.filter(|word| !word.text.is_empty()).collect()
}

/// What SentencePiece has for a space.
pub(super) const MARK: char = '▁';

/// Whether `piece` begins a word after the piece `last`: the mark stands before words or, in some
/// models, after them.
pub(super) fn is_marked(last: &str, piece: &str) -> bool {
    piece.starts_with(MARK) || last.ends_with(MARK) && last.chars().any(|c| c != MARK)
}

/// The text of a word of SentencePiece's pieces, of which some are the unknown one: `decode` reads
/// the others.
pub(super) fn of_pieces<'p>(
    pieces: impl Iterator<Item = &'p str>,
    unknown: &str,
    decode: impl Fn(&[&str]) -> String,
) -> String {
    let (mut text, mut known) = (String::new(), Vec::new());
    for piece in pieces {
        if piece == unknown {
            text.push_str(&decode(&std::mem::take(&mut known)));
            text.push_str(piece);
        } else {
            known.push(piece);
        }
    }
    text.push_str(&decode(&known));
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Sampling};
    use proptest::prelude::*;
    use std::borrow::Cow;

    /// The ids 0 to 5: an end, the unknown token, and pieces.
    #[derive(Debug)]
    struct Toy;

    const PIECES: [&str; 7] = ["</s>", "<unk>", "▁", "▁the", "s", "a▁b", "c▁"];

    impl Side for Toy {
        fn encode(&self, _: &str, _: Option<(Sampling, u64)>) -> Result<Vec<u32>, Error> {
            Ok(Vec::new())
        }

        fn decode(&self, ids: &[u32]) -> Result<String, Error> {
            Ok(ids.iter().map(|&id| PIECES[id as usize]).collect::<String>().replace(MARK, " "))
        }

        fn token(&self, id: u32) -> Option<Cow<'_, str>> {
            PIECES.get(id as usize).map(|&piece| piece.into())
        }

        fn vocab_size(&self) -> usize {
            PIECES.len()
        }

        fn is_text(&self, id: u32) -> bool {
            id != 0
        }

        fn begins_word(&self, word: &[u32], id: u32) -> bool {
            let last = word.last().map_or("", |&last| PIECES[last as usize]);
            is_marked(last, PIECES[id as usize])
        }

        fn word(&self, ids: &[u32]) -> String {
            let pieces = ids.iter().map(|&id| PIECES[id as usize]);
            of_pieces(pieces, PIECES[1], |known| known.concat().replace(MARK, " "))
        }
    }

    fn found(ids: &[u32]) -> Vec<(String, Vec<usize>)> {
        let words = words(&Toy, ids, |_| false).into_iter();
        words.map(|word| (word.text, word.tokens)).collect()
    }

    #[test]
    fn words_begin_at_marks() {
        let word = |text: &str, tokens: &[usize]| (text.to_owned(), tokens.to_vec());
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[0]), [], "an end is no word");
        assert_eq!(found(&[4, 4, 0]), [word("ss", &[0, 1])], "the first word needs no mark");
        let the_s = [word("thes", &[0, 1]), word("s<unk>", &[2, 3, 4])];
        assert_eq!(found(&[3, 4, 2, 4, 1, 0]), the_s, "a mark alone begins the word after it");
        assert_eq!(found(&[1, 3, 1]), [word("<unk>", &[0]), word("the<unk>", &[1, 2])]);
        assert_eq!(found(&[6, 4, 6, 6]), [word("c", &[0]), word("sc", &[1, 2]), word("c", &[3])]);
        assert_eq!(found(&[3, 2]), [word("the", &[0])], "a space at the end is no word");
        assert_eq!(words(&Toy, &[3, 4], |id| id == 3)[0].tokens, [1], "3 is outside");
    }

    proptest! {
        #[test]
        fn every_token_of_the_text_is_of_one_word(
            ids in prop::collection::vec(0..PIECES.len() as u32, 0..40),
        ) {
            let found = words(&Toy, &ids, |_| false);
            let places: Vec<usize> = found.iter().flat_map(|word| word.tokens.clone()).collect();
            prop_assert!(places.is_sorted_by(|a, b| a < b), "in order, each once");
            let is_word = |&place: &usize| ids[place] != 0 && PIECES[ids[place] as usize] != "▁";
            let expected: Vec<usize> = (0..ids.len()).filter(is_word).collect();
            prop_assert!(expected.iter().all(|place| places.contains(place)));
            prop_assert!(found.iter().all(|word| !word.text.is_empty()));
            let text: String = found.iter().map(|word| word.text.replace(' ', "")).collect();
            let shown: Vec<u32> = ids.iter().copied().filter(|&id| id != 0).collect();
            prop_assert_eq!(text, Toy.decode(&shown).unwrap().replace(' ', ""));
        }
    }
}
