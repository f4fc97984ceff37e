//! The BPE model: the best-scored neighbouring pair is merged, until no pair is a piece.
//!
//! Candidates wait in a heap; one that lost a side to another merge is recognised by its length and
//! dropped. That is `n log n` in the length of the text.

use std::collections::{BinaryHeap, HashMap};

use super::{Segment, normalizer::Normalizer, proto::PieceKind, vocabulary::Vocabulary};
use crate::trie::NodeId;

const NONE: u32 = u32::MAX;

/// A stretch of text that may still merge with its neighbours. A stretch merged into its left one
/// is empty.
struct Symbol {
    begin: u32,
    end: u32,
    previous: u32,
    next: u32,
    /// The node of the trie of pieces after reading this stretch; `None` if no piece begins like
    /// it, or if the stretch is a user-defined symbol, which never merges.
    node: Option<NodeId>,
    frozen: bool,
}

/// A pair of neighbours that would make a piece.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    /// Grows with the score, and of equal scores with nearness to the beginning: see [`priority`].
    priority: u64,
    left: u32,
    right: u32,
    len: u32,
}

/// The highest score first, and of equal ones the leftmost, as one number.
fn priority(score: f32, left: u32) -> u64 {
    // The bits of floats of one sign are ordered like their magnitudes. This puts -0 below 0, which
    // trained models do not hold but the reference tells apart too.
    let bits = score.to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(!left)
}

/// Cuts normalised text, whose length fits `u32`, into segments.
pub(super) fn segment(
    vocabulary: &Vocabulary,
    normalizer: &Normalizer,
    text: &[u8],
) -> Vec<Segment> {
    segment_with(vocabulary, normalizer, text, || false)
}

/// Like [`segment`], but asks for each merge whether it is left out. A pair left out may be merged
/// later, when another one has been; the text is done when all that could be merged are left out.
pub(super) fn segment_with(
    vocabulary: &Vocabulary,
    normalizer: &Normalizer,
    text: &[u8],
    leave_out: impl FnMut() -> bool,
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
    merger.run(leave_out);
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
            node: trie.walk(trie.root(), &text[begin..end]),
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
    /// For an unused piece that came up, where its left part ends. Only kept if the model has
    /// unused pieces.
    splits: Option<HashMap<u32, u32>>,
}

impl Merger<'_> {
    /// Where the trie is after the pair, if both may merge.
    fn merged_node(&self, left: u32, right: u32) -> Option<NodeId> {
        let (left, right) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        if left.frozen || right.frozen {
            return None;
        }
        self.vocabulary
            .normal()
            .walk(left.node?, &self.text[right.begin as usize..right.end as usize])
    }

    /// Puts the pair on the agenda if it makes a piece.
    fn consider(&mut self, left: u32, right: u32) {
        if left == NONE || right == NONE {
            return;
        }
        let Some(id) =
            self.merged_node(left, right).and_then(|p| self.vocabulary.normal().value(p))
        else {
            return;
        };
        let len = self.symbols[left as usize].len() + self.symbols[right as usize].len();
        let priority = priority(self.vocabulary.score(id), left);
        self.agenda.push(Pair { priority, left, right, len });
        if let Some(splits) = &mut self.splits
            && self.vocabulary.kind(id) == PieceKind::Unused
        {
            splits.insert(id, self.symbols[left as usize].len());
        }
    }

    fn run(&mut self, mut leave_out: impl FnMut() -> bool) {
        let mut left_out = Vec::new();
        while let Some(pair) = self.agenda.pop() {
            let Pair { left, right, len, .. } = pair;
            let (left_len, right_len) =
                (self.symbols[left as usize].len(), self.symbols[right as usize].len());
            if left_len == 0 || right_len == 0 || left_len + right_len != len {
                continue;
            }
            if leave_out() {
                left_out.push(pair);
                continue;
            }
            self.agenda.extend(left_out.drain(..));
            let node = self.merged_node(left, right);
            let Symbol { end, next, .. } = self.symbols[right as usize];
            let merged = &mut self.symbols[left as usize];
            merged.end = end;
            merged.next = next;
            merged.node = node;
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
        let mut segments = Vec::with_capacity(self.symbols.len() / 2 + 1);
        let mut index = if self.symbols.is_empty() { NONE } else { 0 };
        while index != NONE {
            let &Symbol { begin, end, next, node, .. } = &self.symbols[index as usize];
            let id = node
                .and_then(|node| self.vocabulary.normal().value(node))
                .unwrap_or_else(|| self.id(begin, end));
            self.push_used(Segment { id, begin, end }, &mut segments);
            index = next;
        }
        segments
    }

    /// Adds a segment, or if its piece is unused the parts it was merged from.
    fn push_used(&self, segment: Segment, segments: &mut Vec<Segment>) {
        let Some(splits) = &self.splits else {
            segments.push(segment);
            return;
        };
        let mut waiting = vec![segment];
        while let Some(Segment { id, begin, end }) = waiting.pop() {
            if self.vocabulary.kind(id) != PieceKind::Unused {
                segments.push(Segment { id, begin, end });
            } else if let Some(left_len) = splits.get(&id) {
                let middle = begin + left_len;
                waiting.push(Segment { id: self.id(middle, end), begin: middle, end });
                waiting.push(Segment { id: self.id(begin, middle), begin, end: middle });
            } else {
                // A character cannot be split further.
                segments.push(Segment { id: self.vocabulary.unk_id(), begin, end });
            }
        }
    }

    /// The id of a stretch. A text may spell a control piece; like the reference, that gives its
    /// id.
    fn id(&self, begin: u32, end: u32) -> u32 {
        std::str::from_utf8(&self.text[begin as usize..end as usize])
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
