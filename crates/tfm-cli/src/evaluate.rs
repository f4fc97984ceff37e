//! `tfm evaluate`: BLEU, chrF, chrF++ and TER of a file, or of the model's translations of a file.

mod chance;

use crate::failure::{Failure, Outcome};
use crate::faults::{Faults, OnError};
use crate::options::{Format, ModelChoice, Search};
use crate::pairs::refuse_stdin_twice;
use crate::progress::Progress;
use crate::sink;
use crate::translate::stream;
use crate::{input, render};
use chance::{Chance, Verdict};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tfm::Translator;
use tfm::metrics::{Bleu, BleuTokenizer, Chrf, Ter, significance};

/// Compute BLEU, chrF, chrF++ and TER of a translation, or of the model itself.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Lines to score; given several times, the first is the baseline
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    hypothesis: Vec<PathBuf>,
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
    /// The same as --format jsonl
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    on_error: OnError,
    #[command(flatten)]
    chance: Chance,
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
    if arguments.hypothesis.is_empty() && arguments.source.is_none() {
        let message = "what to score? Give --hypothesis, lines that are translated already, or \
                       --source, lines for the model to translate";
        return Err(Failure::Usage(message.to_owned()));
    }
    if arguments.source.is_none() && arguments.save.is_some() {
        let message = "--save writes the translations of --source, which is not given";
        return Err(Failure::Usage(message.to_owned()));
    }
    if tfm_files::refuse_inputs(Path::new("-"), arguments.save.as_deref()).is_err() {
        let message = "--save and standard output are one file: the scores would be lost";
        return Err(Failure::Usage(message.to_owned()));
    }
    let files = || arguments.hypothesis.iter().chain(&arguments.source).chain(&arguments.reference);
    refuse_stdin_twice(files())?;
    if arguments.chance.paired() && arguments.hypothesis.len() < 2 {
        let message = "a paired test needs --hypothesis at least twice";
        return Err(Failure::Usage(message.to_owned()));
    }
    // Read the references before the long computation, so that a bad file is reported early.
    let references: Vec<Vec<String>> =
        arguments.reference.iter().map(|path| read(path)).collect::<Outcome<_>>()?;
    let inputs: Vec<&Path> = files().map(PathBuf::as_path).collect();
    let mut sink = sink::create(Path::new("-"), inputs.clone())?;
    let mut faults = arguments.on_error.faults();
    let systems: Vec<Vec<String>> = match &arguments.source {
        Some(source) => vec![translate(arguments, source, inputs, &mut faults)?],
        None => arguments.hypothesis.iter().map(|path| read(path)).collect::<Outcome<_>>()?,
    };
    for metric in &arguments.metrics {
        for line in judge(arguments, *metric, &systems, &references)? {
            sink.write(&line).map_err(|error| Failure::writing(&error))?;
        }
    }
    faults.finish()
}

fn read(path: &Path) -> Outcome<Vec<String>> {
    let texts = input::lines(path)?.map(|item| item.map(|item| item.text));
    let texts: Vec<String> =
        texts.collect::<Result<_, _>>().map_err(|fault| Failure::Work(fault.message))?;
    if texts.is_empty() {
        return Err(Failure::Work(format!("{} has no lines: nothing to score", path.display())));
    }
    Ok(texts)
}

/// The model's translations of a file.
fn translate<'a>(
    arguments: &'a Arguments,
    source: &Path,
    mut inputs: Vec<&'a Path>,
    faults: &mut Faults,
) -> Outcome<Vec<String>> {
    let input = input::lines(source)?;
    inputs.extend(arguments.model.files());
    inputs.extend(arguments.search.files());
    let sink = arguments.save.as_deref().map(|path| sink::create(path, inputs));
    let mut sink = sink.transpose()?;
    let model = arguments.model.model()?;
    let device = arguments.model.device(arguments.quiet);
    let options = arguments.search.options().scores(false);
    let compute = arguments.search.compute(arguments.model.dtype.into())?;
    let translator = Translator::with_compute(&model, device, &compute, &options)?;
    let mut progress = Progress::new(&[source], Path::new(""), arguments.quiet);
    let mut translations = Vec::new();
    let outcome = stream(&translator, input, faults, &mut progress, |_, _, translation| {
        let text = translation
            .map_or_else(|_| String::new(), |found| found.text.replace(['\n', '\r'], " "));
        if let Some(sink) = &mut sink {
            sink.write(&format!("{text}\n"))?;
        }
        translations.push(text);
        Ok(())
    });
    progress.finish();
    match (sink, &arguments.save) {
        (Some(sink), Some(path)) => sink::close(sink, outcome, path)?,
        _ => outcome?,
    }
    Ok(translations)
}

#[derive(Serialize)]
struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    name: &'a str,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence_mean: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence_var: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p_value: Option<f64>,
    signature: &'a str,
    verbose_score: &'a str,
}

/// The lines for one metric, a line for each system.
fn judge(
    arguments: &Arguments,
    metric: Metric,
    systems: &[Vec<String>],
    references: &[Vec<String>],
) -> Outcome<Vec<String>> {
    let bleu = Bleu { tokenizer: arguments.tokenize, ..Bleu::default() };
    let (chrf, ter) = (Chrf::default(), Ter::default());
    let plus_plus = Chrf::plus_plus();
    let (counter, signature): (&dyn significance::Metric, _) = match metric {
        Metric::Bleu => (&bleu, bleu.signature(references.len())),
        Metric::Chrf => (&chrf, chrf.signature(references.len())),
        Metric::ChrfPlusPlus => (&plus_plus, plus_plus.signature(references.len())),
        Metric::Ter => (&ter, ter.signature(references.len())),
    };
    let signature = arguments.chance.sign(&signature);
    let mut baseline: Option<Vec<Vec<f64>>> = None;
    let mut lines = Vec::new();
    for (number, hypotheses) in systems.iter().enumerate() {
        let scored = match metric {
            Metric::Bleu => {
                bleu.corpus(hypotheses, references).map(|score| (score.to_string(), score.score))
            }
            Metric::Chrf => {
                chrf.corpus(hypotheses, references).map(|score| (score.to_string(), score.score))
            }
            Metric::ChrfPlusPlus => plus_plus
                .corpus(hypotheses, references)
                .map(|score| (score.to_string(), score.score)),
            Metric::Ter => {
                ter.corpus(hypotheses, references).map(|score| (score.to_string(), score.score))
            }
        };
        let (shown, score) = scored.map_err(tfm::Error::from)?;
        let mut verdict = Verdict::default();
        if arguments.chance.asked() {
            let counts = counts(counter, hypotheses, references);
            verdict = arguments.chance.judge(counter, baseline.as_deref(), &counts);
            baseline.get_or_insert(counts);
        }
        let system =
            (systems.len() > 1).then(|| arguments.hypothesis[number].display().to_string());
        lines.push(show(arguments, system, &shown, score, &signature, &verdict));
    }
    Ok(lines)
}

/// What a metric counts in each line.
fn counts(
    metric: &dyn significance::Metric,
    hypotheses: &[String],
    references: &[Vec<String>],
) -> Vec<Vec<f64>> {
    let line = |(line, hypothesis): (usize, &String)| {
        let references: Vec<&str> = references.iter().map(|lines| lines[line].as_str()).collect();
        metric.counts(hypothesis, &references)
    };
    hypotheses.iter().enumerate().map(line).collect()
}

/// The line for one score. As text it is sacreBLEU's, `name|signature = score …`, behind the file's
/// name where there are several.
fn show(
    arguments: &Arguments,
    system: Option<String>,
    shown: &str,
    score: f64,
    signature: &str,
    verdict: &Verdict,
) -> String {
    let (name, rest) = shown.split_once(" = ").unwrap_or(("", shown));
    if arguments.json || arguments.format.is_json() {
        return render::json_line(&Record {
            system,
            name,
            score,
            confidence_mean: verdict.interval.map(|interval| interval.mean),
            confidence_var: verdict.interval.map(|interval| interval.half_width),
            p_value: verdict.p_value,
            signature,
            verbose_score: rest,
        });
    }
    let (value, verbose) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut line = system.map(|system| format!("{system}\t")).unwrap_or_default();
    line += &format!("{name}|{signature} = {value}");
    if let Some(interval) = verdict.interval {
        line += &format!(" (μ = {:.2} ± {:.2})", interval.mean, interval.half_width);
    }
    if let Some(p_value) = verdict.p_value {
        line += &format!(" (p = {p_value:.4})");
    }
    if !verbose.is_empty() {
        line += &format!(" {verbose}");
    }
    line + "\n"
}
