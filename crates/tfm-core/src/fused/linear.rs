//! The linear layer with what usually follows it.

use super::{
    Activation, Differentiated, FusedOp, Gradients, Operand, Precision, Results, Values,
    expect_floats, expect_rank, expect_shape, operands, result, value,
};
use crate::{Graph, Value};

/// `y = f(x·Wᵀ + b) + r`: a product with a weight, then an optional bias, activation f and
/// residual.
///
/// Output: `[.., n]`. With a lower precision the product is that of `x` and `weight` as
/// [`Precision`] makes them.
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
        let g = graph.equations();
        let (x, weight) = (g.of(x), g.of(weight));
        let (x_shape, n, k) = (x.shape(), weight.shape()[0], weight.shape()[1]);
        let x = self.precision.rounded(x);
        let weight = self.precision.rounded_weight(weight);
        let product = x.reshape([x_shape.rows(), k]).matmul(weight.permute(&[1, 0]));
        let mut y = product.reshape(x_shape.with_extent(x_shape.len() - 1, n));
        if let Some(bias) = bias {
            y = y + g.of(bias);
        }
        if let Some(activation) = self.activation {
            y = g.add(|graph| graph.activate(activation, y.value()));
        }
        if let Some(residual) = residual {
            y = y + g.of(residual);
        }
        value(y.value())
    }

    /// `dx = dy·W`, `dW = dyᵀ·x`, `db = Σ dy`, `dr = dy`. A layer with an activation or rounded
    /// operands is differentiated through its decomposition.
    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        if self.activation.is_some() || self.precision != Precision::Full {
            return None;
        }
        let dy = node.gradients[0]?;
        let LinearOperands { x, weight, bias, residual } = self.operands(node.inputs);
        let wanted = self.operands(node.wanted);
        let g = graph.equations();
        let (x, weight, dy) = (g.of(x), g.of(weight), g.of(dy));
        let (rows, n, k) = (x.shape().rows(), weight.shape()[0], weight.shape()[1]);
        let of_x = || {
            let transposed = weight.permute(&[1, 0]).value();
            g.add(|graph| graph.linear(dy.value(), transposed, None))
        };
        let of_weight = || dy.reshape([rows, n]).permute(&[1, 0]).matmul(x.reshape([rows, k]));
        let of_bias = |bias| dy.reshape([rows, n]).sum_to(&g.of(bias).shape());
        let gradients = LinearOperands {
            x: wanted.x.then(of_x),
            weight: wanted.weight.then(of_weight),
            bias: bias.map(|bias| (wanted.bias == Some(true)).then(|| of_bias(bias))),
            residual: residual.map(|_| Some(dy)),
        };
        Some(gradients.list().into_iter().map(|gradient| gradient.map(Value::from)).collect())
    }
}
