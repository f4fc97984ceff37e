//! The output projection of a search whose hypotheses may each choose among some tokens alone.

use super::{
    FusedOp, Linear, Operand, Precision, Results, Values, expect_floats, expect_inputs,
    expect_integers, expect_rank, expect_shape,
};
use crate::{DType, Graph, Value};

/// The k most probable tokens of each row of `logits = x·Wᵀ + b` among those of its list: the softmax is over the list
/// alone, and the other tokens' logits need not be computed. (The "selected vocabulary" of S. Jean et al., "On Using Very
/// Large Target Vocabulary for Neural Machine Translation", 2015, section 3.3.)
///
/// Inputs: `x [n, d]`; `weight [v, d]`; then `bias [v]` if any; `bans [v]` in `F32`, which are added to the
/// log-probabilities; and in `I32` `columns [u]`, the tokens that may be in a list, in any order; `lists [s, w]`,
/// places in `columns`; `lengths [s]`, 1 to w: list i is `columns[lists[i][0 .. lengths[i]]]`, and the rest of its row
/// holds any places; `list_of [n]`: each row's list. Outputs: `log_probabilities [n, k]` in `F32`, the greatest first,
/// among equals the one first in the list; `ids [n, k]` in `I32`, the tokens; `log_sum_exps [n]` in `F32`, the logarithm of the sum of the
/// exponentials of the list's logits. Where a list has fewer than k tokens, the rest are −∞ with the tokens of the
/// places that follow.
///
/// A row's results depend on its list, and on neither what else `columns` has nor in which order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopOfShortlist {
    /// Whether a bias is added.
    pub bias: bool,
    /// How many candidates a row; at most w.
    pub k: usize,
    /// The precision of the product's operands.
    pub precision: Precision,
}

impl TopOfShortlist {
    /// The operands of floats: `x`, `weight` and `bias` if there is one.
    pub fn floats(&self) -> usize {
        2 + usize::from(self.bias)
    }
}

impl FusedOp for TopOfShortlist {
    fn name(&self) -> &'static str {
        "top_of_shortlist"
    }

    fn labels(&self) -> &'static [&'static str] {
        &["logits"]
    }

    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        let mut names = vec!["x", "weight"];
        names.extend(self.bias.then_some("bias"));
        let integers = ["columns", "lists", "lengths", "list_of"];
        expect_inputs(inputs, &[&names[..], &["bans"], &integers].concat())?;
        let (floats, others) = inputs.split_at(names.len());
        let named: Vec<_> = names.iter().copied().zip(floats.iter().copied()).collect();
        expect_floats(&named)?;
        let (x, weight, bans) = (inputs[0], inputs[1], others[0]);
        expect_rank("x", x, 2)?;
        expect_rank("weight", weight, 2)?;
        let (n, v) = (x.shape[0], weight.shape[0]);
        expect_shape("weight", weight, &[v, x.shape[1]])?;
        if self.bias {
            expect_shape("bias", inputs[2], &[v])?;
        }
        expect_shape("bans", bans, &[v])?;
        if bans.dtype != DType::F32 {
            return Err(format!("bans must be f32, is {}", bans.dtype));
        }
        for (name, operand) in integers.into_iter().zip(&others[1..]) {
            expect_integers(name, *operand)?;
        }
        let [columns, lists, lengths, list_of] = [1, 2, 3, 4].map(|i| others[i]);
        expect_rank("columns", columns, 1)?;
        expect_rank("lists", lists, 2)?;
        expect_shape("lengths", lengths, &[lists.shape[0]])?;
        expect_shape("list_of", list_of, &[n])?;
        if lists.shape[1] == 0 {
            return Err("lists have no places: at least one is needed".into());
        }
        if self.k > lists.shape[1] {
            return Err(format!("k = {} candidates of lists of {}", self.k, lists.shape[1]));
        }
        let shape = || [n, self.k].into();
        let results = [(shape(), DType::F32), (shape(), DType::I32), ([n].into(), DType::F32)];
        Ok(Results::from_iter(results))
    }

    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        let (operands, others) = inputs.split_at(self.floats());
        let [bans, columns, lists, lengths, list_of] = [0, 1, 2, 3, 4].map(|i| others[i]);
        let linear = Linear { bias: self.bias, precision: self.precision, ..Linear::default() };
        let logits = graph.fused(linear, operands);
        graph.label(logits, "logits");
        let logits = graph.cast(logits, DType::F32);
        let (n, v) = (graph.shape(logits)[0], graph.shape(logits)[1]);
        let (s, w) = (graph.shape(lists)[0], graph.shape(lists)[1]);
        let tokens = graph.gather(columns, lists); // [s, w]
        let tokens = graph.gather(tokens, list_of); // [n, w]
        let lengths = graph.reshape(lengths, [s, 1]);
        let lengths = graph.gather(lengths, list_of); // [n, 1]
        let own = of_rows(graph, logits, tokens, v);
        let j = graph.iota(w);
        let listed = graph.less(j, lengths);
        let nothing = graph.constant_like(f64::NEG_INFINITY, own);
        let own = graph.select(listed, own, nothing);
        let log_probabilities = graph.log_softmax(own);
        let bans = graph.gather(bans, tokens);
        let biased = graph.add(log_probabilities, bans);
        let (values, places) = graph.top_k(biased, self.k);
        let ids = of_rows(graph, tokens, places, w);
        // log Σ exp x = x₀ − log softmax(x)₀
        let firsts = [own, log_probabilities].map(|x| graph.slice(x, 1, 0, w.min(1)));
        let log_sum_exps = graph.sub(firsts[0], firsts[1]);
        let log_sum_exps = graph.reshape(log_sum_exps, [n]);
        Values::from_iter([values, ids, log_sum_exps])
    }
}

/// The elements of each row of `x [n, width]` at its places `[n, m]`.
fn of_rows(graph: &mut Graph, x: Value, places: Value, width: usize) -> Value {
    let n = graph.shape(x)[0];
    let rows = graph.iota(n);
    let width_of = graph.constant(width as f64, DType::I32);
    let starts = graph.mul(rows, width_of);
    let starts = graph.reshape(starts, [n, 1]);
    let places = graph.add(starts, places);
    let flat = graph.reshape(x, [n * width]);
    graph.gather(flat, places)
}
