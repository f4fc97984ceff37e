//! Attention and its gradient: which operands their kernels take, and the calls.

use std::borrow::Cow;

use half::bf16;
use tfm_core::backend::{Signature, View, ViewMut};
use tfm_core::fused::{
    Attention, AttentionGradient, AttentionGradientOperands, AttentionOperands, KeyOperands,
    KeyRows, KeySet,
};
use tfm_core::{DType, Layout};

use super::training::dropout_of;
use crate::CpuBackend;
use crate::buffer::{Buffer, Element, destination, from_offset, in_order};
use crate::kernels::attention::{Keys, Options, attention};
use crate::kernels::attention_gradient::{Forward, attention_gradient};
use crate::kernels::distance_bias::DistanceBias;
use crate::kernels::heads::{HeadElement, Heads};

/// Whether [`run`] takes these operands: heads without gaps inside, queries in `f32`, keys and
/// values in `f32` or `bf16`. A dropout it takes only where the op gives sums, as in training.
pub(super) fn supports(op: &Attention, signature: &Signature<'_>) -> bool {
    let operands = op.positions();
    let sets = [Some(operands.keys), operands.more_keys];
    let takes_set = |set: &KeyOperands<usize>| {
        are_heads(signature, [set.key, set.value], &[DType::F32, DType::BF16])
    };
    (op.dropout.is_none() || op.gives_sums())
        && are_heads(signature, [operands.query], &[DType::F32])
        && sets.iter().flatten().all(takes_set)
}

/// Whether [`gradient`] takes these operands: heads without gaps inside, all in `f32`, and no cap.
pub(super) fn supports_gradient(op: &AttentionGradient, signature: &Signature<'_>) -> bool {
    let AttentionOperands { query, keys, .. } = op.0.positions();
    let heads = [query, keys.key, keys.value];
    op.0.soft_cap.is_none() && are_heads(signature, heads, &[DType::F32])
}

/// Whether the operands at these positions have one of these types, and heads without gaps.
fn are_heads<const N: usize>(
    signature: &Signature<'_>,
    positions: [usize; N],
    dtypes: &[DType],
) -> bool {
    positions.into_iter().all(|position| {
        let (dtype, layout) = &signature.inputs[position];
        dtypes.contains(dtype) && layout.has_contiguous_rows()
    })
}

/// Computes the context, and the sums where the op gives them.
pub(super) fn run(
    cpu: &CpuBackend,
    op: &Attention,
    inputs: &[View<'_, Buffer>],
    out: &mut [f32],
    sums: &mut [ViewMut<'_, Buffer>],
) {
    let operands = op.operands(inputs);
    let query = operands.query;
    let set = PreparedKeys::new(op.keys, query, operands.keys);
    let more = op.more_keys.zip(operands.more_keys);
    let more = more.map(|(set, operands)| PreparedKeys::new(set, query, operands));
    let dropout = op.dropout.zip(operands.random_key);
    let options = Options {
        scale: op.scale as f32,
        soft_cap: op.soft_cap.map(|cap| cap as f32),
        dropout: dropout.map(|(mask, key)| dropout_of(mask, &key)),
        log_sum_exp: sums.first_mut().map(destination::<f32>),
    };
    let (isa, threads, query) = (cpu.isa, &cpu.threads, heads(&query));
    if operands.keys.key.dtype == DType::BF16 {
        let sets = (set.keys::<bf16>(), more.as_ref().map(PreparedKeys::keys));
        attention(isa, threads, query, sets, options, out);
    } else {
        let sets = (set.keys::<f32>(), more.as_ref().map(PreparedKeys::keys));
        attention(isa, threads, query, sets, options, out);
    }
}

/// Computes the gradients of query, key, value and, where there is one, the bias.
pub(super) fn gradient<'a>(
    cpu: &CpuBackend,
    op: &AttentionGradient,
    inputs: &[View<'_, Buffer>],
    mut out: impl FnMut() -> &'a mut [f32],
) {
    let AttentionGradientOperands { forward, context, log_sum_exp, d_context } =
        op.operands(inputs);
    let AttentionOperands { query, keys, random_key, .. } = forward;
    let set = PreparedKeys::new(op.0.keys, query, keys);
    let dropout = op.0.dropout.zip(random_key);
    let [context, log_sum_exp, d_context] =
        [context, log_sum_exp, d_context].each_ref().map(in_order);
    let computed = Forward {
        query: heads(&query),
        keys: set.keys(),
        scale: op.0.scale as f32,
        dropout: dropout.map(|(mask, key)| dropout_of(mask, &key)),
        context: &context,
        log_sum_exp: &log_sum_exp,
    };
    let gradients = [out(), out(), out()];
    let d_bias = set.bias.is_some().then(out);
    attention_gradient(cpu.isa, &cpu.threads, computed, &d_context, gradients, d_bias);
}

/// A set of keys whose row numbers and biases are as the kernels read them: the numbers contiguous,
/// the biases by distance.
struct PreparedKeys<'a> {
    set: KeySet,
    key_value: [View<'a, Buffer>; 2],
    rows: KeyRows<Cow<'a, [i32]>>,
    bias: Option<DistanceBias>,
}

impl<'a> PreparedKeys<'a> {
    fn new(set: KeySet, query: View<'_, Buffer>, operands: KeyOperands<View<'a, Buffer>>) -> Self {
        let KeyOperands { key, value, rows, bias } = operands;
        let rows = rows.map(in_order::<i32>);
        let bias = set.bias.zip(bias).map(|(relative, table)| {
            let [query, key] = [query, key].map(|operand| operand.layout.shape());
            let numbers = (rows.map(|numbers| &numbers[..]), set.causal);
            let counts = [query[0], key[0]];
            DistanceBias::new(relative, &in_order(&table), query[1], counts, numbers)
        });
        PreparedKeys { set, key_value: [key, value], rows, bias }
    }

    fn keys<T: Element + HeadElement>(&self) -> Keys<'_, T> {
        let [key, value] = self.key_value.each_ref().map(heads);
        let rows = self.rows.map(|numbers| &numbers[..]);
        let KeySet { causal, window, .. } = self.set;
        Keys { key, value, rows, causal, window, bias: self.bias.as_ref() }
    }
}

/// A view `[rows, heads, size]`.
fn heads<'a, T: Element + HeadElement>(view: &View<'a, Buffer>) -> Heads<'a, T> {
    let layout: &Layout = view.layout;
    let (shape, strides) = (layout.shape(), layout.strides());
    Heads::new(from_offset(view), [shape[0], shape[1], shape[2]], [strides[0], strides[1]])
}
