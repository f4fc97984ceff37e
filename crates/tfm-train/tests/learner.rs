//! A learner learns, and does it bit for bit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tfm_core::fused::Adam;
use tfm_core::philox::philox4x32;
use tfm_core::{ParameterSource, Session, Tensor};
use tfm_model::config::{
    Activation, NormPlacement, OutputBias, PositionKind, SinusoidLayout, SpecialTokens,
};
use tfm_model::transformer::{Adapters, DropoutRates, Learning};
use tfm_model::{Config, Family};
use tfm_train::config::{Architecture, Layers};
use tfm_train::initial::{Initial, Weights, merge};
use tfm_train::learner::{Rule, adapter_shapes};
use tfm_train::{Error, Example, Learner, Method};

fn config(norm: NormPlacement) -> Config {
    let layers = Layers { layers: 1, heads: 2, ffn_dim: 48 };
    let architecture = Architecture {
        family: Family::of_type("transformer").unwrap(),
        d_model: 24,
        encoder: layers,
        decoder: layers,
        activation: Activation::Relu,
        norm,
        final_norm: norm == NormPlacement::Pre,
        norm_epsilon: 1e-5,
        positions: PositionKind::Sinusoidal(SinusoidLayout::Interleaved),
        max_positions: 16,
        scale_embeddings: true,
        biases: true,
        share_embeddings: true,
        tie_output: true,
        output_bias: OutputBias::None,
        unlearnt_padding: false,
    };
    let special = SpecialTokens { bos: Some(2), eos: vec![0], pad: Some(1), decoder_start: 2 };
    architecture.config(13, 13, special)
}

/// What differs between learners.
#[derive(Clone)]
struct Settings {
    dropout: f32,
    recompute: Vec<String>,
    adapters: Option<Adapters>,
    threads: usize,
    rule: Rule,
    clip_norm: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        let adam = Adam { beta1: 0.9, beta2: 0.98, epsilon: 1e-9, weight_decay: 0.0 };
        Settings {
            dropout: 0.0,
            recompute: Vec::new(),
            adapters: None,
            threads: 1,
            rule: Rule::Adam(adam),
            clip_norm: Some(1.0),
        }
    }
}

fn learner(config: &Config, seed: u64, settings: Settings) -> Learner {
    let initial = Initial { config, seed };
    let Settings { dropout, recompute, adapters, threads, rule, clip_norm } = settings;
    let dropout = DropoutRates { residual: dropout, attention: dropout, activation: dropout };
    let mut learning = Learning { learnt: BTreeSet::new(), dropout, adapters };
    let shapes = match learning.adapters {
        Some(_) => adapter_shapes(config, &learning),
        None => tfm_model::learnable(config),
    };
    let tensors =
        shapes.into_iter().map(|(name, shape)| (name.clone(), initial.tensor(&name, &shape)));
    let weights = Weights(tensors.collect());
    learning.learnt = weights.0.keys().cloned().collect();
    let method = Method {
        rule,
        smoothing: 0.1,
        gradient_decay: 0.0,
        clip_norm,
        average_decay: None,
        recompute,
        seed,
    };
    let session = tfm_cpu::CpuBackend::new(threads).unwrap();
    let session = Session::new(session, Arc::new(Fixed(config.clone(), seed)));
    Learner::new(session, Arc::new(config.clone()), learning, method, &weights).unwrap()
}

/// Position tables, and for what is not learnt the weights that would be learnt from.
struct Fixed(Config, u64);

impl ParameterSource for Fixed {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        let shape = |other: &(String, _)| other.0 == name;
        match tfm_model::computed(&self.0, name) {
            Some(table) => Ok(table),
            None => {
                let (name, shape) =
                    tfm_model::learnable(&self.0).into_iter().find(shape).ok_or("unknown")?;
                Ok(Initial { config: &self.0, seed: self.1 }.tensor(&name, &shape))
            }
        }
    }
}

/// Sequences of random tokens, each its own translation.
fn sequences(update: u32, count: u32) -> Vec<Vec<u32>> {
    let sequence = |i: u32| {
        let words = philox4x32([update, i, 0, 0], [1, 2]);
        let more = philox4x32([update, i, 1, 0], [1, 2]);
        let length = 2 + words[0] as usize % 5;
        let all = words.into_iter().chain(more).take(length);
        all.map(|word| 3 + word % 10).chain([0]).collect()
    };
    (0..count).map(sequence).collect()
}

fn examples(sequences: &[Vec<u32>]) -> Vec<Example<'_>> {
    sequences.iter().map(|s| Example { source: s, target: s }).collect()
}

/// The losses of some updates, and the weights after them.
fn some_updates(learner: &mut Learner, updates: u32) -> (Vec<f64>, BTreeMap<String, Tensor>) {
    let update = |update| {
        let sequences = sequences(update, 16);
        learner.update(&[&examples(&sequences)], 3e-3).unwrap().mean_loss()
    };
    let losses = (0..updates).map(update).collect();
    (losses, learner.states().unwrap())
}

#[test]
fn it_learns_to_copy() {
    for norm in [NormPlacement::Post, NormPlacement::Pre] {
        let config = config(norm);
        let adam = Adam { beta1: 0.9, beta2: 0.98, epsilon: 1e-9, weight_decay: 0.0 };
        let settings = Settings { dropout: 0.02, rule: Rule::Adam(adam), ..Settings::default() };
        let mut learner = learner(&config, 7, settings);
        let mut last = f64::NAN;
        for update in 0..400 {
            let sequences = sequences(update, 32);
            last = learner.update(&[&examples(&sequences)], 5e-3).unwrap().mean_loss();
        }
        // Smoothing keeps the loss of a perfect model at 0.46.
        assert!(last < 0.75, "{norm:?}: the loss is still {last}");
    }
}

#[test]
fn adafactor_learns_too() {
    let rule = Rule::Adafactor { epsilon: 1e-30, clip: 1.0, weight_decay: 0.0 };
    let mut learner =
        learner(&config(NormPlacement::Pre), 3, Settings { rule, ..Settings::default() });
    let (losses, _) = some_updates(&mut learner, 150);
    assert!(losses[149] < 0.6 * losses[0], "from {} to {}", losses[0], losses[149]);
}

#[test]
fn neither_threads_nor_recomputing_change_a_bit() {
    let config = config(NormPlacement::Post);
    let settings = Settings { dropout: 0.2, ..Settings::default() };
    let once = some_updates(&mut learner(&config, 5, settings.clone()), 5);
    for threads in [2, 3] {
        let settings = Settings { threads, ..settings.clone() };
        assert_eq!(some_updates(&mut learner(&config, 5, settings), 5), once, "{threads} threads");
    }
    let scopes = ["encoder.layers.0", "decoder.layers.0"];
    for recompute in [&scopes[..1], &scopes[1..], &scopes[..]] {
        let recompute: Vec<String> = recompute.iter().map(|scope| (*scope).into()).collect();
        let settings = Settings { recompute, ..settings.clone() };
        assert_eq!(some_updates(&mut learner(&config, 5, settings), 5), once);
    }
}

#[test]
fn a_restored_learner_goes_on_bit_for_bit() {
    let config = config(NormPlacement::Pre);
    let settings = Settings { dropout: 0.1, ..Settings::default() };
    let mut whole = learner(&config, 9, settings.clone());
    some_updates(&mut whole, 3);
    let states = whole.states().unwrap();
    let mut other = learner(&config, 9, Settings { threads: 2, ..settings });
    other.restore(3, &states).unwrap();
    assert_eq!(some_updates(&mut whole, 4), some_updates(&mut other, 4));
}

#[test]
fn parts_of_a_batch_add_up_to_it() {
    let config = config(NormPlacement::Post);
    let sequences = sequences(0, 12);
    let all = examples(&sequences);
    let mut whole = learner(&config, 1, Settings::default());
    let mut parts = learner(&config, 1, Settings::default());
    for _ in 0..3 {
        let a = whole.update(&[&all], 1e-3).unwrap();
        let b = parts.update(&[&all[..5], &all[5..6], &all[6..]], 1e-3).unwrap();
        assert!((a.loss - b.loss).abs() < 1e-4 * a.loss, "{a:?} and {b:?}");
        assert!((a.gradient_norm - b.gradient_norm).abs() < 1e-4 * a.gradient_norm);
        assert_eq!((a.tokens, a.target_tokens), (b.tokens, b.target_tokens));
    }
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing_and_says_where_it_began() {
    let config = config(NormPlacement::Post);
    let mut learner = learner(&config, 2, Settings { clip_norm: None, ..Settings::default() });
    some_updates(&mut learner, 2);
    // A weight that overflows in the first product.
    let mut states = learner.states().unwrap();
    let name = "encoder.layers.0.feed_forward.inner.weight";
    let shape = states[name].shape().clone();
    let huge = Tensor::from_f32(shape.clone(), vec![f32::MAX; shape.elements()]).unwrap();
    states.insert(name.into(), huge);
    learner.restore(2, &states).unwrap();
    let sequences = sequences(9, 4);
    let error = learner.update(&[&examples(&sequences)], 1e-3).unwrap_err();
    let Error::NotFinite { update: 3, place: Some(place), .. } = &error else { panic!("{error}") };
    assert_eq!(place.scope, "encoder.layers.0.feed_forward.inner", "{error}");
    assert_eq!(learner.updates(), 2);
    assert_eq!(learner.states().unwrap(), states);
}

#[test]
fn adapters_learn_and_merge_into_the_weights_they_change() {
    let config = config(NormPlacement::Pre);
    let targets = ["query", "value", "inner"].map(String::from).into();
    let adapters = Adapters { rank: 3, alpha: 6.0, targets };
    let settings = Settings { adapters: Some(adapters.clone()), ..Settings::default() };
    let mut learner = learner(&config, 4, settings);
    let sequences = sequences(1, 8);
    let before = learner.validate(&examples(&sequences)).unwrap().loss;
    let (losses, _) = some_updates(&mut learner, 60);
    assert!(losses[59] < losses[0], "from {} to {}", losses[0], losses[59]);
    let after = learner.validate(&examples(&sequences)).unwrap().loss;
    assert!(after < before);

    // The merged model has the same loss without adapters.
    let mut weights = learner.weights().unwrap();
    assert!(weights.0.keys().all(|name| name.contains(".adapter.")));
    let initial = Initial { config: &config, seed: 4 };
    for (name, shape) in tfm_model::learnable(&config) {
        weights.0.insert(name.clone(), initial.tensor(&name, &shape));
    }
    merge(&mut weights, &adapters);
    let mut merged = self::learner(&config, 4, Settings::default());
    let mut states = merged.states().unwrap();
    states.extend(weights.0);
    merged.restore(0, &states).unwrap();
    let loss = merged.validate(&examples(&sequences)).unwrap().loss;
    assert!((loss - after).abs() < 1e-3 * after, "{loss} merged, {after} before");
}
