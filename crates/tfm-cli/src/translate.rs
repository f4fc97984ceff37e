//! `tfm translate`: translates lines, and keeps their order.

use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::options::{Format, ModelChoice, Output, Search};
use crate::output::Sink;
use crate::progress::Progress;
use crate::render::Render;
use clap::Args;
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use tfm::Translator;

type Input = Box<dyn Iterator<Item = io::Result<String>> + Send>;

/// Translate text: line in, line out, in order.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The text to translate, one sentence per argument; without it, lines are read from --input
    #[arg(value_name = "TEXT", conflicts_with = "input")]
    text: Vec<String>,
    /// Read lines from this file; - is standard input
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    search: Search,
    /// Show the best K translations of each line, at most as many as --beam
    #[arg(long, value_name = "K", help_heading = "Results")]
    n_best: Option<NonZeroUsize>,
    /// Show each translation's score: its log-probability divided by its length to the length
    /// penalty
    #[arg(long, help_heading = "Results")]
    scores: bool,
    /// Show which source token each target token attends to most (jsonl: all weights)
    #[arg(long, help_heading = "Results")]
    alignments: bool,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let input = input(arguments)?;
    let mut sink = Sink::open(&arguments.output.path)?;
    let outcome = translate(arguments, input, &mut sink);
    close(sink, outcome, &arguments.output.path)
}

/// Closes the output: completely, or as a partial file after a failure.
pub(crate) fn close(sink: Sink, outcome: Outcome, path: &Path) -> Outcome {
    match outcome {
        Ok(()) => sink.finish().map_err(|error| Failure::writing(&error)),
        Err(Failure::Work(message)) => Err(Failure::Work(match sink.abandon() {
            Some(kept) => {
                let (kept, path) = (kept.display(), path.display());
                format!("{message}\n{path} is not written; what was done is in {kept}")
            }
            None => message,
        })),
        Err(failure) => {
            sink.abandon();
            Err(failure)
        }
    }
}

/// The lines to translate.
fn input(arguments: &Arguments) -> io::Result<Input> {
    if !arguments.text.is_empty() {
        return Ok(Box::new(arguments.text.clone().into_iter().map(Ok)));
    }
    let from_stdin = arguments.input == Path::new("-");
    if from_stdin && io::stdin().is_terminal() && !arguments.quiet {
        eprintln!("note: type text to translate; each line is answered, and end of file ends it");
    }
    Ok(Box::new(lines::open(&arguments.input)?))
}

fn translate(arguments: &Arguments, input: Input, sink: &mut Sink) -> Outcome {
    let model = arguments.model.model()?;
    let options = arguments.search.options();
    let options = options
        .n_best(arguments.n_best.map_or(1, NonZeroUsize::get))
        .scores(arguments.scores || arguments.output.format == Format::Jsonl)
        .alignments(arguments.alignments);
    let compute = arguments.search.compute(arguments.model.dtype.into())?;
    let device = arguments.model.device(arguments.quiet);
    let translator = Translator::with_compute(&model, device, &compute, &options)?;
    let render = Render {
        format: arguments.output.format,
        n_best: arguments.n_best.is_some(),
        scores: arguments.scores,
        alignments: arguments.alignments,
    };
    let from = arguments.text.is_empty().then_some(arguments.input.as_path());
    let mut progress = Progress::new(from, &arguments.output.path, arguments.quiet);
    let outcome = stream(&translator, input, &mut progress, |number, translation| {
        sink.write(&render.translation(number, translation))
    });
    progress.finish();
    outcome
}

/// Translates all lines. `done` gets each translation with the number of its line, counted from 1.
pub(crate) fn stream(
    translator: &Translator,
    input: Input,
    progress: &mut Progress,
    mut done: impl FnMut(usize, &tfm::Translation) -> io::Result<()>,
) -> Outcome {
    let (send, sizes) = channel();
    let input = input.inspect(move |line| {
        let size = line.as_ref().map_or(0, |line| line.len() as u64 + 1);
        // The receiver is gone when the translations have ended; then nothing counts the bytes.
        let _ = send.send(size);
    });
    for (number, translation) in translator.translate_lines(input).enumerate() {
        let translation = translation?;
        if translation.truncated > 0 {
            progress.note(&format!(
                "line {}: too long for the model; its last {} tokens are left out",
                number + 1,
                translation.truncated
            ));
        }
        done(number + 1, &translation).map_err(|error| Failure::writing(&error))?;
        progress.advance(sizes.try_recv().unwrap_or(0), translation.tokens.len());
    }
    Ok(())
}
