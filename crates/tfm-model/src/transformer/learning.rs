//! What a network learns, and how it is kept from learning by heart: the difference between a graph
//! that translates and one that is trained.

use super::Network;
use std::collections::{BTreeMap, BTreeSet};
use tfm_core::fused::DropoutMask;
use tfm_core::{DType, Shape, Value};

/// The shares of elements that are dropped while a model is trained.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DropoutRates {
    /// Of each sublayer's output before it is added to the residual, and of the embeddings (section
    /// 5.4).
    pub residual: f32,
    /// Of attention's weights.
    pub attention: f32,
    /// Of the feed-forward network's activations.
    pub activation: f32,
}

/// Low-rank changes of linear layers (Hu et al. 2021, "LoRA", eq. 3): `y = x·Wᵀ + (α/r)·x·Aᵀ·Bᵀ`.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapters {
    /// r.
    pub rank: usize,
    /// α.
    pub alpha: f64,
    /// The linear layers that have them, by the last part of their scopes, such as `query`.
    pub targets: BTreeSet<String>,
}

impl Adapters {
    /// The names of A `[r, input]` and B `[output, r]` of the linear layer in `scope`.
    pub fn names(scope: &str) -> [String; 2] {
        ["a", "b"].map(|part| format!("{scope}.adapter.{part}"))
    }

    /// Whether the linear layer in `scope` has one: those inside of layers alone do.
    pub fn has(&self, scope: &str) -> bool {
        let name = scope.rsplit_once('.').map_or(scope, |(_, name)| name);
        scope.contains(".layers.") && self.targets.contains(name)
    }
}

/// What a graph in training has beyond one that translates.
#[derive(Debug, Clone)]
pub struct Learning {
    /// The parameters that are learnt, by their canonical names: states of the graph. Others are
    /// fixed.
    pub learnt: BTreeSet<String>,
    /// What is dropped.
    pub dropout: DropoutRates,
    /// Low-rank changes, if that is what is learnt.
    pub adapters: Option<Adapters>,
}

/// The learning of one graph under construction: what it has met so far.
pub(super) struct TrainingContext<'a> {
    pub(super) learning: &'a Learning,
    /// The learnt parameters met so far.
    pub(super) parameters: BTreeMap<String, Value>,
    /// The key of random numbers, `I32 [3]`: seed (low, high), step.
    key: Option<Value>,
    /// How many masks have been given out.
    streams: u32,
}

impl<'a> TrainingContext<'a> {
    pub(super) fn new(learning: &'a Learning) -> Self {
        TrainingContext { learning, parameters: BTreeMap::new(), key: None, streams: 0 }
    }
}

/// The name of the input that holds the key of random numbers.
pub const RANDOM_KEY: &str = "random_key";

impl Network<'_> {
    /// The parameters met so far that are learnt, with their names, in the order of the names.
    pub fn learnt(&self) -> Vec<(String, Value)> {
        let parameters = self.training.iter().flat_map(|training| &training.parameters);
        parameters.map(|(name, value)| (name.clone(), *value)).collect()
    }

    /// The parameter of that canonical name: a state where it is learnt.
    pub(super) fn named(&mut self, name: &str, shape: &[usize]) -> Value {
        match &mut self.training {
            Some(training) if training.learning.learnt.contains(name) => {
                let graph = &mut self.graph;
                let new = || graph.state(name, DType::F32, shape);
                *training.parameters.entry(name.into()).or_insert_with(new)
            }
            _ => self.graph.parameter(name, self.numerics.dtype, shape),
        }
    }

    /// A mask that drops this share, with its key; none while translating and for a rate of 0.
    pub(super) fn mask(
        &mut self,
        rate: impl Fn(&DropoutRates) -> f32,
    ) -> Option<(DropoutMask, Value)> {
        let training = self.training.as_mut()?;
        let rate = rate(&training.learning.dropout);
        if rate == 0.0 {
            return None;
        }
        let graph = &mut self.graph;
        let key = *training.key.get_or_insert_with(|| graph.input(RANDOM_KEY, DType::I32, [3]));
        training.streams += 1;
        Some((DropoutMask { rate, stream: training.streams }, key))
    }

    /// `x`, some of its elements dropped.
    pub(super) fn dropped(&mut self, x: Value, rate: impl Fn(&DropoutRates) -> f32) -> Value {
        match self.mask(rate) {
            Some((mask, key)) => self.graph.dropout(mask, x, key, None),
            None => x,
        }
    }

    /// `residual + y`, some elements of y dropped.
    pub(super) fn add_dropped(&mut self, residual: Value, y: Value) -> Value {
        match self.mask(|rates| rates.residual) {
            Some((mask, key)) => self.graph.dropout(mask, y, key, Some(residual)),
            None => self.graph.add(residual, y),
        }
    }

    /// `y`, with the low-rank change of the current scope's linear layer, where there is one.
    pub(super) fn adapted(&mut self, x: Value, y: Value, input: usize, output: usize) -> Value {
        let scope = self.graph.scope().to_string();
        let Some((rank, alpha)) = self.training.as_ref().and_then(|training| {
            let adapters = training.learning.adapters.as_ref()?;
            adapters.has(&scope).then_some((adapters.rank, adapters.alpha))
        }) else {
            return y;
        };
        let [a, b] = Adapters::names(&scope);
        let (a, b) = (self.named(&a, &[rank, input]), self.named(&b, &[output, rank]));
        let low = self.graph.linear(x, a, None);
        let change = self.graph.linear(low, b, None);
        let change = self.graph.scale(change, alpha / rank as f64);
        self.graph.add(y, change)
    }
}

/// The shapes of the low-rank factors of a linear layer's weight: A, then B.
pub fn adapter_shapes(weight: &Shape, rank: usize) -> [Shape; 2] {
    [Shape::from([rank, weight[1]]), Shape::from([weight[0], rank])]
}
