//! The fused ops, one file each: the struct, its equation, the shapes it takes and its
//! decomposition into primitives. A backend may compute a fused op in one kernel; lowering
//! decomposes it everywhere else.

mod activation;
mod adam;
mod attention;
mod attention_gradient;
mod cross_entropy;
mod dropout;
mod embedding;
mod layer_norm;
mod linear;
mod operands;
mod precision;
pub mod quantized;
mod relative_bias;
mod rms_norm;
mod softmax;
mod sum_of_squares;
mod top_log_probabilities;
mod top_logits;
mod top_of_linear;
mod top_of_shortlist;

pub use activation::{
    Activate, ActivateGradient, ActivateGradientOperands, ActivateOperands, Activation,
};
pub use adam::{Adam, AdamInPlace, AdamOperands};
pub use attention::{Attention, AttentionOperands, KeyLookup, KeyOperands, KeyRows, KeySet};
pub use attention_gradient::{AttentionGradient, AttentionGradientOperands};
pub use cross_entropy::{
    CrossEntropy, CrossEntropyGradient, CrossEntropyGradientInPlace, CrossEntropyGradientOperands,
    CrossEntropyOperands,
};
pub use dropout::{Dropout, DropoutMask, DropoutOperands};
pub use embedding::{Embedding, EmbeddingOperands};
pub use layer_norm::{LayerNorm, LayerNormGradient, LayerNormGradientOperands, LayerNormOperands};
pub use linear::{Linear, LinearOperands};
pub use operands::List;
pub use precision::Precision;
pub use relative_bias::RelativeBias;
pub use rms_norm::{RmsNorm, RmsNormGradient, RmsNormGradientOperands, RmsNormOperands};
pub use softmax::{Softmax, SoftmaxOperands};
pub use sum_of_squares::{SumOfSquares, SumOfSquaresOperands};
pub use top_log_probabilities::{TopLogProbabilities, TopLogProbabilitiesOperands};
pub use top_logits::{TopLogits, TopLogitsOperands};
pub use top_of_linear::{TopOfLinear, TopOfLinearOperands};
pub use top_of_shortlist::{TopOfShortlist, TopOfShortlistOperands};

use crate::{DType, Graph, Shape, Value};
use operands::operands;
use smallvec::SmallVec;

/// Shape and type of an operand.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    /// The extents.
    pub shape: &'a Shape,
    /// The element type.
    pub dtype: DType,
}

/// Shapes and types of a node's results.
pub type Results = SmallVec<[(Shape, DType); 2]>;

/// The handles of a node's results.
pub type Values = SmallVec<[Value; 2]>;

/// The gradient of each operand, or `None` where it is zero throughout.
pub type Gradients = List<Option<Value>>;

/// A node whose gradient is wanted.
#[derive(Debug)]
pub struct Differentiated<'a> {
    /// Its operands.
    pub inputs: &'a [Value],
    /// Its results.
    pub outputs: &'a [Value],
    /// The gradient of each result; `None` where it is zero throughout.
    pub gradients: &'a [Option<Value>],
    /// Whether each operand's gradient is wanted; others may be left `None`.
    pub wanted: &'a [bool],
}

/// What every fused op says about itself.
pub trait FusedOp {
    /// The op's name in errors and dumps.
    fn name(&self) -> &'static str;

    /// The results' shapes, or what is wrong with the operands.
    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String>;

    /// The same computation by other ops. Labelled values inside can be tapped.
    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values;

    /// The labels of the values inside the decomposition which can be tapped.
    fn labels(&self) -> &'static [&'static str] {
        &[]
    }

    /// How many operands are computed in place. The first n results take the places of the first n
    /// operands, and a kernel finds each such operand in its result's memory. This changes an
    /// operand that is a state, as `write_rows` does; of any other operand the plan makes a copy if
    /// it is still needed.
    fn in_place(&self) -> usize {
        0
    }

    /// The gradient by ops of its own: adds them to the graph and returns the gradient of each
    /// operand, or `None` where the decomposition is to be differentiated.
    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        let _ = (graph, node);
        None
    }
}

macro_rules! fused_ops {
    ($($op:ident),* ; boxed: $($large:ident),*) => {
        /// A fused op. The enum is the list of all there are. Large ops are boxed, since every node
        /// of a graph has room for any op.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Fused { $($op($op),)* $($large(Box<$large>)),* }

        impl Fused {
            /// The names of all fused ops, for the check that every one is in the laws.
            pub const NAMES: &'static [&'static str] =
                &[$(stringify!($op),)* $(stringify!($large)),*];

            fn as_op(&self) -> &dyn FusedOp {
                match self {
                    $(Fused::$op(op) => op,)*
                    $(Fused::$large(op) => &**op),*
                }
            }
        }

        $(impl From<$op> for Fused {
            fn from(op: $op) -> Self { Fused::$op(op) }
        })*
        $(impl From<$large> for Fused {
            fn from(op: $large) -> Self { Fused::$large(Box::new(op)) }
        })*
    };
}

fused_ops!(
    Linear,
    LayerNorm,
    RmsNorm,
    Softmax,
    Activate,
    Embedding,
    TopLogProbabilities,
    TopOfLinear,
    TopLogits,
    TopOfShortlist,
    LayerNormGradient,
    RmsNormGradient,
    ActivateGradient,
    Dropout,
    CrossEntropy,
    CrossEntropyGradient,
    SumOfSquares,
    Adam;
    boxed: Attention, AttentionGradient
);

impl FusedOp for Fused {
    fn name(&self) -> &'static str {
        self.as_op().name()
    }
    fn infer(&self, inputs: &[Operand<'_>]) -> Result<Results, String> {
        self.as_op().infer(inputs)
    }
    fn decompose(&self, graph: &mut Graph, inputs: &[Value]) -> Values {
        self.as_op().decompose(graph, inputs)
    }
    fn labels(&self) -> &'static [&'static str] {
        self.as_op().labels()
    }
    fn in_place(&self) -> usize {
        self.as_op().in_place()
    }
    fn vjp(&self, graph: &mut Graph, node: &Differentiated<'_>) -> Option<Gradients> {
        self.as_op().vjp(graph, node)
    }
}

/// Checks the number of operands; an error names those that the op takes.
fn expect_inputs(inputs: &[Operand<'_>], names: &[&str]) -> Result<(), String> {
    if inputs.len() == names.len() {
        return Ok(());
    }
    Err(format!("takes {} operands ({}), got {}", names.len(), names.join(", "), inputs.len()))
}

/// Checks one operand's shape.
fn expect_shape(what: &str, found: Operand<'_>, expected: &[usize]) -> Result<(), String> {
    if found.shape[..] == *expected {
        return Ok(());
    }
    Err(format!("{what} must be {}, is {}", Shape::new(expected), found.shape))
}

/// Checks one operand's rank.
fn expect_rank(what: &str, found: Operand<'_>, rank: usize) -> Result<(), String> {
    if found.shape.len() == rank {
        return Ok(());
    }
    Err(format!("{what} must have {rank} axes, is {}", found.shape))
}

/// Checks that an operand holds integers.
fn expect_integers(what: &str, found: Operand<'_>) -> Result<(), String> {
    if found.dtype == DType::I32 {
        return Ok(());
    }
    Err(format!("{what} must be i32, is {}", found.dtype))
}

/// Checks that operands are floats of one type, which is returned.
fn expect_floats(operands: &[(&str, Operand<'_>)]) -> Result<DType, String> {
    let (first, dtype) = (operands[0].0, operands[0].1.dtype);
    for (what, operand) in operands {
        if !operand.dtype.is_float() {
            return Err(format!("{what} must be a float type, is {}", operand.dtype));
        }
        if operand.dtype != dtype {
            return Err(format!("{what} is {}, but {first} is {dtype}", operand.dtype));
        }
    }
    Ok(dtype)
}

/// One result.
fn result(shape: Shape, dtype: DType) -> Results {
    let mut results = Results::new();
    results.push((shape, dtype));
    results
}

/// One value.
fn value(value: Value) -> Values {
    let mut values = Values::new();
    values.push(value);
    values
}
