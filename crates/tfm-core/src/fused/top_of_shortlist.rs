//! The output projection of a search whose hypotheses may each choose among some tokens alone.

use super::top_of_linear::{expect_vocabulary, project};
use super::{
    FusedOp, LinearOperands, Operand, Precision, Results, Values, expect_integers, expect_rank,
    expect_shape, operands,
};
use crate::{DType, Graph, Value};

/// The k most probable tokens of each row of `logits = x·Wᵀ + b` among those of its list: the softmax is over the list
/// alone, and the other tokens' logits need not be computed. (The "selected vocabulary" of S. Jean et al., "On Using Very
/// Large Target Vocabulary for Neural Machine Translation", 2015, section 3.3.)
///
/// Outputs: `log_probabilities [n, k]` in `F32`, the greatest first, among equals the one first in the list;
/// `ids [n, k]` in `I32`, the tokens; `log_sum_exps [n]` in `F32`, the logarithm of the sum of the exponentials
/// of the list's logits. Where a list has fewer than k tokens, the rest are −∞ with the tokens of the places
/// that follow.
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

operands! {
    /// The operands of [`TopOfShortlist`]. List i is `columns[lists[i][0 .. lengths[i]]]`.
    TopOfShortlistOperands<T> of (op: TopOfShortlist) {
        /// `[n, d]`.
        x: T,
        /// W: `[v, d]`.
        weight: T,
        /// b: `[v]`.
        bias: Option<T> where op.bias,
        /// `[v]` in `F32`: what is added to the log-probabilities.
        bans: T,
        /// `[u]` in `I32`: the tokens that may be in a list, in any order.
        columns: T,
        /// `[s, w]` in `I32`: places in `columns`. Behind its length a list has any places.
        lists: T,
        /// `[s]` in `I32`: 1 to w.
        lengths: T,
        /// `[n]` in `I32`: each row's list.
        list_of: T,
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
        let operands = self.expect(inputs)?;
        let TopOfShortlistOperands { x, weight, bias, bans, columns, lists, lengths, list_of } =
            operands;
        let layer = LinearOperands { x, weight, bias, residual: None };
        let [n, _] = expect_vocabulary(layer, bans)?;
        expect_integers("columns", columns)?;
        expect_integers("lists", lists)?;
        expect_integers("lengths", lengths)?;
        expect_integers("list_of", list_of)?;
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
        let operands = self.operands(inputs);
        let TopOfShortlistOperands { x, weight, bias, bans, columns, lists, lengths, list_of } =
            operands;
        let layer = LinearOperands { x, weight, bias, residual: None };
        let logits = project(graph, layer, self.precision);
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
