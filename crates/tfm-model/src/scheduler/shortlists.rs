//! The shortlists of the sentences being decoded, and how the step's program takes them.
//!
//! A step computes the logits of all tokens that are in the list of any sentence: the columns. A
//! token stays in its column while a sentence has it, and after that until the column is needed for
//! another, so that from step to step few columns change; which column a token has does not matter
//! to results.

use super::running::Running;
use crate::generation::{GenerationOptions, static_bans};
use std::collections::VecDeque;
use std::sync::Arc;
use tfm_core::HostSlice;
use tfm_text::Shortlist;

/// The shape of a step's shortlists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ShortlistShape {
    /// Tokens whose logits are computed.
    pub(super) columns: usize,
    /// Lists that there are places for.
    pub(super) lists: usize,
    /// Tokens of a list that there are places for.
    pub(super) width: usize,
}

/// The lists of all sentences being decoded.
pub(super) struct Shortlists {
    shortlist: Arc<Shortlist>,
    vocabulary: usize,
    columns: Columns,
    /// Whether the sentences or their lists are others than those in `places`.
    changed: bool,
    shape: ShortlistShape,
    padded: Vec<i32>,
    places: Vec<i32>,
    lengths: Vec<i32>,
    list_of: Vec<i32>,
}

impl Shortlists {
    /// No lists yet, for a model with `vocabulary` target tokens.
    pub(super) fn new(shortlist: Arc<Shortlist>, vocabulary: usize) -> Self {
        Shortlists {
            shortlist,
            vocabulary,
            columns: Columns::new(vocabulary),
            changed: true,
            shape: ShortlistShape { columns: 0, lists: 0, width: 0 },
            padded: Vec::new(),
            places: Vec::new(),
            lengths: Vec::new(),
            list_of: Vec::new(),
        }
    }

    /// The list of a request with these source tokens, which is in use until it is released.
    pub(super) fn admit(&mut self, source: &[u32], options: &GenerationOptions) -> Vec<u32> {
        let lists = [&options.eos_token_id[..], &options.prefix, &options.forced_eos_token_id];
        let mut always = lists.concat();
        always.extend(options.forced_bos_token_id);
        let list = self.permitted(self.shortlist.tokens(source, &always), options);
        self.columns.take(&list);
        self.changed = true;
        list
    }

    /// Those of the tokens that a list may hold.
    fn permitted(&self, mut tokens: Vec<u32>, options: &GenerationOptions) -> Vec<u32> {
        let known = tokens.partition_point(|&token| (token as usize) < self.vocabulary);
        tokens.truncate(known);
        let never = never(options);
        tokens.retain(|token| never.binary_search(token).is_err());
        tokens
    }

    /// The requests stand in another order than at the last step.
    pub(super) fn reordered(&mut self) {
        self.changed = true;
    }

    /// The list of a sentence that has ended.
    pub(super) fn release(&mut self, list: &[u32]) {
        self.columns.give_back(list);
        self.changed = true;
    }

    /// Makes the inputs of a step, in which the searches get `candidates` candidates. A request
    /// whose list has fewer tokens than its search has to see to be exact has the whole vocabulary
    /// from now on.
    pub(super) fn gather(&mut self, running: &mut [Running], candidates: usize) -> ShortlistShape {
        for request in &mut *running {
            let too_short = request.list.len() < request.search.needs().candidates;
            let all = self.vocabulary - never(&request.options).len();
            if too_short && request.list.len() < all {
                self.columns.give_back(&request.list);
                let vocabulary = (0..self.vocabulary as u32).collect();
                request.list = self.permitted(vocabulary, &request.options);
                self.columns.take(&request.list);
                self.changed = true;
            }
        }
        if self.changed || self.shape.width < candidates {
            self.changed = false;
            self.arrange(running, candidates);
        }
        self.list_of.clear();
        for (number, request) in (0..).zip(running) {
            self.list_of.extend(std::iter::repeat_n(number, request.rows.len()));
        }
        self.shape
    }

    /// Finds the columns of all lists.
    fn arrange(&mut self, running: &[Running], candidates: usize) {
        if self.columns.is_sparse() {
            self.columns = Columns::new(self.vocabulary);
            running.iter().for_each(|request| self.columns.take(&request.list));
        }
        let longest = running.iter().map(|request| request.list.len()).max().unwrap_or(0);
        self.shape = ShortlistShape {
            columns: few(self.columns.tokens.len()),
            lists: running.len().next_power_of_two(),
            width: longest.max(candidates).next_power_of_two(),
        };
        self.padded.clone_from(&self.columns.tokens);
        self.padded.resize(self.shape.columns, 0);
        self.places.clear();
        self.lengths.clear();
        for request in running {
            let start = self.places.len();
            let column = |&token: &u32| self.columns.column_of[token as usize] as i32;
            self.places.extend(request.list.iter().map(column));
            self.places.resize(start + self.shape.width, 0);
            self.lengths.push(request.list.len() as i32);
        }
        self.places.resize(self.shape.lists * self.shape.width, 0);
        self.lengths.resize(self.shape.lists, 1);
    }

    /// The inputs of the step, by name.
    pub(super) fn inputs(&self) -> [(&'static str, HostSlice<'_>); 4] {
        [
            ("columns", HostSlice::I32(&self.padded)),
            ("lists", HostSlice::I32(&self.places)),
            ("list_lengths", HostSlice::I32(&self.lengths)),
            ("list_of", HostSlice::I32(&self.list_of)),
        ]
    }
}

/// The tokens that no list of a request may hold, ascending. The softmax is over a list: where it
/// is to be normalised again, what is banned has no part in it.
fn never(options: &GenerationOptions) -> Vec<u32> {
    if options.renormalize_logits { static_bans(options) } else { Vec::new() }
}

/// A size at least as large, one of few, so that programs are found again: at most a quarter more,
/// and a multiple of 64.
fn few(size: usize) -> usize {
    let step = (size.next_power_of_two() / 8).max(64);
    size.max(1).next_multiple_of(step)
}

/// Which token is in which column.
struct Columns {
    /// By column.
    tokens: Vec<i32>,
    /// By column: the lists that have its token.
    uses: Vec<u32>,
    /// By token: its column, [`NOWHERE`] if it has none.
    column_of: Vec<u32>,
    /// Columns that no list uses, and some that one uses again; each once. The longest unused come
    /// first.
    unused: VecDeque<u32>,
    /// By column: whether it is among those.
    waits: Vec<bool>,
    used: usize,
}

const NOWHERE: u32 = u32::MAX;

impl Columns {
    fn new(vocabulary: usize) -> Self {
        Columns {
            tokens: Vec::new(),
            uses: Vec::new(),
            column_of: vec![NOWHERE; vocabulary],
            unused: VecDeque::new(),
            waits: Vec::new(),
            used: 0,
        }
    }

    fn take(&mut self, list: &[u32]) {
        for &token in list {
            let column = match self.column_of[token as usize] {
                NOWHERE => self.column_for(token),
                column => column,
            };
            let uses = &mut self.uses[column as usize];
            *uses += 1;
            self.used += usize::from(*uses == 1);
        }
    }

    /// A column for a token that has none.
    fn column_for(&mut self, token: u32) -> u32 {
        while let Some(column) = self.unused.pop_front() {
            self.waits[column as usize] = false;
            if self.uses[column as usize] == 0 {
                let before = &mut self.tokens[column as usize];
                self.column_of[*before as usize] = NOWHERE;
                self.column_of[token as usize] = column;
                *before = token as i32;
                return column;
            }
        }
        let column = self.tokens.len() as u32;
        self.tokens.push(token as i32);
        self.uses.push(0);
        self.waits.push(false);
        self.column_of[token as usize] = column;
        column
    }

    fn give_back(&mut self, list: &[u32]) {
        for &token in list {
            let column = self.column_of[token as usize];
            let (uses, waits) = (&mut self.uses[column as usize], &mut self.waits[column as usize]);
            *uses -= 1;
            if *uses == 0 {
                self.used -= 1;
                if !std::mem::replace(waits, true) {
                    self.unused.push_back(column);
                }
            }
        }
    }

    /// Whether most columns are computed for nobody.
    fn is_sparse(&self) -> bool {
        few(self.tokens.len()) > 2 * few(self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_few_and_near() {
        let sizes: std::collections::BTreeSet<usize> = (0..10_000).map(few).collect();
        assert!(sizes.len() < 40, "{sizes:?}");
        for size in 256..10_000 {
            assert!(few(size) >= size && few(size) <= size + size / 4, "{size}: {}", few(size));
        }
    }

    #[test]
    fn tokens_keep_their_columns_while_they_are_used() {
        let mut columns = Columns::new(100);
        columns.take(&[1, 2, 3]);
        columns.take(&[3, 4]);
        assert_eq!(columns.tokens, [1, 2, 3, 4]);
        columns.give_back(&[1, 2, 3]);
        assert_eq!(columns.used, 2);
        columns.take(&[2, 7]);
        assert_eq!(columns.tokens, [7, 2, 3, 4], "2 was there yet, 3 still");
        columns.give_back(&[3, 4]);
        columns.give_back(&[2, 7]);
        columns.take(&[2]);
        columns.take(&[8, 9, 10, 11]);
        assert_eq!(columns.tokens.len(), 5);
        let mut place_of_each: Vec<u32> =
            [2, 8, 9, 10, 11].map(|token: usize| columns.column_of[token]).to_vec();
        place_of_each.sort_unstable();
        assert_eq!(place_of_each, [0, 1, 2, 3, 4]);
        for (column, &token) in columns.tokens.iter().enumerate() {
            assert_eq!(columns.column_of[token as usize], column as u32);
        }
        assert_eq!(columns.column_of.iter().filter(|&&column| column != NOWHERE).count(), 5);
    }
}
