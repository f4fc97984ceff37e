//! Laws 4 and 8: gradients are derivatives, on every backend; and later tokens have none.

use super::differences::{check_gradients, float_inputs, sum_of_all};
use super::harness::Check;
use super::single_ops::{SLACK, run};
use super::{Config, Failure, Report};
use crate::fused::{Attention, AttentionOperands, Fused, KeyRows, KeySet};
use crate::op::Op;
use crate::testing::recipes::{self, Family, Heads, Range, heads};
use crate::testing::{Data, OperandLayout, Problem, Recipe, Subject, Tally, Weights};
use crate::{CompileOptions, DType, Shape, Value};
use proptest::prelude::*;

/// Law 4.
pub(super) fn derivatives(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let mut report = Report::default();
    // All operands have one type here. The gradient of an operand with fewer bits is rounded to
    // those, and so is not the slope.
    for Family { name, recipes, .. } in families(&[DType::F32], recipes::fused) {
        let check = Check { law: 4, name, subject, config };
        report = report.and(check.run(40, &recipes, finite_differences)?);
    }
    for Family { name, recipes, .. } in families(subject.dtypes(), recipes::fused_of_any_types) {
        let check = Check { law: 4, name, subject, config };
        report = report.and(check.run(40, &recipes, |recipe| bounded(subject, recipe))?);
    }
    Ok(report)
}

/// Every op, and graphs of many.
fn families(dtypes: &[DType], fused: fn(&Range) -> Vec<Family>) -> Vec<Family> {
    let range = Range::new(dtypes);
    let mut families = recipes::primitives(&range);
    families.extend(fused(&range));
    families.push(recipes::whole_graphs(&range));
    families
}

/// A problem's gradients with respect to its float inputs, as a problem: each float output counts
/// with weights drawn for it, which are inputs too. `None` if there is nothing to differentiate.
fn gradient_problem(recipe: &Recipe) -> Option<Problem> {
    let mut problem = recipe.problem(OperandLayout::Contiguous, Weights::Inputs);
    if !problem.states.is_empty() {
        return None; // the gradients of states have a test of their own
    }
    let inputs = float_inputs(&problem);
    let outputs: Vec<Value> = problem.graph.outputs().to_vec();
    let mut data = Data::new(recipe.seed()).part(7);
    let mut seeds = Vec::new();
    for (number, &output) in outputs.iter().enumerate() {
        let (dtype, shape) = (problem.graph.dtype(output), problem.graph.shape(output).clone());
        if dtype.is_float() {
            let name = format!("weights {number}");
            let weights = data.tensor(dtype, &shape, 1.0);
            seeds.push((output, problem.graph.input(&name, dtype, shape)));
            problem.inputs.push((name, weights));
        }
    }
    if inputs.is_empty() || seeds.is_empty() {
        return None;
    }
    let values: Vec<Value> = inputs.iter().map(|(_, value)| *value).collect();
    let gradients = problem.graph.differentiate(&seeds, &values, &[]);
    problem.graph.outputs = gradients.into_iter().flatten().collect();
    (!problem.graph.outputs.is_empty()).then_some(problem)
}

/// Gradients on the backend are within what rounding can make of the true ones.
fn bounded(subject: &dyn Subject, recipe: &Recipe) -> Result<Tally, String> {
    let Some(problem) = gradient_problem(recipe) else { return Ok(Tally::default()) };
    // Either of two near equals may be among the greatest, and so have the gradient.
    let chooses = |op: &Op| {
        matches!(
            op,
            Op::TopK { .. }
                | Op::Fused(
                    Fused::TopLogProbabilities(_)
                        | Fused::TopOfLinear(_)
                        | Fused::TopLogits(_)
                        | Fused::TopOfShortlist(_)
                )
        )
    };
    if problem.graph.nodes.iter().any(|node| chooses(&node.op)) {
        return Ok(Tally::default());
    }
    let outputs = run(subject, &problem, &CompileOptions::default())?;
    let mut tally = Tally::default();
    // At a pole there is no gradient: the finite differences tell it from a fault.
    for (bounds, output) in problem.bounds()?.iter().zip(&outputs).filter(|(b, _)| b.is_defined()) {
        tally = tally.and(bounds.check(output, SLACK)?);
    }
    Ok(tally)
}

/// The true gradients are the limits of finite differences, along random directions and weights. Of
/// small problems every element of the Jacobian is checked. All is one graph on the `f64`
/// reference, so that no difference is taken between rounded numbers.
fn finite_differences(recipe: &Recipe) -> Result<Tally, String> {
    let problem = recipe.problem(OperandLayout::Contiguous, Weights::Inputs);
    if problem.states.is_empty() {
        check_gradients(&problem, recipe.seed())?;
    }
    Ok(Tally::default())
}

/// Law 8: in a stack of causal layers, the gradient of row i of a sequence with respect to its rows
/// j > i, and to all rows of other sequences, is 0 bit for bit; with respect to rows up to i it is
/// not.
pub(super) fn causality(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let check = Check { law: 8, name: "causality", subject, config };
    let lengths = proptest::collection::vec(1..=12usize, 1..=3);
    let strategy = (lengths, heads(), 1..=2usize, any::<u64>().no_shrink(), 0..4u8);
    check.run(60, &strategy, |(lengths, heads, layers, seed, place)| {
        let rows: usize = lengths.iter().sum();
        let row = rows * usize::from(*place) / 4;
        let gradient = gradient_of_row(subject, lengths, *heads, *layers, *seed, row)?;
        let d = heads.query * heads.size;
        let mut first = 0;
        for &length in lengths {
            for j in first..first + length {
                let seen = (first..first + length).contains(&row) && j <= row;
                let part = &gradient[j * d..(j + 1) * d];
                if !seen && part.iter().any(|&x| x != 0.0) {
                    return Err(format!("row {row} depends on row {j}: {part:?}"));
                }
                if j == row && part.iter().all(|&x| x == 0.0) {
                    return Err(format!("row {row} does not depend on itself"));
                }
            }
            first += length;
        }
        Ok(Tally::default())
    })
}

/// The gradient of the sum of one row of a causal stack's result with respect to what enters it.
fn gradient_of_row(
    subject: &dyn Subject,
    lengths: &[usize],
    heads: Heads,
    layers: usize,
    seed: u64,
    row: usize,
) -> Result<Vec<f64>, String> {
    let (rows, d): (usize, usize) = (lengths.iter().sum(), heads.query * heads.size);
    let recipe = Recipe::new("a causal stack".into(), DType::F32, seed, {
        let lengths = lengths.to_vec();
        move |b| {
            let mut end = 0;
            let ends = lengths.iter().map(|length| {
                end += *length as i32;
                end
            });
            let offsets: Vec<i32> = [0].into_iter().chain(ends).collect();
            let ranges = lengths.iter().zip(&offsets).flat_map(|(&n, &o)| [o, n as i32]).collect();
            let n = lengths.len();
            let offsets = b.integers([n + 1], offsets);
            let ranges = b.integers([n, 2], ranges);
            let drawn = b.data.tensor(DType::F32, &Shape::from([rows, d]), 1.0);
            let input = b.tensor(drawn);
            let mut x = input;
            for _ in 0..layers {
                let scale = 1.0 / (d as f64).sqrt();
                let [query, key, value] = [heads.query, heads.key, heads.key].map(|heads_of_row| {
                    let weight = b.weight([heads_of_row * heads.size, d], scale);
                    let y = b.graph.linear(x, weight, None);
                    b.graph.reshape(y, [rows, heads_of_row, heads.size])
                });
                let keys = KeySet { causal: true, ..KeySet::default() };
                let op = Attention { scale, keys, ..Attention::default() };
                let rows_of = KeyRows::Ranges { query_offsets: offsets, key_ranges: ranges };
                let operands = AttentionOperands::new(query, [key, value], rows_of);
                let y = b.graph.attention(op, operands);
                let y = b.graph.reshape(y, [rows, d]);
                let sum = b.graph.add(x, y);
                let (weight, bias) = (b.weight([d], 1.0), b.weight([d], 1.0));
                let normal = b.graph.layer_norm(sum, weight, bias, 0.1);
                x = b.graph.add(sum, normal);
            }
            let chosen = b.graph.slice(x, 0, row, 1);
            let total = sum_of_all(&mut b.graph, chosen);
            let gradient = b.graph.gradients(total, &[input], &[])[0];
            b.graph.output(gradient);
        }
    });
    let problem = recipe.problem(OperandLayout::Contiguous, Weights::Parameters);
    Ok(run(subject, &problem, &CompileOptions::default())?[0].to_f64())
}
