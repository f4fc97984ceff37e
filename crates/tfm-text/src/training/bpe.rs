//! Byte-pair encoding over characters: the most frequent pair of neighbours becomes a piece, again
//! and again (Sennrich et al. 2016, section 3.2).
//!
//! Counts are kept up to date merge by merge, and the words of each pair are remembered, so a merge
//! costs what it changes. Of equally frequent pairs the shorter is merged first, then the one whose
//! parts are older.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::{Scored, TooFew, corpus::Corpus, shape::Shape};

type Pair = (u32, u32);

/// A pair waiting to be merged. The count may be out of date: then the pair is put back.
type Candidate = (u64, Reverse<u8>, Reverse<Pair>);

/// A piece, or a character.
struct Symbol {
    text: String,
    shape: Shape,
}

#[derive(Default)]
struct Occurrences {
    count: u64,
    /// Words that hold or once held the pair.
    words: Vec<u32>,
}

struct Merger {
    symbols: Vec<Symbol>,
    ids: HashMap<String, u32>,
    /// Words as symbols, with their counts.
    words: Vec<(Vec<u32>, u64)>,
    pairs: HashMap<Pair, Occurrences>,
    agenda: BinaryHeap<Candidate>,
    /// Pairs that became more frequent since they were last put on the agenda.
    raised: Vec<Pair>,
}

/// Learns `wanted` pieces: the merges in their order, then the characters.
pub(super) fn train(
    corpus: &Corpus,
    wanted: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Scored>, TooFew> {
    let characters = corpus.alphabet.len();
    let mut merger = Merger::new(corpus);
    while merger.symbols.len() < wanted {
        if !merger.merge_next() {
            return Err(TooFew(merger.symbols.len()));
        }
        if merger.symbols.len().is_multiple_of(1000) {
            progress(merger.symbols.len());
        }
    }
    let merged = merger.symbols.split_off(characters).into_iter().map(|symbol| symbol.text);
    let characters = corpus.alphabet.iter().map(|(character, _)| character.to_string());
    let ranked = merged.chain(characters).zip(0u32..);
    Ok(ranked.map(|(text, rank)| (text, -(rank as f32))).collect())
}

impl Merger {
    fn new(corpus: &Corpus) -> Self {
        // Old and young is said by the ids of symbols: those of characters are in their order.
        let mut characters: Vec<char> = corpus.alphabet.iter().map(|(c, _)| *c).collect();
        characters.sort_unstable();
        let symbols: Vec<Symbol> =
            characters.iter().map(|&c| Symbol { text: c.into(), shape: Shape::of(c) }).collect();
        let id = |c| characters.binary_search(&c).expect("words are made of the alphabet") as u32;
        let words =
            corpus.words.iter().map(|(word, count)| (word.chars().map(id).collect(), *count));
        let mut merger = Merger {
            ids: symbols.iter().zip(0..).map(|(symbol, id)| (symbol.text.clone(), id)).collect(),
            symbols,
            words: words.collect(),
            pairs: HashMap::new(),
            agenda: BinaryHeap::new(),
            raised: Vec::new(),
        };
        for index in 0..merger.words.len() {
            let (word, count) = std::mem::take(&mut merger.words[index]);
            for pair in word.windows(2) {
                merger.add((pair[0], pair[1]), count, index as u32);
            }
            merger.words[index] = (word, count);
        }
        merger.put_raised_on_agenda();
        merger
    }

    /// The shape of the piece that a pair would make, if it may be one.
    fn joined(&self, (left, right): Pair) -> Option<Shape> {
        self.symbols[left as usize].shape.join(self.symbols[right as usize].shape)
    }

    fn add(&mut self, pair: Pair, count: u64, word: u32) {
        if self.joined(pair).is_none() {
            return;
        }
        let occurrences = self.pairs.entry(pair).or_default();
        occurrences.count += count;
        if occurrences.words.last() != Some(&word) {
            occurrences.words.push(word);
        }
        self.raised.push(pair);
    }

    fn remove(&mut self, pair: Pair, count: u64) {
        if let Some(occurrences) = self.pairs.get_mut(&pair) {
            occurrences.count -= count;
        }
    }

    fn put_raised_on_agenda(&mut self) {
        let mut raised = std::mem::take(&mut self.raised);
        raised.sort_unstable();
        raised.dedup();
        for pair in raised.drain(..) {
            self.put_on_agenda(pair);
        }
        self.raised = raised;
    }

    fn put_on_agenda(&mut self, pair: Pair) {
        let count = self.pairs.get(&pair).map_or(0, |occurrences| occurrences.count);
        if let Some(shape) = self.joined(pair).filter(|_| count > 0) {
            self.agenda.push((count, Reverse(shape.len()), Reverse(pair)));
        }
    }

    /// Merges the most frequent pair. Returns whether there was one.
    fn merge_next(&mut self) -> bool {
        while let Some((count, _, Reverse(pair))) = self.agenda.pop() {
            let now = self.pairs.get(&pair).map_or(0, |occurrences| occurrences.count);
            if now == count {
                self.merge(pair);
                return true;
            }
            // A raised pair waits a second time, with a count that is right.
            if now < count {
                self.put_on_agenda(pair);
            }
        }
        false
    }

    fn merge(&mut self, pair: Pair) {
        let (left, right) = pair;
        let text =
            [&*self.symbols[left as usize].text, &*self.symbols[right as usize].text].concat();
        // Different pairs may make the same piece.
        let merged = match (self.ids.get(&text), self.joined(pair)) {
            (Some(&id), _) => id,
            (None, Some(shape)) => {
                let id = self.symbols.len() as u32;
                self.ids.insert(text.clone(), id);
                self.symbols.push(Symbol { text, shape });
                id
            }
            (None, None) => unreachable!("only pairs that join are counted"),
        };
        let mut words = self.pairs.remove(&pair).unwrap_or_default().words;
        words.sort_unstable();
        words.dedup();
        for index in words {
            self.merge_in_word(index, pair, merged);
        }
        // What was counted of the pair itself meanwhile, as in `aaa`, is merged too.
        self.pairs.remove(&pair);
        self.put_raised_on_agenda();
    }

    /// Replaces the pair in one word, from the left, and corrects the counts of its neighbours.
    fn merge_in_word(&mut self, index: u32, (left, right): Pair, merged: u32) {
        let (word, count) = std::mem::take(&mut self.words[index as usize]);
        let mut new = Vec::with_capacity(word.len());
        let mut at = 0;
        while at < word.len() {
            if word[at] != left || word.get(at + 1) != Some(&right) {
                new.push(word[at]);
                at += 1;
                continue;
            }
            if let Some(&before) = new.last() {
                self.remove((before, left), count);
                self.add((before, merged), count, index);
            }
            if let Some(&after) = word.get(at + 2) {
                self.remove((right, after), count);
                self.add((merged, after), count, index);
            }
            new.push(merged);
            at += 2;
        }
        self.words[index as usize] = (new, count);
    }
}
