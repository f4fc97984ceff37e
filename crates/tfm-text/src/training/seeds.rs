//! The pieces that Unigram starts from: substrings of words that occur again and again.
//!
//! All suffixes of all words are sorted by their first characters. Substrings that occur at least
//! twice are prefixes that neighbours in this order share; of those, the ones that cannot be made
//! longer without losing an occurrence are the inner nodes of the suffix tree, found in one pass
//! with a stack (T. Kasai et al., "Linear-Time Longest-Common-Prefix Computation", 2001, section
//! 5). Memory is four bytes a suffix and four a character.

use std::cmp::{Ordering, Reverse};

use super::{corpus::Corpus, shape::LONGEST, shape::Shape};

/// Stands between words.
const END: char = '\0';

/// Pieces with their weights: how often they occur in different words, times their length. First
/// all characters of the alphabet, then at most `most` others with the highest weights.
pub(super) fn seeds(corpus: &Corpus, most: usize) -> Vec<(String, f64)> {
    let mut text = Vec::new();
    for (word, _) in &corpus.words {
        text.extend(word.chars());
        text.push(END);
    }
    let mut found = repeated(&text);
    found.sort_unstable_by(|a, b| {
        let weight = |f: &Found| Reverse(f.times * f.length as u64);
        weight(a).cmp(&weight(b)).then_with(|| a.chars(&text).cmp(b.chars(&text)))
    });
    found.truncate(most);
    let characters = corpus.alphabet.iter().map(|&(c, count)| (c.to_string(), count as f64));
    let others = found.iter().map(|found| {
        (found.chars(&text).iter().collect(), (found.times * found.length as u64) as f64)
    });
    characters.chain(others).collect()
}

/// A substring that occurs several times.
struct Found {
    /// Where it stands once.
    at: u32,
    length: usize,
    times: u64,
}

impl Found {
    fn chars<'t>(&self, text: &'t [char]) -> &'t [char] {
        &text[self.at as usize..self.at as usize + self.length]
    }
}

/// The inner nodes of the suffix tree of `text`, down to the longest piece, that may be pieces.
fn repeated(text: &[char]) -> Vec<Found> {
    let mut suffixes: Vec<u32> =
        (0..text.len() as u32).filter(|&at| text[at as usize] != END).collect();
    suffixes.sort_unstable_by(|&a, &b| compare(text, a, b));

    let mut found = Vec::new();
    let mut open: Vec<Found> = Vec::new();
    for (i, &at) in suffixes.iter().enumerate() {
        let length = suffixes.get(i + 1).map_or(0, |&next| shared(text, at, next));
        // Occurrences go from the suffix to the nodes that end here, and on to those that stay.
        let mut times = 1;
        while let Some(node) = open.pop_if(|node| node.length > length) {
            times += node.times;
            let node = Found { times, ..node };
            if node.length > 1 && may_be_piece(node.chars(text)) {
                found.push(node);
            }
        }
        match open.last_mut() {
            Some(node) if node.length == length => node.times += times,
            _ if length > 0 => open.push(Found { at, length, times }),
            _ => {}
        }
    }
    found
}

/// The order of two suffixes by as many characters as a piece has.
fn compare(text: &[char], a: u32, b: u32) -> Ordering {
    let (a, b) = (&text[a as usize..], &text[b as usize..]);
    for (x, y) in a.iter().zip(b).take(LONGEST) {
        match x.cmp(y) {
            Ordering::Equal if *x == END => break,
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

/// How many characters of one word and then the other are the same.
fn shared(text: &[char], a: u32, b: u32) -> usize {
    let (a, b) = (&text[a as usize..], &text[b as usize..]);
    a.iter().zip(b).take(LONGEST).take_while(|(x, y)| x == y && **x != END).count()
}

fn may_be_piece(characters: &[char]) -> bool {
    let mut shapes = characters.iter().map(|&c| Shape::of(c));
    shapes.next().is_some_and(|first| shapes.try_fold(first, Shape::join).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What the definition says: substrings that occur at least twice, and are followed by
    /// different characters.
    fn by_definition(words: &[&str]) -> BTreeMap<String, u64> {
        let mut after: BTreeMap<String, Vec<Option<char>>> = BTreeMap::new();
        for word in words {
            let chars: Vec<char> = word.chars().collect();
            for begin in 0..chars.len() {
                for end in begin + 2..=chars.len() {
                    let text = chars[begin..end].iter().collect();
                    after.entry(text).or_default().push(chars.get(end).copied());
                }
            }
        }
        after.retain(|_, next| next.len() > 1 && next.iter().any(|n| *n != next[0] || n.is_none()));
        after.into_iter().map(|(text, next)| (text, next.len() as u64)).collect()
    }

    #[test]
    fn repeated_substrings_are_found_and_counted() {
        let words = ["banana", "bananas", "nab", "x", "ana", "ananas", "xx", "xxx"];
        let mut text = Vec::new();
        for word in words {
            text.extend(word.chars());
            text.push(END);
        }
        let found = repeated(&text);
        let found: BTreeMap<String, u64> =
            found.iter().map(|f| (f.chars(&text).iter().collect(), f.times)).collect();
        assert_eq!(found, by_definition(&words));
        assert_eq!(found["ana"], 7);
    }
}
