//! Laws 4 and 8: gradients are derivatives, on every backend; and later tokens have none.

use super::harness::Check;
use super::single_ops::{SLACK, run};
use super::{Config, Failure, Report};
use crate::fused::{Attention, Fused};
use crate::graph::Renamed;
use crate::op::{Op, ReduceOp};
use crate::reference::Reference;
use crate::testing::recipes::{self, Family, Range, heads};
use crate::testing::{Data, Disguise, Problem, Recipe, Subject, Tally, Weights};
use crate::{
    CompileOptions, DType, Graph, HostSlice, NoParameters, Program, Session, Shape, Tensor, Value,
};
use proptest::prelude::*;
use std::sync::Arc;

/// The step of the finite differences: their error is about its square in `f64`.
const STEP: f64 = 1.0 / (1 << 17) as f64;

/// How far a gradient may be from the differences, relative to the terms it is a sum of: the results leave the
/// reference in `f32`, the rest is for third derivatives.
const RELATIVE: f64 = 2e-6;

/// Two estimates, with steps of which one is half the other, that differ by more than this share are no
/// estimates: the function has a kink or a pole nearby.
const SMOOTH: f64 = 1e-5;

/// The error of a one-sided difference halves with the step. Where more than this share of it stays, there is
/// a kink, which differences of both sides don't see if it is symmetric.
const KINK: f64 = 0.75;

/// Up to so many operand elements times result elements, every element of the Jacobian is checked.
const WHOLE_JACOBIAN: usize = 64;

/// Law 4.
pub(super) fn derivatives(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let mut report = Report::default();
    // With operands of one type: the gradient of one in fewer bits is rounded to them, and so not the slope.
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

/// A problem's gradients with respect to its float inputs, as a problem: each float output counts with
/// weights drawn for it, which are inputs too. `None` if there is nothing to differentiate.
fn gradient_problem(recipe: &Recipe) -> Option<Problem> {
    let mut problem = recipe.problem(Disguise::None, Weights::Inputs);
    if !problem.states.is_empty() {
        return None; // a state is no operand of floats; its gradient has a test of its own
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

/// The float inputs of a problem, by their places among its inputs.
fn float_inputs(problem: &Problem) -> Vec<(usize, Value)> {
    let nodes = problem.graph.nodes.iter();
    let named = nodes.filter_map(|node| match &node.op {
        Op::Input { name, .. } if problem.graph.dtype(node.outputs[0]).is_float() => {
            let place = problem.inputs.iter().position(|(other, _)| **other == **name)?;
            Some((place, node.outputs[0]))
        }
        _ => None,
    });
    named.collect()
}

/// Gradients on the backend are within what rounding can make of the true ones.
fn bounded(subject: &dyn Subject, recipe: &Recipe) -> Result<Tally, String> {
    let Some(problem) = gradient_problem(recipe) else { return Ok(Tally::default()) };
    // Which of two near equals is among the greatest is open, and with it whose the gradient is.
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

/// The true gradients are the limits of finite differences, along random directions and weights; of small
/// problems every element of the Jacobian is. All is one graph on the `f64` reference, so that no difference
/// is taken between rounded numbers.
fn finite_differences(recipe: &Recipe) -> Result<Tally, String> {
    let problem = recipe.problem(Disguise::None, Weights::Inputs);
    if problem.states.is_empty() {
        check_gradients(&problem, recipe.seed())?;
    }
    Ok(Tally::default())
}

/// Compares the gradients of a problem's float outputs with respect to its float inputs with finite
/// differences; see law 4. The problem has no states.
///
/// # Errors
/// The slope by differences and that by gradients, where they are apart.
pub fn check_gradients(problem: &Problem, seed: u64) -> Result<(), String> {
    let Some(test) = DirectionalTest::new(problem) else { return Ok(()) };
    test.graph.check().map_err(|error| error.to_string())?;
    let mut session = Session::new(Reference::<f64>::new(), Arc::new(NoParameters));
    let program = session.compile(&test.graph, &CompileOptions::default());
    let program = program.map_err(|error| error.to_string())?;
    let mut data = Data::new(seed).part(8);
    if test.directions() * test.results() <= WHOLE_JACOBIAN {
        for direction in 0..test.directions() {
            for result in 0..test.results() {
                let vectors = test.basis(direction, result);
                test.check(&mut session, &program, &vectors)?;
            }
        }
    }
    for _ in 0..2 {
        let vectors = test.random(&mut data);
        test.check(&mut session, &program, &vectors)?;
    }
    Ok(())
}

/// A graph that compares `⟨w, J·v⟩` by differences with `⟨Jᵀ·w, v⟩` by gradients.
struct DirectionalTest<'a> {
    problem: &'a Problem,
    graph: Graph,
    /// Shapes of the float inputs (v), with their places, and of the float outputs (w).
    inputs: Vec<(usize, Shape)>,
    outputs: Vec<Shape>,
}

impl<'a> DirectionalTest<'a> {
    fn new(problem: &'a Problem) -> Option<Self> {
        let float = float_inputs(problem);
        let inner = &problem.graph;
        let results: Vec<usize> = (0..inner.outputs().len())
            .filter(|&number| inner.dtype(inner.outputs()[number]).is_float())
            .collect();
        if float.is_empty() || results.is_empty() {
            return None;
        }
        let mut graph = Graph::new();
        // The problem's own inputs, and a direction for each of floats.
        let mut sources: Vec<(Value, Value, Option<Value>)> = Vec::new();
        for node in &inner.nodes {
            let Op::Input { name, .. } = &node.op else { continue };
            let old = node.outputs[0];
            let (dtype, shape) = (inner.dtype(old), inner.shape(old).clone());
            let new = graph.input(name, dtype, shape.clone());
            let place = float.iter().position(|(_, value)| *value == old);
            let direction =
                place.map(|i| graph.input(&format!("direction {i}"), DType::F32, shape));
            sources.push((old, new, direction));
        }
        let weights: Vec<Value> = results
            .iter()
            .enumerate()
            .map(|(i, &number)| {
                let shape = inner.shape(inner.outputs()[number]).clone();
                graph.input(&format!("weight {i}"), DType::F32, shape)
            })
            .collect();
        let at = |graph: &mut Graph, step: f64| -> Vec<Value> {
            let mut renamed = Renamed::none_of(inner);
            for &(old, new, direction) in &sources {
                let moved = direction.filter(|_| step != 0.0).map(|direction| {
                    let change = graph.scale(direction, step);
                    graph.add(new, change)
                });
                renamed.rename(&[old], [moved.unwrap_or(new)]);
            }
            graph.include(inner, &mut renamed);
            let output = |&number: &usize| renamed.get(inner.outputs()[number]);
            results.iter().filter_map(output).collect()
        };
        let here = at(&mut graph, 0.0);
        let half = STEP / 2.0;
        for (up, down) in [(STEP, STEP), (half, half), (STEP, 0.0), (half, 0.0)] {
            let above = at(&mut graph, up);
            let below = if down == 0.0 { here.clone() } else { at(&mut graph, -down) };
            let mut total = graph.constant(0.0, DType::F32);
            for ((above, below), &weight) in above.into_iter().zip(below).zip(&weights) {
                let difference = graph.sub(above, below);
                let product = graph.mul(difference, weight);
                let sum = sum_of_all(&mut graph, product);
                total = graph.add(total, sum);
            }
            let slope = graph.scale(total, 1.0 / (up + down));
            graph.output(slope);
        }
        let seeds: Vec<(Value, Value)> = here.into_iter().zip(weights).collect();
        let values: Vec<Value> = sources.iter().filter(|s| s.2.is_some()).map(|s| s.1).collect();
        let gradients = graph.differentiate(&seeds, &values, &[]);
        let mut slope = graph.constant(0.0, DType::F32);
        let mut size = slope;
        let directions = sources.iter().filter_map(|source| source.2);
        for (gradient, direction) in gradients.into_iter().zip(directions) {
            let Some(gradient) = gradient else { continue };
            let product = graph.mul(gradient, direction);
            let sum = sum_of_all(&mut graph, product);
            slope = graph.add(slope, sum);
            let absolute = graph.abs(product);
            let sum = sum_of_all(&mut graph, absolute);
            size = graph.add(size, sum);
        }
        graph.output(slope);
        graph.output(size);
        let inputs = float.iter().map(|&(place, value)| (place, inner.shape(value).clone()));
        let outputs = results.iter().map(|&number| inner.shape(inner.outputs()[number]).clone());
        Some(DirectionalTest {
            problem,
            graph,
            inputs: inputs.collect(),
            outputs: outputs.collect(),
        })
    }

    /// The elements of all float inputs.
    fn directions(&self) -> usize {
        self.inputs.iter().map(|(_, shape)| shape.elements()).sum()
    }

    /// The elements of all float outputs.
    fn results(&self) -> usize {
        self.outputs.iter().map(Shape::elements).sum()
    }

    fn shapes(&self) -> impl Iterator<Item = &Shape> {
        self.inputs.iter().map(|(_, shape)| shape).chain(&self.outputs)
    }

    /// Directions and weights of which one element each is 1.
    fn basis(&self, direction: usize, result: usize) -> Vec<Tensor> {
        let ones = [direction, self.directions() + result];
        let mut first = 0;
        let tensor = |shape: &Shape| {
            let range = first..first + shape.elements();
            first = range.end;
            let value = |element: usize| if ones.contains(&element) { 1.0 } else { 0.0 };
            Tensor::from_f32(shape.clone(), range.map(value).collect()).expect("a value an element")
        };
        self.shapes().map(tensor).collect()
    }

    fn random(&self, data: &mut Data) -> Vec<Tensor> {
        self.shapes().map(|shape| data.tensor(DType::F32, shape, 1.0)).collect()
    }

    fn check(
        &self,
        session: &mut Session,
        program: &Program,
        vectors: &[Tensor],
    ) -> Result<(), String> {
        let slopes = self.slopes(session, program, vectors)?;
        let [_, narrow, .., slope, size] = slopes;
        if !size.is_finite() {
            // A pole, perhaps of an operand that this direction leaves where it is: moving all must show it.
            let some = |shape: &Shape| {
                let values = (0..shape.elements()).map(|i| if i % 2 == 0 { 1.0 } else { -0.5 });
                Tensor::from_f32(shape.clone(), values.collect()).expect("a value an element")
            };
            let all: Vec<Tensor> = self.shapes().map(some).collect();
            if !has_derivative(self.slopes(session, program, &all)?) {
                return Ok(());
            }
        } else if !has_derivative(slopes) {
            return Ok(());
        }
        let scale = size + narrow.abs();
        if (narrow - slope).abs() <= RELATIVE * scale.max(1e-2) {
            return Ok(());
        }
        Err(format!("the slope is {narrow:e} by differences and {slope:e} by gradients"))
    }

    /// The slope along these vectors: by differences of both sides with two steps, by those of one side with
    /// the same, and by gradients; and the sum of the absolute terms of the last.
    fn slopes(
        &self,
        session: &mut Session,
        program: &Program,
        vectors: &[Tensor],
    ) -> Result<[f64; 6], String> {
        let mut vectors = vectors.to_vec();
        for (vector, (place, shape)) in vectors.iter_mut().zip(&self.inputs) {
            // What is not a number, and may not be looked at, does not move either.
            let x = self.problem.inputs[*place].1.to_f64();
            let pairs = vector.to_f64().into_iter().zip(x);
            let still = pairs.map(|(v, x)| if x.is_finite() { v as f32 } else { 0.0 });
            *vector = Tensor::from_f32(shape.clone(), still.collect()).expect("a value an element");
        }
        let names = (0..self.inputs.len()).map(|i| format!("direction {i}"));
        let names = names.chain((0..self.outputs.len()).map(|i| format!("weight {i}")));
        let names: Vec<String> = names.collect();
        let mut inputs: Vec<(&str, HostSlice<'_>)> = self.problem.bindings();
        inputs.extend(names.iter().zip(&vectors).map(|(name, v)| (name.as_str(), v.as_slice())));
        let outputs = session.run(program, &inputs, &mut []).map_err(|error| error.to_string())?;
        Ok([0, 1, 2, 3, 4, 5].map(|i| outputs[i].to_f64()[0]))
    }
}

/// Whether there seems to be a derivative, by what [`DirectionalTest::slopes`] found.
fn has_derivative([wide, narrow, forward, half_forward, _, size]: [f64; 6]) -> bool {
    let scale = wide.abs() + if size.is_finite() { size } else { 0.0 };
    let [all, half] = [forward - narrow, half_forward - narrow].map(f64::abs);
    let has_kink = half > 1e-7 * scale && half > KINK * all;
    wide.is_finite() && (wide - narrow).abs() <= SMOOTH * scale.max(1e-3) && !has_kink
}

fn sum_of_all(graph: &mut Graph, x: Value) -> Value {
    let elements = graph.shape(x).elements();
    let flat = graph.reshape(x, [elements]);
    let sum = graph.reduce(ReduceOp::Sum, flat, 0);
    graph.reshape(sum, Shape::default())
}

/// Law 8: in a stack of causal layers, the gradient of row i of a sequence with respect to its rows j > i,
/// and to all rows of other sequences, is 0 bit for bit; with respect to rows up to i it is not.
pub(super) fn causality(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let check = Check { law: 8, name: "causality", subject, config };
    let lengths = proptest::collection::vec(1..=12usize, 1..=3);
    let strategy = (lengths, heads(), 1..=2usize, any::<u64>().no_shrink(), 0..4u8);
    check.run(60, &strategy, |(lengths, (heads, d_head), layers, seed, place)| {
        let rows: usize = lengths.iter().sum();
        let row = rows * usize::from(*place) / 4;
        let gradient = gradient_of_row(subject, lengths, (*heads, *d_head), *layers, *seed, row)?;
        let d = heads * d_head;
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
    (heads, d_head): (usize, usize),
    layers: usize,
    seed: u64,
    row: usize,
) -> Result<Vec<f64>, String> {
    let (rows, d): (usize, usize) = (lengths.iter().sum(), heads * d_head);
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
                let [query, key, value] = [0, 1, 2].map(|_| {
                    let weight = b.weight([d, d], scale);
                    let y = b.graph.linear(x, weight, None);
                    b.graph.reshape(y, [rows, heads, d_head])
                });
                let op = Attention { scale, causal: true, ..Attention::default() };
                let y = b.graph.attention(op, [query, key, value, offsets, ranges]);
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
    let problem = recipe.problem(Disguise::None, Weights::Parameters);
    Ok(run(subject, &problem, &CompileOptions::default())?[0].to_f64())
}
