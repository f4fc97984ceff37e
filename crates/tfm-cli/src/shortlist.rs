//! `tfm shortlist`: learns a shortlist of a model's vocabulary from parallel text.

use crate::failure::{Failure, Outcome};
use crate::faults::{Faults, OnError};
use crate::input::refuse_json;
use crate::options::{self, positive};
use crate::pairs::{Columns, refuse_stdin_twice};
use crate::progress::Progress;
use crate::sink;
use clap::Args;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tfm::{ShortlistLearner, ShortlistOptions};
use tfm_files::Pairs;

/// How many pairs are tokenised together, by all threads.
const PORTION: usize = 1 << 13;
/// The bytes of a portion, without its last pair: lines may be long.
const PORTION_BYTES: usize = 16 << 20;

/// Learn which target tokens translate the source tokens, for --shortlist.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Source text, one sentence per line; - is standard input
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "target")]
    source: Vec<PathBuf>,
    /// Its translation, line by line, in as many files
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "source")]
    target: Vec<PathBuf>,
    /// Lines of `source TAB target`; further columns are ignored
    #[arg(long, value_name = "FILE", num_args = 1..)]
    tsv: Vec<PathBuf>,
    #[command(flatten)]
    columns: Columns,
    #[command(flatten)]
    on_error: OnError,
    /// The model's folder, as Hugging Face lays it out; without it, the bundled English-French
    /// model
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The most translations of a source token
    #[arg(long, value_name = "N", default_value = "50")]
    best: usize,
    /// The least probability of a translation
    #[arg(long, value_name = "P", default_value = "0.001")]
    threshold: f32,
    /// How many of the most frequent target tokens every source may use
    #[arg(long, value_name = "N", default_value = "100")]
    frequent: usize,
    /// Iterations of expectation maximisation (IBM Model 1)
    #[arg(long, value_name = "N", default_value = "5", value_parser = iterations)]
    iterations: NonZeroUsize,
    /// Learn from the first N pairs; they are kept in memory
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = positive)]
    pairs: NonZeroUsize,
    /// How many threads learn; without it, one per processor
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<NonZeroUsize>,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    quiet: bool,
}

/// Iterations change nothing any more long before this.
const MOST_ITERATIONS: usize = 1000;

fn iterations(text: &str) -> Result<NonZeroUsize, String> {
    let count = positive(text)?;
    let is_possible = count.get() <= MOST_ITERATIONS;
    is_possible.then_some(count).ok_or_else(|| format!("{MOST_ITERATIONS} are the most"))
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let progress = Progress::new(&[], Path::new(""), arguments.quiet);
    let mut faults = arguments.on_error.faults();
    let outcome = learn(arguments, &mut faults, &progress);
    progress.finish();
    outcome?;
    faults.finish()
}

fn learn(arguments: &Arguments, faults: &mut Faults, progress: &Progress) -> Outcome {
    let (sources, targets) = (arguments.source.len(), arguments.target.len());
    if sources == 0 && arguments.tsv.is_empty() {
        let problem = "what to learn from? Give --source and --target, or --tsv";
        return Err(Failure::Usage(problem.into()));
    }
    let files = || arguments.source.iter().chain(&arguments.target).chain(&arguments.tsv);
    refuse_stdin_twice(files())?;
    refuse_json(files())?;
    let inputs = files().chain(&arguments.model).map(PathBuf::as_path);
    let mut sink = sink::create(&arguments.output, inputs)?;
    if sources != targets {
        let problem =
            format!("--source names {sources} files and --target {targets}: give as many of each");
        return Err(Failure::Usage(problem));
    }
    let model = options::open(arguments.model.as_deref())?;
    let options = ShortlistOptions {
        iterations: arguments.iterations.get(),
        best: arguments.best,
        threshold: arguments.threshold,
        frequent: arguments.frequent,
        pairs: arguments.pairs.get(),
        threads: arguments.threads.map_or(0, NonZeroUsize::get),
        ..ShortlistOptions::default()
    };
    let learner = ShortlistLearner::new(model.tokenizer(), options).map_err(failed)?;
    let mut text = Text { learner, portion: Vec::new(), bytes: 0, progress };
    for path in &arguments.tsv {
        text.read(arguments.columns.open(path)?, faults)?;
    }
    for (source, target) in arguments.source.iter().zip(&arguments.target) {
        text.read(Pairs::of_files(source, target)?, faults)?;
    }
    text.flush()?;
    let learner = text.learner;
    let (pairs, skipped) = (learner.pairs(), learner.skipped());
    if skipped > 0 {
        progress.note(&format!(
            "pairs left out, of more than {} tokens on a side or beyond --pairs: {skipped}",
            ShortlistOptions::default().longest
        ));
    }
    progress.say(format!("{pairs} pairs"));
    let iterations = arguments.iterations;
    let shortlist = learner
        .learn(|done| progress.say(format!("{pairs} pairs, iteration {done} of {iterations}")))
        .map_err(failed)?;
    let written = sink.write_bytes(&shortlist.to_bytes()).and_then(|()| sink.finish());
    written.map_err(|error| Failure::writing(&error))
}

/// Reads pairs and passes them to the learner in portions.
struct Text<'a> {
    learner: ShortlistLearner<'a>,
    portion: Vec<(String, String)>,
    bytes: usize,
    progress: &'a Progress,
}

impl Text<'_> {
    fn read(&mut self, pairs: Pairs, faults: &mut Faults) -> Outcome {
        for pair in pairs {
            match pair {
                Ok(pair) => self.add(pair.source, pair.target)?,
                Err(error) if error.is_of_a_line() => {
                    faults.meet(error.to_string(), self.progress)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn add(&mut self, source: String, target: String) -> Outcome {
        self.bytes += source.len() + target.len();
        self.portion.push((source, target));
        let is_full = self.portion.len() >= PORTION || self.bytes >= PORTION_BYTES;
        if is_full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Outcome {
        self.learner.add(&self.portion).map_err(failed)?;
        self.portion.clear();
        self.bytes = 0;
        self.progress.say(format!("{} pairs", self.learner.pairs()));
        Ok(())
    }
}

fn failed(error: tfm_text::Error) -> Failure {
    tfm::Error::from(error).into()
}
