//! `tfm score`: the log-probability of known translations.

use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::options::{ModelChoice, Output};
use crate::output::Sink;
use crate::progress::Progress;
use crate::render;
use crate::translate::close;
use clap::Args;
use std::path::{Path, PathBuf};
use tfm::{Compute, Options, Translator};

/// Pairs scored in one pass of the model.
const BATCH: usize = 32;

/// Pairs of a source line and a target line, or the failure to read one.
type Pairs = Box<dyn Iterator<Item = Outcome<(String, String)>>>;

/// Compute the log-probability of known translations.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Source lines
    #[arg(long, value_name = "FILE", requires = "target")]
    source: Option<PathBuf>,
    /// Target lines; without --source and --target, `source TAB target` lines are read from
    /// standard input
    #[arg(long, value_name = "FILE", requires = "source")]
    target: Option<PathBuf>,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    model: ModelChoice,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let pairs = match (&arguments.source, &arguments.target) {
        (Some(source), Some(target)) => from_files(source, target)?,
        _ => from_columns()?,
    };
    let mut sink = Sink::open(&arguments.output.path)?;
    let outcome = score(arguments, pairs, &mut sink);
    close(sink, outcome, &arguments.output.path)
}

/// Pairs from two files of equal length, line by line.
fn from_files(source: &Path, target: &Path) -> Outcome<Pairs> {
    let (mut sources, mut targets) = (lines::open(source)?, lines::open(target)?);
    let names = [source.display().to_string(), target.display().to_string()];
    let mut number = 0;
    Ok(Box::new(std::iter::from_fn(move || {
        number += 1;
        let shorter = match (sources.next(), targets.next()) {
            (None, None) => return None,
            (Some(Err(error)), _) | (_, Some(Err(error))) => return Some(Err(error.into())),
            (Some(Ok(source)), Some(Ok(target))) => return Some(Ok((source, target))),
            (None, Some(_)) => &names[0],
            (Some(_), None) => &names[1],
        };
        let problem = format!("{shorter} ends before line {number}, and the other file does not");
        Some(Err(Failure::Work(problem)))
    })))
}

/// Pairs from `source TAB target` lines on standard input.
fn from_columns() -> Outcome<Pairs> {
    let lines = lines::open(Path::new("-"))?;
    Ok(Box::new(lines.enumerate().map(|(number, line)| {
        let line = line?;
        let Some((source, target)) = line.split_once('\t') else {
            let problem = "has no tab between source and target";
            return Err(Failure::Work(format!("standard input, line {}: {problem}", number + 1)));
        };
        Ok((source.to_owned(), target.to_owned()))
    })))
}

fn score(arguments: &Arguments, mut pairs: Pairs, sink: &mut Sink) -> Outcome {
    let model = arguments.model.model()?;
    let compute = Compute::new().dtype(arguments.model.dtype.into());
    let device = arguments.model.device(arguments.quiet);
    let translator = Translator::with_compute(&model, device, &compute, &Options::default())?;
    let mut progress =
        Progress::new(arguments.source.as_deref(), &arguments.output.path, arguments.quiet);
    let mut outcome = Ok(());
    while outcome.is_ok() {
        let mut batch = Vec::with_capacity(BATCH);
        for pair in pairs.by_ref().take(BATCH) {
            match pair {
                Ok(pair) => batch.push(pair),
                Err(failure) => {
                    outcome = Err(failure); // after what came before it
                    break;
                }
            }
        }
        if batch.is_empty() {
            break;
        }
        for (score, (source, _)) in translator.score_batch(&batch)?.iter().zip(&batch) {
            let line = render::score(arguments.output.format, score);
            sink.write(&line).map_err(|error| Failure::writing(&error))?;
            progress.advance(source.len() as u64 + 1, score.tokens.len());
        }
    }
    progress.finish();
    outcome
}
