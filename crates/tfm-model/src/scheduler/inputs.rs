//! The inputs of the programs, gathered from the requests that a worker decodes.

use super::kv_cache::{KvCache, SPARE};
use super::running::Running;
use tfm_core::HostSlice;

/// The inputs of an encoding.
#[derive(Debug, Default)]
pub(super) struct EncodeInputs {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    offsets: Vec<i32>,
    ranges: Vec<i32>,
    cross_rows: Vec<i32>,
}

impl EncodeInputs {
    /// The sources of these requests, one after the other. The tokens are made a multiple of
    /// [`SPARE`]` + 1` in all, so that programs are found again: those that no source has form a
    /// sequence after the last one that sees no keys, and nobody reads what becomes of them.
    pub(super) fn gather(running: &[Running], cache: &KvCache) -> Self {
        let mut inputs = EncodeInputs { offsets: vec![0], ..EncodeInputs::default() };
        for Running { source, cross: (start, length), .. } in running {
            inputs.ranges.extend([inputs.tokens.len() as i32, *length as i32]);
            inputs.tokens.extend(source.iter().map(|&token| token as i32));
            inputs.positions.extend(0..*length as i32);
            inputs.cross_rows.extend(*start as i32..(start + length) as i32);
            inputs.offsets.push(inputs.tokens.len() as i32);
        }
        let all = inputs.tokens.len().next_multiple_of(SPARE + 1);
        let spare = cache.spare_rows().take(all - inputs.tokens.len());
        inputs.cross_rows.extend(spare.map(|row| row as i32));
        inputs.tokens.resize(all, 0);
        inputs.positions.resize(all, 0);
        // The other sequences are empty.
        let sequences = all.max(running.len());
        inputs.offsets.resize(sequences + 1, all as i32);
        inputs.ranges.resize(2 * sequences, 0);
        inputs
    }

    /// How many tokens.
    pub(super) fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// How many sequences, empty ones too.
    pub(super) fn sequences(&self) -> usize {
        self.ranges.len() / 2
    }

    /// By name.
    pub(super) fn bindings(&self) -> [(&'static str, HostSlice<'_>); 5] {
        [
            ("tokens", HostSlice::I32(&self.tokens)),
            ("positions", HostSlice::I32(&self.positions)),
            ("source_offsets", HostSlice::I32(&self.offsets)),
            ("source_ranges", HostSlice::I32(&self.ranges)),
            ("cross_rows", HostSlice::I32(&self.cross_rows)),
        ]
    }
}

/// The inputs of a step, reused from step to step.
#[derive(Debug, Default)]
pub(super) struct StepInputs {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    new_rows: Vec<i32>,
    row_table: Vec<i32>,
    lengths: Vec<i32>,
    cross_offsets: Vec<i32>,
    cross_ranges: Vec<i32>,
    /// The width of the row table.
    pub(super) width: usize,
}

impl StepInputs {
    /// Gathers the next step of all requests. Each hypothesis takes a new row of the cache.
    pub(super) fn gather(&mut self, running: &mut [Running], cache: &mut KvCache) {
        self.clear();
        let longest = running.iter().map(|running| running.position + 1).max().unwrap_or(1);
        self.width = longest.next_power_of_two().max(16);
        self.cross_offsets.push(0);
        for running in running {
            for (hypothesis, rows) in running.rows.iter_mut().enumerate() {
                let row = cache.rows.take();
                running.taken.push(row);
                rows.push(row);
                self.tokens.push(running.search.last_token(hypothesis) as i32);
                self.positions.push(running.position as i32);
                self.new_rows.push(row as i32);
                self.lengths.push(rows.len() as i32);
                let start = self.row_table.len();
                self.row_table.extend(rows.iter().map(|&row| row as i32));
                self.row_table.resize(start + self.width, 0);
            }
            self.cross_offsets.push(self.tokens.len() as i32);
            self.cross_ranges.extend([running.cross.0 as i32, running.cross.1 as i32]);
        }
        let hypotheses = self.tokens.len();
        self.cross_offsets.resize(hypotheses + 1, hypotheses as i32);
        self.cross_ranges.resize(2 * hypotheses, 0);
    }

    /// By name.
    pub(super) fn bindings(&self) -> [(&'static str, HostSlice<'_>); 7] {
        [
            ("tokens", HostSlice::I32(&self.tokens)),
            ("positions", HostSlice::I32(&self.positions)),
            ("new_rows", HostSlice::I32(&self.new_rows)),
            ("row_table", HostSlice::I32(&self.row_table)),
            ("lengths", HostSlice::I32(&self.lengths)),
            ("cross_offsets", HostSlice::I32(&self.cross_offsets)),
            ("cross_ranges", HostSlice::I32(&self.cross_ranges)),
        ]
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
