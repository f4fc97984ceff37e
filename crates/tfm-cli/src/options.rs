//! Options that several commands share, and their translation to the library.

use crate::failure::{Failure, Outcome};
use clap::{Args, ValueEnum};
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tfm::{Compute, ComputeType, Device, ElementType, Model, Options, Shortlist};

/// Where results go, and how.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Write results to this file, which gets its name when it is complete and is compressed if the
    /// name ends in .gz or .zst; - is standard output
    #[arg(short = 'o', long = "output", value_name = "FILE", default_value = "-")]
    pub(crate) path: PathBuf,
    /// One line of text, or one JSON object, per result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Jsonl,
}

/// Which model, and where it runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model and device")]
pub(crate) struct ModelChoice {
    /// The model's folder, as Hugging Face lays it out; without it, the bundled English-French
    /// model
    #[arg(short = 'm', long = "model", value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Where to compute: auto (the default), cpu, or in a build with the feature `cuda` also cuda
    /// or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<tfm::Device>,
    /// Numeric type to compute in: int8 and bf16 are faster and take less memory; f16 is for CUDA
    /// devices
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = NumericType::F32)]
    pub(crate) dtype: NumericType,
    /// How many threads compute; without it, one per processor
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) threads: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NumericType {
    F32,
    F16,
    Bf16,
    Int8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WeightType {
    F32,
    F16,
    Bf16,
    Int8,
}

/// How translations are searched for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Search")]
pub(crate) struct Search {
    /// Hypotheses kept at each step; 1 is greedy search. Without it, the model's own setting
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) beam: Option<NonZeroUsize>,
    /// Scores are divided by length to this power: more than 0 favours long translations
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    pub(crate) length_penalty: Option<f64>,
    /// End a translation at this many tokens
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) max_new_tokens: Option<NonZeroUsize>,
    /// Don't end a translation before this many tokens
    #[arg(long, value_name = "N")]
    pub(crate) min_new_tokens: Option<usize>,
    /// Draw each token by its probability instead of searching for the most probable text
    #[arg(long, conflicts_with = "beam")]
    pub(crate) sample: bool,
    /// What `--sample` draws: the same seed gives the same translations
    #[arg(long, value_name = "N", requires = "sample")]
    pub(crate) seed: Option<u64>,
    /// Divide logits by this before a token is drawn: below 1 for more probable tokens
    #[arg(long, value_name = "T", requires = "sample")]
    pub(crate) temperature: Option<f64>,
    /// Draw among so many of the most probable tokens; 0 for all. Without it, the model's own
    /// setting or 50
    #[arg(long, value_name = "K", requires = "sample")]
    pub(crate) top_k: Option<usize>,
    /// Draw among the most probable tokens that have this share of all probability
    #[arg(long, value_name = "P", requires = "sample")]
    pub(crate) top_p: Option<f64>,
    /// Divide the logits of tokens that occurred before by this: above 1 for fewer repetitions
    #[arg(long, value_name = "R")]
    pub(crate) repetition_penalty: Option<f64>,
    /// No N tokens in a row may occur twice; 0 for no such limit
    #[arg(long, value_name = "N")]
    pub(crate) no_repeat_ngram: Option<usize>,
    /// What every translation begins with
    #[arg(long, value_name = "TEXT")]
    pub(crate) target_prefix: Option<String>,
    /// The language to translate to, for models that know several (such as fra)
    #[arg(long, value_name = "LANG")]
    pub(crate) target_lang: Option<String>,
    /// Source tokens encoded together: more is faster, less takes less memory
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) batch_tokens: Option<NonZeroUsize>,
    /// A worker admits another sentence while its keys and values take at most this many MiB;
    /// without it, 512, on a CUDA device 8192
    #[arg(long, value_name = "MIB", value_parser = positive)]
    pub(crate) memory: Option<NonZeroUsize>,
    /// Bind each worker to a processor of its own
    #[arg(long)]
    pub(crate) pin: bool,
    /// Only choose among the tokens that this file of `tfm shortlist` lists for each source:
    /// faster, a little less exact
    #[arg(long, value_name = "FILE")]
    pub(crate) shortlist: Option<PathBuf>,
}

impl Format {
    /// Whether results are JSON objects.
    pub(crate) fn is_json(self) -> bool {
        self == Format::Jsonl
    }
}

impl ModelChoice {
    pub(crate) fn model(&self) -> Outcome<Model> {
        open(self.folder.as_deref())
    }

    /// The files that make it up.
    pub(crate) fn files(&self) -> Vec<&Path> {
        self.folder.as_deref().into_iter().collect()
    }

    pub(crate) fn device(&self, quiet: bool) -> Device {
        chosen(self.device, self.threads, quiet)
    }
}

/// The model of a folder, or the bundled one.
pub(crate) fn open(folder: Option<&Path>) -> Outcome<Model> {
    let Some(folder) = folder else { return Ok(Model::bundled()?) };
    if !folder.exists() {
        return Err(Failure::Work(absent(folder)));
    }
    Ok(Model::open(folder)?)
}

/// Says that a folder is not there, and what to do where it is rather a name on a hub.
fn absent(folder: &Path) -> String {
    let name = folder.display();
    let parts: Vec<_> = folder.components().collect();
    let is_a_name = matches!(parts[..], [Component::Normal(_), Component::Normal(_)]);
    if !is_a_name {
        return format!("{name}: there is no such folder; --model names a model's folder");
    }
    format!(
        "{name}: there is no such folder. If it is the name of a model on Hugging Face, fetch it \
         first: hf download {name} --local-dir DIR, then --model DIR"
    )
}

/// Reads a number of at least 1.
pub(crate) fn positive(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse::<usize>() {
        Ok(number) => NonZeroUsize::new(number).ok_or_else(|| "it must be at least 1".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The device that was asked for, or else the best one. Says which device that is, where the user
/// asked for a choice or the choice is not the processor, and where fewer threads compute than were
/// asked for.
pub(crate) fn chosen(asked: Option<Device>, threads: Option<NonZeroUsize>, quiet: bool) -> Device {
    let device = asked.unwrap_or_default();
    let device = threads.map_or(device, |threads| device.with_threads(threads));
    let expected = asked.is_none() && device.is_cpu();
    if let Some(choice) = device.choice().filter(|_| !quiet && !expected) {
        eprintln!("note: {choice}");
    }
    if let Some(threads) = device.threads_note().filter(|_| !quiet) {
        eprintln!("note: {threads}");
    }
    device
}

impl From<NumericType> for ComputeType {
    fn from(numbers: NumericType) -> Self {
        match numbers {
            NumericType::F32 => ComputeType::F32,
            NumericType::F16 => ComputeType::F16,
            NumericType::Bf16 => ComputeType::BF16,
            NumericType::Int8 => ComputeType::Int8,
        }
    }
}

impl From<WeightType> for ElementType {
    fn from(weights: WeightType) -> Self {
        match weights {
            WeightType::F32 => ElementType::F32,
            WeightType::F16 => ElementType::F16,
            WeightType::Bf16 => ElementType::BF16,
            WeightType::Int8 => ElementType::I8,
        }
    }
}

impl Search {
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new();
        options.beams = self.beam.map(NonZeroUsize::get);
        options.length_penalty = self.length_penalty;
        options.max_new_tokens = self.max_new_tokens.map(NonZeroUsize::get);
        options.min_new_tokens = self.min_new_tokens;
        options.sample = self.sample.then_some(true);
        options.seed = self.seed.unwrap_or_default();
        options.temperature = self.temperature;
        options.top_k = self.top_k;
        options.top_p = self.top_p;
        options.repetition_penalty = self.repetition_penalty;
        options.no_repeat_ngram_size = self.no_repeat_ngram;
        options.target_language = self.target_lang.clone();
        options.target_prefix = self.target_prefix.clone();
        options
    }

    /// The files that it reads.
    pub(crate) fn files(&self) -> Vec<&Path> {
        self.shortlist.as_deref().into_iter().collect()
    }

    pub(crate) fn compute(&self, dtype: ComputeType) -> Outcome<Compute> {
        let shortlist = self.shortlist.as_deref().map(Shortlist::read).transpose();
        let mut compute = Compute::new().dtype(dtype).pin(self.pin);
        compute.batch_tokens = self.batch_tokens;
        compute.memory = self.memory.map(|mib| mib.get().saturating_mul(1 << 20));
        compute.shortlist = shortlist.map_err(tfm::Error::from)?.map(Arc::new);
        Ok(compute)
    }
}
