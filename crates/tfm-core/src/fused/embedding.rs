//! Token embedding with its scale and positional encoding.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Precision, Results, Values, expect_floats,
    expect_inputs, expect_integers, expect_rank, expect_shape, result, value,
};
use crate::{Graph, Value};

/// `y_t = scale·E[ids_t] + P[positions_t]`: the rows of an embedding table, scaled (by √d in the paper,
/// section 3.4), plus the positional encoding where `positions` is set (section 3.5).
///
/// Inputs: `ids [t]` in `I32`, `table [v, d]`; with positions also `positions [t]` in `I32` and
/// `position_table [p, d]`. Output: `[t, d]`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Embedding {
    /// The factor of the embedding.
    pub scale: f64,
    /// Whether a positional encoding is added.
    pub positions: bool,
    /// A row that is looked up but not learnt by it: the gradient passes it by. (`padding_idx` of
    /// `torch.nn.Embedding`; Marian's decoder begins with that token.)
    pub unlearnt: Option<u32>,
    /// The precision of the table, so that it can be kept once where it is also a [`Linear`](super::Linear)'s weight.
    pub precision: Precision,
}

impl FusedOp for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let names: &[&str] = if self.positions {
            &["ids", "table", "positions", "position_table"]
        } else {
            &["ids", "table"]
        };
        expect_inputs(inputs, names)?;
        let (ids, table) = (inputs[0], inputs[1]);
        expect_integers("ids", ids)?;
        expect_rank("ids", ids, 1)?;
        expect_rank("table", table, 2)?;
        let d = table.shape[1];
        let dtype = expect_floats(&[("table", table)])?;
        if self.positions {
            expect_integers("positions", inputs[2])?;
            expect_shape("positions", inputs[2], ids.shape)?;
            expect_rank("position_table", inputs[3], 2)?;
            expect_shape("position_table", inputs[3], &[inputs[3].shape[0], d])?;
            expect_floats(&[("table", table), ("position_table", inputs[3])])?;
        }
        Ok(result([ids.shape[0], d].into(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let rows = graph.gather(inputs[1], inputs[0]);
        let rows = self.precision.rounded_weight(graph, rows);
        let mut y = graph.scale(rows, self.scale);
        if self.positions {
            let encoding = graph.gather(inputs[3], inputs[2]);
            y = graph.add(y, encoding);
        }
        value(y)
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        if self.precision != Precision::Full {
            return None;
        }
        let dy = node.gradients[0]?;
        let ids = node.inputs[0];
        let mut rows = graph.scale(dy, self.scale);
        if let Some(unlearnt) = self.unlearnt {
            let unlearnt = graph.constant_like(f64::from(unlearnt), ids);
            let is_unlearnt = graph.equal(ids, unlearnt);
            let column = graph.shape(ids)[0];
            let is_unlearnt = graph.reshape(is_unlearnt, [column, 1]);
            let zero = graph.constant_like(0.0, rows);
            rows = graph.select(is_unlearnt, zero, rows);
        }
        let mut sum = |table: Value, rows: Value, ids: Value| {
            let extent = graph.shape(table)[0];
            graph.scatter_add(rows, ids, extent)
        };
        let mut gradients = Gradients::from_iter([None, Some(sum(node.inputs[1], rows, ids))]);
        if self.positions {
            gradients.extend([None, Some(sum(node.inputs[3], dy, node.inputs[2]))]);
        }
        Some(gradients)
    }
}
