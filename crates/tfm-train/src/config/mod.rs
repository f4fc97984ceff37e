//! The configuration of a training: the file that `tfm train` reads.

mod data;
mod model;
mod optimization;
mod run;
mod table;

pub use data::*;
pub use model::*;
pub use optimization::*;
pub use run::*;

use crate::error::{Error, Result};
use crate::schedule::Schedule;
use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use table::{Document, Table};
use toml::de::DeTable;

/// The environment variable that overrides `data.root`.
pub const DATA_ROOT: &str = "TFM_DATA";

/// The largest configuration file that is read, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// A fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The line, counted from 1.
    pub line: usize,
    /// The key with its sections, as in `model.encoder.layers`; empty for the file itself.
    pub key: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "line {}: {}", self.line, self.problem),
            key => write!(f, "line {}: `{key}` {}", self.line, self.problem),
        }
    }
}

/// The checked description of a training. Paths are ready to open.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// The file as it was written, which checkpoints keep.
    pub text: String,
    /// The model to train.
    pub model: Model,
    /// The adapters to train instead of the weights.
    pub lora: Option<Lora>,
    /// Where the tokeniser comes from.
    pub tokenizer: TokenizerSource,
    /// The training and validation data.
    pub data: Data,
    /// How batches are made.
    pub batch: Batching,
    /// How weights follow gradients.
    pub optimizer: Optimizer,
    /// The learning rate over time.
    pub schedule: Schedule,
    /// The loss.
    pub loss: Loss,
    /// Dropout.
    pub dropout: Dropout,
    /// The device, the output folder and the length.
    pub run: Run,
    /// How progress is measured.
    pub validation: Validation,
    /// Which checkpoints are kept.
    pub checkpoint: Checkpoints,
}

impl TrainConfig {
    /// Reads a file. Paths in it are relative to its folder; those of corpora to `data.root`, or to
    /// the folder that the environment variable [`DATA_ROOT`] names.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Config`] with every fault.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |source| Error::Read { path: path.into(), source };
        let file = path.display().to_string();
        let mut text = String::new();
        // A device file may have no end.
        let mut opened = File::open(path).map_err(failed)?.take(LARGEST_FILE + 1);
        let length = opened.read_to_string(&mut text).map_err(failed)?;
        if length as u64 > LARGEST_FILE {
            let problem = format!("has more than {LARGEST_FILE} bytes; is it a configuration?");
            let faults = vec![ConfigFault { line: 1, key: String::new(), problem }];
            return Err(Error::Config { file, faults });
        }
        let data_root = std::env::var_os(DATA_ROOT).filter(|root| !root.is_empty());
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&file, &text, folder, data_root.map(PathBuf::from).as_deref())
    }

    /// Reads the text of the file called `file`, with paths relative to `folder`. `data_root`
    /// overrides `data.root`.
    ///
    /// # Errors
    /// [`Error::Config`] with every fault.
    pub fn parse(file: &str, text: &str, folder: &Path, data_root: Option<&Path>) -> Result<Self> {
        let document = Document { text, faults: RefCell::new(Vec::new()) };
        let (toml, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            document.fault(at, String::new(), error.message());
        }
        let mut config = None;
        // Faults that follow from broken TOML would only confuse.
        if errors.is_empty() {
            let mut root = Table::root(&document, toml.get_ref());
            config = read(&mut root, text, &BaseFolders { folder, data_root });
        }
        let mut faults = document.faults.into_inner();
        faults.sort_by_key(|fault| fault.line);
        config.filter(|_| faults.is_empty()).ok_or(Error::Config { file: file.into(), faults })
    }
}

/// The folders that paths are relative to.
struct BaseFolders<'p> {
    folder: &'p Path,
    data_root: Option<&'p Path>,
}

impl BaseFolders<'_> {
    fn path(&self, written: &str) -> PathBuf {
        self.folder.join(written)
    }
}

/// Reads all sections, so that all faults are found; `None` if a section is too faulty to be built.
fn read(root: &mut Table<'_>, text: &str, folders: &BaseFolders<'_>) -> Option<TrainConfig> {
    let model = Model::read(&mut root.table("model"), folders);
    let lora = Lora::read(&mut root.table("lora"));
    let tokenizer = TokenizerSource::read(&mut root.table("tokenizer"), model.as_ref(), folders);
    let data = Data::read(&mut root.table("data"), folders);
    let batch = Batching::read(&mut root.table("batch"));
    let optimizer = Optimizer::read(&mut root.table("optimizer"));
    let run = Run::read(&mut root.table("run"), folders);
    let updates = run.as_ref().and_then(|run| run.updates);
    let schedule = optimization::schedule(&mut root.table("schedule"), updates);
    let loss = Loss::read(&mut root.table("loss"));
    let dropout = Dropout::read(&mut root.table("dropout"));
    let validation = Validation::read(&mut root.table("validation"));
    let checkpoint = Checkpoints::read(&mut root.table("checkpoint"));
    let config = TrainConfig {
        text: text.into(),
        model: model?,
        lora,
        tokenizer: tokenizer?,
        data: data?,
        batch,
        optimizer,
        schedule: schedule?,
        loss,
        dropout,
        run: run?,
        validation,
        checkpoint,
    };
    agree(root, &config);
    Some(config)
}

/// Notes contradictions between sections.
fn agree(root: &mut Table<'_>, config: &TrainConfig) {
    let longest = config.data.filters.maximum_tokens;
    if config.batch.tokens < 2 * longest {
        let problem = format!(
            "is {}, but a pair may have {longest} source and {longest} target tokens: raise it to {} or lower data.maximum_tokens",
            config.batch.tokens,
            2 * longest
        );
        root.table("batch").refuse_value("tokens", problem);
    }
    if let Start::Scratch(architecture) = &config.model.start
        && architecture.max_positions < longest
    {
        let problem = format!(
            "is {longest}, but the model has {} positions: lower it or raise model.max_positions",
            architecture.max_positions
        );
        root.table("data").refuse_value("maximum_tokens", problem);
    }
    let validates = config.validation.every.is_some();
    if validates && config.data.validation.is_none() {
        let problem = "is set, but there is nothing to validate on: give data.validation";
        root.table("validation").refuse_value("every", problem.into());
    }
    if !validates {
        let needs = [
            ("patience", config.validation.patience.is_some(), "validation"),
            ("keep_best", config.checkpoint.keep_best > 0, "checkpoint"),
        ];
        for (key, _, section) in needs.into_iter().filter(|(_, is_set, _)| *is_set) {
            let problem = "needs measurements to go by: give validation.every";
            root.table(section).refuse_value(key, problem.into());
        }
    }
    if config.checkpoint.average > config.checkpoint.keep_last {
        let problem = format!(
            "is {}, but keep_last = {} leaves fewer checkpoints",
            config.checkpoint.average, config.checkpoint.keep_last
        );
        root.table("checkpoint").refuse_value("average", problem);
    }
}
