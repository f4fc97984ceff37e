//! `tfm tokenizer train`: learns a tokeniser from text.

use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::progress::Progress;
use clap::{Args, Subcommand, ValueEnum};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tfm_text::training::{Kind, Options, SpecialIds, TrainedModel, Trainer};
use tfm_text::training::{Vocabularies, write_marian};

/// How many sentences are read between two progress messages.
const STRIDE: usize = 4096;

/// Make tokenisers.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Learn pieces from text, and write a folder with source.spm, target.spm, vocab.json and more.
    Train(Arguments),
}

/// Learn pieces from text, and write a folder with source.spm, target.spm, vocab.json and more.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Text of both languages, one sentence per line; - is standard input. Files that end in .gz
    /// are decompressed
    #[arg(short, long, value_name = "FILE", num_args = 1.., required_unless_present = "source", conflicts_with_all = ["source", "target"])]
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
    /// Learn one vocabulary for each language; without it, one for both
    #[arg(long)]
    separate: bool,
    /// The algorithm
    #[arg(long, value_enum, default_value_t = PieceKind::Unigram)]
    kind: PieceKind,
    /// Number of pieces, with </s> and <unk>; <pad> is one more
    #[arg(long, value_name = "N", default_value = "8000")]
    vocabulary: NonZeroUsize,
    /// Share of the characters of the text that the vocabulary must cover; the rarest become
    /// unknown
    #[arg(long, value_name = "C", default_value = "0.9995")]
    character_coverage: f64,
    /// Text that is always one piece of its own; may be given several times
    #[arg(long, value_name = "TEXT")]
    symbol: Vec<String>,
    /// Leave out sentences that have more bytes
    #[arg(long, value_name = "BYTES", default_value = "4192")]
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

/// Does what the arguments say.
pub(crate) fn run(command: &Command) -> Outcome {
    let Command::Train(arguments) = command;
    let progress = Progress::new(None, Path::new(""), arguments.quiet);
    let outcome = train(arguments, &progress);
    progress.finish();
    outcome
}

fn train(arguments: &Arguments, progress: &Progress) -> Outcome {
    if arguments.separate && arguments.source.is_empty() && !arguments.tsv {
        let problem = "--separate needs two languages: give --source and --target, or --tsv";
        return Err(Failure::Usage(problem.into()));
    }
    // Report an impossible output before the work.
    if arguments.output.exists() && !arguments.output.is_dir() {
        let problem = format!("{} is not a folder", arguments.output.display());
        return Err(Failure::Work(problem));
    }
    let mut trainers = Trainers::new(arguments)?;
    for path in &arguments.input {
        trainers.read(path, if arguments.tsv { Column::Both } else { Column::Source }, progress)?;
    }
    for path in &arguments.source {
        trainers.read(path, Column::Source, progress)?;
    }
    for path in &arguments.target {
        trainers.read(path, Column::Target, progress)?;
    }
    let source = learn(trainers.source, "source", progress)?;
    let target = trainers.target.map(|target| learn(target, "target", progress)).transpose()?;
    let vocabularies = match &target {
        None => Vocabularies::Joint(&source),
        Some(target) => Vocabularies::Separate { source: &source, target },
    };
    write_marian(&arguments.output, vocabularies).map_err(failed)
}

/// The content of a line.
#[derive(Clone, Copy)]
enum Column {
    Source,
    Target,
    /// `source TAB target`
    Both,
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

    fn read(&mut self, path: &Path, column: Column, progress: &Progress) -> Outcome {
        for (number, line) in lines::open(path)?.enumerate() {
            let line = line?;
            match column {
                Column::Source => self.source.add(&line).map_err(failed)?,
                Column::Target => self.target().add(&line).map_err(failed)?,
                Column::Both => {
                    let mut columns = line.split('\t');
                    let (Some(source), Some(target)) = (columns.next(), columns.next()) else {
                        return Err(no_tab(path, number + 1));
                    };
                    self.source.add(source).map_err(failed)?;
                    self.target().add(target).map_err(failed)?;
                }
            }
            if number.is_multiple_of(STRIDE) {
                let target = self.target.as_ref().map_or(0, Trainer::sentences);
                progress.say(format!("{} sentences", self.source.sentences() + target));
            }
        }
        Ok(())
    }

    /// The trainer that target text goes to.
    fn target(&mut self) -> &mut Trainer {
        self.target.as_mut().unwrap_or(&mut self.source)
    }
}

/// The failure of a line that should have two columns.
pub(super) fn no_tab(path: &Path, line: usize) -> Failure {
    let name = if path == Path::new("-") { PathBuf::from("standard input") } else { path.into() };
    let problem = "has no tab between source and target";
    Failure::Work(format!("{}, line {line}: {problem}", name.display()))
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
