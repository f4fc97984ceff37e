//! `tfm tokenizer train`: text in, a folder with a tokeniser out.

use super::args::{PieceKind, TokenizerCommand, TrainTokenizer};
use super::failure::{Failure, Outcome};
use super::lines;
use super::progress::Progress;
use std::path::{Path, PathBuf};
use tfm_text::training::{Kind, Options, SpecialIds, TrainedModel, Trainer};
use tfm_text::training::{Vocabularies, write_marian};

/// How many sentences are read between two words of progress.
const STRIDE: usize = 4096;

/// Does what the arguments say.
pub(crate) fn run(command: &TokenizerCommand) -> Outcome {
    let TokenizerCommand::Train(arguments) = command;
    let progress = Progress::new(None, Path::new(""), arguments.quiet);
    let outcome = train(arguments, &progress);
    progress.finish();
    outcome
}

fn train(arguments: &TrainTokenizer, progress: &Progress) -> Outcome {
    if arguments.separate && arguments.source.is_empty() && !arguments.tsv {
        let problem = "--separate needs two languages: give --source and --target, or --tsv";
        return Err(Failure::Usage(problem.into()));
    }
    // A folder that cannot be is known before the work.
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

/// What a line holds.
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
    fn new(arguments: &TrainTokenizer) -> Outcome<Self> {
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

/// A line that should have two columns.
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
