//! The results of a translator.

/// A translated sentence.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Translation {
    /// The best translation.
    pub text: String,
    /// Its log-probability (natural logarithm) divided by its length in tokens to the length
    /// penalty; see [`Options::scores`](crate::Options::scores).
    pub score: f32,
    /// Its tokens, as the vocabulary writes them, with the end token.
    pub tokens: Vec<String>,
    /// The next best translations, the better ones first; none unless
    /// [`n_best`](crate::Options::n_best) asks for more than one.
    pub alternatives: Vec<Alternative>,
    /// Which source tokens its tokens attended to, if [`alignments`](crate::Options::alignments)
    /// asks for it.
    pub alignment: Option<Alignment>,
    /// How many source tokens were cut off at the end because the model has no positions for them.
    pub truncated: usize,
}

/// A translation other than the best one.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Alternative {
    /// The translation.
    pub text: String,
    /// As [`Translation::score`].
    pub score: f32,
}

/// The cross-attention of the last decoder layer, averaged over its heads.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Alignment {
    /// The source's tokens, as the vocabulary writes them, with the end token.
    pub source: Vec<String>,
    /// For each target token, its weights over the source's tokens; they sum to 1.
    pub weights: Vec<Vec<f32>>,
}

impl Alignment {
    /// For each target token the number of the source token that it attends to most.
    pub fn strongest(&self) -> impl Iterator<Item = usize> {
        self.weights.iter().map(|weights| {
            let best = weights.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            best.map_or(0, |(source, _)| source)
        })
    }
}

/// The probability of a given translation.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Score {
    /// The natural logarithm of the translation's probability: the sum over its tokens.
    pub log_probability: f32,
    /// The tokens, as the vocabulary writes them, each with its log-probability given those before
    /// it. The end token is the last.
    pub tokens: Vec<(String, f32)>,
}
