//! What a search has to be shown before its next step.

/// What a step's program makes of a hypothesis's row of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Output {
    /// The greatest logits.
    Logits,
    /// The log-probabilities of the most probable tokens.
    LogProbabilities {
        /// Whether the bans of [`static_bans`](super::static_bans) go before the softmax.
        renormalized: bool,
        /// Whether the logarithm of the sum of the row's exponentiated logits comes with them.
        normalizers: bool,
    },
    /// All logits, in the order of the tokens, or, with a shortlist, those of the tokens of the
    /// list, in any order. Nothing is banned.
    Row,
}

/// What a search has to be shown of each live hypothesis before its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Needs {
    /// Of which kind.
    pub output: Output,
    /// Of how many tokens, the best of the row: at least 1. More change nothing, and more than the
    /// vocabulary has are never needed.
    pub candidates: usize,
    /// Of how many tokens each hypothesis should be shown at first; at most `candidates`. Together
    /// they most likely do, and [`Search::lacking`](super::Search::lacking) says of which
    /// hypotheses they do not.
    pub first: usize,
}

/// What a step's program found for the live hypotheses of a search, in their order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rows<'a> {
    /// `[live, width]`: logits or log-probabilities of the best tokens of each row, best first, of
    /// equals the lower id first; −∞ for those of [`static_bans`](super::static_bans). Or the whole
    /// row.
    pub values: &'a [f32],
    /// `[live, width]`: the tokens. Empty where there are all, in their order.
    pub ids: &'a [i32],
    /// Candidates of each row.
    pub width: usize,
    /// Rows of which there are more candidates, by their numbers, ascending.
    pub deeper: &'a [DeeperRow],
    /// `[live]`: the logarithms of the sums of the rows' exponentiated logits, where they were
    /// asked for; else empty.
    pub normalizers: &'a [f32],
}

impl<'a> Rows<'a> {
    /// The values and the tokens of a live hypothesis.
    pub(super) fn row(&self, number: usize) -> Option<(&'a [f32], &'a [i32])> {
        if let Ok(place) = self.deeper.binary_search_by_key(&number, |row| row.number) {
            let DeeperRow { values, ids, .. } = &self.deeper[place];
            return Some((values, ids));
        }
        let width = self.width.max(1);
        let range = number * width..(number + 1) * width;
        let ids = if self.ids.is_empty() { Some(&[][..]) } else { self.ids.get(range.clone()) };
        Some((self.values.get(range)?, ids?))
    }
}

/// A row with more candidates than the others have.
#[derive(Debug, Clone, PartialEq)]
pub struct DeeperRow {
    /// Its live hypothesis.
    pub number: usize,
    /// As [`Rows::values`].
    pub values: Vec<f32>,
    /// As [`Rows::ids`].
    pub ids: Vec<i32>,
}

/// Why a search cannot take a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepFault {
    /// A row holds what no model should compute: NaN, or infinities that are no bans.
    #[error(
        "a row of the output holds numbers that are not finite: the weights, or what is computed \
         with them, overflow"
    )]
    NotFinite,
    /// The options leave no token that may come next, and nothing has come to its end.
    #[error("all tokens are banned")]
    AllBanned,
}
