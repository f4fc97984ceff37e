//! Validation of a model in training: its loss on validation data, and its translations.

use super::Device;
use super::prepare::Prepared;
use crate::config::{Metric, Validation};
use crate::data::{Batch, Pairs};
use crate::error::Result;
use crate::initial::{Overlay, Weights, merge};
use crate::learner::{Example, Learner, Outcome};
use std::sync::Arc;
use tfm_core::{ParameterSource, Session};
use tfm_model::Numerics;
use tfm_model::scheduler::{Scheduler, Settings};
use tfm_text::{Bleu, Chrf};

/// The measurements after an update.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Each metric's value, in the order of the configuration.
    pub scores: Vec<(Metric, f64)>,
    /// Source, reference and translation of some sentences.
    pub samples: Vec<[String; 3]>,
}

impl Measured {
    /// The value of a metric.
    pub fn score(&self, metric: Metric) -> Option<f64> {
        self.scores.iter().find(|(other, _)| *other == metric).map(|(_, score)| *score)
    }
}

/// A batch's pairs as a learner takes them.
pub(super) fn examples(batch: &Batch) -> Vec<[Vec<u32>; 2]> {
    let ids = |ids: &[i32]| ids.iter().map(|&id| id as u32).collect();
    batch.sources.iter().zip(batch.targets.iter()).map(|(s, t)| [ids(s), ids(t)]).collect()
}

/// These pairs, borrowed.
pub(super) fn borrowed(pairs: &[[Vec<u32>; 2]]) -> Vec<Example<'_>> {
    pairs.iter().map(|[source, target]| Example { source, target }).collect()
}

/// Measures the learner's weights on the validation data.
///
/// # Errors
/// Those of [`Learner::validate`] and of the search.
pub(super) fn measure(
    learner: &mut Learner,
    prepared: &Prepared,
    pairs: &Pairs,
    wanted: &Validation,
    batch_tokens: usize,
    device: Device<'_>,
) -> Result<Measured> {
    let mut measured = Measured::default();
    let mut loss = None;
    if wanted.metrics.contains(&Metric::Loss) {
        let mut sum = Outcome::default();
        for batch in pairs.in_order(batch_tokens)? {
            let examples = examples(&batch);
            let outcome = learner.validate(&borrowed(&examples))?;
            sum.loss += outcome.loss;
            sum.target_tokens += outcome.target_tokens;
        }
        loss = Some(sum.mean_loss());
    }
    let texts = wanted.metrics.iter().any(|metric| *metric != Metric::Loss);
    let (mut hypotheses, mut references) = (Vec::new(), Vec::new());
    if texts || wanted.samples > 0 {
        let most = wanted.sentences.unwrap_or(usize::MAX);
        let count = if texts { pairs.len().min(most) } else { pairs.len().min(wanted.samples) };
        let scheduler = scheduler(learner.weights()?, prepared, device)?;
        let mut sources = Vec::new();
        for pair in 0..count {
            let [source, reference] = pairs.texts(pair).unwrap_or_default();
            let mut ids = prepared.tokenizer.encode_source(source)?;
            ids.truncate(prepared.config.source.longest_sequence());
            sources.push(ids);
            references.push(reference.to_owned());
        }
        let mut options = prepared.generation.clone();
        options.num_beams = wanted.beams;
        options.num_return_sequences = 1;
        let options = Arc::new(options);
        let found = scheduler.generate(&options, &sources)?;
        for best in found {
            let tokens = best.first().map_or(&[][..], |hypothesis| &hypothesis.tokens);
            hypotheses.push(prepared.tokenizer.decode_target(tokens)?);
        }
        let shown = (0..count).step_by((count / wanted.samples.max(1)).max(1)).take(wanted.samples);
        measured.samples = shown
            .map(|pair| {
                let source = pairs.texts(pair).map_or("", |[source, _]| source);
                [source.to_owned(), references[pair].clone(), hypotheses[pair].clone()]
            })
            .collect();
    }
    let references = [references];
    for metric in &wanted.metrics {
        let score = match metric {
            Metric::Loss => loss.unwrap_or(f64::NAN),
            Metric::Bleu => Bleu::default().corpus(&hypotheses, &references)?.score,
            Metric::Chrf => Chrf::default().corpus(&hypotheses, &references)?.score,
            Metric::Accuracy => {
                let pairs = hypotheses.iter().zip(&references[0]);
                let right = pairs.filter(|(hypothesis, reference)| hypothesis == reference).count();
                100.0 * right as f64 / hypotheses.len().max(1) as f64
            }
        };
        measured.scores.push((*metric, score));
    }
    Ok(measured)
}

fn scheduler(weights: Weights, prepared: &Prepared, device: Device<'_>) -> Result<Scheduler> {
    let source: Arc<dyn ParameterSource> = Arc::new(trained(weights, prepared));
    let session: Session = (device.session)(source)?;
    let settings = Settings { workers: device.workers, ..Settings::default() };
    Ok(Scheduler::new(&session, &prepared.config, Numerics::default(), &settings)?)
}

/// All parameters of the trained model, with low-rank changes merged in.
pub(super) fn trained(mut weights: Weights, prepared: &Prepared) -> Overlay {
    if let Some(adapters) = &prepared.learning.adapters {
        for (name, _) in tfm_model::learnable(&prepared.config) {
            let scope = name.strip_suffix(".weight").unwrap_or(&name);
            if let (true, Ok(tensor)) = (adapters.has(scope), prepared.fixed.load(&name)) {
                weights.0.entry(name).or_insert(tensor);
            }
        }
        merge(&mut weights, adapters);
    }
    Overlay { config: (*prepared.config).clone(), weights, rest: prepared.fixed.clone() }
}
