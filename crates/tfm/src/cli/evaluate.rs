//! `tfm evaluate`: BLEU and chrF of a file, or of what the model makes of one.

use super::args::{Evaluate, Metric};
use super::failure::{Failure, Outcome};
use super::output::Sink;
use super::progress::Progress;
use super::translate::{close, stream};
use super::{lines, render};
use serde::Serialize;
use std::path::Path;
use tfm::metrics::{Bleu, Chrf};
use tfm::{Options, Translator};

/// Does what the arguments say.
pub(crate) fn run(arguments: &Evaluate) -> Outcome {
    // What is short to check is checked before what is long to compute.
    let references: Vec<Vec<String>> =
        arguments.reference.iter().map(|path| read(path)).collect::<Outcome<_>>()?;
    let mut sink = Sink::open(Path::new("-"))?;
    let hypotheses = match (&arguments.hypothesis, &arguments.source) {
        (Some(path), _) => read(path)?,
        (None, Some(source)) => translate(arguments, source)?,
        (None, None) => unreachable!("the arguments have one of the two"),
    };
    for metric in &arguments.metrics {
        let line = judge(arguments, *metric, &hypotheses, &references)?;
        sink.write(&line).map_err(|error| Failure::writing(&error))?;
    }
    Ok(())
}

fn read(path: &Path) -> Outcome<Vec<String>> {
    Ok(lines::open(path)?.collect::<Result<_, _>>()?)
}

/// The model's translations of a file.
fn translate(arguments: &Evaluate, source: &Path) -> Outcome<Vec<String>> {
    let input = Box::new(lines::open(source)?);
    let mut sink = arguments.save.as_deref().map(Sink::open).transpose()?;
    let model = arguments.model.model()?;
    let device = arguments.model.device(arguments.quiet);
    let options = Options {
        dtype: arguments.model.dtype.into(),
        scores: false,
        ..arguments.search.options()?
    };
    let translator = Translator::new(&model, device, &options)?;
    let mut progress = Progress::new(Some(source), Path::new(""), arguments.quiet);
    let mut translations = Vec::new();
    let outcome = stream(&translator, input, &mut progress, |_, translation| {
        let text = translation.text.replace(['\n', '\r'], " ");
        if let Some(sink) = &mut sink {
            sink.write(&format!("{text}\n"))?;
        }
        translations.push(text);
        Ok(())
    });
    progress.finish();
    match (sink, &arguments.save) {
        (Some(sink), Some(path)) => close(sink, outcome, path)?,
        _ => outcome?,
    }
    Ok(translations)
}

#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    score: f64,
    signature: &'a str,
    verbose_score: &'a str,
}

/// The line for one metric. Text is sacreBLEU's: `name|signature = score …`.
fn judge(
    arguments: &Evaluate,
    metric: Metric,
    hypotheses: &[String],
    references: &[Vec<String>],
) -> Outcome<String> {
    let (shown, score, signature) = match metric {
        Metric::Bleu => {
            let bleu = Bleu::default();
            let score = bleu.corpus(hypotheses, references).map_err(tfm::Error::from)?;
            (score.to_string(), score.score, bleu.signature(references.len()))
        }
        Metric::Chrf => {
            let chrf = Chrf::default();
            let score = chrf.corpus(hypotheses, references).map_err(tfm::Error::from)?;
            (score.to_string(), score.score, chrf.signature(references.len()))
        }
    };
    let (name, rest) = shown.split_once(" = ").unwrap_or(("", &shown));
    Ok(if arguments.format.is_json() {
        render::json_line(&Record { name, score, signature: &signature, verbose_score: rest })
    } else {
        format!("{name}|{signature} = {rest}\n")
    })
}
