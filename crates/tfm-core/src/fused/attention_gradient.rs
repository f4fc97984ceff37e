//! The gradient of attention.

use super::{
    Attention, AttentionOperands, FusedOp, List, Operand, Results, Values, expect_floats,
    expect_inputs, expect_shape,
};
use crate::{DType, Graph, Value};

/// The gradient of an [`Attention`] that [gives sums](Attention::gives_sums) with respect to query,
/// key and value. The weights are not kept but computed again from the saved L: `P = exp(S − L)`,
/// then `dV = Pᵀ·dO`, `dP = dO·Vᵀ`, `dS = P∘(dP − D)` with `D = rowsum(dO∘O)`, `dQ = scale·dS·K`,
/// `dK = scale·dSᵀ·Q` (Dao et al. 2022, "FlashAttention", algorithm 4). The gradient of a bias is
/// the sum of the dS that it was added to; that of a key head is the sum over the query heads that
/// read it.
///
/// The operands are [`AttentionGradientOperands`]. Results: the gradients of query, key, value, and
/// of the bias, if there is one. Rows that no query sees have the gradient 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionGradient(pub Attention);

/// The operands of [`AttentionGradient`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionGradientOperands<T> {
    /// Those of the op.
    pub forward: AttentionOperands<T>,
    /// The context O that the op gave, `[tq, heads, d_head]`.
    pub context: T,
    /// The sums L that it gave, `[tq, heads]`.
    pub log_sum_exp: T,
    /// The gradient dO of the context.
    pub d_context: T,
}

impl<T: Copy> AttentionGradientOperands<T> {
    /// The items of the operands, in the order of the node.
    pub fn list(self) -> List<T> {
        let mut list = self.forward.list();
        list.extend([self.context, self.log_sum_exp, self.d_context]);
        list
    }
}

impl AttentionGradient {
    /// Names the items of a list in the order of the node.
    ///
    /// # Panics
    /// If the list is shorter than that of a node, which [`infer`](FusedOp::infer) refuses.
    pub fn operands<T: Copy>(&self, list: &[T]) -> AttentionGradientOperands<T> {
        let last = list.last_chunk().expect("the operands were counted by `infer`");
        let [context, log_sum_exp, d_context] = *last;
        let forward = self.0.operands(list);
        AttentionGradientOperands { forward, context, log_sum_exp, d_context }
    }
}

impl FusedOp for AttentionGradient {
    fn name(&self) -> &'static str {
        "attention_gradient"
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let mut names = self.0.operand_names();
        names.extend(["context", "log_sum_exp", "d_context"]);
        expect_inputs(inputs, &names)?;
        if !self.0.gives_sums() {
            return Err("there is a gradient for one set of keys by ranges".into());
        }
        let operands = self.operands(inputs);
        let (forward, log_sum_exp) = (operands.forward, operands.log_sum_exp);
        let results = self.0.infer(&forward.list())?;
        let (context, d_context) = (operands.context, operands.d_context);
        expect_floats(&[("query", forward.query), ("context", context), ("d_context", d_context)])?;
        expect_shape("context", context, &results[0].0)?;
        expect_shape("log_sum_exp", log_sum_exp, &results[1].0)?;
        expect_shape("d_context", d_context, &results[0].0)?;
        if log_sum_exp.dtype != DType::F32 {
            return Err(format!("log_sum_exp must be f32, is {}", log_sum_exp.dtype));
        }
        let of = differentiated(&forward).map(|x| (x.shape.clone(), x.dtype));
        Ok(of.collect())
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let AttentionGradientOperands { forward, d_context, .. } = self.operands(inputs);
        let context = self.0.decompose(graph, &forward.list())[0];
        let of: Vec<Value> = differentiated(&forward).collect();
        let gradients = graph.differentiate(&[(context, d_context)], &of, &[]);
        let pairs = gradients.into_iter().zip(of);
        pairs.map(|(gradient, x)| gradient.unwrap_or_else(|| graph.filled_like(0.0, x))).collect()
    }
}

/// The operands that have a gradient.
fn differentiated<T: Copy>(forward: &AttentionOperands<T>) -> impl Iterator<Item = T> + use<T> {
    let keys = forward.keys;
    [forward.query, keys.key, keys.value].into_iter().chain(keys.bias)
}
