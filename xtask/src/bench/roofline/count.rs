//! Counts the operations and bytes that a model's equations require of any program.

use tfm_model::Config;
use tfm_model::config::{Heads, Stack};

/// What a piece of work takes. A product and its addition count as two operations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Work {
    /// Operations in products with weights.
    pub(super) operations: f64,
    /// Operations of attention, whose products of activations are `f32` in every precision.
    pub(super) attention: f64,
    /// The number of weights that are read.
    pub(super) weights: f64,
    /// Bytes of keys and values that are read, `f32` in every precision.
    pub(super) keys: f64,
}

/// Bytes of one number in a key or a value.
const FLOAT: f64 = 4.0;

/// The number of weights in one of an attention's four projections.
fn projection(config: &Config, heads: &Heads) -> f64 {
    (config.d_model * heads.width()) as f64
}

/// The number of weights in a layer's self-attention and its feed-forward network.
fn layer(config: &Config, stack: &Stack) -> f64 {
    let matrices = if stack.feed_forward.gated { 3 } else { 2 };
    let feed_forward = matrices * config.d_model * stack.feed_forward.inner;
    4.0 * projection(config, &stack.attention) + feed_forward as f64
}

/// A step of the decoder. It has `hypotheses` rows that belong to `sentences` sources of `source`
/// tokens; each hypothesis has `past` tokens of its own. The keys and values of the sources exist
/// already.
pub(super) fn step(
    config: &Config,
    hypotheses: f64,
    sentences: f64,
    source: f64,
    past: f64,
) -> Work {
    let layers = config.decoder.layers as f64;
    // The encoder does two of the four projections of the attention to the source: keys and values.
    let cross = 2.0 * projection(config, &config.cross_attention);
    let weights = layers * (layer(config, &config.decoder) + cross)
        + (config.d_model * config.target.vocabulary) as f64;
    let own = config.decoder.attention.width() as f64;
    let other = config.cross_attention.width() as f64;
    // For the scores and for the sum of values, attention does two products with each key, each of
    // one number for every feature.
    let seen = layers * 2.0 * (past * own + source * other);
    Work {
        operations: 2.0 * weights * hypotheses,
        attention: 2.0 * seen * hypotheses,
        weights,
        keys: FLOAT * layers * 2.0 * (past * hypotheses * own + source * sentences * other),
    }
}

/// The encoder over `sentences` sources of `length` tokens, with the keys and values that it makes
/// for the decoder.
pub(super) fn encoding(config: &Config, sentences: f64, length: f64) -> Work {
    let layers = config.encoder.layers as f64;
    let cross = 2.0 * projection(config, &config.cross_attention);
    let weights = layers * layer(config, &config.encoder) + config.decoder.layers as f64 * cross;
    let width = config.encoder.attention.width() as f64;
    let tokens = sentences * length;
    Work {
        operations: 2.0 * weights * tokens,
        attention: 2.0 * layers * 2.0 * length * width * tokens,
        weights,
        keys: 0.0,
    }
}

/// The work of translating sentences together to outputs of `target` tokens, in the parts that
/// follow one another: the encoder, and each step. Beam search begins with one hypothesis.
pub(super) fn translation(
    config: &Config,
    sentences: f64,
    beams: f64,
    source: f64,
    target: usize,
) -> Vec<Work> {
    let steps = (0..target).map(|past| {
        let beams = if past == 0 { 1.0 } else { beams };
        step(config, beams * sentences, sentences, source, past as f64 + 1.0)
    });
    std::iter::once(encoding(config, sentences, source)).chain(steps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tfm_model::Description;

    fn config() -> Config {
        let json = crate::project::read(super::super::BASE_SHAPE).expect("the shape is there");
        Description::from_json(json.as_bytes(), None).expect("the shape makes sense").config
    }

    #[test]
    fn a_step_reads_the_decoder_once() {
        let (d, inner, vocabulary) = (512.0, 2048.0, 54_688.0);
        let work = step(&config(), 4.0, 1.0, 20.0, 10.0);
        let layer = 4.0 * d * d + 2.0 * d * d + 2.0 * d * inner;
        assert_eq!(work.weights, 6.0 * layer + d * vocabulary);
        assert_eq!(work.operations, 8.0 * work.weights);
        assert_eq!(work.attention, 2.0 * 6.0 * 2.0 * 30.0 * d * 4.0);
        assert_eq!(work.keys, 4.0 * 6.0 * 2.0 * d * (40.0 + 20.0));
    }

    #[test]
    fn sentences_together_compute_what_they_do_alone() {
        let (config, n) = (config(), 7.0);
        let [together, alone] = [n, 1.0].map(|n| translation(&config, n, 4.0, 20.0, 24));
        assert_eq!(together.len(), 25);
        for (together, alone) in together.iter().zip(&alone) {
            assert_eq!(together.operations, n * alone.operations);
            assert_eq!(together.attention, n * alone.attention);
            assert_eq!(together.weights, alone.weights);
        }
        assert_eq!(alone[2].operations, 4.0 * alone[1].operations);
    }
}
