//! What can go wrong in this crate.

use crate::{BackendError, DType, Shape};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of graph building, compilation or running.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A node was added whose operands don't fit. The first such error of a graph is kept.
    #[error("{op}{place}: {problem}", place = in_scope(.scope))]
    Node {
        /// The op that was added.
        op: String,
        /// The scope it was added in, such as `decoder.layers.3.cross_attention`.
        scope: String,
        /// What does not fit, with the shapes.
        problem: String,
    },
    /// A program was run without one of its inputs or states.
    #[error("{kind} `{name}` is not bound; pass it to `run`")]
    Unbound {
        /// "input" or "state".
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An input, a state or a parameter has another shape or type than the graph declared.
    #[error(
        "{kind} `{name}`: the graph declares {expected_dtype} {expected}, but it is {found_dtype} {found}"
    )]
    Mismatch {
        /// "input", "state" or "parameter".
        kind: &'static str,
        /// Its name.
        name: String,
        /// Declared shape.
        expected: Shape,
        /// Declared element type.
        expected_dtype: DType,
        /// Shape found.
        found: Shape,
        /// Element type found.
        found_dtype: DType,
    },
    /// An input declared as indices below a bound holds another one.
    #[error("input `{name}`: index {index} at position {position} is not below {bound}")]
    IndexOutOfRange {
        /// The input's name.
        name: String,
        /// The offending index.
        index: i32,
        /// Where it stands.
        position: usize,
        /// The exclusive upper bound.
        bound: usize,
    },
    /// A parameter that the source of parameters does not have or could not read.
    #[error("parameter `{name}`: {problem}")]
    Parameter {
        /// Its name.
        name: String,
        /// Why it could not be read.
        problem: String,
    },
    /// A tap that names no value of the graph.
    #[error("no value is named `{name}`; the nearest is `{nearest}`")]
    UnknownTap {
        /// The name asked for.
        name: String,
        /// The most similar name there is.
        nearest: String,
    },
    /// A program was run by a session that neither compiled it nor is a fork of the one that did.
    #[error("the program was compiled by another session; compile the graph in this one")]
    ForeignProgram,
    /// Device memory was passed to a session on another backend.
    #[error("the tensor lies in the memory of another backend; use the session that made it")]
    ForeignTensor,
    /// Data and shape of a host tensor disagree.
    #[error("{elements} elements do not make a tensor of shape {shape}")]
    TensorSize {
        /// The number of elements given.
        elements: usize,
        /// The shape given.
        shape: Shape,
    },
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

fn in_scope(scope: &str) -> String {
    if scope.is_empty() { String::new() } else { format!(" in {scope}") }
}
