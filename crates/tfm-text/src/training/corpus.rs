//! Text as training sees it: the different words, how often each occurs, and the alphabet.

use std::collections::{BTreeMap, HashMap};

use crate::{
    Error,
    sentencepiece::{normalizer::Normalizer, proto::NormalizerSpec},
    trie::Trie,
};

/// The most bytes of different words.
const MOST_BYTES: usize = 1 << 30;

/// What stands for a space, and begins a word.
const SPACE: char = '▁';

/// Words being counted.
#[derive(Debug)]
pub(super) struct Words {
    normalizer: Normalizer,
    has_symbols: bool,
    longest_sentence: usize,
    counts: HashMap<Box<str>, u64>,
    bytes: usize,
    sentences: usize,
    skipped: usize,
}

/// Counted words. Pieces lie inside a word: a word is what is between spaces (the space before it
/// included), symbols and characters that are not in the alphabet.
#[derive(Debug)]
pub(super) struct Corpus {
    /// Sorted, so that nothing depends on the order of a hash table.
    pub(super) words: Vec<(String, u64)>,
    /// The characters that the vocabulary must hold, the most frequent first.
    pub(super) alphabet: Vec<(char, u64)>,
}

impl Words {
    pub(super) fn new(symbols: &[String], longest_sentence: usize) -> Self {
        let trie = Trie::new(symbols.iter().zip(0..).map(|(symbol, i)| (symbol.as_bytes(), i)));
        let has_symbols = !symbols.is_empty();
        let normalizer =
            Normalizer::new(&NormalizerSpec::default(), false, has_symbols.then_some(trie))
                .expect("a normaliser without rules has none that are broken");
        Words {
            normalizer,
            has_symbols,
            longest_sentence,
            counts: HashMap::new(),
            bytes: 0,
            sentences: 0,
            skipped: 0,
        }
    }

    pub(super) const fn sentences(&self) -> usize {
        self.sentences
    }

    pub(super) const fn skipped(&self) -> usize {
        self.skipped
    }

    pub(super) fn add(&mut self, sentence: &str) -> Result<(), Error> {
        if sentence.len() > self.longest_sentence {
            self.skipped += 1;
            return Ok(());
        }
        self.sentences += 1;
        let normalized = self.normalizer.normalize(sentence.as_bytes());
        let normalized = String::from_utf8_lossy(&normalized);
        if !self.has_symbols {
            return self.add_stretch(&normalized);
        }
        let mut begin = 0;
        let mut at = 0;
        while at < normalized.len() {
            let (len, is_symbol) = self.normalizer.symbol_or_char(&normalized.as_bytes()[at..]);
            if is_symbol {
                self.add_stretch(&normalized[begin..at])?;
                begin = at + len;
            }
            at += len;
        }
        self.add_stretch(&normalized[begin..])
    }

    /// Counts the words of a stretch without symbols. Each space begins one.
    fn add_stretch(&mut self, stretch: &str) -> Result<(), Error> {
        let mut rest = stretch;
        while let Some(first) = rest.chars().next() {
            let end =
                rest[first.len_utf8()..].find(SPACE).map_or(rest.len(), |at| at + first.len_utf8());
            let (word, after) = rest.split_at(end);
            rest = after;
            if let Some(count) = self.counts.get_mut(word) {
                *count += 1;
                continue;
            }
            self.bytes += word.len();
            if self.bytes > MOST_BYTES {
                return Err(Error::TooManyWords { limit: MOST_BYTES });
            }
            self.counts.insert(word.into(), 1);
        }
        Ok(())
    }

    /// Settles the alphabet, and cuts words at the characters that are not in it.
    pub(super) fn finish(self, coverage: f64) -> Result<Corpus, Error> {
        let mut characters = BTreeMap::new();
        for (word, count) in &self.counts {
            for character in word.chars() {
                *characters.entry(character).or_insert(0) += count;
            }
        }
        // No format of the pieces can hold a NUL.
        characters.remove(&'\0');
        let total: u64 = characters.values().sum();
        if total == 0 {
            return Err(Error::NothingToLearn { skipped: self.skipped });
        }
        let mut alphabet: Vec<(char, u64)> = characters.into_iter().collect();
        alphabet.sort_by_key(|&(character, count)| (std::cmp::Reverse(count), character));
        let mut covered = 0;
        let needed = alphabet.iter().take_while(|(_, count)| {
            let enough = covered as f64 / total as f64 >= coverage;
            covered += count;
            !enough
        });
        let needed = needed.count();
        alphabet.truncate(needed);

        let mut known: Vec<char> = alphabet.iter().map(|&(character, _)| character).collect();
        known.sort_unstable();
        let mut words = BTreeMap::new();
        for (word, count) in self.counts {
            let mut parts = word.split(|c| known.binary_search(&c).is_err());
            for part in parts.by_ref().filter(|part| !part.is_empty()) {
                *words.entry(part.to_owned()).or_insert(0) += count;
            }
        }
        Ok(Corpus { words: words.into_iter().collect(), alphabet })
    }
}
