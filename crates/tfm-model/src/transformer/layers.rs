//! The parts that encoder and decoder share: linear layers, norms, residual connections, the position-wise
//! feed-forward network, embeddings.

use super::learning::{Learning, Pupil};
use crate::config::{Config, Family, NormPlacement};
use crate::names::canonical;
use crate::numerics::Numerics;
use tfm_core::fused::{Embedding, Linear, LinearOperands};
use tfm_core::{Graph, Value};

/// A graph of the model under construction.
pub struct Network<'a> {
    /// The graph.
    pub graph: Graph,
    /// The model's description.
    pub config: &'a Config,
    /// How it is computed.
    pub numerics: Numerics,
    /// What it learns, while it is trained.
    pub(super) pupil: Option<Pupil<'a>>,
}

impl<'a> Network<'a> {
    /// An empty graph for the model that `config` describes, computed with these types of numbers.
    pub fn new(config: &'a Config, numerics: Numerics) -> Self {
        Network { graph: Graph::new(), config, numerics, pupil: None }
    }

    /// An empty graph for that model in training, which is computed in `F32`.
    pub fn learning(config: &'a Config, learning: &'a Learning) -> Self {
        let pupil = Some(Pupil::new(learning));
        Network { pupil, ..Network::new(config, Numerics::default()) }
    }

    /// Runs `build` inside the scope `name`.
    pub fn scoped<R>(&mut self, name: &str, build: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.graph.enter(name);
        let result = build(self);
        self.graph.leave(outer);
        result
    }

    /// The parameter `name` of the current scope.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> Value {
        let path = format!("{}.{name}", self.graph.scope());
        let path = path.trim_start_matches('.');
        self.named(canonical(self.config, path), shape)
    }

    /// `x·Wᵀ + b` from `input` to `output` features.
    pub(crate) fn linear(&mut self, x: Value, name: &str, input: usize, output: usize) -> Value {
        let has_bias = self.config.linear_biases;
        self.scoped(name, |net| {
            let weight = net.parameter("weight", &[output, input]);
            let bias = has_bias.then(|| net.parameter("bias", &[output]));
            let y = net.product(x, weight, bias);
            net.adapted(x, y, input, output)
        })
    }

    /// `x·Wᵀ + b` in the model's precision.
    pub(crate) fn product(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Value {
        let precision = self.numerics.precision;
        let op = Linear { bias: bias.is_some(), precision, ..Linear::default() };
        let operands = LinearOperands { x, weight, bias, residual: None };
        self.graph.fused(op, &operands.list())
    }

    /// Layer normalisation over the last axis.
    pub(crate) fn norm(&mut self, x: Value, name: &str) -> Value {
        let (d, epsilon) = (self.config.d_model, self.config.norm_epsilon);
        self.scoped(name, |net| {
            let (weight, bias) = (net.parameter("weight", &[d]), net.parameter("bias", &[d]));
            net.graph.layer_norm(x, weight, bias, epsilon)
        })
    }

    /// A sublayer with its residual connection and norm (section 3.1): `norm(x + sublayer(x))`, or
    /// `x + sublayer(norm(x))` in the pre-norm Transformer.
    pub(crate) fn residual(
        &mut self,
        x: Value,
        name: &str,
        sublayer: impl FnOnce(&mut Self, Value) -> Value,
    ) -> Value {
        let norm = format!("{name}_norm");
        match self.config.norm_placement {
            NormPlacement::Post => {
                let y = self.scoped(name, |net| sublayer(net, x));
                let sum = self.add_dropped(x, y);
                self.norm(sum, &norm)
            }
            NormPlacement::Pre => {
                let normal = self.norm(x, &norm);
                let y = self.scoped(name, |net| sublayer(net, normal));
                self.add_dropped(x, y)
            }
        }
    }

    /// `FFN(x) = f(x·W₁ + b₁)·W₂ + b₂` (section 3.3).
    pub(crate) fn feed_forward(&mut self, x: Value, d_inner: usize) -> Value {
        let d = self.config.d_model;
        let inner = self.linear(x, "inner", d, d_inner);
        let active = self.graph.activate(self.config.activation, inner);
        let active = self.dropped(active, |rates| rates.activation);
        self.linear(active, "outer", d_inner, d)
    }

    /// Scaled token embeddings plus positional encodings (sections 3.4 and 3.5): `[t, d_model]`.
    pub(crate) fn embed(
        &mut self,
        table: &str,
        rows: usize,
        tokens: Value,
        positions: Value,
    ) -> Value {
        let config = self.config;
        let d = config.d_model;
        let table = self.named(canonical(config, table), &[rows, d]);
        let encoding = self.parameter("positions.weight", &[config.max_positions, d]);
        // Marian's tables do not learn the row of the padding token, which its decoder begins with.
        let unlearnt = config.special.pad.filter(|_| config.family == Family::Marian);
        let op = Embedding {
            scale: config.embedding_scale,
            positions: true,
            unlearnt,
            precision: self.numerics.precision,
        };
        let x = self.graph.fused(op, &[tokens, table, positions, encoding]);
        self.dropped(x, |rates| rates.residual)
    }
}
