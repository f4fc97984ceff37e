//! More candidates of the hypotheses of which a step has found too few.
//!
//! A beam search may pick all its candidates of one hypothesis, but nearly always picks few of
//! each. So a step finds few, and where they do not do, the candidates of those hypotheses are
//! found once more, as many as there may have to be. With many beams that saves most of the
//! sorting.

use super::programs::{DeeperShape, Segment};
use super::step::Found;
use super::worker::Worker;
use crate::generation::DeeperRow;
use tfm_core::{HostSlice, Result, Tensor};

/// A hypothesis that needs more candidates.
struct Lacking {
    /// The request's place among those that are being decoded.
    request: usize,
    /// Which of its hypotheses.
    number: usize,
    /// Its row of the step.
    row: usize,
    bans: usize,
    candidates: usize,
}

impl Worker {
    /// For each request the rows that need more candidates than the step has found, with these.
    pub(super) fn look_deeper(
        &mut self,
        segments: &[Segment],
        outputs: &[Tensor],
    ) -> Result<Vec<Vec<DeeperRow>>> {
        let mut deeper = vec![Vec::new(); self.running.len()];
        let mut lacking = self.lacking(segments, outputs);
        lacking.sort_by_key(|row| row.bans); // stable: hypotheses stay in order
        let Some(states) = outputs.last().filter(|_| !lacking.is_empty()) else {
            return Ok(deeper);
        };
        let width = states.shape()[1];
        let states = states.as_f32().expect("the step's program returns states in f32");
        for group in lacking.chunk_by(|a, b| a.bans == b.bans) {
            let candidates = group.iter().map(|row| row.candidates).max().unwrap_or(1);
            let vocabulary = self.config.target.vocabulary;
            let shape = DeeperShape {
                // Few different numbers, so that programs are found again.
                rows: group.len().next_power_of_two(),
                candidates: candidates.min(vocabulary).next_power_of_two().min(vocabulary),
                ban_sets: self.bans.rows(),
                bans: group[0].bans,
            };
            let mut chosen = Vec::with_capacity(shape.rows * width);
            for row in group {
                chosen.extend_from_slice(&states[row.row * width..][..width]);
            }
            chosen.resize(shape.rows * width, 0.0);
            let program =
                self.programs.deeper(&mut self.session, &self.config, self.numerics, shape)?;
            let inputs = [("states", HostSlice::F32(&chosen))];
            let found = self.session.run(&program, &inputs, &mut [self.bans.state()])?;
            let (Some(values), Some(ids)) = (found[0].as_f32(), found[1].as_i32()) else {
                unreachable!("the program returns values in f32 and ids");
            };
            let rows = values.chunks(shape.candidates).zip(ids.chunks(shape.candidates));
            for (row, (values, ids)) in group.iter().zip(rows) {
                let (number, values, ids) = (row.number, values.to_vec(), ids.to_vec());
                deeper[row.request].push(DeeperRow { number, values, ids });
            }
        }
        Ok(deeper)
    }

    fn lacking(&mut self, segments: &[Segment], outputs: &[Tensor]) -> Vec<Lacking> {
        let mut lacking = Vec::new();
        let mut found = Found::new(segments, outputs, self.shortlists.is_some());
        let mut first = 0;
        for (request, running) in self.running.iter_mut().enumerate() {
            let rows = found.next(running.rows.len());
            let candidates = running.search.needs().candidates;
            for number in running.search.lacking(rows) {
                let (row, bans) = (first + number, running.bans);
                lacking.push(Lacking { request, number, row, bans, candidates });
            }
            first += running.rows.len();
        }
        lacking
    }
}
