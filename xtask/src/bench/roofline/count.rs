//! The operations and bytes that a model's equations ask for, whoever computes them.

use tfm_model::Config;
use tfm_model::config::Stack;

/// What a piece of work takes. A product and its addition are two operations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Work {
    /// Of products with weights.
    pub(super) operations: f64,
    /// Of attention: products of activations, `f32` in every precision.
    pub(super) attention: f64,
    /// Numbers of weights that are read.
    pub(super) weights: f64,
    /// Bytes of keys and values that are read, `f32` in every precision.
    pub(super) keys: f64,
}

/// Bytes of a key's or a value's number.
const FLOAT: f64 = 4.0;

/// Weights of a layer that every token meets: of `attentions` (four projections each) and of the feed-forward network.
fn layer(config: &Config, stack: Stack, attentions: f64) -> f64 {
    let (d, inner) = (config.d_model as f64, stack.ffn_dim as f64);
    attentions * 4.0 * d * d + 2.0 * d * inner
}

/// A step of the decoder: `hypotheses` rows that belong to `sentences` of `source` tokens, each with `past` tokens of its own.
/// Keys and values of the sources are there already.
pub(super) fn step(
    config: &Config,
    hypotheses: f64,
    sentences: f64,
    source: f64,
    past: f64,
) -> Work {
    let (d, layers) = (config.d_model as f64, config.decoder.layers as f64);
    // Of the four projections of the attention to the source, keys and values belong to the encoder.
    let weights = layers * (layer(config, config.decoder, 2.0) - 2.0 * d * d)
        + d * config.target_vocabulary as f64;
    // Scores, and the sum of values: two products with each key, one number for each feature.
    let seen = layers * 2.0 * (past + source) * d;
    Work {
        operations: 2.0 * weights * hypotheses,
        attention: 2.0 * seen * hypotheses,
        weights,
        keys: FLOAT * layers * 2.0 * d * (past * hypotheses + source * sentences),
    }
}

/// The encoder over `sentences` of `length` tokens, with the keys and values that the decoder takes from it.
pub(super) fn encoding(config: &Config, sentences: f64, length: f64) -> Work {
    let (d, layers) = (config.d_model as f64, config.encoder.layers as f64);
    let for_decoder = config.decoder.layers as f64 * 2.0 * d * d;
    let weights = layers * layer(config, config.encoder, 1.0) + for_decoder;
    let tokens = sentences * length;
    Work {
        operations: 2.0 * weights * tokens,
        attention: 2.0 * layers * 2.0 * length * d * tokens,
        weights,
        keys: 0.0,
    }
}

/// Sentences translated together to outputs of `target` tokens, by the parts that follow one another: the encoder, and each step. A
/// search of several beams begins with one hypothesis.
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

    fn config() -> Config {
        let json = crate::project::read(super::super::BASE_SHAPE).expect("the shape is there");
        Config::from_json(json.as_bytes(), None).expect("the shape makes sense").0
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
