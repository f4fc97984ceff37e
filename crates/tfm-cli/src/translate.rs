//! `tfm translate`: translates lines, and keeps their order.

use crate::failure::{Failure, Outcome};
use crate::faults::{Faults, OnError};
use crate::input::{Fault, Input, Item, Items, Place};
use crate::options::{Format, ModelChoice, Output, Search, positive};
use crate::progress::Progress;
use crate::render::{Alignments, Render};
use crate::sink;
use clap::Args;
use serde_json::value::RawValue;
use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::channel;
use tfm::{Finished, Translation, Translator};
use tfm_files::Output as Sink;

/// Translate text: line in, line out, in order.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    input: Input,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    on_error: OnError,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    search: Search,
    /// Show the best K translations of each line, at most as many as --beam
    #[arg(long, value_name = "K", value_parser = positive, help_heading = "Results")]
    n_best: Option<NonZeroUsize>,
    /// Show each translation's score: its log-probability divided by its length to the length
    /// penalty
    #[arg(long, help_heading = "Results")]
    scores: bool,
    /// Show which words of the source each word attends to most: as numbers (0-0 1-2), as words, or
    /// as a picture; jsonl has all weights
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "pharaoh", help_heading = "Results")]
    alignments: Option<Alignments>,
    /// Align the vocabulary's tokens instead of words
    #[arg(long, requires = "alignments", help_heading = "Results")]
    subwords: bool,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let items = arguments.input.open(arguments.quiet)?;
    let search = &arguments.search;
    let inputs = [arguments.input.files(), arguments.model.files(), search.files()].concat();
    let mut sink = sink::create(&arguments.output.path, inputs)?;
    let mut faults = arguments.on_error.faults();
    let outcome = translate(arguments, items, &mut faults, &mut sink);
    sink::close(sink, outcome, &arguments.output.path)?;
    faults.finish()
}

fn translate(arguments: &Arguments, items: Items, faults: &mut Faults, sink: &mut Sink) -> Outcome {
    let model = arguments.model.model()?;
    let options = arguments.search.options();
    let options = options
        .n_best(arguments.n_best.map_or(1, NonZeroUsize::get))
        .scores(arguments.scores || arguments.output.format == Format::Jsonl)
        .alignments(arguments.alignments.is_some());
    let compute = arguments.search.compute(arguments.model.dtype.into())?;
    let device = arguments.model.device(arguments.quiet);
    let translator = Translator::with_compute(&model, device, &compute, &options)?;
    let render = Render {
        format: arguments.output.format,
        n_best: arguments.n_best.is_some(),
        scores: arguments.scores,
        alignments: arguments.alignments,
        subwords: arguments.subwords,
    };
    let files = arguments.input.files();
    let mut progress = Progress::new(&files, &arguments.output.path, arguments.quiet);
    let outcome = stream(&translator, items, faults, &mut progress, |number, id, result| {
        sink.write(&match result {
            Ok(translation) => render.translation(number, id, translation),
            Err(fault) => render.fault(number, id, fault),
        })
    });
    progress.finish();
    outcome
}

/// What is kept of an item while its text is translated.
struct Waiting {
    id: Option<Box<RawValue>>,
    bytes: u64,
    place: Place,
}

/// Translates all items. `done` gets each translation with its number, counted from 1, and its id;
/// or why there is none, where that line is skipped.
pub(crate) fn stream(
    translator: &Translator,
    items: Items,
    faults: &mut Faults,
    progress: &mut Progress,
    mut done: impl FnMut(usize, Option<&RawValue>, Result<&Translation, &str>) -> io::Result<()>,
) -> Outcome {
    let (send, waiting) = channel();
    let texts = items.map(move |item| {
        let (found, text) = match item {
            Ok(Item { id, text, place }) => {
                (Ok(Waiting { id, bytes: text.len() as u64 + 1, place }), Ok(text))
            }
            // A blank line in its place keeps the others in theirs.
            Err(Fault { message, id, is_of_a_line: true }) => {
                (Err((message, id)), Ok(String::new()))
            }
            Err(Fault { message, .. }) => {
                (Err((message.clone(), None)), Err(io::Error::other(message)))
            }
        };
        // The receiver is gone when the translations have ended; then nothing is kept.
        let _ = send.send(found);
        text
    });
    for (number, translation) in (1..).zip(translator.translate_lines(texts)) {
        // Where the reader itself failed there is nothing, and the error tells why.
        let item = waiting.recv().unwrap_or_else(|_| Err((String::new(), None)));
        let mut id = None;
        let (item, translation) = match (item, translation) {
            (Err((fault, its)), Ok(_)) => {
                id = its;
                (None, Err(fault))
            }
            (Ok(item), Ok(translation)) => (Some(item), Ok(translation)),
            (Ok(item), Err(error)) if error.is_of_a_text() => {
                let fault = format!("{}: {error}", item.place);
                (Some(item), Err(fault))
            }
            (_, Err(error)) => return Err(error.into()),
        };
        let id = item.as_ref().map_or(id.as_deref(), |item| item.id.as_deref());
        let tokens = match &translation {
            Ok(translation) => {
                if let Some(item) = &item {
                    note(progress, &item.place, translation);
                }
                translation.tokens.len()
            }
            Err(fault) => {
                faults.meet(fault.clone(), progress)?;
                0
            }
        };
        done(number, id, translation.as_ref().map_err(String::as_str))
            .map_err(|error| Failure::writing(&error))?;
        progress.advance(item.map_or(0, |item| item.bytes), tokens);
    }
    Ok(())
}

/// Says what of a line was left out.
fn note(progress: &mut Progress, place: &Place, translation: &Translation) {
    if translation.truncated > 0 {
        progress.note_of_many(
            "too long for the model",
            &format!(
                "{place}: too long for the model; its last {} tokens are left out",
                translation.truncated
            ),
        );
    }
    if translation.finished == Finished::Length {
        progress.note_of_many(
            "not at their end",
            &format!(
                "{place}: the translation is not at its end; it reached the most tokens \
                 (--max-new-tokens or the model's limit)"
            ),
        );
    }
}
