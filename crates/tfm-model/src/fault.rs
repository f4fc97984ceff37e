//! What can be wrong with a model's files.

use tfm_core::Shape;

/// One thing that is wrong with a model's files. Each names the file or the tensor and the way out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A file that is absent, unreadable, or not what its name promises as a whole.
    #[error("{file}: {problem}")]
    File {
        /// The file's name.
        file: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A field of `config.json` or `generation_config.json`.
    #[error("{file}: `{field}` {problem}")]
    Field {
        /// The file's name.
        file: String,
        /// The JSON field.
        field: String,
        /// What is wrong with its value, and what is expected.
        problem: String,
    },
    /// An entry of a safetensors header or index.
    #[error("{file}: tensor `{tensor}` {problem}")]
    Entry {
        /// The file's name.
        file: String,
        /// The tensor's name in the file.
        tensor: String,
        /// What is wrong with its entry.
        problem: String,
    },
    /// A parameter that the configuration calls for and no file holds.
    #[error("tensor `{tensor}` {expected} is missing{}; {remedy}", or_names(.alternatives))]
    Missing {
        /// Its name, as files of this family write it.
        tensor: String,
        /// Other names under which it would have been accepted.
        alternatives: Vec<String>,
        /// The shape the configuration calls for.
        expected: Shape,
        /// What to do.
        remedy: &'static str,
    },
    /// A tensor of another shape than the configuration calls for.
    #[error("tensor `{tensor}` should be {expected} by config.json, but is {found}; {remedy}")]
    Mismatch {
        /// Its name in the file.
        tensor: String,
        /// The shape the configuration calls for.
        expected: Shape,
        /// The shape in the file.
        found: Shape,
        /// What to do.
        remedy: &'static str,
    },
    /// A tensor whose elements are not of a type that weights are read from.
    #[error(
        "tensor `{tensor}` holds {found}; weights are read from F64, F32, F16 or BF16, and matrices from I8 with scales"
    )]
    ElementType {
        /// Its name in the file.
        tensor: String,
        /// The element type's name in the file.
        found: String,
    },
    /// A tensor with elements that are not numbers or not finite.
    #[error(
        "tensor `{tensor}` has {nan} NaN and {infinite} infinite elements of {elements}; {remedy}"
    )]
    NotFinite {
        /// Its name in the file.
        tensor: String,
        /// How many elements are NaN.
        nan: usize,
        /// How many elements are infinite.
        infinite: usize,
        /// How many elements there are.
        elements: usize,
        /// What to do.
        remedy: &'static str,
    },
    /// Two tensors that the configuration ties but that differ.
    #[error("tensors `{first}` and `{second}` are tied by config.json but differ; {remedy}")]
    Conflict {
        /// The first tensor.
        first: String,
        /// The second tensor.
        second: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A parameter that its source could not give.
    #[error("parameter `{name}`: {problem}")]
    Parameter {
        /// Its name in this crate.
        name: String,
        /// Why it could not be had.
        problem: String,
    },
}

impl Fault {
    /// A fault of a whole file.
    pub(crate) fn file(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Fault::File { file: file.into(), problem: problem.into() }
    }

    /// A fault of one entry of a header or an index.
    pub(crate) fn entry(file: &str, tensor: &str, problem: impl Into<String>) -> Self {
        Fault::Entry { file: file.into(), tensor: shortened(tensor), problem: problem.into() }
    }
}

/// A name from a file as it may be printed: without control characters, and not endless.
pub(crate) fn shortened(name: &str) -> String {
    const LONGEST: usize = 200;
    let mut short: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

fn or_names(names: &[String]) -> String {
    let mut text = String::new();
    for name in names {
        text.push_str(if text.is_empty() { " (nor is " } else { ", nor " });
        text.push_str(&format!("`{name}`"));
    }
    if !text.is_empty() {
        text.push(')');
    }
    text
}
