//! The tokens that are banned outright, as rows that a step adds to what it ranks tokens by.

use super::programs::set_row;
use tfm_core::{DType, DeviceTensor, HostSlice, Result, Session};

/// Rows at first. Requests hardly ever ban different tokens.
const FIRST_ROWS: usize = 2;

/// A table `[rows, vocabulary]` in device memory: −∞ where the set of a row bans a token, else 0.
pub(super) struct BanSets {
    table: DeviceTensor,
    sets: Vec<BanSet>,
}

/// A set of banned tokens, whose row has the same number.
#[derive(Default)]
struct BanSet {
    /// Ascending, each once; none where the row was never written.
    tokens: Option<Vec<u32>>,
    /// How many requests use it.
    uses: usize,
}

impl BanSets {
    /// A table for a model with so many target tokens.
    pub(super) fn new(session: &Session, vocabulary: usize) -> Result<Self> {
        let table = session.allocate(DType::F32, [FIRST_ROWS, vocabulary])?;
        Ok(BanSets { table, sets: (0..FIRST_ROWS).map(|_| BanSet::default()).collect() })
    }

    /// How many rows the table has.
    pub(super) fn rows(&self) -> usize {
        self.sets.len()
    }

    /// The table, for a run.
    pub(super) fn state(&mut self) -> (&str, &mut DeviceTensor) {
        ("bans", &mut self.table)
    }

    /// The row of a set, which the caller gives back.
    pub(super) fn take(&mut self, session: &mut Session, mut tokens: Vec<u32>) -> Result<usize> {
        tokens.sort_unstable();
        tokens.dedup();
        let same = self.sets.iter().position(|set| set.tokens.as_ref() == Some(&tokens));
        let row = match same {
            Some(row) => row,
            None => {
                let row = self.free_row(session)?;
                self.sets[row].tokens = None; // what a write leaves that fails is no set
                self.write(session, row, &tokens)?;
                self.sets[row].tokens = Some(tokens);
                row
            }
        };
        self.sets[row].uses += 1;
        Ok(row)
    }

    pub(super) fn give_back(&mut self, row: usize) {
        self.sets[row].uses -= 1;
    }

    /// A row that nobody uses: one that was never written, else the first, else of a larger table.
    fn free_row(&mut self, session: &mut Session) -> Result<usize> {
        let mut unused = self.sets.iter().enumerate().filter(|(_, set)| set.uses == 0);
        let first = unused.next();
        let row = match first {
            Some((row, set)) if set.tokens.is_some() => {
                Some(unused.find(|(_, set)| set.tokens.is_none()).map_or(row, |(row, _)| row))
            }
            other => other.map(|(row, _)| row),
        };
        match row {
            Some(row) => Ok(row),
            None => {
                let rows = self.sets.len();
                let larger = session.allocate(DType::F32, [2 * rows, self.table.shape()[1]])?;
                let smaller = std::mem::replace(&mut self.table, larger);
                for row in 0..rows {
                    let tokens = self.sets[row].tokens.clone().unwrap_or_default();
                    if let Err(error) = self.write(session, row, &tokens) {
                        self.table = smaller;
                        return Err(error);
                    }
                }
                self.sets.resize_with(2 * rows, BanSet::default);
                Ok(rows)
            }
        }
    }

    fn write(&mut self, session: &mut Session, row: usize, tokens: &[u32]) -> Result<()> {
        let mut biases = vec![0.0f32; self.table.shape()[1]];
        for &token in tokens {
            if let Some(bias) = biases.get_mut(token as usize) {
                *bias = f32::NEG_INFINITY;
            }
        }
        let program = set_row(session, self.table.shape())?;
        let inputs = [("row", HostSlice::F32(&biases)), ("ids", HostSlice::I32(&[row as i32]))];
        session.run(&program, &inputs, &mut [("state", &mut self.table)])?;
        Ok(())
    }
}
