//! The output projection among shortlists.

use std::borrow::Cow;

use tfm_core::backend::{Outcome, View};
use tfm_core::fused::{TopOfShortlist, TopOfShortlistOperands};

use super::linear::{Weight, no_memory, product};
use super::rows;
use crate::CpuBackend;
use crate::buffer::{Buffer, in_order};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::shortlist::{Found, Lists, best_of_lists};

/// Searches the best of each row's list. It computes the product with the columns that are in any
/// list, then searches each row's own list.
pub(super) fn run(
    cpu: &CpuBackend,
    op: &TopOfShortlist,
    inputs: &[View<'_, Buffer>],
    values: &mut [f32],
    ids: &mut [i32],
    log_sum_exps: &mut [f32],
) -> Outcome {
    let operands = op.operands(inputs);
    let TopOfShortlistOperands { x, weight, bias, bans, columns, lists, lengths, list_of } =
        operands;
    let x = rows(&x);
    let width = lists.layout.shape()[1];
    let integers: [Cow<'_, [i32]>; 4] = [columns, lists, lengths, list_of].map(|i| in_order(&i));
    let [columns, places, lengths, list_of] = &integers;
    let lists = Lists { places, width, lengths, list_of };
    let of_columns =
        |all: &[f32]| -> Vec<f32> { columns.iter().map(|&column| all[column as usize]).collect() };
    let bias = bias.map(|bias| of_columns(&in_order(&bias)));
    let bans = of_columns(&in_order(&bans));
    let weight = Weight::new(cpu, op.precision, &weight)?;
    let (m, n) = (x.rows(), columns.len());
    let search = |selected: &Buffer| {
        let mut logits = cpu.scratch.take(m * n).map_err(|_| no_memory(m * n))?;
        let epilogue = Epilogue { bias: bias.as_deref(), ..Epilogue::default() };
        product(cpu, x, selected, epilogue, &mut logits, n)?;
        let found = Found { values, places: &mut *ids, log_sum_exps };
        best_of_lists(cpu.isa, &cpu.threads, &logits, &bans, lists, op.k, found);
        Ok(())
    };
    let searched = cpu.selections.with(&cpu.threads, weight.buffer(), columns, search);
    searched.map_err(|_| no_memory(n * x.cols()))??;
    for (ids, &list) in ids.chunks_exact_mut(op.k.max(1)).zip(list_of.iter()) {
        let places = &places[list as usize * width..][..width];
        ids.iter_mut().for_each(|id| *id = columns[places[*id as usize] as usize]);
    }
    Ok(())
}
