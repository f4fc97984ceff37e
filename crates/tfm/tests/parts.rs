//! Parts of a description that families need which are not read yet: root mean square norms,
//! relative positions (shared and per layer), gated feed-forward networks, heads of any size, norms
//! after the embeddings, learned positions. Tiny models with random weights, beside what
//! `transformers` answers for them.

mod common;

use common::{fixture, largest_difference, scheduler};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::sync::Arc;
use tfm_core::reference::Reference;
use tfm_core::{ParameterSource, Session, Tensor};
use tfm_cpu::CpuBackend;
use tfm_model::config::*;
use tfm_model::scheduler::Limits;
use tfm_model::{Config, GenerationOptions, Numerics, Pair, TeacherForcing};

const D_MODEL: usize = 12;

/// The tensors of a fixture: weights by our names, and what they give.
struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    fn open(name: &str) -> Self {
        let bytes = std::fs::read(fixture("parts").join(format!("{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let words = view.data().chunks_exact(4).map(|word| word.try_into().unwrap());
            let shape: Vec<usize> = view.shape().to_vec();
            let tensor = match view.dtype() {
                safetensors::Dtype::F32 => {
                    Tensor::from_f32(&shape[..], words.map(f32::from_le_bytes).collect())
                }
                _ => Tensor::from_i32(&shape[..], words.map(i32::from_le_bytes).collect()),
            };
            (name, tensor.unwrap())
        };
        Tensors(file.tensors().into_iter().map(tensor).collect())
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.0[name].as_i32().unwrap().iter().map(|&id| id as u32).collect()
    }
}

impl ParameterSource for Tensors {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        self.0.get(name).cloned().ok_or_else(|| format!("there is no {name}"))
    }
}

fn special() -> SpecialTokens {
    SpecialTokens { bos: None, eos: vec![2], pad: Some(1), decoder_start: 0 }
}

/// T5's: norms by the root mean square before each sublayer, no biases, scores that are not scaled.
fn t5(feed_forward: FeedForward, per_layer: bool) -> Config {
    let heads = Heads { scale: 1.0, biases: false, ..Heads::new(3, 5) };
    let position =
        Position::Relative(RelativePositions { buckets: 8, max_distance: 10, per_layer });
    let stack = Stack {
        layers: 2,
        attention: Heads { position, ..heads },
        feed_forward,
        norm: Norm {
            kind: NormKind::RootMeanSquare,
            epsilon: 1e-5,
            placement: NormPlacement::Pre,
            after_embedding: false,
            after_last_layer: true,
        },
    };
    let embedding = Embedding { vocabulary: 31, scale: 1.0, positions: None, unlearnt: None };
    let output =
        Output { tied: true, bias: OutputBias::None, scale: 1.0 / (D_MODEL as f64).sqrt() };
    Config {
        d_model: D_MODEL,
        encoder: stack,
        decoder: stack,
        cross_attention: heads,
        source: embedding,
        target: embedding,
        shared_embeddings: true,
        output,
        special: special(),
    }
}

/// BART's: learned positions, a norm after the embeddings, and in mBART one after the last layer.
fn bart(placement: NormPlacement, after_last_layer: bool) -> Config {
    let heads = |count: usize| Heads::new(count, D_MODEL / count);
    let stack = |layers, attention, inner| Stack {
        layers,
        attention,
        feed_forward: FeedForward {
            inner,
            activation: Activation::Gelu,
            gated: false,
            biases: true,
        },
        norm: Norm {
            kind: NormKind::Layer,
            epsilon: 1e-5,
            placement,
            after_embedding: true,
            after_last_layer,
        },
    };
    let embedding = Embedding {
        vocabulary: 31,
        scale: (D_MODEL as f64).sqrt(),
        positions: Some(PositionTable { rows: 24, kind: PositionKind::Learned { offset: 2 } }),
        unlearnt: None,
    };
    Config {
        d_model: D_MODEL,
        encoder: stack(2, heads(3), 20),
        decoder: stack(1, heads(2), 14),
        cross_attention: heads(2),
        source: embedding,
        target: embedding,
        shared_embeddings: true,
        output: Output { tied: true, bias: OutputBias::Constant, scale: 1.0 },
        special: special(),
    }
}

fn models() -> [(&'static str, Config); 4] {
    let gated =
        FeedForward { inner: 20, activation: Activation::GeluTanh, gated: true, biases: false };
    let plain =
        FeedForward { inner: 18, activation: Activation::Relu, gated: false, biases: false };
    [
        ("t5", t5(gated, false)),
        ("umt5", t5(plain, true)),
        ("bart", bart(NormPlacement::Post, false)),
        ("mbart", bart(NormPlacement::Pre, true)),
    ]
}

/// BART with fewer heads of keys than of queries, with windows and capped scores. No model of
/// `transformers` has these and nothing that is not read yet, so its numbers are held to each
/// other: those of backends, and those of one pass and of steps.
fn grouped() -> (Config, Tensors) {
    let mut config = bart(NormPlacement::Post, false);
    for heads in [&mut config.encoder.attention, &mut config.decoder.attention] {
        *heads = Heads { kv_count: 1, window: Some(3), soft_cap: Some(0.7), ..*heads };
    }
    let heads = config.decoder.attention;
    config.cross_attention = Heads { window: None, ..heads };
    let mut tensors = Tensors::open("bart");
    for (name, tensor) in &mut tensors.0 {
        if name.contains("key.") || name.contains("value.") {
            let heads = if name.starts_with("encoder") { config.encoder.attention } else { heads };
            let mut shape = tensor.shape().to_vec();
            shape[0] = heads.kv_width();
            let kept = shape.iter().product();
            let rows = tensor.as_f32().unwrap()[..kept].to_vec();
            *tensor = Tensor::from_f32(&shape[..], rows).unwrap();
        }
    }
    (config, tensors)
}

fn sessions(tensors: &Arc<Tensors>) -> [Session; 2] {
    [
        Session::new(CpuBackend::new(2).unwrap(), tensors.clone()),
        Session::new(Reference::<f64>::new(), tensors.clone()),
    ]
}

#[test]
fn encoder_outputs_and_logits_are_those_of_transformers() {
    for (name, config) in models() {
        config.check().unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        let config = Arc::new(config);
        let tensors = Arc::new(Tensors::open(name));
        let [source, target] = ["golden.source", "golden.target"].map(|ids| tensors.ids(ids));
        for session in sessions(&tensors) {
            let backend = session.name();
            let mut model = TeacherForcing::new(session, config.clone(), Numerics::default());
            let encoded = model.encode(&[&source]).unwrap();
            let logits = model.logits(&[Pair { source: &source, target: &target }]).unwrap();
            for (what, found) in [("encoder_output", encoded), ("logits", logits)] {
                let expected = tensors.0[&format!("golden.{what}")].as_f32().unwrap();
                let error = largest_difference(found.as_f32().unwrap(), expected);
                assert!(error < 1e-5, "{name} on {backend}, {what}: {error:e}");
            }
        }
    }
}

/// Step by step, with keys and values in caches, decoding finds the log-probabilities of one pass
/// over the whole.
#[test]
fn stepwise_decoding_agrees_with_a_pass_over_the_whole_target() {
    let models = models().map(|(name, config)| (name, config, Tensors::open(name)));
    let (config, tensors) = grouped();
    for (name, config, tensors) in models.into_iter().chain([("grouped", config, tensors)]) {
        config.check().unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        let (config, tensors) = (Arc::new(config), Arc::new(tensors));
        let source = tensors.ids("golden.source");
        for session in sessions(&tensors) {
            let fork = session.fork(1).unwrap();
            let mut model = TeacherForcing::new(fork, config.clone(), Numerics::default());
            let (numerics, limits) = (Numerics::default(), Limits::default());
            let scheduler = scheduler(&session, &config, numerics, (1, 1), limits);
            let sources = [source.clone(), source[..3].to_vec()];
            // With 40 beams a step finds few candidates first, and more of some hypotheses.
            let searches = [3, 40].map(|num_beams| {
                let options = GenerationOptions {
                    num_beams,
                    num_return_sequences: num_beams,
                    max_new_tokens: Some(20),
                    ..GenerationOptions::new(0, vec![2])
                };
                scheduler.generate(&Arc::new(options), &sources).unwrap()
            });
            let found = searches.iter().flat_map(|found| sources.iter().zip(found));
            let found = found.flat_map(|(source, all)| all.iter().map(move |one| (source, one)));
            for (source, found) in found {
                let tokens = &found.tokens;
                let target: Vec<u32> = [0].into_iter().chain(tokens.iter().copied()).collect();
                let pair = Pair { source, target: &target[..tokens.len()] };
                let whole = model.log_probabilities(&[pair], tokens).unwrap();
                for (step, whole) in found.token_log_probabilities.iter().zip(&whole) {
                    let error = (step - whole).abs();
                    assert!(error < 1e-4 * whole.abs().max(1.0), "{name}: {step} and {whole}");
                }
            }
        }
    }
}

/// Each of the grouped model's parts counts: without it the logits are others. With all of them
/// they are the same on both backends, and so is what cross-attention looks at.
#[test]
fn grouped_heads_windows_and_caps_are_computed_alike_on_all_backends() {
    let (config, tensors) = grouped();
    let tensors = Arc::new(tensors);
    let [source, target] = ["golden.source", "golden.target"].map(|ids| tensors.ids(ids));
    let pair = Pair { source: &source, target: &target };
    let logits = |config: &Config, session: Session| {
        let mut model = TeacherForcing::new(session, Arc::new(config.clone()), Numerics::default());
        let logits = model.logits(&[pair]).unwrap().as_f32().unwrap().to_vec();
        let alignment = model.alignment(pair, 0).unwrap();
        for row in alignment.chunks(source.len()) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "a distribution: {row:?}");
        }
        [logits, alignment]
    };
    let [cpu, reference] = sessions(&tensors).map(|session| logits(&config, session));
    for (cpu, reference) in cpu.iter().zip(&reference) {
        assert!(largest_difference(cpu, reference) < 1e-5);
    }
    let [mut unlimited, mut uncapped] = [config.clone(), config];
    unlimited.encoder.attention.window = None;
    uncapped.decoder.attention.soft_cap = None;
    for other in [unlimited, uncapped] {
        let [session, _] = sessions(&tensors);
        let [others, _] = logits(&other, session);
        assert!(largest_difference(&others, &reference[0]) > 1e-3);
    }
}
