//! `tfm tokenizer train`: learns a tokeniser from text.

use crate::failure::{Failure, Outcome};
use crate::faults::{Faults, OnError};
use crate::input::refuse_json;
use crate::options::positive;
use crate::pairs::{Columns, refuse_stdin_twice};
use crate::progress::Progress;
use clap::{Args, ValueEnum};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tfm_files::{Lines, Pair, refuse_inputs};
use tfm_text::training::{Kind, Options, SpecialIds, TrainedModel, Trainer};
use tfm_text::training::{Vocabularies, write_marian};

/// How many sentences are read between two progress messages.
const STRIDE: usize = 4096;

/// Learn pieces from text, and write a folder with source.spm, target.spm, vocab.json and more.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Text of both languages, one sentence per line; - is standard input
    #[arg(short, long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["source", "target"])]
    input: Vec<PathBuf>,
    /// Source text
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "target")]
    source: Vec<PathBuf>,
    /// Target text
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "source")]
    target: Vec<PathBuf>,
    /// The lines of --input are `source TAB target`; further columns are ignored
    #[arg(long, requires = "input")]
    tsv: bool,
    #[command(flatten)]
    columns: Columns,
    #[command(flatten)]
    on_error: OnError,
    /// Learn one vocabulary for each language; without it, one for both
    #[arg(long)]
    separate: bool,
    /// The algorithm
    #[arg(long, value_enum, default_value_t = PieceKind::Unigram)]
    kind: PieceKind,
    /// Number of pieces, with </s> and <unk>; <pad> is one more
    #[arg(long, value_name = "N", default_value = "8000", value_parser = positive)]
    vocabulary: NonZeroUsize,
    /// Share of the characters of the text that the vocabulary must cover; the rarest become
    /// unknown
    #[arg(long, value_name = "C", default_value = "0.9995")]
    character_coverage: f64,
    /// Text that is always one piece of its own; may be given several times
    #[arg(long, value_name = "TEXT")]
    symbol: Vec<String>,
    /// Leave out sentences that have more bytes
    #[arg(long, value_name = "BYTES", default_value = "4192", value_parser = positive)]
    longest_sentence: NonZeroUsize,
    /// The folder to write; it is created if it is absent
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PieceKind {
    Unigram,
    Bpe,
}

/// The files that may be written.
const WRITTEN: [&str; 6] = [
    "source.spm",
    "target.spm",
    "vocab.json",
    "target_vocab.json",
    "tokenizer_config.json",
    "tokenizer.json",
];

/// Does what the arguments say.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut text = Text {
        faults: arguments.on_error.faults(),
        progress: Progress::new(&[], Path::new(""), arguments.quiet),
    };
    let outcome = train(arguments, &mut text);
    text.progress.finish();
    outcome?;
    text.faults.finish()
}

fn train(arguments: &Arguments, text: &mut Text) -> Outcome {
    if arguments.input.is_empty() && arguments.source.is_empty() {
        let problem = "what to learn from? Give --input, or --source and --target";
        return Err(Failure::Usage(problem.into()));
    }
    if arguments.separate && arguments.source.is_empty() && !arguments.tsv {
        let problem = "--separate needs two languages: give --source and --target, or --tsv";
        return Err(Failure::Usage(problem.into()));
    }
    let files = || arguments.input.iter().chain(&arguments.source).chain(&arguments.target);
    refuse_stdin_twice(files())?;
    refuse_json(files())?;
    for weights in ["model.safetensors", "model.safetensors.index.json"] {
        if arguments.output.join(weights).exists() {
            let folder = arguments.output.display();
            let problem = "has a model, which another tokeniser does not fit; name another folder";
            return Err(Failure::Usage(format!("{folder} {problem}")));
        }
    }
    for name in WRITTEN {
        refuse_inputs(&arguments.output.join(name), files().map(PathBuf::as_path))?;
    }
    // Report an impossible output before the work.
    if arguments.output.exists() && !arguments.output.is_dir() {
        let problem = format!("{} is not a folder", arguments.output.display());
        return Err(Failure::Work(problem));
    }
    let mut trainers = Trainers::new(arguments)?;
    for path in &arguments.input {
        if arguments.tsv {
            let pairs = arguments.columns.open(path)?;
            text.read(pairs, |pair| trainers.add_pair(&pair))?;
        } else {
            text.read(Lines::open(path)?, |line| trainers.add_source(&line))?;
        }
    }
    for path in &arguments.source {
        text.read(Lines::open(path)?, |line| trainers.add_source(&line))?;
    }
    for path in &arguments.target {
        text.read(Lines::open(path)?, |line| trainers.add_target(&line))?;
    }
    let progress = &text.progress;
    let source = learn(trainers.source, "source", progress)?;
    let target = trainers.target.map(|target| learn(target, "target", progress)).transpose()?;
    let vocabularies = match &target {
        None => Vocabularies::Joint(&source),
        Some(target) => Vocabularies::Separate { source: &source, target },
    };
    write_marian(&arguments.output, vocabularies).map_err(failed)
}

/// How text is read.
struct Text {
    faults: Faults,
    progress: Progress,
}

impl Text {
    /// Reads lines or pairs. `add` returns how many sentences there are now.
    fn read<T>(
        &mut self,
        items: impl Iterator<Item = Result<T, tfm_files::Error>>,
        mut add: impl FnMut(T) -> Outcome<usize>,
    ) -> Outcome {
        for (number, item) in items.enumerate() {
            let sentences = match item {
                Ok(item) => add(item)?,
                Err(error) if error.is_of_a_line() => {
                    self.faults.meet(error.to_string(), &self.progress)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if number.is_multiple_of(STRIDE) {
                self.progress.say(format!("{sentences} sentences"));
            }
        }
        Ok(())
    }
}

/// One trainer, or one for each language.
struct Trainers {
    source: Trainer,
    target: Option<Trainer>,
}

impl Trainers {
    fn new(arguments: &Arguments) -> Outcome<Self> {
        let kind = match arguments.kind {
            PieceKind::Unigram => Kind::Unigram,
            PieceKind::Bpe => Kind::Bpe,
        };
        let options = Options {
            character_coverage: arguments.character_coverage,
            longest_sentence: arguments.longest_sentence.get(),
            symbols: arguments.symbol.clone(),
            special: SpecialIds::marian(),
            ..Options::new(kind, arguments.vocabulary.get())
        };
        let target = arguments
            .separate
            .then(|| Trainer::new(options.clone()))
            .transpose()
            .map_err(failed)?;
        Ok(Trainers { source: Trainer::new(options).map_err(failed)?, target })
    }

    fn add_source(&mut self, text: &str) -> Outcome<usize> {
        self.source.add(text).map_err(failed)?;
        Ok(self.sentences())
    }

    fn add_target(&mut self, text: &str) -> Outcome<usize> {
        let trainer = self.target.as_mut().unwrap_or(&mut self.source);
        trainer.add(text).map_err(failed)?;
        Ok(self.sentences())
    }

    fn add_pair(&mut self, pair: &Pair) -> Outcome<usize> {
        self.add_source(&pair.source)?;
        self.add_target(&pair.target)
    }

    fn sentences(&self) -> usize {
        self.source.sentences() + self.target.as_ref().map_or(0, Trainer::sentences)
    }
}

fn learn(trainer: Trainer, side: &str, progress: &Progress) -> Outcome<TrainedModel> {
    if trainer.skipped() > 0 {
        progress.note(&format!(
            "{side}: sentences longer than --longest-sentence, left out: {}",
            trainer.skipped()
        ));
    }
    let sentences = trainer.sentences();
    trainer
        .train(|pieces| progress.say(format!("{sentences} sentences, {pieces} pieces")))
        .map_err(failed)
}

fn failed(error: tfm_text::Error) -> Failure {
    tfm::Error::from(error).into()
}
