//! `tfm score`: the log-probability of known translations.

use crate::failure::{Failure, Outcome};
use crate::faults::{Faults, OnError};
use crate::input::refuse_json;
use crate::options::{ModelChoice, Output};
use crate::pairs::{Columns, refuse_stdin_twice};
use crate::progress::Progress;
use crate::render;
use crate::sink;
use clap::Args;
use std::path::{Path, PathBuf};
use tfm::{Compute, Options, Score, Translator};
use tfm_files::{Output as Sink, Pair, Pairs};

/// Pairs scored in one pass of the model.
const BATCH: usize = 32;

/// Compute the log-probability of known translations.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Source lines
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "tsv")]
    source: Option<PathBuf>,
    /// Target lines
    #[arg(long, value_name = "FILE", requires = "source")]
    target: Option<PathBuf>,
    /// Lines of `source TAB target`; - is standard input, which is read where no file is named
    #[arg(long, value_name = "FILE", default_value = "-")]
    tsv: PathBuf,
    #[command(flatten)]
    columns: Columns,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    on_error: OnError,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    model: ModelChoice,
}

impl Arguments {
    fn files(&self) -> Vec<&Path> {
        match (&self.source, &self.target) {
            (Some(source), Some(target)) => vec![source, target],
            _ => vec![&self.tsv],
        }
    }
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let pairs = match (&arguments.source, &arguments.target) {
        (Some(source), Some(target)) => {
            refuse_stdin_twice([source, target])?;
            refuse_json([source, target])?;
            Pairs::of_files(source, target)?
        }
        _ => {
            refuse_json([&arguments.tsv])?;
            arguments.columns.open(&arguments.tsv)?
        }
    };
    let inputs = [arguments.files(), arguments.model.files()].concat();
    let mut sink = sink::create(&arguments.output.path, inputs)?;
    let mut faults = arguments.on_error.faults();
    let outcome = score(arguments, pairs, &mut faults, &mut sink);
    sink::close(sink, outcome, &arguments.output.path)?;
    faults.finish()
}

/// A pair with its place, or why there is none.
type Entry = Result<(Pair, String), tfm_files::Error>;

fn score(arguments: &Arguments, mut pairs: Pairs, faults: &mut Faults, sink: &mut Sink) -> Outcome {
    let model = arguments.model.model()?;
    let compute = Compute::new().dtype(arguments.model.dtype.into());
    let device = arguments.model.device(arguments.quiet);
    let translator = Translator::with_compute(&model, device, &compute, &Options::default())?;
    let progress = Progress::new(&arguments.files(), &arguments.output.path, arguments.quiet);
    let mut results = Results { arguments, faults, sink, progress, number: 0 };
    let mut outcome = Ok(());
    while outcome.is_ok() {
        let mut batch: Vec<Entry> = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
            && let Some(pair) = pairs.next()
        {
            let place = || format!("{}, line {}", pairs.name(), pairs.number());
            batch.push(pair.map(|pair| (pair, place())));
        }
        if batch.is_empty() {
            break;
        }
        outcome = results.add(&translator, batch);
    }
    results.progress.finish();
    outcome
}

/// Where the scores go.
struct Results<'a> {
    arguments: &'a Arguments,
    faults: &'a mut Faults,
    sink: &'a mut Sink,
    progress: Progress,
    /// How many pairs there were.
    number: u64,
}

impl Results<'_> {
    /// Scores pairs together or, where one of them is at fault, each alone.
    fn add(&mut self, translator: &Translator, batch: Vec<Entry>) -> Outcome {
        let texts = |(pair, _): &(Pair, String)| (pair.source.clone(), pair.target.clone());
        let pairs: Vec<_> = batch.iter().flatten().map(texts).collect();
        let mut together = match translator.score_batch(&pairs) {
            Ok(scores) => Some(scores.into_iter()),
            Err(error) if error.is_of_a_text() => None,
            Err(error) => return Err(error.into()),
        };
        for entry in batch {
            match entry {
                Ok((pair, place)) => {
                    let score = match together.as_mut().and_then(Iterator::next) {
                        Some(score) => Ok(score),
                        None => translator.score(&pair.source, &pair.target),
                    };
                    match score {
                        Ok(score) => self.put(Ok(&score), &pair)?,
                        Err(error) if error.is_of_a_text() => {
                            self.skip(format!("{place}: {error}"), &pair)?;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) if error.is_of_a_line() => {
                    let nothing = Pair { source: String::new(), target: String::new() };
                    self.skip(error.to_string(), &nothing)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn skip(&mut self, fault: String, pair: &Pair) -> Outcome {
        self.faults.meet(fault.clone(), &self.progress)?;
        self.put(Err(&fault), pair)
    }

    fn put(&mut self, score: Result<&Score, &str>, pair: &Pair) -> Outcome {
        self.number += 1;
        let line = render::score(self.arguments.output.format, self.number, score);
        self.sink.write(&line).map_err(|error| Failure::writing(&error))?;
        let tokens = score.map_or(0, |score| score.tokens.len());
        self.progress.advance(pair.source.len() as u64 + 1, tokens);
        Ok(())
    }
}
