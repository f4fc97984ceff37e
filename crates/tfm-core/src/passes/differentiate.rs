//! Reverse-mode differentiation: a graph in, the same graph with gradients in it out.
//!
//! The pass walks the nodes backwards. Each node turns the gradients of its results into those of
//! its operands by the rule in [`vjp`](super::vjp), and what reaches a value on several paths is
//! summed (Linnainmaa 1970; Griewank and Walther, *Evaluating Derivatives*, chapter 3). The
//! gradient consists of ordinary nodes, so it is the same on every backend, and can be lowered,
//! planned and differentiated again.

use super::vjp::vjp;
use crate::fused::Differentiated;
use crate::graph::{Node, Renamed};
use crate::{Graph, Value};
use smallvec::SmallVec;

impl Graph {
    /// The gradient of the one element of `of` with respect to each of `with_respect_to`, in their
    /// shapes and types. Values that `of` does not depend on have the gradient 0.
    ///
    /// Values made in a scope that begins with one of `recompute` are not kept for the backward
    /// pass but computed again in it, from what enters the scope (Chen et al. 2016, "Training deep
    /// nets with sublinear memory cost").
    pub fn gradients(
        &mut self,
        of: Value,
        with_respect_to: &[Value],
        recompute: &[String],
    ) -> Vec<Value> {
        let mut all = with_respect_to.iter().chain([&of]);
        if let Some(foreign) = all.find(|value| value.index() >= self.values.len()) {
            self.refuse("gradients", format!("{foreign:?} is not of this graph"));
            return vec![Value::NONE; with_respect_to.len()];
        }
        if let Some(x) = first_integer(self, of, with_respect_to) {
            let dtype = self.dtype(x);
            self.refuse("gradients", format!("of floats with respect to floats, not to {dtype}"));
            return vec![Value::NONE; with_respect_to.len()];
        }
        if self.shape(of).elements() != 1 {
            let shape = self.shape(of).clone();
            self.refuse("gradients", format!("of a value with one element, not of {shape}"));
            return vec![Value::NONE; with_respect_to.len()];
        }
        let seed = self.filled_like(1.0, of);
        let gradients = self.differentiate(&[(of, seed)], with_respect_to, recompute);
        let pairs = with_respect_to.iter().zip(gradients);
        pairs.map(|(&x, gradient)| gradient.unwrap_or_else(|| self.filled_like(0.0, x))).collect()
    }

    /// The gradients of Σ ⟨seed, value⟩ over the pairs of `seeds`; `None` where nothing depends on
    /// a value.
    pub(crate) fn differentiate(
        &mut self,
        seeds: &[(Value, Value)],
        with_respect_to: &[Value],
        recompute: &[String],
    ) -> Vec<Option<Value>> {
        if self.check().is_err() {
            return vec![None; with_respect_to.len()];
        }
        let mut backward = Backward {
            wanted: self.depending_on(with_respect_to),
            gradients: vec![None; self.values.len()],
            recompute,
            again: Renamed::none_of(self),
            redone: Vec::new(),
        };
        let outer = self.outer_scope();
        let forward = self.nodes.len();
        for &(value, seed) in seeds {
            backward.add(self, value, seed);
        }
        for index in (0..forward).rev() {
            backward.node(self, index);
        }
        self.leave(outer);
        with_respect_to.iter().map(|x| backward.gradients[x.index()]).collect()
    }

    /// For each value whether it depends, by floats, on one of `sources`.
    fn depending_on(&self, sources: &[Value]) -> Vec<bool> {
        let mut depends = vec![false; self.values.len()];
        for source in sources {
            depends[source.index()] = true;
        }
        for node in &self.nodes {
            let any = node.inputs.iter().any(|input| depends[input.index()]);
            for output in &node.outputs {
                depends[output.index()] |= any && self.dtype(*output).is_float();
            }
        }
        depends
    }
}

/// The first value that is not of floats, if there is one.
fn first_integer(graph: &Graph, of: Value, with_respect_to: &[Value]) -> Option<Value> {
    let mut all = with_respect_to.iter().chain([&of]);
    all.find(|value| !graph.dtype(**value).is_float()).copied()
}

/// The state of one backward walk.
struct Backward<'a> {
    /// Whether a value's gradient is needed.
    wanted: Vec<bool>,
    /// The sum of what has reached each value so far.
    gradients: Vec<Option<Value>>,
    recompute: &'a [String],
    /// Values of recomputed scopes, computed again.
    again: Renamed,
    /// The scopes that have been computed again.
    redone: Vec<String>,
}

impl Backward<'_> {
    fn node(&mut self, graph: &mut Graph, index: usize) {
        let node = graph.nodes[index].clone();
        let gradient = |value: &Value| self.gradients[value.index()];
        let gradients: SmallVec<[Option<Value>; 2]> = node.outputs.iter().map(gradient).collect();
        let wanted: SmallVec<[bool; 5]> =
            node.inputs.iter().map(|input| self.wanted[input.index()]).collect();
        if gradients.iter().all(Option::is_none) || !wanted.contains(&true) {
            return;
        }
        self.redo(graph, &node, index);
        let inputs = self.now(&node.inputs);
        let outputs = self.now(&node.outputs);
        graph.set_scope(node.scope.clone());
        let differentiated = Differentiated {
            inputs: &inputs,
            outputs: &outputs,
            gradients: &gradients,
            wanted: &wanted,
        };
        let results = vjp(graph, &node.op, &differentiated);
        for ((&input, result), wanted) in node.inputs.iter().zip(results).zip(wanted) {
            if let (Some(gradient), true) = (result, wanted) {
                self.add(graph, input, gradient);
            }
        }
    }

    fn add(&mut self, graph: &mut Graph, value: Value, gradient: Value) {
        let sum = match self.gradients[value.index()] {
            Some(so_far) => graph.add(so_far, gradient),
            None => gradient,
        };
        self.gradients[value.index()] = Some(sum);
    }

    /// The values, or what they are in a scope that has been computed again.
    fn now(&self, values: &[Value]) -> SmallVec<[Value; 5]> {
        values.iter().map(|&value| self.again.get(value).unwrap_or(value)).collect()
    }

    /// Computes the nodes of a recomputed scope again, when the first of them is met.
    fn redo(&mut self, graph: &mut Graph, node: &Node, last: usize) {
        let within = |scope: &str, prefix: &str| {
            scope.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let Some(prefix) = self.recompute.iter().find(|prefix| within(&node.scope, prefix)) else {
            return;
        };
        if self.redone.contains(prefix) {
            return;
        }
        self.redone.push(prefix.clone());
        for index in 0..=last {
            let node = graph.nodes[index].clone();
            // A write must happen only once, and sources cost nothing to keep.
            if !within(&node.scope, prefix) || node.inputs.is_empty() || node.writes(graph) {
                continue;
            }
            let outputs = graph.add_again(&node, &self.now(&node.inputs));
            self.again.rename(&node.outputs, outputs);
        }
    }
}
