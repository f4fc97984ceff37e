//! Token embedding with its scale and positional encoding.

use super::{
    Differentiated, FusedOp, Gradients, Operand, Precision, Results, Values, expect_floats,
    expect_integers, expect_rank, expect_shape, operands, result, value,
};
use crate::{Graph, Value};

/// `y_t = scale·E[ids_t] + P[positions_t]`: the rows of an embedding table, scaled (by √d in the
/// paper, section 3.4), plus the positional encoding where `positions` is set (section 3.5).
///
/// Output: `[t, d]`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Embedding {
    /// The factor of the embedding.
    pub scale: f64,
    /// Whether a positional encoding is added.
    pub positions: bool,
    /// A row that the op looks up but does not learn: its gradient is 0. (`padding_idx` of
    /// `torch.nn.Embedding`; Marian's decoder begins with that token.)
    pub unlearnt: Option<u32>,
    /// The precision of the table, so that it can be kept once where it is also a
    /// [`Linear`](super::Linear)'s weight.
    pub precision: Precision,
}

operands! {
    /// The operands of [`Embedding`].
    EmbeddingOperands<T> of (op: Embedding) {
        /// `[t]` in `I32`.
        ids: T,
        /// E: `[v, d]`.
        table: T,
        /// `[t]` in `I32`.
        positions: Option<T> where op.positions,
        /// P: `[p, d]`.
        position_table: Option<T> where op.positions,
    }
}

impl FusedOp for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let EmbeddingOperands { ids, table, positions, position_table } = self.expect(inputs)?;
        expect_integers("ids", ids)?;
        expect_rank("ids", ids, 1)?;
        expect_rank("table", table, 2)?;
        let d = table.shape[1];
        let dtype = expect_floats(&[("table", table)])?;
        if let Some((positions, rows)) = positions.zip(position_table) {
            expect_integers("positions", positions)?;
            expect_shape("positions", positions, ids.shape)?;
            expect_rank("position_table", rows, 2)?;
            expect_shape("position_table", rows, &[rows.shape[0], d])?;
            expect_floats(&[("table", table), ("position_table", rows)])?;
        }
        Ok(result([ids.shape[0], d].into(), dtype))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let EmbeddingOperands { ids, table, positions, position_table } = self.operands(inputs);
        let g = graph.equations();
        let rows = g.of(table).gather(g.of(ids));
        let mut y = self.precision.rounded_weight(rows) * self.scale;
        if let Some((positions, table)) = positions.zip(position_table) {
            y = y + g.of(table).gather(g.of(positions));
        }
        value(y.value())
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        if self.precision != Precision::Full {
            return None;
        }
        let dy = node.gradients[0]?;
        let EmbeddingOperands { ids, table, positions, position_table } =
            self.operands(node.inputs);
        let rows = self.learnt(graph, dy, ids);
        let mut sum = |table: Value, rows: Value, ids: Value| {
            let extent = graph.shape(table)[0];
            graph.scatter_add(rows, ids, extent)
        };
        let of_table = sum(table, rows, ids);
        let of_positions =
            positions.zip(position_table).map(|(positions, table)| sum(table, dy, positions));
        let gradients = EmbeddingOperands {
            ids: None,
            table: Some(of_table),
            positions: positions.map(|_| None),
            position_table: of_positions.map(Some),
        };
        Some(gradients.list())
    }
}

impl Embedding {
    /// The gradient of the rows that the table has for the ids: `scale·dy`, and 0 for the one that
    /// is not learnt.
    fn learnt(&self, graph: &mut Graph, dy: Value, ids: Value) -> Value {
        let g = graph.equations();
        let (rows, ids) = (g.of(dy) * self.scale, g.of(ids));
        let Some(unlearnt) = self.unlearnt else { return rows.value() };
        let is_unlearnt = ids.equal(ids.constant(f64::from(unlearnt)));
        let is_unlearnt = is_unlearnt.reshape([ids.shape()[0], 1]);
        is_unlearnt.select(rows.constant(0.0), rows).value()
    }
}
