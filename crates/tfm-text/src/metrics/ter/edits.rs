//! The edit distance between words, within a band around the diagonal.
//!
//! Rows stand for words of the hypothesis, columns for words of the reference. A row holds only the
//! columns of the band, so that long lines take memory in proportion to their length.

/// How many columns the band reaches to either side.
const BEAM: usize = 25;

/// More than any distance.
const INFINITY: u32 = u32::MAX / 2;

/// The last step on the best way to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Keep,
    Replace,
    /// The hypothesis lacks the word of the reference.
    Insert,
    /// The hypothesis has a word too many.
    Delete,
    /// No way within the band leads here.
    Unreached,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    cost: u32,
    step: Step,
}

const UNREACHED: Cell = Cell { cost: INFINITY, step: Step::Unreached };

/// The cells of one row from column `first` on.
#[derive(Debug, Clone)]
struct Row {
    first: usize,
    cells: Vec<Cell>,
}

impl Row {
    fn get(&self, column: usize) -> Cell {
        let index = column.checked_sub(self.first);
        index.and_then(|index| self.cells.get(index)).copied().unwrap_or(UNREACHED)
    }
}

/// A reference and the band for hypotheses of one length.
pub(super) struct Band<'r> {
    reference: &'r [u32],
    hypothesis_len: usize,
    ratio: f64,
    beam: usize,
}

/// All rows for one hypothesis.
pub(super) struct Matrix {
    rows: Vec<Row>,
}

/// Which words of two lines stand for each other.
pub(super) struct Alignment {
    /// For each number of reference words from zero on, how many words of the hypothesis lie
    /// before or at the last of them.
    pub(super) ends: Vec<usize>,
    /// Whether an edit touches this word of the reference.
    pub(super) reference_wrong: Vec<bool>,
    /// Whether an edit touches this word of the hypothesis.
    pub(super) hypothesis_wrong: Vec<bool>,
}

impl<'r> Band<'r> {
    pub(super) fn new(reference: &'r [u32], hypothesis_len: usize) -> Self {
        let ratio = match hypothesis_len {
            0 => 1.0,
            len => reference.len() as f64 / len as f64,
        };
        // Where a step along the hypothesis is longer than the band, the band must grow.
        let half = ratio / 2.0;
        let beam = if half > BEAM as f64 { (half + BEAM as f64).ceil() as usize } else { BEAM };
        Band { reference, hypothesis_len, ratio, beam }
    }

    pub(super) fn matrix(&self, hypothesis: &[u32]) -> Matrix {
        let step = Step::Insert;
        let cells = (0..).take(self.reference.len() + 1).map(|cost| Cell { cost, step }).collect();
        let mut rows = Vec::with_capacity(hypothesis.len() + 1);
        let mut row = Row { first: 0, cells };
        for (index, &word) in hypothesis.iter().enumerate() {
            let mut next = Row { first: 0, cells: Vec::new() };
            self.fill(&mut next, &row, index + 1, word);
            rows.push(row);
            row = next;
        }
        rows.push(row);
        Matrix { rows }
    }

    /// The distance of a hypothesis whose first `common` words are those that `matrix` was made
    /// from.
    pub(super) fn distance(&self, matrix: &Matrix, common: usize, hypothesis: &[u32]) -> u32 {
        let mut row = matrix.rows[common].clone();
        let mut next = Row { first: 0, cells: Vec::new() };
        for (index, &word) in hypothesis.iter().enumerate().skip(common) {
            self.fill(&mut next, &row, index + 1, word);
            std::mem::swap(&mut row, &mut next);
        }
        row.get(self.reference.len()).cost
    }

    /// Computes row `number`, which is for `word`, from the one above it.
    fn fill(&self, row: &mut Row, above: &Row, number: usize, word: u32) {
        let columns = self.reference.len() + 1;
        let diagonal = (number as f64 * self.ratio).floor() as usize;
        let first = diagonal.saturating_sub(self.beam);
        let last = number == self.hypothesis_len;
        let end = if last { columns } else { columns.min(diagonal + self.beam) };
        row.first = first;
        row.cells.clear();
        for column in first..end {
            let down = Cell { cost: above.get(column).cost + 1, step: Step::Delete };
            let Some(before) = column.checked_sub(1) else {
                row.cells.push(down);
                continue;
            };
            let (cost, step) =
                if word == self.reference[before] { (0, Step::Keep) } else { (1, Step::Replace) };
            let across = Cell { cost: above.get(before).cost + cost, step };
            let along = Cell { cost: row.get(before).cost + 1, step: Step::Insert };
            // Of equally cheap ways the first counts.
            let mut best = UNREACHED;
            for way in [across, down, along] {
                if way.cost < best.cost {
                    best = way;
                }
            }
            row.cells.push(best);
        }
    }

    /// The cheapest way through the matrix, as an alignment.
    pub(super) fn align(&self, matrix: &Matrix) -> Alignment {
        let (mut row, mut column) = (self.hypothesis_len, self.reference.len());
        let mut alignment = Alignment {
            ends: vec![0; column + 1],
            reference_wrong: vec![false; column],
            hypothesis_wrong: vec![false; row],
        };
        while row > 0 || column > 0 {
            let step = matrix.rows[row].get(column).step;
            match step {
                Step::Keep | Step::Replace => {
                    alignment.ends[column] = row;
                    (row, column) = (row - 1, column - 1);
                    alignment.reference_wrong[column] = step == Step::Replace;
                    alignment.hypothesis_wrong[row] = step == Step::Replace;
                }
                Step::Insert => {
                    alignment.ends[column] = row;
                    column -= 1;
                    alignment.reference_wrong[column] = true;
                }
                Step::Delete => {
                    row -= 1;
                    alignment.hypothesis_wrong[row] = true;
                }
                // The band always holds a way; without one nothing is aligned.
                Step::Unreached => break,
            }
        }
        alignment
    }
}

impl Matrix {
    /// The distance of the hypothesis that the matrix was made from.
    pub(super) fn distance(&self) -> u32 {
        self.rows.last().and_then(|row| row.cells.last()).map_or(0, |cell| cell.cost)
    }
}
