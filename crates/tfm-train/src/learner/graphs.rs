//! The graphs of training: forward, loss, backward, update, as one program.

use super::Method;
use super::optimizer::Shared;
use crate::error::Result;
use tfm_core::op::ReduceOp;
use tfm_core::{DType, Graph, Shape, Value};
use tfm_model::transformer::{DropoutRates, Learning, Network};
use tfm_model::{Config, Pairs};

/// The input with the token that each position is to predict, `[t]`.
pub(super) const LABELS: &str = "labels";
/// The input with the weight of a token in the mean loss, a scalar.
pub(super) const PER_TOKEN: &str = "per_token";
/// The input with the optimiser's numbers, `[3]`.
pub(super) const RATES: &str = "rates";

/// What `torch.nn.utils.clip_grad_norm_` adds to the norm before it divides by it.
const NORM_EPSILON: f64 = 1e-6;

/// The name of the state that the optimiser keeps for a parameter.
pub(super) fn kept_name(kind: &str, parameter: &str) -> String {
    format!("{kind}/{parameter}")
}

/// The name of a parameter's moving average.
pub(crate) fn average_name(parameter: &str) -> String {
    kept_name("average", parameter)
}

/// Builds the graphs of one model in training.
pub(super) struct Graphs<'a> {
    pub(super) config: &'a Config,
    pub(super) learning: &'a Learning,
    pub(super) method: &'a Method,
}

/// The loss of a batch and its gradients.
struct Backward {
    graph: Graph,
    /// The summed loss of all tokens, a scalar.
    loss: Value,
    /// Each trained parameter with its name and the gradient of the mean loss.
    parameters: Vec<(String, Value, Value)>,
}

impl Graphs<'_> {
    /// An update by one batch. Outputs: the summed loss of all tokens, and the gradient's norm.
    pub(super) fn update(&self, pairs: &Pairs) -> Result<Graph> {
        let Backward { mut graph, loss, parameters } = self.backward(pairs);
        graph.output(loss);
        self.step(&mut graph, &parameters);
        graph.check()?;
        Ok(graph)
    }

    /// The gradients of a batch, added to those of earlier batches if `more`. Output: the loss.
    pub(super) fn accumulate(&self, pairs: &Pairs, more: bool) -> Result<Graph> {
        let Backward { mut graph, loss, parameters } = self.backward(pairs);
        graph.output(loss);
        for (name, _, gradient) in &parameters {
            let shape = graph.shape(*gradient).clone();
            let sum = graph.state(&kept_name("gradient", name), DType::F32, shape);
            let new = if more { graph.add(sum, *gradient) } else { *gradient };
            graph.replace(sum, new);
        }
        graph.check()?;
        Ok(graph)
    }

    /// An update by the accumulated gradients. Output: their norm.
    pub(super) fn finish(&self) -> Result<Graph> {
        let mut graph = Graph::new();
        let shapes = tfm_model::learnable(self.config).into_iter();
        let adapters = self.adapter_shapes();
        let learnt = shapes.chain(adapters).filter(|(name, _)| self.learning.learnt.contains(name));
        let parameters: Vec<(String, Value, Value)> = learnt
            .map(|(name, shape)| {
                let parameter = graph.state(&name, DType::F32, shape.clone());
                let gradient = graph.state(&kept_name("gradient", &name), DType::F32, shape);
                (name, parameter, gradient)
            })
            .collect();
        self.step(&mut graph, &parameters);
        graph.check()?;
        Ok(graph)
    }

    /// The loss without gradients. Output: the summed loss of all tokens.
    pub(super) fn validate(&self, pairs: &Pairs) -> Result<Graph> {
        let learning = Learning { dropout: DropoutRates::default(), ..self.learning.clone() };
        let (net, _, loss) = self.forward(pairs, &learning, 0.0);
        let mut graph = net.graph;
        graph.output(loss);
        graph.check()?;
        Ok(graph)
    }

    /// The gradients themselves. Outputs: the summed loss of all tokens, then the gradients in the
    /// order of the names.
    pub(super) fn gradients(&self, pairs: &Pairs) -> Result<(Graph, Vec<String>)> {
        let Backward { mut graph, loss, parameters } = self.backward(pairs);
        graph.output(loss);
        let outputs = parameters.into_iter().map(|(name, _, gradient)| {
            graph.output(gradient);
            name
        });
        let names = outputs.collect();
        graph.check()?;
        Ok((graph, names))
    }

    /// The model on a batch: the network, the mean loss and the summed loss, both scalars.
    fn forward<'n>(
        &'n self,
        pairs: &Pairs,
        learning: &'n Learning,
        smoothing: f64,
    ) -> (Network<'n>, Value, Value) {
        let mut net = Network::learning(self.config, learning);
        let logits = pairs.logits(&mut net);
        let graph = &mut net.graph;
        let outer = graph.enter("loss");
        let tokens = pairs.target_tokens();
        let labels = graph.indices(LABELS, self.config.target.vocabulary, [tokens]);
        let losses = graph.cross_entropy(logits, labels, smoothing);
        let total = graph.reduce(ReduceOp::Sum, losses, 0);
        let total = graph.reshape(total, Shape::default());
        let per_token = graph.input(PER_TOKEN, DType::F32, Shape::default());
        let mean = graph.mul(total, per_token);
        graph.leave(outer);
        (net, mean, total)
    }

    fn backward(&self, pairs: &Pairs) -> Backward {
        let (mut net, mean, loss) = self.forward(pairs, self.learning, self.method.smoothing);
        let learnt = net.learnt();
        let values: Vec<Value> = learnt.iter().map(|(_, value)| *value).collect();
        let gradients = net.graph.gradients(mean, &values, &self.method.recompute);
        let parameters = learnt
            .into_iter()
            .zip(gradients)
            .map(|((name, value), gradient)| (name, value, gradient))
            .collect();
        Backward { graph: net.graph, loss, parameters }
    }

    /// Adds the update of all parameters, and the gradient's norm as an output.
    fn step(&self, graph: &mut Graph, parameters: &[(String, Value, Value)]) {
        let outer = graph.enter("update");
        let norm = norm(graph, parameters.iter().map(|(_, _, gradient)| *gradient));
        graph.output(norm);
        let Clipped { scale, is_finite, nothing } = self.clipped(graph, norm);
        let rates = graph.input(RATES, DType::F32, [3]);
        for (name, parameter, gradient) in parameters {
            let outer = graph.enter(name);
            let shape = graph.shape(*parameter).clone();
            let kept = self.method.rule.kept(&shape).into_iter();
            let kept: Vec<Value> = kept
                .map(|(kind, shape)| graph.state(&kept_name(kind, name), DType::F32, shape))
                .collect();
            let mut shared = Shared { rates, scale };
            let mut gradient = *gradient;
            if self.method.gradient_decay != 0.0 {
                let g = graph.equations();
                let [is_finite, nothing] = [is_finite, nothing].map(|x| g.of(x));
                let decay = g.of(*parameter) * self.method.gradient_decay;
                gradient = (g.of(gradient) * g.of(scale) + decay).value();
                let one = g.constant(1.0, DType::F32);
                shared.scale = is_finite.select(one, nothing).value();
            }
            let new = self.method.rule.update(graph, *parameter, gradient, &kept, shared);
            if let Some(decay) = self.method.average_decay {
                let average = graph.state(&average_name(name), DType::F32, shape);
                let g = graph.equations();
                let (average, new) = (g.of(average), g.of(new));
                let mean = average * decay + new * (1.0 - decay);
                average.replace(g.of(is_finite).select(mean, average));
            }
            graph.leave(outer);
        }
        graph.leave(outer);
    }

    /// What gradients of this norm are multiplied by.
    fn clipped(&self, graph: &mut Graph, norm: Value) -> Clipped {
        let g = graph.equations();
        let norm = g.of(norm);
        let mut scale = g.constant(1.0, DType::F32);
        if let Some(most) = self.method.clip_norm {
            let divisor = norm + NORM_EPSILON;
            scale = (g.constant(most, DType::F32) / divisor).min(scale);
        }
        let is_finite = norm.less(g.constant(f64::from(f32::MAX), DType::F32));
        let nothing = g.constant(f64::NAN, DType::F32);
        let scale = is_finite.select(scale, nothing);
        Clipped { scale: scale.value(), is_finite: is_finite.value(), nothing: nothing.value() }
    }

    /// The names and shapes of the factors of low-rank changes.
    fn adapter_shapes(&self) -> Vec<(String, Shape)> {
        crate::learner::adapter_shapes(self.config, self.learning)
    }
}

/// What gradients are multiplied by so that their norm is at most what it may be.
struct Clipped {
    /// The factor. Where the norm is not finite it is NaN, with which an update changes nothing.
    scale: Value,
    /// Whether the norm is finite.
    is_finite: Value,
    /// NaN.
    nothing: Value,
}

/// The norm of gradients together.
fn norm(graph: &mut Graph, gradients: impl Iterator<Item = Value>) -> Value {
    let g = graph.equations();
    let mut total = g.constant(0.0, DType::F32);
    for gradient in gradients {
        total = total + g.add(|graph| graph.sum_of_squares(gradient));
    }
    total.sqrt().value()
}
