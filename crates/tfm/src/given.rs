//! What a model says of texts that are given to it: their probability, their alignment, and what it
//! computes of them.

use crate::engine::{Engine, Prepared, Source};
use crate::{Alignment, Error, Result, Score, TokenVectors};
use tfm_model::Pair;

/// A source and a target, as token ids.
struct Encoded {
    source: Vec<u32>,
    /// What the decoder reads to write the target.
    input: Vec<u32>,
    target: Vec<u32>,
}

impl Encoded {
    fn pair(&self) -> Pair<'_> {
        Pair { source: &self.source, target: &self.input }
    }
}

impl Engine {
    /// How probable each second text is as a translation of the first.
    pub(crate) fn score(&self, prepared: &Prepared, pairs: &[(&str, &str)]) -> Result<Vec<Score>> {
        let encoded = pairs.iter().map(|&(source, target)| self.pair(prepared, source, target));
        let encoded = encoded.collect::<Result<Vec<_>>>()?;
        let inputs: Vec<Pair<'_>> = encoded.iter().map(Encoded::pair).collect();
        let next: Vec<u32> = encoded.iter().flat_map(|pair| pair.target.clone()).collect();
        let mut log_probabilities =
            self.teacher_forcing()?.log_probabilities(&inputs, &next)?.into_iter();
        let scores = encoded.iter().map(|Encoded { target, .. }| {
            let tokens: Vec<(String, f32)> =
                self.target_tokens(target).into_iter().zip(log_probabilities.by_ref()).collect();
            // In f64: the sum of many f32 would depend on their order in the last digits shown.
            let sum: f64 =
                tokens.iter().map(|(_, log_probability)| f64::from(*log_probability)).sum();
            Score { log_probability: sum as f32, tokens }
        });
        Ok(scores.collect())
    }

    /// The encoder's output for each text.
    pub(crate) fn encode(&self, prepared: &Prepared, texts: &[&str]) -> Result<Vec<TokenVectors>> {
        let sources = texts.iter().map(|text| self.given_source(prepared, text));
        let sources = sources.collect::<Result<Vec<_>>>()?;
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
        let states = self.teacher_forcing()?.encode(&ids)?;
        let mut values = states.as_f32().unwrap_or_default();
        let width = self.model.config.d_model;
        let vectors = sources.iter().map(|source| {
            let (own, rest) = values.split_at(source.len() * width);
            values = rest;
            TokenVectors { tokens: self.source_tokens(source), width, values: own.to_vec() }
        });
        Ok(vectors.collect())
    }

    /// The logits at each token of a target.
    pub(crate) fn logits(
        &self,
        prepared: &Prepared,
        source: &str,
        target: &str,
    ) -> Result<TokenVectors> {
        let encoded = self.pair(prepared, source, target)?;
        let logits = self.teacher_forcing()?.logits(&[encoded.pair()])?;
        Ok(TokenVectors {
            tokens: self.target_tokens(&encoded.target),
            width: self.model.config.target.vocabulary,
            values: logits.as_f32().unwrap_or_default().to_vec(),
        })
    }

    /// The attention of the last decoder layer while it wrote `target`.
    pub(crate) fn align(
        &self,
        prepared: &Prepared,
        source: &Source,
        target: &[u32],
    ) -> Result<Alignment> {
        let tokenizer = &self.model.tokenizer;
        let input = decoder_input(prepared, target);
        let pair = Pair { source: &source.tokens, target: &input };
        let last = self.model.config.decoder.layers.saturating_sub(1);
        let weights = self.teacher_forcing()?.alignment(pair, last)?;
        let rows = weights.chunks(source.tokens.len().max(1)).map(<[f32]>::to_vec);
        let words = [tokenizer.source_words(&source.tokens), tokenizer.target_words(target)];
        Ok(Alignment::new(self.source_tokens(&source.tokens), rows.collect(), words))
    }

    fn pair(&self, prepared: &Prepared, source: &str, target: &str) -> Result<Encoded> {
        let source = self.given_source(prepared, source)?;
        let target = self.model.tokenizer.encode_target(target)?;
        fits("target", target.len(), self.model.config.target.longest_sequence())?;
        Ok(Encoded { source, input: decoder_input(prepared, &target), target })
    }

    fn given_source(&self, prepared: &Prepared, text: &str) -> Result<Vec<u32>> {
        let source = self.model.tokenizer.encode_source_framed(text, &prepared.framing)?;
        fits("source", source.len(), self.model.config.source.longest_sequence())?;
        Ok(source)
    }
}

fn fits(side: &'static str, tokens: usize, limit: usize) -> Result<()> {
    if tokens > limit { Err(Error::TooLong { side, tokens, limit }) } else { Ok(()) }
}

/// What the decoder reads to write `target`: the start token, and each token but the last.
fn decoder_input(prepared: &Prepared, target: &[u32]) -> Vec<u32> {
    let written = &target[..target.len().saturating_sub(1)];
    std::iter::once(prepared.generation.decoder_start_token_id)
        .chain(written.iter().copied())
        .collect()
}
