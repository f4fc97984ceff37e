//! The BPE model: the best-scored neighbouring pair is merged, until no pair is a piece.
//!
//! Candidates wait in a heap; one that lost a side to another merge is recognised by its length and dropped. That
//! is `n log n` in the length of the text.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap},
};

use super::{Segment, normalizer::Normalizer, proto::PieceKind, vocabulary::Vocabulary};
use crate::trie::Place;

const NONE: u32 = u32::MAX;

/// A stretch of text that may still merge with its neighbours. A stretch merged into its left one is empty.
struct Symbol {
    begin: u32,
    end: u32,
    previous: u32,
    next: u32,
    /// Where the trie of pieces is after reading this stretch; `None` if no piece begins like it, or if the
    /// stretch is a user-defined symbol, which never merges.
    place: Option<Place>,
    frozen: bool,
}

/// A pair of neighbours that would make a piece.
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    len: u32,
}

impl Ord for Pair {
    /// The highest score first, and of equal ones the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        // Adding zero makes -0 and 0 the same.
        (self.score + 0.0)
            .total_cmp(&(other.score + 0.0))
            .then_with(|| Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// Cuts normalised text, whose length fits `u32`, into segments.
pub(super) fn segment(
    vocabulary: &Vocabulary,
    normalizer: &Normalizer,
    text: &[u8],
) -> Vec<Segment> {
    let mut merger = Merger {
        vocabulary,
        text,
        symbols: symbols(vocabulary, normalizer, text),
        agenda: BinaryHeap::new(),
        splits: vocabulary.has_unused().then(HashMap::new),
    };
    for right in 1..merger.symbols.len() as u32 {
        merger.consider(right - 1, right);
    }
    merger.run();
    merger.segments()
}

/// The characters and user-defined symbols of a text.
fn symbols(vocabulary: &Vocabulary, normalizer: &Normalizer, text: &[u8]) -> Vec<Symbol> {
    let trie = vocabulary.normal();
    let mut symbols = Vec::with_capacity(text.len());
    let mut begin = 0;
    while begin < text.len() {
        let (len, frozen) = normalizer.symbol_or_char(&text[begin..]);
        let end = begin + len;
        let index = symbols.len() as u32;
        symbols.push(Symbol {
            begin: begin as u32,
            end: end as u32,
            previous: index.checked_sub(1).unwrap_or(NONE),
            next: if end < text.len() { index + 1 } else { NONE },
            place: trie.walk(trie.root(), &text[begin..end]),
            frozen,
        });
        begin = end;
    }
    symbols
}

struct Merger<'a> {
    vocabulary: &'a Vocabulary,
    text: &'a [u8],
    symbols: Vec<Symbol>,
    agenda: BinaryHeap<Pair>,
    /// For an unused piece that came up, where its left part ends. Only kept if the model has unused pieces.
    splits: Option<HashMap<u32, u32>>,
}

impl Merger<'_> {
    /// Where the trie is after the pair, if both may merge.
    fn merged_place(&self, left: u32, right: u32) -> Option<Place> {
        let (left, right) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        if left.frozen || right.frozen {
            return None;
        }
        self.vocabulary
            .normal()
            .walk(left.place?, &self.text[right.begin as usize..right.end as usize])
    }

    /// Puts the pair on the agenda if it makes a piece.
    fn consider(&mut self, left: u32, right: u32) {
        if left == NONE || right == NONE {
            return;
        }
        let Some(id) =
            self.merged_place(left, right).and_then(|p| self.vocabulary.normal().value(p))
        else {
            return;
        };
        let len = self.symbols[left as usize].len() + self.symbols[right as usize].len();
        self.agenda.push(Pair { score: self.vocabulary.score(id), left, right, len });
        if let Some(splits) = &mut self.splits
            && self.vocabulary.kind(id) == PieceKind::Unused
        {
            splits.insert(id, self.symbols[left as usize].len());
        }
    }

    fn run(&mut self) {
        while let Some(Pair { left, right, len, .. }) = self.agenda.pop() {
            let (left_len, right_len) =
                (self.symbols[left as usize].len(), self.symbols[right as usize].len());
            if left_len == 0 || right_len == 0 || left_len + right_len != len {
                continue;
            }
            let place = self.merged_place(left, right);
            let Symbol { end, next, .. } = self.symbols[right as usize];
            let merged = &mut self.symbols[left as usize];
            merged.end = end;
            merged.next = next;
            merged.place = place;
            let previous = merged.previous;
            let absorbed = &mut self.symbols[right as usize];
            absorbed.begin = absorbed.end;
            if next != NONE {
                self.symbols[next as usize].previous = left;
            }
            self.consider(previous, left);
            self.consider(left, next);
        }
    }

    fn segments(&self) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut index = if self.symbols.is_empty() { NONE } else { 0 };
        while index != NONE {
            let symbol = &self.symbols[index as usize];
            self.split_unused(symbol.begin, symbol.end, &mut segments);
            index = symbol.next;
        }
        segments
    }

    /// Adds the stretch as one segment, or if its piece is unused as the parts it was merged from.
    fn split_unused(&self, begin: u32, end: u32, segments: &mut Vec<Segment>) {
        let mut waiting = vec![(begin, end)];
        while let Some((begin, end)) = waiting.pop() {
            let piece = &self.text[begin as usize..end as usize];
            let id = self.id(piece);
            let split = self.splits.as_ref().and_then(|splits| splits.get(&id));
            match split {
                Some(&left_len) if self.vocabulary.kind(id) == PieceKind::Unused => {
                    waiting.push((begin + left_len, end));
                    waiting.push((begin, begin + left_len));
                }
                _ => segments.push(Segment { id, begin, end }),
            }
        }
    }

    fn id(&self, piece: &[u8]) -> u32 {
        // A text may spell a control piece; like the reference, that gives its id.
        std::str::from_utf8(piece)
            .ok()
            .and_then(|text| self.vocabulary.id(text))
            .unwrap_or(self.vocabulary.unk_id())
    }
}

impl Symbol {
    const fn len(&self) -> u32 {
        self.end - self.begin
    }
}
