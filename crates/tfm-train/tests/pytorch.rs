//! Losses, gradients and whole curves beside PyTorch's; see `fixtures/README.md`.

use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tfm_core::fused::Adam;
use tfm_core::{ParameterSource, Session, Tensor};
use tfm_model::checkpoint::{ElementType, export};
use tfm_model::transformer::{DropoutRates, Learning};
use tfm_model::{Checkpoint, Parameters, learnable};
use tfm_train::initial::Weights;
use tfm_train::learner::Rule;
use tfm_train::{Example, Learner, Method};

#[derive(Deserialize)]
struct Pair {
    source: Vec<u32>,
    target_in: Vec<u32>,
    target_out: Vec<u32>,
}

#[derive(Deserialize)]
struct Step {
    checkpoint: String,
    label_smoothing: f64,
    target_tokens: usize,
    loss: f64,
    gradient_norm: f64,
    gradients: String,
    gradients_of: String,
    gradient_norms: Option<Vec<Norm>>,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Norm {
    name: String,
    norm: f64,
}

#[derive(Deserialize)]
struct Curve {
    checkpoint: String,
    label_smoothing: f64,
    clip_norm: f64,
    adam: AdamSettings,
    learning_rates: Vec<f64>,
    losses: Vec<f64>,
    gradient_norms: Vec<f64>,
    batches: Vec<Vec<Pair>>,
}

#[derive(Deserialize)]
struct AdamSettings {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn open(checkpoint: &str) -> Arc<Checkpoint> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tfm/tests/fixtures");
    Arc::new(Checkpoint::open(models.join(checkpoint)).unwrap())
}

/// A learner of all parameters but position tables, without dropout.
fn learner(
    checkpoint: &Arc<Checkpoint>,
    rule: Rule,
    smoothing: f64,
    clip_norm: Option<f64>,
) -> Learner {
    let config = checkpoint.config();
    let names = learnable(config).into_iter().map(|(name, _)| name);
    let names = names.filter(|name| !name.contains(".positions."));
    let weights = names.map(|name| (name.clone(), checkpoint.load(&name).unwrap()));
    let weights = Weights(weights.collect());
    let learning = Learning {
        learnt: weights.0.keys().cloned().collect(),
        dropout: DropoutRates::default(),
        adapters: None,
    };
    let method = Method {
        rule,
        smoothing,
        gradient_decay: 0.0,
        clip_norm,
        average_decay: None,
        recompute: Vec::new(),
        seed: 0,
    };
    let source = Arc::new(Parameters::new(checkpoint.clone()));
    let session = Session::new(tfm_cpu::CpuBackend::new(1).unwrap(), source);
    Learner::new(session, Arc::new(config.clone()), learning, method, &weights).unwrap()
}

fn examples(pairs: &[Pair], start: u32) -> Vec<Example<'_>> {
    let example = |pair: &'_ Pair| {
        assert_eq!(pair.target_in[0], start);
        assert_eq!(pair.target_in[1..], pair.target_out[..pair.target_out.len() - 1]);
    };
    pairs.iter().for_each(example);
    pairs.iter().map(|pair| Example { source: &pair.source, target: &pair.target_out }).collect()
}

fn adam(settings: &AdamSettings) -> Rule {
    let AdamSettings { beta1, beta2, epsilon, weight_decay } = *settings;
    Rule::Adam(Adam { beta1, beta2, epsilon, weight_decay })
}

/// Gradients as if they were weights, and zeros for what has none.
struct Gradients(BTreeMap<String, Tensor>, Arc<Checkpoint>);

impl ParameterSource for Gradients {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        if let Some(gradient) = self.0.get(name) {
            return Ok(gradient.clone());
        }
        let shape = self.1.shape(name).ok_or("no such parameter")?.clone();
        let zeros = vec![0.0; shape.elements()];
        Tensor::from_f32(shape, zeros).map_err(|error| error.to_string())
    }
}

/// The gradients by the names of the checkpoint's file: written as its weights are.
fn by_file_names(gradients: BTreeMap<String, Tensor>, checkpoint: &Arc<Checkpoint>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let source = Gradients(gradients, checkpoint.clone());
    export(folder.path(), checkpoint.description(), &source, ElementType::F32).unwrap();
    std::fs::read(folder.path().join("model.safetensors")).unwrap()
}

fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, x| most.max(x.abs()))
}

fn check_step(name: &str) {
    let folder = fixtures();
    let json = std::fs::read(folder.join(format!("{name}.step.json"))).unwrap();
    let step: Step = serde_json::from_slice(&json).unwrap();
    let checkpoint = open(&step.checkpoint);
    let rule = Rule::Adam(Adam { beta1: 0.9, beta2: 0.98, epsilon: 1e-9, weight_decay: 0.0 });
    let mut learner = learner(&checkpoint, rule, step.label_smoothing, None);
    let start = checkpoint.config().special.decoder_start;
    let (outcome, gradients) = learner.gradients(&examples(&step.pairs, start)).unwrap();
    assert_eq!(outcome.target_tokens, step.target_tokens);
    let close = |found: f64, expected: f64, least: f64, what: &str| {
        let error = (found - expected).abs() / expected.abs().max(least);
        assert!(error < 1e-4, "{name}: {what} is {found}, not {expected}: {error:e}");
    };
    close(outcome.mean_loss(), step.loss, 0.0, "the loss");
    close(outcome.gradient_norm, step.gradient_norm, 0.0, "the gradient\'s norm");

    let ours = by_file_names(gradients, &checkpoint);
    let ours = SafeTensors::deserialize(&ours).unwrap();
    let theirs = std::fs::read(folder.join(&step.gradients)).unwrap();
    let theirs = SafeTensors::deserialize(&theirs).unwrap();
    let of_all = theirs.iter().map(|(_, tensor)| largest(&numbers(tensor.data())));
    let scale = of_all.fold(0.0, f64::max) / 100.0;
    let mut compared = 0;
    for (tensor, expected) in theirs.iter() {
        let (found, expected) = (ours.tensor(tensor).unwrap(), numbers(expected.data()));
        let found = numbers(found.data());
        assert_eq!(found.len(), expected.len(), "{name}: {tensor}");
        let pairs = found.iter().zip(&expected);
        let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let error = difference / largest(&expected).max(scale);
        assert!(error < 1e-4, "{name}: the gradient of {tensor} errs by {error:e}");
        compared += 1;
    }
    let norms = step.gradient_norms.unwrap_or_default();
    assert_eq!(norms.is_empty(), step.gradients_of == "all");
    for Norm { name: tensor, norm } in &norms {
        let found = numbers(ours.tensor(tensor).unwrap().data());
        let found = found.iter().map(|x| x * x).sum::<f64>().sqrt();
        close(found, *norm, step.gradient_norm / 100.0, tensor);
        compared += 1;
    }
    assert!(compared > 10, "{name}: only {compared} gradients were compared");
}

#[test]
fn the_first_loss_and_all_gradients_are_pytorch_s() {
    for name in [
        "marian_swish_tied",
        "marian_relu_untied",
        "marian_relu_all_separate",
        "marian_gelu_separate_vocab",
        "nn_transformer_post",
        "nn_transformer_pre",
    ] {
        check_step(name);
    }
}

#[test]
fn the_losses_of_200_updates_are_pytorch_s() {
    for name in ["marian_swish_tied", "nn_transformer_post"] {
        let json = std::fs::read(fixtures().join(format!("{name}.curve.json"))).unwrap();
        let curve: Curve = serde_json::from_slice(&json).unwrap();
        let checkpoint = open(&curve.checkpoint);
        let rule = adam(&curve.adam);
        let mut learner = learner(&checkpoint, rule, curve.label_smoothing, Some(curve.clip_norm));
        let start = checkpoint.config().special.decoder_start;
        assert_eq!(curve.losses.len(), 200);
        for (i, &expected) in curve.losses.iter().enumerate() {
            let batch = &curve.batches[i % curve.batches.len()];
            let batch = examples(batch, start);
            let outcome = learner.update(&[&batch], curve.learning_rates[i]).unwrap();
            for (found, expected, what) in [
                (outcome.mean_loss(), expected, "loss"),
                (outcome.gradient_norm, curve.gradient_norms[i], "norm"),
            ] {
                let error = (found - expected).abs() / expected;
                assert!(
                    error < 0.01,
                    "{name}: the {what} of update {i} is {found}, not {expected}"
                );
            }
        }
    }
}
