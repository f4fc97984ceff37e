//! The rules of a node beyond the shapes of its operands: states are written one after the other,
//! and indices stay below the extent that they index.

use super::{Graph, Value};
use crate::fused::{Attention, CrossEntropyOperands, EmbeddingOperands, Fused, KeyRows};
use crate::op::Op;
use smallvec::SmallVec;

impl Graph {
    /// Checks a node on operands of this graph whose shapes are right, or says what is wrong.
    pub(super) fn rules(&self, op: &Op, inputs: &[Value]) -> Result<(), String> {
        if !self.superseded.is_empty() {
            inputs.iter().try_for_each(|&input| self.is_replaced(input))?;
        }
        if let (Op::WriteRows, [state, ..]) = (op, inputs)
            && !self.is_whole_state(*state)
        {
            return Err("only a state, or the result of writing to one, can be written to".into());
        }
        (0..op.in_place()).try_for_each(|operand| self.write_rule(inputs, operand))?;
        for (ids, limit) in self.index_limits(op, inputs) {
            if let Some(bound) = self.bound(ids).filter(|&bound| bound > limit) {
                return Err(format!(
                    "indices declared below {bound}, where only {limit} are allowed"
                ));
            }
        }
        Ok(())
    }

    /// A fault if the value lies in a state that was written since.
    pub(super) fn is_replaced(&self, value: Value) -> Result<(), String> {
        match self.values[value.index()].state {
            Some(state) if self.superseded.contains(&state) => {
                let name = self.state_name(state);
                Err(format!("state `{name}` is used after write_rows replaced it; use its result"))
            }
            _ => Ok(()),
        }
    }

    /// A fault if the state that is written, the operand of that number, is read by the same node.
    fn write_rule(&self, inputs: &[Value], operand: usize) -> Result<(), String> {
        let Some(&state) = inputs.get(operand).filter(|state| self.is_whole_state(**state)) else {
            return Ok(());
        };
        let root = |value: Value| self.values[value.index()].state.map(|state| self.root(state));
        let own = root(state);
        let mut others = inputs.iter().enumerate().filter(|(number, _)| *number != operand);
        if others.any(|(_, &other)| root(other) == own) {
            let name = self.state_name(state);
            return Err(format!(
                "state `{name}` is written with a view of itself; gather its rows"
            ));
        }
        Ok(())
    }

    /// The state that a chain of writes began with.
    fn root(&self, mut state: Value) -> Value {
        loop {
            let node = self.node_of(state);
            let in_place = &node.outputs[..node.op.in_place()];
            match in_place.iter().position(|&output| output == state) {
                Some(number) => state = node.inputs[number],
                None => return state,
            }
        }
    }

    fn state_name(&self, state: Value) -> &str {
        match &self.node_of(self.root(state)).op {
            Op::State { name } => name,
            _ => "",
        }
    }

    /// Operands that hold indices, each with the exclusive limit of what they may be.
    fn index_limits(&self, op: &Op, inputs: &[Value]) -> SmallVec<[(Value, usize); 2]> {
        let rows = |table: Value| self.shape(table).first().copied().unwrap_or(0);
        let width = |table: Value| self.shape(table).last_extent();
        let mut limits = SmallVec::new();
        match (op, inputs) {
            (Op::Gather, &[table, ids]) => limits.push((ids, rows(table))),
            (Op::ScatterAdd { rows }, &[_, ids]) => limits.push((ids, *rows)),
            (Op::WriteRows, &[state, _, ids]) => limits.push((ids, rows(state))),
            (Op::Fused(Fused::CrossEntropy(op)), _) => {
                let CrossEntropyOperands { logits, targets } = op.operands(inputs);
                limits.push((targets, width(logits)));
            }
            (Op::Fused(Fused::CrossEntropyGradient(op)), &[logits, ..]) => {
                limits.push((op.operands(inputs).targets, width(logits)));
            }
            (Op::Fused(Fused::Embedding(op)), _) => {
                let EmbeddingOperands { ids, table, positions, position_table } =
                    op.operands(inputs);
                limits.push((ids, rows(table)));
                let of_positions = positions.zip(position_table);
                limits.extend(of_positions.map(|(positions, table)| (positions, rows(table))));
            }
            (Op::Fused(Fused::Attention(op)), _) => return self.row_tables(op, inputs),
            _ => {}
        }
        limits
    }

    /// The row tables of attention and their lengths, each with its limit.
    fn row_tables(&self, op: &Attention, inputs: &[Value]) -> SmallVec<[(Value, usize); 2]> {
        if inputs.len() != op.operand_names().len() {
            return SmallVec::new();
        }
        let operands = op.operands(inputs);
        let sets = [Some(operands.keys), operands.more_keys].into_iter().flatten();
        let limits = sets.filter_map(|set| match set.rows {
            KeyRows::Table { row_table, lengths } => {
                let rows = self.shape(set.key).first().copied().unwrap_or(0);
                let width = self.shape(row_table).last_extent();
                Some([(row_table, rows), (lengths, width.saturating_add(1))])
            }
            KeyRows::Ranges { .. } => None,
        });
        limits.flatten().collect()
    }

    /// The declared bound of an input, also through movement ops.
    fn bound(&self, mut value: Value) -> Option<usize> {
        loop {
            let node = self.node_of(value);
            match &node.op {
                Op::Input { bound, .. } => return *bound,
                op if op.is_movement() => value = node.inputs[0],
                _ => return None,
            }
        }
    }
}
