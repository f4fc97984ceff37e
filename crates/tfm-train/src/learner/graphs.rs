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
        let mut total = graph.constant(0.0, DType::F32);
        for (_, _, gradient) in parameters {
            let squares = graph.sum_of_squares(*gradient);
            total = graph.add(total, squares);
        }
        let norm = graph.sqrt(total);
        graph.output(norm);
        let mut scale = graph.constant(1.0, DType::F32);
        if let Some(most) = self.method.clip_norm {
            let divisor = graph.shift(norm, NORM_EPSILON);
            let most = graph.constant(most, DType::F32);
            let share = graph.div(most, divisor);
            scale = graph.min(share, scale);
        }
        // A norm that is not finite changes nothing.
        let largest = graph.constant(f64::from(f32::MAX), DType::F32);
        let is_finite = graph.less(norm, largest);
        let nothing = graph.constant(f64::NAN, DType::F32);
        let scale = graph.select(is_finite, scale, nothing);
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
                let decay = graph.scale(*parameter, self.method.gradient_decay);
                let scaled = graph.mul(gradient, scale);
                gradient = graph.add(scaled, decay);
                let one = graph.constant(1.0, DType::F32);
                shared.scale = graph.select(is_finite, one, nothing);
            }
            let new = self.method.rule.update(graph, *parameter, gradient, &kept, shared);
            if let Some(decay) = self.method.average_decay {
                let average = graph.state(&average_name(name), DType::F32, shape);
                let (old, part) = (graph.scale(average, decay), graph.scale(new, 1.0 - decay));
                let mean = graph.add(old, part);
                let mean = graph.select(is_finite, mean, average);
                graph.replace(average, mean);
            }
            graph.leave(outer);
        }
        graph.leave(outer);
    }

    /// The names and shapes of the factors of low-rank changes.
    fn adapter_shapes(&self) -> Vec<(String, Shape)> {
        crate::learner::adapter_shapes(self.config, self.learning)
    }
}
