//! Translation among the tokens of a shortlist: exact where the list has all, the same in any
//! company, and nothing but what is in the list.

mod common;

use common::{fixture, open, root};
use std::sync::Arc;
use tfm_core::Session;
use tfm_core::fused::Precision;
use tfm_cpu::CpuBackend;
use tfm_model::generation::{GenerationOptions, Hypothesis};
use tfm_model::scheduler::{Limits, Scheduler, Settings};
use tfm_model::{Checkpoint, Numerics, Parameters};
use tfm_text::{Shortlist, Tokenizer};

const BUNDLED: &str = "crates/tfm/models/marian-tatoeba-en-fr";

/// The bundled model, and the sentences of its golden as token ids.
struct Bundled {
    checkpoint: Arc<Checkpoint>,
    tokenizer: Tokenizer,
    sources: Vec<Vec<u32>>,
}

/// Hypotheses together, workers, and threads of each.
type Company = (usize, usize, usize);

const ALONE: Company = (1, 1, 1);

impl Bundled {
    fn new() -> Self {
        let text = std::fs::read_to_string(fixture("bundled.json")).unwrap();
        let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
        let lines = golden["lines"].as_array().unwrap().iter();
        let sources = lines.map(|line| serde_json::from_value(line["source"].clone()).unwrap());
        Bundled {
            checkpoint: open(root().join(BUNDLED)),
            tokenizer: Tokenizer::from_dir(&root().join(BUNDLED)).unwrap(),
            sources: sources.collect(),
        }
    }

    fn options(&self, beams: usize) -> GenerationOptions {
        let defaults = self.checkpoint.generation().clone();
        GenerationOptions { num_beams: beams, num_return_sequences: beams, ..defaults }
    }

    /// `size` tokens of each source token, which differ from token to token, and the first
    /// `frequent` of all.
    fn lists(&self, size: usize, frequent: usize) -> Arc<Shortlist> {
        let (sources, targets) =
            (self.tokenizer.source_vocab_size(), self.tokenizer.target_vocab_size());
        let list =
            |source: usize| (0..size).map(move |i| ((source * 31 + i * i * 7) % targets) as u32);
        let lists = (0..sources).map(|source| list(source).collect()).collect();
        Arc::new(Shortlist::new(&self.tokenizer, (0..frequent as u32).collect(), lists).unwrap())
    }

    fn translate(
        &self,
        precision: Precision,
        options: &GenerationOptions,
        shortlist: Option<&Arc<Shortlist>>,
        (hypotheses, workers, threads): Company,
    ) -> Vec<Vec<Hypothesis>> {
        let backend = CpuBackend::new(threads).unwrap();
        let parameters = Parameters::new(self.checkpoint.clone());
        let session = Session::new(backend, Arc::new(parameters));
        let key_dtype = tfm_cpu::key_dtype(precision);
        let numerics = Numerics { precision, key_dtype, ..Numerics::default() };
        let config = Arc::new(self.checkpoint.config().clone());
        let limits = Limits { hypotheses, ..Limits::default() };
        let shortlist = shortlist.cloned();
        let settings = Settings { workers, threads, limits, shortlist, ..Settings::default() };
        let scheduler = Scheduler::new(&session, &config, numerics, &settings).unwrap();
        scheduler.generate(&Arc::new(options.clone()), &self.sources).unwrap()
    }
}

/// Everything of results that has bits.
fn bits(results: &[Vec<Hypothesis>]) -> Vec<(Vec<u32>, u32, Vec<u32>)> {
    let probabilities = |hypothesis: &Hypothesis| {
        hypothesis.token_log_probabilities.iter().map(|p| p.to_bits()).collect::<Vec<u32>>()
    };
    let all = results.iter().flatten();
    all.map(|h| (h.tokens.clone(), h.score.to_bits(), probabilities(h))).collect()
}

#[test]
fn a_shortlist_of_all_tokens_changes_no_bit() {
    let bundled = Bundled::new();
    let all = bundled.lists(0, bundled.tokenizer.target_vocab_size());
    for precision in Precision::ALL {
        for beams in [1, 4] {
            let options = bundled.options(beams);
            let translate = |list| bits(&bundled.translate(precision, &options, list, (24, 1, 2)));
            assert_eq!(translate(Some(&all)), translate(None), "{precision:?}, {beams} beams");
        }
    }
}

#[test]
fn a_list_too_short_to_be_exact_is_the_whole_vocabulary() {
    let bundled = Bundled::new();
    let none = bundled.lists(0, 0);
    for beams in [1, 4] {
        let options = GenerationOptions { no_repeat_ngram_size: 2, ..bundled.options(beams) };
        let translate =
            |list| bits(&bundled.translate(Precision::Full, &options, list, (16, 1, 2)));
        let found = translate(Some(&none));
        if beams == 4 {
            // The end of sentence alone, where a search of four beams has to see five.
            assert_eq!(found, translate(None));
        } else {
            // Greedy search needs one token, and has it.
            assert!(found.iter().all(|(tokens, ..)| *tokens == options.eos_token_id));
        }
    }
}

#[test]
fn translations_have_the_same_bits_in_any_company() {
    let bundled = Bundled::new();
    let shortlist = bundled.lists(40, 60);
    for precision in Precision::ALL {
        let options = bundled.options(4);
        let translate =
            |company| bits(&bundled.translate(precision, &options, Some(&shortlist), company));
        let alone = translate(ALONE);
        for company in [(128, 1, 1), (12, 1, 2), (20, 2, 1)] {
            assert_eq!(translate(company), alone, "{precision:?}, {company:?}");
        }
    }
}

#[test]
fn nothing_comes_out_that_is_not_in_the_list() {
    let bundled = Bundled::new();
    let shortlist = bundled.lists(30, 5);
    let forced =
        GenerationOptions { prefix: vec![3000], repetition_penalty: 1.3, ..bundled.options(1) };
    let renormalized = GenerationOptions { renormalize_logits: true, ..bundled.options(3) };
    for options in [bundled.options(4), bundled.options(1), forced, renormalized] {
        let free = bundled.translate(Precision::Full, &options, None, (64, 1, 2));
        let found = bundled.translate(Precision::Full, &options, Some(&shortlist), (64, 1, 2));
        let outside = |results: &[Vec<Hypothesis>]| {
            let of_source = results.iter().zip(&bundled.sources).map(|(results, source)| {
                let list = shortlist
                    .tokens(source, &[&options.eos_token_id[..], &options.prefix].concat());
                let tokens = results.iter().flat_map(|hypothesis| hypothesis.tokens.clone());
                tokens.filter(|token| list.binary_search(token).is_err()).count()
            });
            of_source.sum::<usize>()
        };
        assert_eq!(outside(&found), 0);
        assert!(outside(&free) > 100, "the lists do not fit the sentences, or this shows nothing");
        assert!(found.iter().flatten().all(|hypothesis| hypothesis.score.is_finite()));
    }
}
