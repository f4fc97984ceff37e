//! Which keys each query sees.

use std::ops::Range;

use tfm_core::fused::KeyRows;

use super::super::distance_bias::DistanceBias;
use super::super::heads::{HeadElement, Heads};

/// A set of keys, and how queries see it.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a, K = f32> {
    /// `[rows, kv_heads, size]`
    pub key: Heads<'a, K>,
    /// `[rows, kv_heads, size]`
    pub value: Heads<'a, K>,
    /// Which rows each query sees.
    pub rows: KeyRows<&'a [i32]>,
    /// Whether keys after a query's own position are hidden.
    pub causal: bool,
    /// A query sees only keys that are less far away than this.
    pub window: Option<usize>,
    /// What is added to the scores.
    pub bias: Option<&'a DistanceBias>,
}

impl<'a, K: HeadElement> Keys<'a, K> {
    /// All keys of each query, without biases.
    pub fn new([key, value]: [Heads<'a, K>; 2], rows: KeyRows<&'a [i32]>) -> Self {
        Keys { key, value, rows, causal: false, window: None, bias: None }
    }

    /// About how many keys a query sees.
    pub(super) fn average(&self, queries: usize) -> usize {
        let sum: usize = match self.rows {
            KeyRows::Ranges { query_offsets, key_ranges } => query_offsets
                .windows(2)
                .zip(key_ranges.chunks_exact(2))
                .map(|(queries, range)| index(queries[1] - queries[0]) * index(range[1]))
                .sum(),
            KeyRows::Table { lengths, .. } => lengths.iter().map(|&length| index(length)).sum(),
        };
        let all = sum / queries.max(1);
        self.window.map_or(all, |window| all.min(window.saturating_mul(2)))
    }
}

/// The span of keys that a query sees, among those of its range or list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeySpan {
    /// The first that it sees.
    pub(crate) start: usize,
    /// The end: one more than the last that it sees, and at least `start`.
    pub(crate) end: usize,
    /// The distance of key 0 from the query.
    pub(crate) distance: isize,
}

impl KeySpan {
    /// The first `end` keys, where key 0 is at this distance.
    #[inline(always)]
    pub(crate) fn all(end: usize, distance: isize) -> KeySpan {
        KeySpan { start: 0, end, distance }
    }

    /// The part of the span that is less far away than `window`.
    #[inline(always)]
    pub(crate) fn within(self, window: usize) -> KeySpan {
        let window = isize::try_from(window).unwrap_or(isize::MAX);
        let from = (1 - window).saturating_sub(self.distance);
        let to = window.saturating_sub(self.distance);
        let [from, to] = [from, to].map(|at| usize::try_from(at).unwrap_or(0));
        let end = self.end.min(to);
        KeySpan { start: self.start.max(from).min(end), end, distance: self.distance }
    }

    #[inline(always)]
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// The most keys of a query, and the most of them that come after it.
pub fn most_keys(rows: KeyRows<&[i32]>, causal: bool) -> (usize, usize) {
    let most = |numbers: &mut dyn Iterator<Item = i32>| index(numbers.max().unwrap_or(0));
    match rows {
        KeyRows::Ranges { query_offsets, key_ranges } => {
            let queries = most(&mut query_offsets.windows(2).map(|pair| pair[1] - pair[0]));
            let after = if causal { 0 } else { queries.saturating_sub(1) };
            (most(&mut key_ranges.iter().skip(1).step_by(2).copied()), after)
        }
        KeyRows::Table { lengths, .. } => (most(&mut lengths.iter().copied()), 0),
    }
}

/// Which keys each of some queries sees, and in which rows they lie. (A trait, since closures are
/// compiled out of line where a function is large.)
pub(super) trait VisibleKeys: Copy {
    /// The span of keys that query i sees.
    fn span(&self, i: usize) -> KeySpan;
    /// The row of key j.
    fn row(&self, j: usize) -> usize;
    /// The row of key j of the queries that follow, where it is known.
    fn next_row(&self, j: usize) -> Option<usize>;
}

/// The keys of a sequence, in a range of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyRange<const WINDOW: bool> {
    /// The end of the queries: one more than the last.
    end: usize,
    start: usize,
    length: usize,
    /// The range of the next sequence: start and length.
    next: [usize; 2],
    causal: bool,
    window: usize,
}

impl<const WINDOW: bool> KeyRange<WINDOW> {
    /// The keys of a sequence of these ranges, whose queries end before `end`. Panics where some
    /// are outside the rows.
    #[inline(always)]
    pub(super) fn new<K: HeadElement>(
        keys: &Keys<'_, K>,
        ranges: &[i32],
        sequence: usize,
        end: usize,
    ) -> Self {
        let [start, length] = [0, 1].map(|i| index(ranges[2 * sequence + i]));
        assert!(start + length <= keys.key.rows(), "keys outside the rows");
        let next = ranges.get(2 * sequence + 2..2 * sequence + 4);
        let next = next.map_or([0; 2], |next| [index(next[0]), index(next[1])]);
        let window = keys.window.unwrap_or(usize::MAX);
        KeyRange { end, start, length, next, causal: keys.causal, window }
    }
}

impl<const WINDOW: bool> VisibleKeys for KeyRange<WINDOW> {
    #[inline(always)]
    fn span(&self, i: usize) -> KeySpan {
        // The last query stands at the last key; the one before it at the key before.
        let later = self.end - 1 - i;
        let end = self.length.saturating_sub(if self.causal { later } else { 0 });
        let all = KeySpan::all(end, (later + 1) as isize - self.length as isize);
        if WINDOW { all.within(self.window) } else { all }
    }

    #[inline(always)]
    fn row(&self, j: usize) -> usize {
        self.start + j
    }

    #[inline(always)]
    fn next_row(&self, j: usize) -> Option<usize> {
        let [start, length] = self.next;
        (j < length).then_some(start + j)
    }
}

/// The keys of one query, in rows that a table lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyList<'a, const WINDOW: bool> {
    rows: &'a [i32],
    /// The rows of the next query.
    next: &'a [i32],
    window: usize,
}

impl<'a, const WINDOW: bool> KeyList<'a, WINDOW> {
    /// The keys of query i. `next` says whether the task goes on with query i + 1.
    #[inline(always)]
    pub(super) fn new<K: HeadElement>(
        keys: &Keys<'_, K>,
        row_table: &'a [i32],
        lengths: &[i32],
        i: usize,
        next: bool,
    ) -> Self {
        let width = row_table.len() / lengths.len();
        let list = |i: usize| &row_table[i * width..][..index(lengths[i])];
        let (rows, next) = (list(i), if next { list(i + 1) } else { &[] });
        KeyList { rows, next, window: keys.window.unwrap_or(usize::MAX) }
    }
}

impl<const WINDOW: bool> VisibleKeys for KeyList<'_, WINDOW> {
    #[inline(always)]
    fn span(&self, _: usize) -> KeySpan {
        let all = KeySpan::all(self.rows.len(), 1 - self.rows.len() as isize);
        if WINDOW { all.within(self.window) } else { all }
    }

    #[inline(always)]
    fn row(&self, j: usize) -> usize {
        index(self.rows[j])
    }

    #[inline(always)]
    fn next_row(&self, j: usize) -> Option<usize> {
        self.next.get(j).map(|&row| index(row))
    }
}

/// An index from outside as a `usize`. A negative one becomes a number beyond every bound.
#[inline(always)]
pub(super) fn index(i: i32) -> usize {
    usize::try_from(i).unwrap_or(i32::MAX as usize)
}
