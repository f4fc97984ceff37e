//! What can go wrong in this crate.

use crate::config::ConfigFault;
use std::path::PathBuf;
use tfm_core::{NotFinite, Shape};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a training: of its configuration, data, checkpoints or reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A training configuration that makes no sense. All faults are listed.
    #[error("{file} is no usable training configuration: {}", listed(.faults))]
    Config {
        /// The file.
        file: String,
        /// All that is wrong, in the order of the lines.
        faults: Vec<ConfigFault>,
    },
    /// A file or a folder could not be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system, or the decompressor, answered.
        source: std::io::Error,
    },
    /// A file or a folder could not be written.
    #[error("cannot {action} {path}: {source}{remedy}", path = .path.display(), remedy = remedy(.source))]
    Write {
        /// The action that failed: "write", "rename", "make" or "remove".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system answered.
        source: std::io::Error,
    },
    /// A corpus cannot be read, or a file cannot be written.
    #[error(transparent)]
    Files(#[from] tfm_files::Error),
    /// A line of a corpus that is not filtered is too long.
    #[error("{place}, line {line}: longer than {most} bytes; split the text")]
    LongLine {
        /// The corpus.
        place: String,
        /// The line, counted from 1.
        line: u64,
        /// The most bytes of a line.
        most: u64,
    },
    /// Text that the tokeniser refuses.
    #[error("{place}: {source}")]
    Encode {
        /// The corpus and the line.
        place: String,
        /// What the tokeniser says.
        source: tfm_text::Error,
    },
    /// A corpus of which no pair is left.
    #[error("{place} has no pair to use: {counts}")]
    NoPairs {
        /// The corpus.
        place: String,
        /// How many pairs were read, and why they were left out.
        counts: String,
    },
    /// A pair that no batch can hold.
    #[error(
        "batch.tokens is {limit}, but a pair has {tokens} tokens (source and target): raise batch.tokens or lower data.maximum_tokens"
    )]
    BatchTooSmall {
        /// The most tokens of a batch.
        limit: usize,
        /// The tokens of the longest pair.
        tokens: usize,
    },
    /// A position that does not exist in the data: the data has changed since the checkpoint.
    #[error(
        "the data has no batch {batch} in window {window} of epoch {epoch}: resume with the data, seed and batch size that the training began with"
    )]
    Position {
        /// The epoch.
        epoch: u64,
        /// The window.
        window: u64,
        /// The batch.
        batch: u64,
    },
    /// The thread that loads batches ended without an error.
    #[error("the loader of batches stopped: start the training again from its last checkpoint")]
    LoaderStopped,
    /// A checkpoint of a training that cannot be used.
    #[error("{place} is no usable training checkpoint: {problem}")]
    Checkpoint {
        /// Its folder.
        place: String,
        /// The file at fault, what is wrong, and what to do.
        problem: String,
    },
    /// A file of measurements that does not belong to this training.
    #[error("{path}:{line}: {problem}", path = .path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A model that makes no sense.
    #[error("the model makes no sense: {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Senseless {
        /// All that is wrong with it.
        faults: Vec<tfm_model::Fault>,
    },
    /// A new model that is too large for this machine.
    #[error(
        "a model of {parameters} parameters needs at least {} GiB to be trained, but there are {} \
         GiB: lower d_model, layers, ffn_dim or the vocabulary",
        needed.div_ceil(1 << 30), available >> 30
    )]
    Memory {
        /// Its parameters.
        parameters: u64,
        /// The bytes that a training needs at least.
        needed: u64,
        /// The bytes that the operating system has.
        available: u64,
    },
    /// A tokeniser with more tokens than the model knows.
    #[error(
        "the tokeniser has {tokens} {side} tokens, but the model knows {rows}: they belong to different models"
    )]
    Vocabulary {
        /// "source" or "target".
        side: &'static str,
        /// Tokens of the tokeniser.
        tokens: usize,
        /// Tokens of the model.
        rows: usize,
    },
    /// Training sentences that are longer than the model's positions.
    #[error("data.maximum_tokens is {tokens}, but the model has {positions} positions: lower it")]
    Positions {
        /// The most tokens of a training sentence.
        tokens: usize,
        /// The model's positions.
        positions: usize,
    },
    /// A tokeniser that lacks a special token which the model needs.
    #[error(
        "the tokeniser has no token for the role of {role}; use one that has, or let one be made"
    )]
    NoSuchToken {
        /// The role.
        role: &'static str,
    },
    /// A pattern that names no parameter.
    #[error(
        "model.freeze names `{pattern}`, but there is no such parameter; the nearest is `{nearest}`"
    )]
    NothingFrozen {
        /// The pattern.
        pattern: String,
        /// The most similar name there is.
        nearest: String,
    },
    /// A list of frozen parameters beside adapters, which freeze all parameters.
    #[error(
        "model.freeze stands beside [lora], which freezes all weights already: take one of them away"
    )]
    FreezeBesideAdapters,
    /// A target of adapters that is the name of no linear layer.
    #[error(
        "lora.targets names `{target}`, but the linear layers are called query, key, value, output, inner and outer"
    )]
    NoSuchLinear {
        /// The name.
        target: String,
    },
    /// A pattern of scopes that names nothing.
    #[error(
        "run.recompute names `{pattern}`, but there is no such scope; a layer is `encoder.layers.0`, all of a stack's are `encoder.layers.*`"
    )]
    NoSuchScope {
        /// The pattern.
        pattern: String,
    },
    /// A validation pair that the model or a batch cannot hold.
    #[error(
        "pair {pair} of the validation data has {tokens} tokens, but there are only {limit} {what}: shorten it, or leave it out"
    )]
    ValidationPair {
        /// The number of the pair, counted from 1.
        pair: usize,
        /// Its tokens.
        tokens: usize,
        /// The most tokens there may be.
        limit: usize,
        /// What sets that limit.
        what: &'static str,
    },
    /// A training that would change nothing.
    #[error(
        "nothing is learnt: model.freeze names every parameter, or lora.targets no linear layer"
    )]
    NothingLearnt,
    /// A new training in the folder of another.
    #[error("{folder} is there already: go on from it with --resume, or give another run.output", folder = .folder.display())]
    OutputInUse {
        /// The last checkpoint found.
        folder: PathBuf,
    },
    /// A checkpoint of a training with another seed or other data.
    #[error("{folder} belongs to a training with another {what}; give what it began with, or another run.output", folder = .folder.display())]
    OtherTraining {
        /// The checkpoint.
        folder: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The tokeniser failed.
    #[error(transparent)]
    Text(#[from] tfm_text::Error),
    /// A missing weight, or a missing state that the optimiser keeps for it.
    #[error(
        "`{name}` is missing; the checkpoint belongs to another model, or to other settings of the training"
    )]
    MissingWeight {
        /// Its name.
        name: String,
    },
    /// A weight, or a state that the optimiser keeps for it, of another shape.
    #[error("`{name}` has the shape {found}, not {expected}: it belongs to another model")]
    OtherShape {
        /// Its name.
        name: String,
        /// The shape it should have.
        expected: Shape,
        /// The shape it has.
        found: Shape,
    },
    /// A loss or a gradient that is not finite. The weights have not changed.
    #[error(
        "update {update}: the loss is {loss} or its gradient is not finite{place}; the model is as it was before this update: lower the learning rate, lengthen the warm-up, or clip the gradient's norm",
        place = first_place(.place)
    )]
    NotFinite {
        /// The update, counted from 1.
        update: u64,
        /// The mean loss.
        loss: f64,
        /// The op that made the first such number.
        place: Option<NotFinite>,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] tfm_model::Error),
    /// The engine failed.
    #[error(transparent)]
    Core(#[from] tfm_core::Error),
}

/// The faults, one per line if there are several.
fn listed(faults: &[ConfigFault]) -> String {
    match faults {
        [one] => one.to_string(),
        many => {
            let lines: String = many.iter().map(|fault| format!("\n  - {fault}")).collect();
            format!("{} faults:{lines}", many.len())
        }
    }
}

fn first_place(place: &Option<NotFinite>) -> String {
    place.as_ref().map_or_else(String::new, |place| {
        let NotFinite { op, scope, shape, elements } = place;
        format!(": first in {op} of {scope}, where {elements} elements of {shape} are not finite")
    })
}

fn remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull => {
            "; make room, then go on with --resume; an earlier checkpoint is whole"
        }
        _ => "",
    }
}
