//! The output projection of a search in which each hypothesis chooses among the tokens of a list.

use super::top_of_linear::{expect_vocabulary, project};
use super::{
    FusedOp, LinearOperands, Operand, Precision, Results, Values, expect_integers, expect_rank,
    expect_shape, operands,
};
use crate::{DType, Equations, Expr, Graph, Value};

/// The k most probable tokens of each row of `logits = x·Wᵀ + b` among those of its list: the
/// softmax is over the list alone, and the other tokens' logits need not be computed. (The
/// "selected vocabulary" of S. Jean et al., "On Using Very Large Target Vocabulary for Neural
/// Machine Translation", 2015, section 3.3.)
///
/// Outputs: `log_probabilities [n, k]` in `F32`, the greatest first, among equals the one first in
/// the list; `ids [n, k]` in `I32`, the tokens; `log_sum_exps [n]` in `F32`, the logarithm of the
/// sum of the exponentials of the list's logits. Where a list has fewer than k tokens, the rest are
/// −∞ with the tokens of the places that follow.
///
/// A row's results depend on its list, and not on the other columns or their order.
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
        /// `[s, w]` in `I32`: places in `columns`. The places after a list's length are arbitrary.
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
        let g = graph.equations();
        let [logits, bans, columns] = [logits, bans, columns].map(|operand| g.of(operand));
        let [lists, lengths, list_of] = [lists, lengths, list_of].map(|operand| g.of(operand));
        let n = logits.shape()[0];
        let (s, w) = (lists.shape()[0], lists.shape()[1]);
        let tokens = columns.gather(lists).gather(list_of); // [n, w]
        let lengths = lengths.reshape([s, 1]).gather(list_of); // [n, 1]
        let own = of_rows(&g, logits, tokens);
        let listed = g.iota(w).less(lengths);
        let own = listed.select(own, own.constant(f64::NEG_INFINITY));
        let log_probabilities = own.log_softmax();
        let (values, places) = (log_probabilities + bans.gather(tokens)).top_k(self.k);
        let ids = of_rows(&g, tokens, places);
        // log Σ exp x = x₀ − log softmax(x)₀
        let [logit, log_probability] = [own, log_probabilities].map(|x| x.slice(1, 0, w.min(1)));
        let log_sum_exps = (logit - log_probability).reshape([n]);
        [values, ids, log_sum_exps].into_iter().map(Value::from).collect()
    }
}

/// The elements of each row of `x [n, width]` at its places `[n, m]`.
fn of_rows<'g>(g: &'g Equations<'_>, x: Expr<'g>, places: Expr<'g>) -> Expr<'g> {
    let (n, width) = (x.shape()[0], x.shape()[1]);
    let starts = g.iota(n) * g.constant(width as f64, DType::I32);
    let places = starts.reshape([n, 1]) + places;
    x.reshape([n * width]).gather(places)
}
