//! The parts that encoder and decoder share: linear layers, norms, residual connections, the
//! position-wise feed-forward network, embeddings.

use super::learning::{Learning, TrainingContext};
use crate::config::{Config, Embedding, FeedForward, Norm, NormKind, NormPlacement};
use crate::names::canonical;
use crate::numerics::Numerics;
use tfm_core::fused::{self, EmbeddingOperands, Linear, LinearOperands};
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
    pub(super) training: Option<TrainingContext<'a>>,
}

impl<'a> Network<'a> {
    /// An empty graph for the model that `config` describes, computed with these types of numbers.
    pub fn new(config: &'a Config, numerics: Numerics) -> Self {
        Network { graph: Graph::new(), config, numerics, training: None }
    }

    /// An empty graph for that model in training, which is computed in `F32`.
    pub fn learning(config: &'a Config, learning: &'a Learning) -> Self {
        let training = Some(TrainingContext::new(learning));
        Network { training, ..Network::new(config, Numerics::default()) }
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

    /// `x·Wᵀ` to `output` features, and with a bias `x·Wᵀ + b`.
    pub(crate) fn linear(&mut self, x: Value, name: &str, output: usize, has_bias: bool) -> Value {
        let input = self.graph.shape(x).last().copied().unwrap_or(0);
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

    /// Normalisation over the last axis.
    pub(crate) fn norm(&mut self, norm: &Norm, x: Value, name: &str) -> Value {
        let (d, epsilon) = (self.config.d_model, norm.epsilon);
        self.scoped(name, |net| {
            let weight = net.parameter("weight", &[d]);
            match norm.kind {
                NormKind::Layer => {
                    let bias = net.parameter("bias", &[d]);
                    net.graph.layer_norm(x, weight, bias, epsilon)
                }
                NormKind::RootMeanSquare => net.graph.rms_norm(x, weight, epsilon),
            }
        })
    }

    /// A sublayer with its residual connection and norm (section 3.1): `norm(x + sublayer(x))`, or
    /// `x + sublayer(norm(x))` in the pre-norm Transformer.
    pub(crate) fn residual(
        &mut self,
        norm: &Norm,
        x: Value,
        name: &str,
        sublayer: impl FnOnce(&mut Self, Value) -> Value,
    ) -> Value {
        let norm_name = format!("{name}_norm");
        match norm.placement {
            NormPlacement::Post => {
                let y = self.scoped(name, |net| sublayer(net, x));
                let sum = self.add_dropped(x, y);
                self.norm(norm, sum, &norm_name)
            }
            NormPlacement::Pre => {
                let normal = self.norm(norm, x, &norm_name);
                let y = self.scoped(name, |net| sublayer(net, normal));
                self.add_dropped(x, y)
            }
        }
    }

    /// `FFN(x) = f(x·W₁ + b₁)·W₂ + b₂` (section 3.3); gated, `(f(x·V)∘(x·W₁))·W₂` (Shazeer 2020).
    pub(crate) fn feed_forward(&mut self, shape: &FeedForward, x: Value) -> Value {
        let FeedForward { inner, activation, gated, biases } = *shape;
        let activated = self.linear(x, if gated { "gate" } else { "inner" }, inner, biases);
        let mut hidden = self.graph.activate(activation, activated);
        if gated {
            let linear = self.linear(x, "inner", inner, biases);
            hidden = self.graph.mul(hidden, linear);
        }
        let hidden = self.dropped(hidden, |rates| rates.activation);
        self.linear(hidden, "outer", self.config.d_model, biases)
    }

    /// Scaled token embeddings, plus positional encodings where there is a table of them (sections
    /// 3.4 and
    /// 3.5): `[t, d_model]`.
    pub(crate) fn embed(
        &mut self,
        embedding: &Embedding,
        norm: &Norm,
        table: &str,
        tokens: Value,
        positions: Value,
    ) -> Value {
        let d = self.config.d_model;
        let table = self.named(canonical(self.config, table), &[embedding.vocabulary, d]);
        let op = fused::Embedding {
            scale: embedding.scale,
            positions: embedding.positions.is_some(),
            unlearnt: embedding.unlearnt,
            precision: self.numerics.precision,
        };
        let position_table = embedding
            .positions
            .as_ref()
            .map(|encoding| self.parameter("positions.weight", &[encoding.rows, d]));
        let operands = EmbeddingOperands {
            ids: tokens,
            table,
            positions: position_table.map(|_| positions),
            position_table,
        };
        let mut x = self.graph.fused(op, &operands.list());
        if norm.after_embedding {
            x = self.norm(norm, x, "embedding_norm");
        }
        self.dropped(x, |rates| rates.residual)
    }
}
