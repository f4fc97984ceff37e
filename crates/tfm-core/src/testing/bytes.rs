//! Graphs from any bytes: what a careless or hostile builder may call, for fuzzing.

use crate::backend::Signature;
use crate::fused::{
    Activation, Adam, AdamInPlace, AdamOperands, Attention, CrossEntropy, CrossEntropyGradient,
    CrossEntropyOperands, DropoutMask, Embedding, Fused, KeyLookup, KeySet, Linear, Precision,
    RelativeBias,
};
use crate::op::{BinaryOp, PackFormat, ReduceOp, UnaryOp};
use crate::passes::{LoweringPolicy, fuse_linears, join_linears, lower};
use crate::plan::{Plan, Reuse, Writes};
use crate::{DType, Error, Graph, Value};

/// Builds the graph that the bytes spell, then writes it out, rewrites, lowers and plans it.
/// Nothing is run.
///
/// # Errors
/// The first fault of a node, which was left out, or of the whole. What must never happen is a
/// panic.
pub fn graph_from_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut reader = Reader { bytes: bytes.iter(), values: Vec::new() };
    let mut graph = Graph::new();
    let mut fault = Ok(());
    while let Some(op) = reader.bytes.next() {
        // A faulty node is left out again, so that the graph grows on.
        let mut grown = graph.clone();
        let results = reader.node(&mut grown, *op);
        match grown.check() {
            Ok(()) => {
                graph = grown;
                reader.values.extend(results);
            }
            Err(error) => fault = fault.and(Err(error)),
        }
    }
    let _ = (graph.to_string(), graph.to_dot(), graph.labels());
    for accepts in [false, true] {
        let rewritten = fuse_linears(&join_linears(&graph));
        rewritten.check()?;
        let lowered = lower(&rewritten, &Policy { accepts }, &[])?;
        let outputs = lowered.graph.outputs().to_vec();
        let plan = Plan::new(&lowered, &outputs, Writes::Keep, Reuse::Always, |_| None);
        let _ = plan.steps();
    }
    fault
}

/// A backend's answers: all ops, or none.
struct Policy {
    accepts: bool,
}

impl LoweringPolicy for Policy {
    fn supports(&self, _: &Fused, _: &Signature<'_>) -> bool {
        self.accepts
    }
    fn pack_format(&self, _: &Fused, _: usize, _: &Signature<'_>) -> Option<PackFormat> {
        None
    }
}

/// Takes operands, extents and names from the bytes; zeros once they are used up.
struct Reader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    values: Vec<Value>,
}

impl Reader<'_> {
    fn byte(&mut self) -> usize {
        usize::from(self.bytes.next().copied().unwrap_or(0))
    }

    /// A value of the graph, seldom none.
    fn value(&mut self) -> Value {
        match self.byte() {
            255 => Value(u32::MAX),
            back if self.values.is_empty() => Value(back as u32),
            back => self.values[self.values.len() - 1 - back % self.values.len()],
        }
    }

    fn extent(&mut self) -> usize {
        match self.byte() {
            255 => usize::MAX,
            254 => 1 << 40,
            253 => 1 << 20,
            byte => byte % 7,
        }
    }

    fn shape(&mut self) -> Vec<usize> {
        let rank = self.byte() % 5;
        (0..rank).map(|_| self.extent()).collect()
    }

    fn axis(&mut self) -> usize {
        self.byte() % 5
    }

    fn dtype(&mut self) -> DType {
        DType::ALL[[0, 0, 0, 1, 2, 3][self.byte() % 6]]
    }

    fn name(&mut self) -> String {
        (self.byte() % 4).to_string()
    }

    fn mask(&mut self) -> DropoutMask {
        DropoutMask { rate: self.byte() as f32 / 200.0, stream: 1 }
    }

    fn relative_bias(&mut self) -> Option<RelativeBias> {
        let numbers = self.byte();
        let (buckets, max_distance) = (numbers % 9, numbers / 3);
        let bidirectional = numbers % 4 < 2;
        (numbers % 2 == 1).then_some(RelativeBias { buckets, max_distance, bidirectional })
    }

    fn attention(&mut self) -> Attention {
        let numbers = self.byte();
        let (soft_cap, dropout) =
            (numbers.is_multiple_of(5).then_some(2.0), numbers.is_multiple_of(3));
        let dropout = dropout.then(|| self.mask());
        let (keys, more) = (self.key_set(), numbers.is_multiple_of(7));
        let more_keys = more.then(|| self.key_set());
        Attention { scale: 0.5, soft_cap, dropout, keys, more_keys }
    }

    fn key_set(&mut self) -> KeySet {
        let numbers = self.byte();
        let lookup = [KeyLookup::Ranges, KeyLookup::Table][numbers % 2];
        let window = numbers.is_multiple_of(5).then_some(numbers / 5);
        KeySet { lookup, causal: numbers.is_multiple_of(3), window, bias: self.relative_bias() }
    }

    /// One call of a builder method.
    fn node(&mut self, graph: &mut Graph, op: u8) -> Vec<Value> {
        let result = match op % 49 {
            0..=2 => graph.input(&self.name(), self.dtype(), &self.shape()[..]),
            3 => graph.indices(&self.name(), self.extent(), &self.shape()[..]),
            4 | 5 => graph.parameter(&self.name(), self.dtype(), &self.shape()[..]),
            6 => graph.state(&self.name(), self.dtype(), &self.shape()[..]),
            7 => graph.constant(self.byte() as f64, self.dtype()),
            8 => graph.iota(self.extent()),
            9 => graph.unary(UnaryOp::ALL[self.byte() % UnaryOp::ALL.len()], self.value()),
            10..=12 => {
                let op = BinaryOp::ALL[self.byte() % BinaryOp::ALL.len()];
                graph.binary(op, self.value(), self.value())
            }
            13 => graph.select(self.value(), self.value(), self.value()),
            14 => graph.cast(self.value(), self.dtype()),
            15 => graph.random(self.value(), 0, &self.shape()[..]),
            16 => graph.reduce(ReduceOp::Sum, self.value(), self.axis()),
            17 => graph.matmul(self.value(), self.value()),
            18 => graph.gather(self.value(), self.value()),
            19 => graph.scatter_add(self.value(), self.value(), self.extent()),
            20 => graph.write_rows(self.value(), self.value(), self.value()),
            21 => {
                let (values, indices) = graph.top_k(self.value(), self.extent());
                return vec![values, indices];
            }
            22 => {
                let operands: Vec<Value> = (0..self.byte() % 4).map(|_| self.value()).collect();
                graph.concat(self.axis(), &operands)
            }
            23 | 24 => graph.reshape(self.value(), &self.shape()[..]),
            25 => {
                let order: Vec<usize> = (0..self.byte() % 5).map(|_| self.axis()).collect();
                graph.permute(self.value(), &order)
            }
            26 => graph.broadcast(self.value(), &self.shape()[..]),
            27 => graph.slice(self.value(), self.axis(), self.extent(), self.extent()),
            28 | 29 => graph.linear(self.value(), self.value(), None),
            30 => {
                let flags = self.byte();
                let (bias, residual) = (flags & 1 == 1, flags & 2 == 2);
                let precision = Precision::ALL[flags / 4 % 3];
                let op = Linear { bias, activation: Some(Activation::Relu), residual, precision };
                let operands: Vec<Value> = (0..2 + flags % 3).map(|_| self.value()).collect();
                graph.fused(op, &operands)
            }
            31 => graph.activate(Activation::ALL[self.byte() % 5], self.value()),
            32 => graph.layer_norm(self.value(), self.value(), self.value(), 1e-5),
            33 => graph.softmax(self.value()),
            48 => graph.rms_norm(self.value(), self.value(), 1e-6),
            34 => {
                let op = Embedding {
                    scale: 2.0,
                    positions: self.byte() % 2 == 1,
                    precision: Precision::ALL[self.byte() % 3],
                    ..Embedding::default()
                };
                let operands: Vec<Value> = (0..self.byte() % 5).map(|_| self.value()).collect();
                graph.fused(op, &operands)
            }
            35 | 36 | 41 => {
                let op = self.attention();
                let operands: Vec<Value> =
                    op.operand_names().iter().map(|_| self.value()).collect();
                return graph.fused_all(op, &operands).to_vec();
            }
            37 => {
                let (logits, bias) = (self.value(), self.value());
                let (values, ids) = graph.top_log_probabilities(logits, bias, self.extent());
                return vec![values, ids];
            }
            40 => {
                let mask = self.mask();
                let residual = (self.byte() % 2 == 1).then(|| self.value());
                graph.dropout(mask, self.value(), self.value(), residual)
            }
            42 => {
                let op = CrossEntropy { smoothing: 0.1 };
                let operands = CrossEntropyOperands { logits: self.value(), targets: self.value() };
                return graph.fused_all(op, &operands.list()).to_vec();
            }
            43 => {
                let op = CrossEntropyGradient { smoothing: 0.1 };
                let operands: [Value; 4] = std::array::from_fn(|_| self.value());
                graph.fused(op, &operands)
            }
            44 => graph.sum_of_squares(self.value()),
            45 => {
                let op = Adam { beta1: 0.9, beta2: 0.98, epsilon: 1e-9, weight_decay: 0.0 };
                let changed = AdamInPlace::of([self.value(), self.value(), self.value()]);
                let [gradient, rates, scale] = [self.value(), self.value(), self.value()];
                let read = AdamOperands { gradient, rates, scale };
                return graph.adam(op, changed, read).list().to_vec();
            }
            46 | 47 => {
                let of: Vec<Value> = (0..self.byte() % 3).map(|_| self.value()).collect();
                let scopes = [String::new()];
                return graph.gradients(self.value(), &of, &scopes[..self.byte() % 2]);
            }
            38 => {
                graph.output(self.value());
                return Vec::new();
            }
            _ => {
                graph.label(self.value(), &self.name());
                return Vec::new();
            }
        };
        vec![result]
    }
}
