//! The values that are the same at every run: what they compute, told apart by small numbers, and
//! their memory. A session and its forks share them.

use crate::op::Op;
use crate::passes::Lowered;
use crate::{Backend, DType, Shape};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// What a value computes. Equal identities are equal values, also in different graphs.
pub(super) type Identity = u32;

/// What distinguishes most nodes: a parameter's name, or the identities of the operands.
#[derive(PartialEq, Eq, Hash)]
enum Source {
    Parameter(Arc<str>),
    Operands(SmallVec<[Identity; 4]>),
}

/// One result of a node on some source.
struct Computation {
    op: Op,
    output: usize,
    dtype: DType,
    shape: Shape,
    identity: Identity,
}

/// All static values that a session has met, and the memory of those that a program reads.
pub(super) struct Statics<B: Backend> {
    computations: HashMap<Source, SmallVec<[Computation; 1]>>,
    /// By identity, the number of the buffer, if there is one.
    numbers: Vec<Option<usize>>,
    /// In the order in which they were met.
    pub(super) buffers: Vec<Arc<B::Buffer>>,
}

impl<B: Backend> Statics<B> {
    pub(super) fn new() -> Self {
        Statics { computations: HashMap::new(), numbers: Vec::new(), buffers: Vec::new() }
    }

    /// The identities of a graph's values; `None` for those that are not static.
    pub(super) fn identities(&mut self, lowered: &Lowered) -> Vec<Option<Identity>> {
        let graph = &lowered.graph;
        let mut identities: Vec<Option<Identity>> = vec![None; graph.values.len()];
        for node in &graph.nodes {
            if !lowered.statics[node.outputs[0].index()] {
                continue;
            }
            for (output, value) in node.outputs.iter().enumerate() {
                let source = match &node.op {
                    Op::Parameter { name } => Source::Parameter(name.clone()),
                    _ => Source::Operands(
                        node.inputs.iter().filter_map(|input| identities[input.index()]).collect(),
                    ),
                };
                let (dtype, shape) = (graph.dtype(*value), graph.shape(*value));
                let known = self.computations.entry(source).or_default();
                let same = |other: &&Computation| {
                    other.output == output
                        && other.dtype == dtype
                        && other.shape == *shape
                        && other.op == node.op
                };
                let identity = match known.iter().find(same) {
                    Some(computation) => computation.identity,
                    None => {
                        let (op, shape) = (node.op.clone(), shape.clone());
                        let identity = self.numbers.len() as Identity;
                        known.push(Computation { op, output, dtype, shape, identity });
                        self.numbers.push(None);
                        identity
                    }
                };
                identities[value.index()] = Some(identity);
            }
        }
        identities
    }

    /// The number of a value's buffer, if it is in memory.
    pub(super) fn number(&self, identity: Identity) -> Option<usize> {
        self.numbers[identity as usize]
    }

    /// Keeps a value's buffer.
    pub(super) fn insert(&mut self, identity: Identity, buffer: B::Buffer) -> usize {
        let number = self.buffers.len();
        self.buffers.push(Arc::new(buffer));
        self.numbers[identity as usize] = Some(number);
        number
    }
}
