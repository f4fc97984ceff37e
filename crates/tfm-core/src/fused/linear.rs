//! The linear layer with what usually follows it.

use super::{
    Activation, Differentiated, FusedOp, Gradients, Operand, Precision, Results, Values,
    expect_floats, expect_shape, result, value,
};
use crate::passes::vjp::sum_to;
use crate::{Graph, Value};

/// `y = f(x·Wᵀ + b) + r`: a product with a weight, then, as chosen, bias, activation f, residual.
///
/// Inputs: `x [.., k]`, `weight [n, k]`, then `bias [n]` if any, then `residual [.., n]` if any.
/// Output: `[.., n]`. With a lower precision the product is that of `x` and `weight` as [`Precision`] makes
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Linear {
    /// Whether a bias is added.
    pub bias: bool,
    /// The function applied after the bias.
    pub activation: Option<Activation>,
    /// Whether a residual is added last.
    pub residual: bool,
    /// The precision of the product's operands.
    pub precision: Precision,
}

impl FusedOp for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let mut names = vec!["x", "weight"];
        names.extend(self.bias.then_some("bias"));
        names.extend(self.residual.then_some("residual"));
        super::expect_inputs(inputs, &names)?;
        let named: Vec<_> = names.iter().copied().zip(inputs.iter().copied()).collect();
        let dtype = expect_floats(&named)?;
        let (x, weight) = (inputs[0], inputs[1]);
        super::expect_rank("weight", weight, 2)?;
        let (n, k) = (weight.shape[0], weight.shape[1]);
        if x.shape.last() != Some(&k) {
            return Err(format!(
                "x {} does not end in the {k} columns of weight {}",
                x.shape, weight.shape
            ));
        }
        let shape = x.shape.with_extent(x.shape.len() - 1, n);
        if self.bias {
            expect_shape("bias", inputs[2], &[n])?;
        }
        if self.residual {
            expect_shape("residual", inputs[inputs.len() - 1], &shape)?;
        }
        Ok(result(shape, dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let x_shape = graph.shape(inputs[0]).clone();
        let (n, k) = (graph.shape(inputs[1])[0], graph.shape(inputs[1])[1]);
        let x = self.precision.rounded(graph, inputs[0]);
        let weight = self.precision.rounded_weight(graph, inputs[1]);
        let rows = graph.reshape(x, [x_shape.rows(), k]);
        let transposed = graph.permute(weight, &[1, 0]);
        let product = graph.matmul(rows, transposed);
        let mut y = graph.reshape(product, x_shape.with_extent(x_shape.len() - 1, n));
        if self.bias {
            y = graph.add(y, inputs[2]);
        }
        if let Some(activation) = self.activation {
            y = graph.activate(activation, y);
        }
        if self.residual {
            y = graph.add(y, inputs[inputs.len() - 1]);
        }
        value(y)
    }

    /// `dx = dy·W`, `dW = dyᵀ·x`, `db = Σ dy`, `dr = dy`. With an activation, or operands that are rounded, the
    /// layer is taken apart.
    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        if self.activation.is_some() || self.precision != Precision::Full {
            return None;
        }
        let dy = node.gradients[0]?;
        let (x, weight) = (node.inputs[0], node.inputs[1]);
        let (n, k) = (graph.shape(weight)[0], graph.shape(weight)[1]);
        let rows = graph.shape(x).rows();
        let x_gradient = node.wanted[0].then(|| {
            let transposed = graph.permute(weight, &[1, 0]);
            graph.linear(dy, transposed, None)
        });
        let weight_gradient = node.wanted[1].then(|| {
            let dy = graph.reshape(dy, [rows, n]);
            let dy = graph.permute(dy, &[1, 0]);
            let x = graph.reshape(x, [rows, k]);
            graph.matmul(dy, x)
        });
        let mut gradients = Gradients::from_iter([x_gradient, weight_gradient]);
        if self.bias {
            let bias = graph.shape(node.inputs[2]).clone();
            gradients.push(node.wanted[2].then(|| {
                let dy = graph.reshape(dy, [rows, n]);
                sum_to(graph, dy, &bias)
            }));
        }
        if self.residual {
            gradients.push(Some(dy));
        }
        Some(gradients)
    }
}
