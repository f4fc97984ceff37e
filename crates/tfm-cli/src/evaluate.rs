//! `tfm evaluate`: BLEU, chrF, chrF++ and TER of a file, or of the model's translations of a file.

use crate::failure::{Failure, Outcome};
use crate::options::{Format, ModelChoice, Search};
use crate::output::Sink;
use crate::progress::Progress;
use crate::translate::{close, stream};
use crate::{lines, render};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tfm::metrics::{Bleu, BleuTokenizer, Chrf, Ter};
use tfm::{Options, Translator};

/// Compute BLEU, chrF, chrF++ and TER of a translation, or of the model itself.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Lines to score
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "source",
        conflicts_with = "source"
    )]
    hypothesis: Option<PathBuf>,
    /// Lines to translate with the model and then to score
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// The right translations; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    reference: Vec<PathBuf>,
    /// Which metrics, in this order
    #[arg(
        long,
        value_name = "METRIC",
        value_enum,
        value_delimiter = ',',
        default_value = "bleu,chrf"
    )]
    metrics: Vec<Metric>,
    /// How BLEU cuts lines into words
    #[arg(long, value_name = "NAME", default_value = "13a", value_parser = tokenizer())]
    tokenize: BleuTokenizer,
    /// Write the model's translations of --source to this file
    #[arg(long, value_name = "FILE", requires = "source")]
    save: Option<PathBuf>,
    /// One line of text, or one JSON object, per metric
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    search: Search,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Metric {
    Bleu,
    /// Character n-grams
    Chrf,
    /// Character n-grams and word n-grams
    #[value(name = "chrf++")]
    ChrfPlusPlus,
    /// Edits and shifts in per cent of the reference's words: lower is better
    Ter,
}

/// Reads the name of a tokenizer.
fn tokenizer() -> impl TypedValueParser<Value = BleuTokenizer> {
    PossibleValuesParser::new(BleuTokenizer::ALL.map(BleuTokenizer::name))
        .map(|name| BleuTokenizer::from_name(&name).unwrap_or_default())
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    // Read the references before the long computation, so that a bad file is reported early.
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
fn translate(arguments: &Arguments, source: &Path) -> Outcome<Vec<String>> {
    let input = Box::new(lines::open(source)?);
    let mut sink = arguments.save.as_deref().map(Sink::open).transpose()?;
    let model = arguments.model.model()?;
    let device = arguments.model.device(arguments.quiet);
    let options = Options { scores: false, ..arguments.search.options() };
    let compute = arguments.search.compute(arguments.model.dtype.into())?;
    let translator = Translator::with_compute(&model, device, &compute, &options)?;
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

/// The line for one metric. As text it is sacreBLEU's: `name|signature = score …`.
fn judge(
    arguments: &Arguments,
    metric: Metric,
    hypotheses: &[String],
    references: &[Vec<String>],
) -> Outcome<String> {
    let (shown, score, signature) = match metric {
        Metric::Bleu => {
            let bleu = Bleu { tokenizer: arguments.tokenize, ..Bleu::default() };
            let score = bleu.corpus(hypotheses, references).map_err(tfm::Error::from)?;
            (score.to_string(), score.score, bleu.signature(references.len()))
        }
        Metric::Chrf | Metric::ChrfPlusPlus => {
            let plain = metric == Metric::Chrf;
            let chrf = if plain { Chrf::default() } else { Chrf::plus_plus() };
            let score = chrf.corpus(hypotheses, references).map_err(tfm::Error::from)?;
            (score.to_string(), score.score, chrf.signature(references.len()))
        }
        Metric::Ter => {
            let ter = Ter::default();
            let score = ter.corpus(hypotheses, references).map_err(tfm::Error::from)?;
            (score.to_string(), score.score, ter.signature(references.len()))
        }
    };
    let (name, rest) = shown.split_once(" = ").unwrap_or(("", &shown));
    Ok(if arguments.format.is_json() {
        render::json_line(&Record { name, score, signature: &signature, verbose_score: rest })
    } else {
        format!("{name}|{signature} = {rest}\n")
    })
}
