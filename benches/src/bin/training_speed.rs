//! Times training on ready-made batches, as `xtask/python/peers_training.py` does with PyTorch: the
//! same options, the same files, the same line of JSON.

use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tfm_core::fused::Adam;
use tfm_core::{ParameterSource, Session, Tensor};
use tfm_model::transformer::{DropoutRates, Learning};
use tfm_model::{Config, Description, computed, learnable};
use tfm_train::initial::{Initial, Weights};
use tfm_train::learner::Rule;
use tfm_train::report::peak_memory;
use tfm_train::{Example, Learner, Method};

/// The seed of weights and dropout.
const SEED: u64 = 1;
const LEARNING_RATE: f64 = 3e-4;

#[derive(Deserialize)]
struct Batch {
    sources: Vec<Vec<u32>>,
    targets: Vec<Vec<u32>>,
}

impl Batch {
    fn examples(&self) -> Vec<Example<'_>> {
        let pairs = self.sources.iter().zip(&self.targets);
        pairs.map(|(source, target)| Example { source, target }).collect()
    }
}

/// Initial values: the position tables, and zeros elsewhere.
struct Fixed(Config);

impl ParameterSource for Fixed {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        let zeros =
            || Tensor::from_f32([self.0.target.vocabulary], vec![0.0; self.0.target.vocabulary]);
        computed(&self.0, name).map_or_else(zeros, Ok).map_err(|error| error.to_string())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut threads, mut warmup, mut steps) = (2, 1, 3);
    let (mut config, mut batches) = (PathBuf::new(), PathBuf::new());
    let mut device = String::from("cpu");
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--threads" => threads = value.parse()?,
            "--warmup" => warmup = value.parse()?,
            "--steps" => steps = value.parse()?,
            "--device" => device = value,
            "--config" => config = value.into(),
            "--batches" => batches = value.into(),
            _ => return Err(format!("unknown option {option}").into()),
        }
    }
    let Description { config, .. } = Description::from_json(&std::fs::read(&config)?, None)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let batches: Vec<Batch> = std::fs::read_to_string(&batches)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let fixed = Arc::new(Fixed(config.clone()));
    let session = match device.as_str() {
        "cpu" => Session::new(tfm_cpu::CpuBackend::new(threads)?, fixed),
        "cuda" => Session::new(tfm_cuda::CudaBackend::new(0)?, fixed),
        _ => return Err(format!("--device {device}: neither cpu nor cuda").into()),
    };
    let mut learner = learner(&config, session)?;

    let batch = |step: usize| batches[step % batches.len()].examples();
    for step in 0..warmup {
        learner.update(&[&batch(step)], LEARNING_RATE)?;
    }
    let (mut times, mut losses) = (Vec::new(), Vec::new());
    let (mut sentences, mut tokens, mut target_tokens) = (0, 0, 0);
    let began = Instant::now();
    for step in 0..steps {
        let examples = batch(step);
        let started = Instant::now();
        let outcome = learner.update(&[&examples], LEARNING_RATE)?;
        times.push(started.elapsed().as_secs_f64());
        losses.push(outcome.mean_loss());
        sentences += examples.len();
        tokens += outcome.tokens;
        target_tokens += outcome.target_tokens;
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let line = json!({
        "program": "tfm",
        "threads": threads,
        "steps": steps,
        "sentences": sentences,
        "source_tokens": tokens - target_tokens,
        "target_tokens": target_tokens,
        "seconds": seconds,
        "tokens_per_second": tokens as f64 / seconds,
        "seconds_per_step": times.get(times.len() / 2),
        "first_loss": losses.first(),
        "last_loss": losses.last(),
        "peak_rss_bytes": peak_memory().unwrap_or(0),
    });
    println!("{line}");
    Ok(())
}

fn learner(config: &Config, session: Session) -> Result<Learner, Box<dyn Error>> {
    let initial = Initial { config, seed: SEED };
    let weights = learnable(config)
        .into_iter()
        .map(|(name, shape)| (name.clone(), initial.tensor(&name, &shape)));
    let weights = Weights(weights.collect());
    let learning = Learning {
        learnt: weights.0.keys().cloned().collect::<BTreeSet<_>>(),
        dropout: DropoutRates { residual: 0.1, ..DropoutRates::default() },
        adapters: None,
    };
    let method = Method {
        rule: Rule::Adam(Adam { beta1: 0.9, beta2: 0.98, epsilon: 1e-9, weight_decay: 0.0 }),
        smoothing: 0.1,
        gradient_decay: 0.0,
        clip_norm: Some(1.0),
        average_decay: None,
        recompute: Vec::new(),
        seed: SEED,
    };
    Ok(Learner::new(session, Arc::new(config.clone()), learning, method, &weights)?)
}
