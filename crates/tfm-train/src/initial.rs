//! The weights that a training begins with.

use std::collections::BTreeMap;
use std::sync::Arc;
use tfm_core::philox::philox4x32;
use tfm_core::{ParameterSource, Shape, Tensor};
use tfm_model::Config;
use tfm_model::transformer::Adapters;

/// New weights, drawn from a seed: each tensor depends only on the seed and its own name.
///
/// Linear layers are uniform within `√(6/(inputs + outputs))` (Glorot and Bengio 2010). Those of
/// queries, keys and values are uniform within `1/√2` of it, since three of them stand for one
/// layer. Embeddings are normal with the deviation `1/√d_model`, learned positions with 0.02. Norms
/// are 1; biases and the second factors of adapters are 0.
#[derive(Debug, Clone, Copy)]
pub struct Initial<'a> {
    /// The model.
    pub config: &'a Config,
    /// The seed.
    pub seed: u64,
}

impl Initial<'_> {
    /// The tensor with this canonical name and shape.
    pub fn tensor(&self, name: &str, shape: &Shape) -> Tensor {
        let elements = shape.elements();
        let mut numbers = Numbers::new(self.seed, name);
        let values = match name.rsplit_once('.') {
            Some((scope, "weight")) if scope.ends_with("_norm") => vec![1.0; elements],
            Some((_, "bias" | "b")) => vec![0.0; elements],
            Some((scope, _)) if scope.ends_with("positions") => {
                (0..elements).map(|_| 0.02 * numbers.normal()).collect()
            }
            _ if name.ends_with("embedding.weight") || name == "output.weight" => {
                let deviation = (self.config.d_model as f64).powf(-0.5);
                (0..elements).map(|_| deviation * numbers.normal()).collect()
            }
            _ => {
                let (outputs, inputs) = (shape[0] as f64, shape[1] as f64);
                let joined = ["query.weight", "key.weight", "value.weight"];
                let gain = if joined.iter().any(|part| name.ends_with(part)) {
                    0.5f64.sqrt()
                } else {
                    1.0
                };
                let bound = gain * (6.0 / (inputs + outputs)).sqrt();
                (0..elements).map(|_| bound * (2.0 * numbers.uniform() - 1.0)).collect()
            }
        };
        let values = values.into_iter().map(|value| value as f32).collect();
        Tensor::from_f32(shape.clone(), values).expect("one value an element")
    }
}

/// The random numbers of one name, by counter.
struct Numbers {
    key: [u32; 2],
    /// A hash of the name, which tells tensors apart.
    name: [u32; 2],
    counter: u64,
}

impl Numbers {
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, 64 bits.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let halves = |x: u64| [x as u32, (x >> 32) as u32];
        Numbers { key: halves(seed), name: halves(hash), counter: 0 }
    }

    /// In [0, 1), of 53 bits.
    fn uniform(&mut self) -> f64 {
        let counter =
            [self.counter as u32, (self.counter >> 32) as u32, self.name[0], self.name[1]];
        self.counter += 1;
        let [a, b, ..] = philox4x32(counter, self.key);
        ((u64::from(a) << 32 | u64::from(b)) >> 11) as f64 / 2f64.powi(53)
    }

    /// Of the standard normal distribution (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Weights in host memory, by canonical name.
#[derive(Debug, Clone, Default)]
pub struct Weights(pub BTreeMap<String, Tensor>);

/// Weights over another source: the frozen parameters of a model in training, or all parameters of
/// a trained one.
pub struct Overlay {
    /// The model.
    pub config: Config,
    /// Read first.
    pub weights: Weights,
    /// Read where `weights` has no such name.
    pub rest: Arc<dyn ParameterSource>,
}

impl ParameterSource for Overlay {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        match self.weights.0.get(tfm_model::canonical(&self.config, name)) {
            Some(tensor) => Ok(tensor.clone()),
            None => self.rest.load(name),
        }
    }
}

/// Merges the low-rank changes into the weights they belong to, and removes them: `W + (α/r)·B·A`.
pub fn merge(weights: &mut Weights, adapters: &Adapters) {
    let names: Vec<String> = weights.0.keys().cloned().collect();
    for name in names {
        let Some(scope) = name.strip_suffix(".weight") else { continue };
        let [a, b] = Adapters::names(scope);
        let (Some(a), Some(b)) = (weights.0.remove(&a), weights.0.remove(&b)) else { continue };
        let (Some(a), Some(b)) = (a.as_f32(), b.as_f32()) else { continue };
        let Some(weight) = weights.0.get(&name) else { continue };
        let (shape, rank) = (weight.shape().clone(), adapters.rank);
        let factor = adapters.alpha / rank as f64;
        let old = weight.as_f32().unwrap_or_default();
        let (rows, columns) = (shape[0], shape[1]);
        let mut sum = Vec::with_capacity(old.len());
        for i in 0..rows {
            for j in 0..columns {
                let change: f64 = (0..rank)
                    .map(|r| f64::from(b[i * rank + r]) * f64::from(a[r * columns + j]))
                    .sum();
                sum.push((f64::from(old[i * columns + j]) + factor * change) as f32);
            }
        }
        let merged = Tensor::from_f32(shape, sum).expect("one value an element");
        weights.0.insert(name, merged);
    }
}
