//! The output projection among shortlists.

use std::borrow::Cow;

use tfm_core::backend::{Outcome, View};
use tfm_core::fused::TopOfShortlist;

use super::linear::{Weight, no_memory, product};
use super::rows;
use crate::CpuBackend;
use crate::buffer::{Buffer, in_order};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::shortlist::{Found, Lists, best_of_lists};

/// Runs the search for the best of each row's list: the product with the columns that are in any list, then each row's own.
pub(super) fn run(
    cpu: &CpuBackend,
    op: &TopOfShortlist,
    inputs: &[View<'_, Buffer>],
    values: &mut [f32],
    ids: &mut [i32],
    log_sum_exps: &mut [f32],
) -> Outcome {
    let x = rows(&inputs[0]);
    let (floats, others) = inputs.split_at(op.floats());
    let bans = in_order::<f32>(&others[0]);
    let [columns, places, lengths, list_of]: [Cow<'_, [i32]>; 4] =
        [1, 2, 3, 4].map(|i| in_order(&others[i]));
    let width = others[2].layout.shape()[1];
    let lists = Lists { places: &places, width, lengths: &lengths, list_of: &list_of };
    let of_columns =
        |all: &[f32]| -> Vec<f32> { columns.iter().map(|&column| all[column as usize]).collect() };
    let bias = op.bias.then(|| of_columns(&in_order(&floats[2])));
    let bans = of_columns(&bans);
    let weight = Weight::new(cpu, op.precision, &inputs[1])?;
    let (m, n) = (x.rows(), columns.len());
    let search = |selected: &Buffer| {
        let mut logits = cpu.scratch.take(m * n).map_err(|_| no_memory(m * n))?;
        let epilogue = Epilogue { bias: bias.as_deref(), ..Epilogue::default() };
        product(cpu, x, selected, epilogue, &mut logits, n)?;
        let found = Found { values, places: &mut *ids, log_sum_exps };
        best_of_lists(cpu.isa, &cpu.threads, &logits, &bans, lists, op.k, found);
        Ok(())
    };
    let searched = cpu.selections.with(&cpu.threads, weight.buffer(), &columns, search);
    searched.map_err(|_| no_memory(n * x.cols()))??;
    for (ids, &list) in ids.chunks_exact_mut(op.k.max(1)).zip(list_of.iter()) {
        let places = &places[list as usize * width..][..width];
        ids.iter_mut().for_each(|id| *id = columns[places[*id as usize] as usize]);
    }
    Ok(())
}
