//! Scaled dot-product attention.

mod decomposition;
mod operands;

pub use operands::{AttentionOperands, KeyOperands, KeyRows};

use super::dropout::expect_key;
use super::{
    AttentionGradient, AttentionGradientOperands, Differentiated, DropoutMask, FusedOp, Gradients,
    Operand, RelativeBias, Results, Values, expect_floats, expect_inputs, expect_integers,
    expect_rank, expect_shape, result,
};
use crate::{DType, Graph, Value};

/// `softmax(scale·Q·Kᵀ + B)·V` ("Attention is all you need", eq. 1) for each query and head, with
/// learned biases B by distance where there are any.
///
/// [`AttentionOperands`] names the operands, and [`list`](AttentionOperands::list) gives their
/// order: `query [tq, heads, d_head]`, a set of keys, a second set if the op has one, and
/// `random_key [3]` in `I32` if it has a dropout. A set of keys has `key` and
/// `value [rows, kv_heads, d_head]`, the operands that say which rows a query sees ([`KeyRows`]),
/// and `bias [buckets, heads]` in `F32` if the set has a bias. All keys and values have one type of
/// floats. Where it is not the query's, they are converted to that.
///
/// `heads` is a multiple of `kv_heads`: head h reads key head `h / (heads / kv_heads)` (Ainslie et
/// al. 2023, "GQA"). Where there are two sets of keys, one softmax goes over the keys of both.
///
/// Results: the context `[tq, heads, d_head]`, and, if the op
/// [gives sums](Attention::gives_sums), `L [tq, heads]` in `F32`: the logarithm of the sum of the
/// exponentials of each query's scores, from which the gradient finds the weights again. A query
/// that sees no key gives 0, also as L.
///
/// The weights that may be tapped are `[heads, tq, columns]`. The columns of a set by ranges are
/// all its rows, those of a set by a table are the table's columns. The columns of the second set
/// follow those of the first. The mask of the dropout is drawn for weights of this shape.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Attention {
    /// The factor of the scores, 1/√d_head in the paper.
    pub scale: f64,
    /// The scores x become `cap·tanh(x/cap)` before biases are added (Gemma 2, section 2).
    pub soft_cap: Option<f64>,
    /// What is dropped of the weights.
    pub dropout: Option<DropoutMask>,
    /// The keys.
    pub keys: KeySet,
    /// A second set of keys, whose scores share the softmax with those of the first.
    pub more_keys: Option<KeySet>,
}

/// How queries see a set of keys.
///
/// A query stands at a position among its keys, by ranges or by a table: see [`KeyLookup`]. The
/// distance of a key is its position less the query's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeySet {
    /// How a query finds its keys.
    pub lookup: KeyLookup,
    /// Whether later keys are hidden: those at a distance above 0.
    pub causal: bool,
    /// A query sees only the keys that are less far away than this, before it and after it
    /// (`sliding_window` of `transformers`).
    pub window: Option<usize>,
    /// What is added to the scores, by distance.
    pub bias: Option<RelativeBias>,
}

/// How a query finds its keys. It says which kind of [`KeyRows`] the operands are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyLookup {
    /// The batch is ragged, and the keys of a sequence are a range of rows. Query i of q stands at
    /// position `i + (k − q)` of its k keys: both end together.
    #[default]
    Ranges,
    /// Each query has a list of rows, as in a decoding step: a beam reorder changes the list, and
    /// no key or value moves. The query stands at the last of its keys.
    Table,
}

impl FusedOp for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn labels(&self) -> &'static [&'static str] {
        &["scores", "weights"]
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        expect_inputs(inputs, &self.operand_names())?;
        let operands = self.operands(inputs);
        let query = operands.query;
        let dtype = expect_floats(&[("query", query)])?;
        expect_rank("query", query, 3)?;
        if self.soft_cap.is_some_and(|cap| !(cap > 0.0 && cap.is_finite())) {
            return Err("the cap of the scores must be finite and above 0".into());
        }
        if let (Some(mask), Some(key)) = (self.dropout, operands.random_key) {
            mask.check()?;
            expect_key(key)?;
        }
        self.keys.check(query, &operands.keys)?;
        if let (Some(set), Some(more)) = (self.more_keys, &operands.more_keys) {
            expect_floats(&[("key", operands.keys.key), ("second key", more.key)])?;
            set.check(query, more).map_err(|problem| format!("second set of keys: {problem}"))?;
        }
        let mut results = result(query.shape.clone(), dtype);
        if self.gives_sums() {
            results.push((query.shape[..2].iter().copied().collect(), DType::F32));
        }
        Ok(results)
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        decomposition::decompose(self, graph, &self.operands(inputs))
    }

    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let forward = self.operands(node.inputs);
        let ([context, log_sum_exp], [Some(d_context), None]) = (node.outputs, node.gradients)
        else {
            return None;
        };
        if graph.dtype(forward.query) != graph.dtype(forward.keys.key) {
            return None;
        }
        let (context, log_sum_exp, d_context) = (*context, *log_sum_exp, *d_context);
        let operands = AttentionGradientOperands { forward, context, log_sum_exp, d_context };
        let found = graph.fused_all(AttentionGradient(*self), &operands.list());
        let mut found = found.into_iter().map(Some);
        let mut next = || found.next().flatten();
        // Row numbers and random keys have no gradient.
        let mut gradients = Gradients::from_iter([next(), next(), next(), None, None]);
        gradients.extend(self.keys.bias.map(|_| next()));
        gradients.extend(self.dropout.map(|_| None));
        Some(gradients)
    }
}

impl Attention {
    /// Whether the op gives L beside the context: for one set of keys by ranges, as in training.
    pub fn gives_sums(&self) -> bool {
        self.more_keys.is_none() && self.keys.lookup == KeyLookup::Ranges
    }
}

impl KeySet {
    /// What is wrong with the set's operands, if anything is.
    fn check(&self, query: Operand<'_>, operands: &KeyOperands<Operand<'_>>) -> Result<(), String> {
        let KeyOperands { key, value, rows, bias } = *operands;
        expect_floats(&[("key", key), ("value", value)])?;
        expect_rank("key", key, 3)?;
        let (heads, kv_heads) = (query.shape[1], key.shape[1]);
        let grouped = heads >= kv_heads && kv_heads > 0 && heads.is_multiple_of(kv_heads);
        let kv_heads = if grouped { kv_heads } else { heads };
        expect_shape("key", key, &[key.shape[0], kv_heads, query.shape[2]])?;
        expect_shape("value", value, key.shape)?;
        match rows {
            KeyRows::Ranges { query_offsets, key_ranges } => {
                expect_integers("query_offsets", query_offsets)?;
                expect_integers("key_ranges", key_ranges)?;
                expect_rank("key_ranges", key_ranges, 2)?;
                expect_shape("key_ranges", key_ranges, &[key_ranges.shape[0], 2])?;
                expect_shape("query_offsets", query_offsets, &[key_ranges.shape[0] + 1])?;
            }
            KeyRows::Table { row_table, lengths } => {
                expect_integers("row_table", row_table)?;
                expect_integers("lengths", lengths)?;
                expect_rank("row_table", row_table, 2)?;
                expect_shape("row_table", row_table, &[query.shape[0], row_table.shape[1]])?;
                expect_shape("lengths", lengths, &[query.shape[0]])?;
            }
        }
        if self.window == Some(0) {
            return Err("a window must hold at least the query's own position".into());
        }
        if let (Some(relative), Some(bias)) = (self.bias, bias) {
            relative.check(bias, heads)?;
        }
        Ok(())
    }
}
