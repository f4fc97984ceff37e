//! What the command line takes.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Translates and scores text with encoder-decoder Transformers.
#[derive(Debug, Parser)]
#[command(name = "tfm", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Translate text: line in, line out, in order.
    Translate(Translate),
    /// The log-probability that the model gives to known translations.
    Score(Score),
    /// BLEU and chrF of a translation, or of the model itself.
    Evaluate(Evaluate),
    /// What a model is made of: configuration, vocabulary, parameters, graphs.
    Inspect(Inspect),
    /// Train a model as a configuration file says.
    Train(Train),
    /// Write a model with its weights in another type.
    Convert(Convert),
    /// The mean of the weights of several models of one training.
    Average(Average),
    /// Learn which target tokens the source tokens are translated by, for --shortlist.
    Shortlist(LearnShortlist),
    /// Make tokenisers.
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// The configuration; docs/training.md lists what it may say
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,
    /// Go on from the last whole checkpoint in the output folder
    #[arg(long)]
    pub(crate) resume: bool,
    /// Where to compute: auto, cpu, or in a build with the feature `cuda` also cuda or cuda:N. Without it, what the
    /// configuration says
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<tfm::Device>,
    /// How many threads compute. Without it, what the configuration says, or as many as there are processors
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// The model's folder
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// The folder to write, made if it is absent
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// How weights are stored; int8 is what `translate --dtype int8` makes of them, a quarter of f32
    #[arg(long, value_enum, default_value_t = WeightType::F32)]
    pub(crate) dtype: WeightType,
}

#[derive(Debug, Args)]
pub(crate) struct Average {
    /// The models' folders
    #[arg(value_name = "MODEL", required = true, num_args = 1..)]
    pub(crate) models: Vec<PathBuf>,
    /// The folder to write, made if it is absent
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// How weights are stored
    #[arg(long, value_enum, default_value_t = WeightType::F32)]
    pub(crate) dtype: WeightType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WeightType {
    F32,
    F16,
    Bf16,
    Int8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Numbers {
    F32,
    F16,
    Bf16,
    Int8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenizerCommand {
    /// Learn pieces from text, and write a folder with source.spm, target.spm, vocab.json and more.
    Train(TrainTokenizer),
}

#[derive(Debug, Args)]
pub(crate) struct TrainTokenizer {
    /// Text of both languages, a sentence a line; - is standard input. Files that end in .gz are unpacked
    #[arg(short, long, value_name = "FILE", num_args = 1.., required_unless_present = "source", conflicts_with_all = ["source", "target"])]
    pub(crate) input: Vec<PathBuf>,
    /// Source text
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "target")]
    pub(crate) source: Vec<PathBuf>,
    /// Target text
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "source")]
    pub(crate) target: Vec<PathBuf>,
    /// The lines of --input are `source TAB target`; what follows another tab is left out
    #[arg(long, requires = "input")]
    pub(crate) tsv: bool,
    /// Learn a vocabulary for each language; without it, one for both
    #[arg(long)]
    pub(crate) separate: bool,
    /// The algorithm
    #[arg(long, value_enum, default_value_t = PieceKind::Unigram)]
    pub(crate) kind: PieceKind,
    /// Number of pieces, with </s> and <unk>; <pad> is one more
    #[arg(long, value_name = "N", default_value = "8000")]
    pub(crate) vocabulary: NonZeroUsize,
    /// Share of the characters of the text that the vocabulary must cover; the rarest become unknown
    #[arg(long, value_name = "C", default_value = "0.9995")]
    pub(crate) character_coverage: f64,
    /// Text that is always one piece of its own; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) symbol: Vec<String>,
    /// Leave out sentences of more bytes
    #[arg(long, value_name = "BYTES", default_value = "4192")]
    pub(crate) longest_sentence: NonZeroUsize,
    /// The folder to write, made if it is absent
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LearnShortlist {
    /// Source text, a sentence a line; - is standard input. Files that end in .gz are unpacked
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "target", required_unless_present = "tsv")]
    pub(crate) source: Vec<PathBuf>,
    /// Its translation, line by line: as many files
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "source")]
    pub(crate) target: Vec<PathBuf>,
    /// Lines of `source TAB target`; what follows another tab is left out
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) tsv: Vec<PathBuf>,
    /// The model's folder, as Hugging Face lays it out; without it, the bundled English-French model
    #[arg(short, long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The most translations of a source token
    #[arg(long, value_name = "N", default_value = "50")]
    pub(crate) best: usize,
    /// The least probability of a translation
    #[arg(long, value_name = "P", default_value = "0.001")]
    pub(crate) threshold: f32,
    /// How many of the most frequent target tokens are always at hand
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) frequent: usize,
    /// Iterations of expectation maximisation (IBM Model 1)
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) iterations: NonZeroUsize,
    /// Learn from the first N pairs; they are kept in memory
    #[arg(long, value_name = "N", default_value = "1000000")]
    pub(crate) pairs: NonZeroUsize,
    /// How many threads learn; without it, as many as there are processors
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Translate {
    /// What to translate, one sentence an argument; without it, lines are read from --input
    #[arg(value_name = "TEXT", conflicts_with = "input")]
    pub(crate) text: Vec<String>,
    /// Read lines from this file; - is standard input
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) input: PathBuf,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) model: ModelChoice,
    #[command(flatten)]
    pub(crate) search: Search,
    /// Show the best K translations of each line, at most as many as --beam
    #[arg(long, value_name = "K", help_heading = "Results")]
    pub(crate) n_best: Option<NonZeroUsize>,
    /// Show each translation's score: its log-probability over its length to the length penalty
    #[arg(long, help_heading = "Results")]
    pub(crate) scores: bool,
    /// Show which source token each target token attends to most (jsonl: all weights)
    #[arg(long, help_heading = "Results")]
    pub(crate) alignments: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Score {
    /// Source lines
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(crate) source: Option<PathBuf>,
    /// Target lines; without --source and --target, `source TAB target` lines are read from standard input
    #[arg(long, value_name = "FILE", requires = "source")]
    pub(crate) target: Option<PathBuf>,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) model: ModelChoice,
}

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// Lines to judge
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "source",
        conflicts_with = "source"
    )]
    pub(crate) hypothesis: Option<PathBuf>,
    /// Lines to translate with the model, and then to judge
    #[arg(long, value_name = "FILE")]
    pub(crate) source: Option<PathBuf>,
    /// What the lines should be; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) reference: Vec<PathBuf>,
    /// Which metrics, in this order
    #[arg(
        long,
        value_name = "METRIC",
        value_enum,
        value_delimiter = ',',
        default_value = "bleu,chrf"
    )]
    pub(crate) metrics: Vec<Metric>,
    /// Write the model's translations of --source to this file
    #[arg(long, value_name = "FILE", requires = "source")]
    pub(crate) save: Option<PathBuf>,
    /// One line of text, or one JSON object, a metric
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) model: ModelChoice,
    #[command(flatten)]
    pub(crate) search: Search,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The model's folder; without it, the bundled model
    #[arg(short, long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// List every parameter with its shape, type and size
    #[arg(long)]
    pub(crate) parameters: bool,
    /// Print the graph of what is computed, for sentences of --length tokens
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "parameters")]
    pub(crate) graph: Option<Part>,
    /// Tokens of the sentences that the graph is for
    #[arg(long, value_name = "N", default_value = "8", requires = "graph")]
    pub(crate) length: NonZeroUsize,
    /// Print the graph in Graphviz's language
    #[arg(long, requires = "graph")]
    pub(crate) dot: bool,
}

/// Where results go, and how.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Write results to this file, which takes its name when all are there; - is standard output
    #[arg(short = 'o', long = "output", value_name = "FILE", default_value = "-")]
    pub(crate) path: PathBuf,
    /// One line of text, or one JSON object, a result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Which model, where it runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model and device")]
pub(crate) struct ModelChoice {
    /// The model's folder, as Hugging Face lays it out; without it, the bundled English-French model
    #[arg(short = 'm', long = "model", value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Where to compute: auto (the default), cpu, or in a build with the feature `cuda` also cuda or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<tfm::Device>,
    /// Compute in these numbers: int8 and bf16 are faster and take less memory; f16 is for CUDA devices
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = Numbers::F32)]
    pub(crate) dtype: Numbers,
    /// How many threads compute; without it, as many as there are processors
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
}

/// How translations are searched for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Search")]
pub(crate) struct Search {
    /// Hypotheses kept at each step; 1 is greedy search. Without it, the model's own setting
    #[arg(long, value_name = "N")]
    pub(crate) beam: Option<NonZeroUsize>,
    /// Scores are divided by length to this power: more than 0 favours long translations
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    pub(crate) length_penalty: Option<f32>,
    /// End a translation at this many tokens
    #[arg(long, value_name = "N")]
    pub(crate) max_new_tokens: Option<NonZeroUsize>,
    /// Don't end a translation before this many tokens
    #[arg(long, value_name = "N")]
    pub(crate) min_new_tokens: Option<usize>,
    /// The language to translate to, for models that know several (such as fra)
    #[arg(long, value_name = "LANG")]
    pub(crate) target_lang: Option<String>,
    /// Source tokens encoded together: more is faster, less takes less memory
    #[arg(long, value_name = "N")]
    pub(crate) batch_tokens: Option<NonZeroUsize>,
    /// MiB of keys and values up to which a worker takes on another sentence; without it, 512, on a CUDA device 8192
    #[arg(long, value_name = "MIB")]
    pub(crate) memory: Option<NonZeroUsize>,
    /// Bind each worker to a processor of its own
    #[arg(long)]
    pub(crate) pin: bool,
    /// Choose among the tokens that this file of `tfm shortlist` has for each source: faster, a little less exact
    #[arg(long, value_name = "FILE")]
    pub(crate) shortlist: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PieceKind {
    Unigram,
    Bpe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Metric {
    Bleu,
    Chrf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Encoder,
    Decoder,
}
