//! The pieces that Unigram starts from: substrings of words that occur again and again.
//!
//! All suffixes of all words are sorted by their first characters. Substrings that occur at least
//! different words are prefixes that neighbours in this order share; of those, the ones that cannot
//! be made longer without losing an occurrence are the inner nodes of the suffix tree, found in one
//! pass with a stack (T. Kasai et al., "Linear-Time Longest-Common-Prefix Computation", 2001,
//! section 5). Whole words that occur again are seeds too. Memory is proportional to the characters
//! of the different words.
//!
//! The `sentencepiece` package counts each different word once here, and has no whole words that
//! are part of no other. Counting all occurrences starts the estimation nearer to its end, so fewer
//! frequent words are pruned early; the parent module says what came of it.

use std::cmp::{Ordering, Reverse};

use super::{corpus::Corpus, shape::LONGEST, shape::Shape};

/// Stands between words.
const END: char = '\0';

/// Pieces with their weights: how often they occur, times their length. First
/// all characters of the alphabet, then at most `most` others with the highest weights.
pub(super) fn seeds(corpus: &Corpus, most: usize) -> Vec<(String, f64)> {
    let mut text = Vec::new();
    let mut counts = Vec::new();
    for (word, count) in &corpus.words {
        text.extend(word.chars());
        text.push(END);
        counts.resize(text.len(), *count);
    }
    let mut found = repeated(&text, &counts);
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

/// The inner nodes of the suffix tree of `text`, down to the longest piece, and the whole words,
/// where they may be pieces. `counts` says for each character how often its word occurs.
fn repeated(text: &[char], counts: &[u64]) -> Vec<Found> {
    let mut suffixes: Vec<u32> =
        (0..text.len() as u32).filter(|&at| text[at as usize] != END).collect();
    suffixes.sort_unstable_by(|&a, &b| compare(text, a, b));

    let mut found = Vec::new();
    let mut open: Vec<Found> = Vec::new();
    let mut length = 0;
    for (i, &at) in suffixes.iter().enumerate() {
        let before = length;
        length = suffixes.get(i + 1).map_or(0, |&next| shared(text, at, next));
        // Occurrences go from the suffix to the nodes that end here, and on to those that stay.
        let mut times = counts[at as usize];
        if times > 1
            && let Some(word) = whole_word(text, at)
            && word.len() > length.max(before)
            && may_be_piece(word)
        {
            found.push(Found { at, length: word.len(), times });
        }
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

/// The word that begins here, if one does and is no longer than a piece.
fn whole_word(text: &[char], at: u32) -> Option<&[char]> {
    let begin = at as usize;
    if begin > 0 && text[begin - 1] != END {
        return None;
    }
    let length = text[begin..].iter().take(LONGEST + 1).position(|&c| c == END)?;
    (length > 1).then(|| &text[begin..begin + length])
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

    /// What the definition says: whole words that occur again, and substrings that occur in at
    /// least two places and are not always followed by the same character.
    fn by_definition(words: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let mut after: BTreeMap<String, Vec<(Option<char>, u64)>> = BTreeMap::new();
        for (word, count) in words {
            let chars: Vec<char> = word.chars().collect();
            for begin in 0..chars.len() {
                for end in begin + 2..=chars.len() {
                    let text = chars[begin..end].iter().collect();
                    after.entry(text).or_default().push((chars.get(end).copied(), *count));
                }
            }
        }
        let again = |text: &str| words.iter().any(|(word, count)| *word == text && *count > 1);
        after.retain(|text, next| {
            let differs = next.iter().any(|(c, _)| *c != next[0].0 || c.is_none());
            next.len() > 1 && differs || again(text)
        });
        after.into_iter().map(|(text, n)| (text, n.iter().map(|(_, count)| count).sum())).collect()
    }

    #[test]
    fn repeated_substrings_are_found_and_counted() {
        let words = ["banana", "bananas", "nab", "x", "ana", "ananas", "xx", "xxx", "qrs", "tuv"];
        let words: Vec<(&str, u64)> =
            words.into_iter().zip([3, 1, 4, 1, 5, 9, 2, 6, 5, 1]).collect();
        let (mut text, mut counts) = (Vec::new(), Vec::new());
        for (word, count) in &words {
            text.extend(word.chars());
            text.push(END);
            counts.resize(text.len(), *count);
        }
        let found = repeated(&text, &counts);
        let found: BTreeMap<String, u64> =
            found.iter().map(|f| (f.chars(&text).iter().collect(), f.times)).collect();
        assert_eq!(found, by_definition(&words));
        assert_eq!(found["ana"], 2 * (3 + 1 + 9) + 5);
        assert!(found.contains_key("qrs") && !found.contains_key("tuv"));
    }
}
