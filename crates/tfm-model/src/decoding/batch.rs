//! The sentences being decoded, and the inputs of the next step.

use super::memory::Memory;
use super::shortlists::Shortlists;
use crate::generation::Search;

/// A sentence being decoded.
pub(super) struct Sentence {
    /// What the caller calls it.
    pub(super) id: usize,
    pub(super) search: Search,
    /// The tokens it may have, ascending, where there is a shortlist.
    pub(super) list: Vec<u32>,
    /// Its range of the cross pool.
    pub(super) cross: (usize, usize),
    /// For each live hypothesis the rows of the self-attention pool that hold its past.
    pub(super) rows: Vec<Vec<u32>>,
    /// The rows that it has; those that hypotheses have no more are freed on the way, the others when it ends.
    pub(super) taken: Vec<u32>,
    /// Tokens decoded so far.
    pub(super) position: usize,
}

/// The row lists of the hypotheses that continue those numbered by `parents`.
pub(super) fn reorder(rows: &mut Vec<Vec<u32>>, parents: &[usize]) {
    // A parent's last child takes its list, the others copy it.
    let mut remaining = vec![0usize; rows.len()];
    parents.iter().for_each(|&parent| remaining[parent] += 1);
    let mut old = std::mem::take(rows);
    rows.extend(parents.iter().map(|&parent| {
        remaining[parent] -= 1;
        if remaining[parent] == 0 { std::mem::take(&mut old[parent]) } else { old[parent].clone() }
    }));
}

impl Sentence {
    /// Frees the rows that no hypothesis sees any more.
    pub(super) fn prune(&mut self, memory: &mut Memory) {
        memory.rows.keep(&mut self.taken, self.rows.iter().flatten().copied());
    }

    /// Frees its memory and its list.
    pub(super) fn release(&mut self, memory: &mut Memory, shortlists: &mut Option<Shortlists>) {
        if let Some(shortlists) = shortlists {
            shortlists.release(&self.list);
        }
        memory.rows.give_back(self.taken.drain(..));
        memory.ranges.give_back(self.cross.0, self.cross.1);
    }
}

/// The inputs of a step, reused from step to step.
#[derive(Debug, Default)]
pub(super) struct StepInputs {
    pub(super) tokens: Vec<i32>,
    pub(super) positions: Vec<i32>,
    pub(super) new_rows: Vec<i32>,
    pub(super) row_table: Vec<i32>,
    pub(super) lengths: Vec<i32>,
    pub(super) cross_offsets: Vec<i32>,
    pub(super) cross_ranges: Vec<i32>,
    /// The width of the row table.
    pub(super) width: usize,
}

impl StepInputs {
    /// Gathers the next step of all sentences, a new row taken for each hypothesis.
    pub(super) fn gather(&mut self, sentences: &mut [Sentence], memory: &mut Memory) {
        self.clear();
        let longest = sentences.iter().map(|sentence| sentence.position + 1).max().unwrap_or(1);
        self.width = longest.next_power_of_two().max(16);
        self.cross_offsets.push(0);
        for sentence in sentences {
            for (hypothesis, rows) in sentence.rows.iter_mut().enumerate() {
                let row = memory.rows.take();
                sentence.taken.push(row);
                rows.push(row);
                self.tokens.push(sentence.search.last_token(hypothesis) as i32);
                self.positions.push(sentence.position as i32);
                self.new_rows.push(row as i32);
                self.lengths.push(rows.len() as i32);
                let start = self.row_table.len();
                self.row_table.extend(rows.iter().map(|&row| row as i32));
                self.row_table.resize(start + self.width, 0);
            }
            self.cross_offsets.push(self.tokens.len() as i32);
            self.cross_ranges.extend([sentence.cross.0 as i32, sentence.cross.1 as i32]);
        }
        let hypotheses = self.tokens.len();
        self.cross_offsets.resize(hypotheses + 1, hypotheses as i32);
        self.cross_ranges.resize(2 * hypotheses, 0);
    }

    fn clear(&mut self) {
        let all = [
            &mut self.tokens,
            &mut self.positions,
            &mut self.new_rows,
            &mut self.row_table,
            &mut self.lengths,
            &mut self.cross_offsets,
            &mut self.cross_ranges,
        ];
        all.into_iter().for_each(Vec::clear);
    }
}
