//! The linear layer with what usually follows it.

use super::{
    Activation, FusedOp, Operand, Results, Values, expect_floats, expect_shape, result, value,
};
use crate::{Graph, Value};

/// `y = f(x·Wᵀ + b) + r`: a product with a weight, then, as chosen, bias, activation f, residual.
///
/// Inputs: `x [.., k]`, `weight [n, k]`, then `bias [n]` if any, then `residual [.., n]` if any.
/// Output: `[.., n]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// Whether a bias is added.
    pub bias: bool,
    /// The function applied after the bias.
    pub activation: Option<Activation>,
    /// Whether a residual is added last.
    pub residual: bool,
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
        let rows = graph.reshape(inputs[0], [x_shape.rows(), k]);
        let transposed = graph.permute(inputs[1], &[1, 0]);
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
}
