//! Gradients beside finite differences, for law 4.

use crate::graph::Renamed;
use crate::op::{Op, ReduceOp};
use crate::reference::Reference;
use crate::testing::{Data, Problem};
use crate::{
    CompileOptions, DType, Graph, HostSlice, NoParameters, Program, Session, Shape, Tensor, Value,
};
use std::sync::Arc;

/// The step of the finite differences: their error is about its square in `f64`.
const STEP: f64 = 1.0 / (1 << 17) as f64;

/// How far a gradient may be from the differences, relative to the terms it is a sum of: the
/// results leave the reference in `f32`, the rest is for third derivatives.
const RELATIVE: f64 = 2e-6;

/// Two estimates whose steps are one half of the other must agree within this share. Else they say
/// nothing: the function has a kink or a pole nearby.
const SMOOTH: f64 = 1e-5;

/// The error of a one-sided difference halves with the step. Where more than this share of it
/// stays, there is a kink. Two-sided differences do not see a symmetric kink.
const KINK: f64 = 0.75;

/// Up to so many operand elements times result elements, every element of the Jacobian is checked.
const WHOLE_JACOBIAN: usize = 64;

/// The float inputs of a problem, by their positions among its inputs.
pub(super) fn float_inputs(problem: &Problem) -> Vec<(usize, Value)> {
    let nodes = problem.graph.nodes.iter();
    let named = nodes.filter_map(|node| match &node.op {
        Op::Input { name, .. } if problem.graph.dtype(node.outputs[0]).is_float() => {
            let position = problem.inputs.iter().position(|(other, _)| **other == **name)?;
            Some((position, node.outputs[0]))
        }
        _ => None,
    });
    named.collect()
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
    /// Shapes of the float inputs (v), with their positions, and of the float outputs (w).
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
        // The problem's own inputs, and a direction for each float input.
        let mut sources: Vec<(Value, Value, Option<Value>)> = Vec::new();
        for node in &inner.nodes {
            let Op::Input { name, .. } = &node.op else { continue };
            let old = node.outputs[0];
            let (dtype, shape) = (inner.dtype(old), inner.shape(old).clone());
            let new = graph.input(name, dtype, shape.clone());
            let position = float.iter().position(|(_, value)| *value == old);
            let direction =
                position.map(|i| graph.input(&format!("direction {i}"), DType::F32, shape));
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
        let inputs = float.iter().map(|&(position, value)| (position, inner.shape(value).clone()));
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

    /// Directions and weights with a single 1 in each.
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
            // A pole, perhaps of an operand that this direction does not move: moving all operands
            // must show it.
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

    /// The slope along these vectors: by two-sided differences with two steps, by one-sided ones
    /// with the same steps, and by gradients. Then the sum of the absolute terms of the last.
    fn slopes(
        &self,
        session: &mut Session,
        program: &Program,
        vectors: &[Tensor],
    ) -> Result<[f64; 6], String> {
        let mut vectors = vectors.to_vec();
        for (vector, (position, shape)) in vectors.iter_mut().zip(&self.inputs) {
            // An element that is not finite does not move.
            let x = self.problem.inputs[*position].1.to_f64();
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

/// The sum over all elements, a scalar.
pub(super) fn sum_of_all(graph: &mut Graph, x: Value) -> Value {
    let elements = graph.shape(x).elements();
    let flat = graph.reshape(x, [elements]);
    let sum = graph.reduce(ReduceOp::Sum, flat, 0);
    graph.reshape(sum, Shape::default())
}
