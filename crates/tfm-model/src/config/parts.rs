//! The parts of a model's description.

use super::Activation;

/// A stack of equal layers (section 3.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stack {
    /// How many layers.
    pub layers: usize,
    /// The self-attention of a layer.
    pub attention: Heads,
    /// The feed-forward network of a layer.
    pub feed_forward: FeedForward,
    /// The norms of all layers, and those before the first and after the last.
    pub norm: Norm,
}

/// The heads of an attention (section 3.2.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// How many heads queries have.
    pub count: usize,
    /// How many heads keys and values have: `count` in the paper. Where there are fewer, each
    /// serves a group of query heads (Ainslie et al. 2023), so this divides `count`.
    pub kv_count: usize,
    /// Features of a query, a key and a value of one head.
    pub size: usize,
    /// What scores are multiplied by: `1/√size` in the paper (section 3.2.1).
    pub scale: f64,
    /// What is known of the distance of key and query.
    pub position: Position,
    /// A query sees only keys that are less far away than this.
    pub window: Option<usize>,
    /// Scaled scores x become `cap·tanh(x/cap)`.
    pub soft_cap: Option<f64>,
    /// Whether the four projections have biases.
    pub biases: bool,
}

impl Heads {
    /// The paper's: `count` heads of `size` features, whose projections have biases.
    pub fn new(count: usize, size: usize) -> Heads {
        Heads {
            count,
            kv_count: count,
            size,
            scale: 1.0 / (size as f64).sqrt(),
            position: Position::None,
            window: None,
            soft_cap: None,
            biases: true,
        }
    }

    /// Features of the queries of all heads together, and of their results.
    pub fn width(&self) -> usize {
        self.count * self.size
    }

    /// Features of the keys of all heads together, and of the values.
    pub fn kv_width(&self) -> usize {
        self.kv_count * self.size
    }
}

/// What an attention knows of the distance of key and query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// Nothing: embeddings hold the positions.
    None,
    /// A learned bias of the scores.
    Relative(RelativePositions),
}

/// A learned bias of the scores for each head and bucket of distances (Raffel et al. 2020, section
/// 2.1). An encoder tells keys before the query from those after it, a decoder sees only the
/// former.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativePositions {
    /// The buckets in all.
    pub buckets: usize,
    /// From about this distance on there is one bucket.
    pub max_distance: usize,
    /// Whether each layer has biases of its own; else all share one table.
    pub per_layer: bool,
}

/// The position-wise feed-forward network (section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedForward {
    /// Inner features.
    pub inner: usize,
    /// Its activation.
    pub activation: Activation,
    /// Whether the inner features are a product of two projections of which one is activated
    /// (Shazeer 2020, "GLU variants improve Transformer").
    pub gated: bool,
    /// Whether the projections have biases.
    pub biases: bool,
}

/// The norms of a stack: how they are computed, and where they stand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// What is normalised.
    pub kind: NormKind,
    /// What is added to the variance, or to the mean square.
    pub epsilon: f64,
    /// Where the norms of the layers stand.
    pub placement: NormPlacement,
    /// Whether a norm follows the embeddings.
    pub after_embedding: bool,
    /// Whether a norm follows the last layer.
    pub after_last_layer: bool,
}

/// What a norm does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NormKind {
    /// Layer normalisation (Ba et al. 2016), with weight and bias. A file without biases gives
    /// zeros.
    Layer,
    /// Normalisation by the root mean square (Zhang and Sennrich 2019), with a weight alone.
    RootMeanSquare,
}

/// Where the norms of layers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NormPlacement {
    /// After the residual sum: `norm(x + sublayer(x))`, as in the paper.
    Post,
    /// Before the sublayer: `x + sublayer(norm(x))`.
    Pre,
}

/// What becomes of tokens before the first layer (section 3.4).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embedding {
    /// Tokens of the vocabulary: rows of the table.
    pub vocabulary: usize,
    /// What rows are multiplied by: `√d_model` in the paper, or 1.
    pub scale: f64,
    /// The table of positions whose rows are added, where there is one (section 3.5).
    pub positions: Option<PositionTable>,
    /// The token whose row training does not learn by looking it up.
    pub unlearnt: Option<u32>,
}

/// Longer sequences are not taken, whatever a model could do with them.
pub(super) const MOST_POSITIONS: usize = 1 << 20;

impl Embedding {
    /// The most tokens of a sequence: the rows of the table of positions; where there is none,
    /// 1,048,576.
    pub fn longest_sequence(&self) -> usize {
        self.positions.map_or(MOST_POSITIONS, |table| table.rows)
    }
}

/// A table of position vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionTable {
    /// How many positions there are.
    pub rows: usize,
    /// Where the vectors come from.
    pub kind: PositionKind,
}

/// Where position vectors come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PositionKind {
    /// The paper's sinusoids. They are computed, not read.
    Sinusoidal(SinusoidLayout),
    /// They are learned.
    Learned {
        /// The row of position 0 in files: they have as many rows before it that nobody uses.
        offset: usize,
    },
}

/// The order of sines and cosines in a position's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SinusoidLayout {
    /// `sin, cos, sin, cos, …`, as in the paper.
    Interleaved,
    /// All sines, then all cosines, as in Marian.
    Halves,
    /// The same in fairseq's numbers: the last period is 10000·2π itself.
    Fairseq {
        /// What the first position is called.
        first: usize,
    },
}

/// How the decoder's output becomes logits (section 3.4).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output {
    /// Whether the projection is the target embedding table.
    pub tied: bool,
    /// What is added to the logits.
    pub bias: OutputBias,
    /// What the decoder's output is multiplied by before the projection.
    pub scale: f64,
}

/// What is added to the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputBias {
    /// Nothing.
    None,
    /// A bias that training learns.
    Learnt,
    /// A bias that training leaves as it is.
    Constant,
}
