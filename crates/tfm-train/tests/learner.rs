//! A learner learns: small tasks from nothing.

use std::sync::Arc;
use tfm_core::philox::philox4x32;
use tfm_core::Session;
use tfm_model::Config;
use tfm_model::config::{
    Activation, Family, NormPlacement, Positions, SinusoidLayout, SpecialTokens, Stack,
};
use tfm_model::transformer::{DropoutRates, Learning};
use tfm_train::initial::{Initial, Weights};
use tfm_train::learner::Rule;
use tfm_train::{Example, Learner, Method};

fn config(norm_placement: NormPlacement) -> Config {
    let stack = Stack { layers: 1, heads: 2, ffn_dim: 48 };
    Config {
        family: Family::Transformer,
        d_model: 24,
        encoder: stack,
        decoder: stack,
        source_vocabulary: 13,
        target_vocabulary: 13,
        norm_placement,
        final_norm: norm_placement == NormPlacement::Pre,
        norm_epsilon: 1e-5,
        positions: Positions::Sinusoidal(SinusoidLayout::Interleaved),
        max_positions: 16,
        embedding_scale: 24f64.sqrt(),
        activation: Activation::Relu,
        linear_biases: true,
        shared_embeddings: true,
        tied_output: true,
        output_bias: false,
        special: SpecialTokens { bos: Some(2), eos: vec![0], pad: Some(1), decoder_start: 2 },
    }
}

struct Sinusoids(Config);
impl tfm_core::ParameterSource for Sinusoids {
    fn load(&self, _: &str) -> Result<tfm_core::Tensor, String> {
        let (rows, d) = (self.0.max_positions, self.0.d_model);
        let table = tfm_model::transformer::positions::sinusoids(rows, d, SinusoidLayout::Interleaved);
        tfm_core::Tensor::from_f32([rows, d], table).map_err(|error| error.to_string())
    }
}

fn learner(config: &Config, seed: u64) -> Learner {
    let initial = Initial { config, seed };
    let shapes = tfm_model::learnable(config);
    let weights = Weights(
        shapes.into_iter().map(|(name, shape)| (name.clone(), initial.tensor(&name, &shape))).collect(),
    );
    let learning = Learning {
        learnt: weights.0.keys().cloned().collect(),
        dropout: DropoutRates { residual: 0.02, attention: 0.02, activation: 0.02 },
        adapters: None,
    };
    let rule = Rule::Adam(tfm_core::fused::Adam { beta1: 0.9, beta2: 0.98, epsilon: 1e-9, weight_decay: 0.0 });
    let method = Method {
        rule,
        smoothing: 0.0,
        gradient_decay: 0.0,
        clip_norm: Some(1.0),
        average_decay: None,
        recompute: Vec::new(),
        seed,
    };
    let source = Arc::new(Sinusoids(config.clone()));
    let session = Session::new(tfm_cpu::CpuBackend::new(1).unwrap(), source);
    Learner::new(session, Arc::new(config.clone()), learning, method, &weights).unwrap()
}

#[test]
fn it_learns_to_copy() {
    for norm in [NormPlacement::Post, NormPlacement::Pre] {
        let config = config(norm);
        let mut learner = learner(&config, 7);
        let mut last = f64::NAN;
        for update in 0..400u32 {
            let sequences: Vec<Vec<u32>> = (0..32u32)
                .map(|i| {
                    let words = philox4x32([update, i, 0, 0], [1, 2]);
                    let more = philox4x32([update, i, 1, 0], [1, 2]);
                    let all = words.into_iter().chain(more);
                    let length = 2 + words[0] as usize % 5;
                    all.take(length).map(|word| 3 + word % 10).chain([0]).collect()
                })
                .collect();
            let batch: Vec<Example<'_>> =
                sequences.iter().map(|s| Example { source: s, target: s }).collect();
            let outcome = learner.update(&[&batch], 5e-3).unwrap();
            last = outcome.mean_loss();
            if update % 50 == 0 {
                eprintln!("{norm:?} {update}: loss {last:.4}, norm {:.3}", outcome.gradient_norm);
            }
        }
        assert!(last < 0.2, "{norm:?}: the loss is still {last}");
    }
}
