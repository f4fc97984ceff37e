//! The linear layer with what usually follows it.

use super::{
    Activation, Differentiated, FusedOp, Gradients, Operand, Precision, Results, Values,
    expect_floats, expect_rank, expect_shape, operands, result, value,
};
use crate::passes::vjp::sum_to;
use crate::{Graph, Value};

/// `y = f(x·Wᵀ + b) + r`: a product with a weight, then, as chosen, bias, activation f, residual.
///
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

operands! {
    /// The operands of [`Linear`].
    LinearOperands<T> of (op: Linear) {
        /// `[.., k]`.
        x: T,
        /// W: `[n, k]`.
        weight: T,
        /// b: `[n]`.
        bias: Option<T> where op.bias,
        /// r: `[.., n]`.
        residual: Option<T> where op.residual,
    }
}

impl FusedOp for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let LinearOperands { x, weight, bias, residual } = self.expect(inputs)?;
        let named: Vec<_> = self.operand_names().into_iter().zip(inputs.iter().copied()).collect();
        let dtype = expect_floats(&named)?;
        expect_rank("weight", weight, 2)?;
        let (n, k) = (weight.shape[0], weight.shape[1]);
        if x.shape.last() != Some(&k) {
            return Err(format!(
                "x {} does not end in the {k} columns of weight {}",
                x.shape, weight.shape
            ));
        }
        let shape = x.shape.with_extent(x.shape.len() - 1, n);
        if let Some(bias) = bias {
            expect_shape("bias", bias, &[n])?;
        }
        if let Some(residual) = residual {
            expect_shape("residual", residual, &shape)?;
        }
        Ok(result(shape, dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let LinearOperands { x, weight, bias, residual } = self.operands(inputs);
        let x_shape = graph.shape(x).clone();
        let (n, k) = (graph.shape(weight)[0], graph.shape(weight)[1]);
        let x = self.precision.rounded(graph, x);
        let weight = self.precision.rounded_weight(graph, weight);
        let rows = graph.reshape(x, [x_shape.rows(), k]);
        let transposed = graph.permute(weight, &[1, 0]);
        let product = graph.matmul(rows, transposed);
        let mut y = graph.reshape(product, x_shape.with_extent(x_shape.len() - 1, n));
        if let Some(bias) = bias {
            y = graph.add(y, bias);
        }
        if let Some(activation) = self.activation {
            y = graph.activate(activation, y);
        }
        if let Some(residual) = residual {
            y = graph.add(y, residual);
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
        let LinearOperands { x, weight, bias, residual } = self.operands(node.inputs);
        let wanted = self.operands(node.wanted);
        let (n, k) = (graph.shape(weight)[0], graph.shape(weight)[1]);
        let rows = graph.shape(x).rows();
        let x_gradient = wanted.x.then(|| {
            let transposed = graph.permute(weight, &[1, 0]);
            graph.linear(dy, transposed, None)
        });
        let weight_gradient = wanted.weight.then(|| {
            let dy = graph.reshape(dy, [rows, n]);
            let dy = graph.permute(dy, &[1, 0]);
            let x = graph.reshape(x, [rows, k]);
            graph.matmul(dy, x)
        });
        let bias_gradient = bias.map(|bias| {
            (wanted.bias == Some(true)).then(|| {
                let shape = graph.shape(bias).clone();
                let dy = graph.reshape(dy, [rows, n]);
                sum_to(graph, dy, &shape)
            })
        });
        let gradients = LinearOperands {
            x: x_gradient,
            weight: weight_gradient,
            bias: bias_gradient,
            residual: residual.map(|_| Some(dy)),
        };
        Some(gradients.list())
    }
}
