//! A sentence does not depend on its company: its result has the same bits alone, in any batch, in
//! any order, and with any number of threads and workers.

mod common;

use common::{cpu, fixture, open, root, scheduler};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use tfm_core::fused::Precision;
use tfm_model::generation::{GenerationOptions, Hypothesis, Settled};
use tfm_model::scheduler::{Flow, Limits, Request, Scheduler, Settings, Sink};
use tfm_model::{Numerics, Pair, TeacherForcing};

const BUNDLED: &str = "crates/tfm/models/marian-tatoeba-en-fr";

/// The 24 sentences of the bundled golden, as token ids.
fn sources() -> Vec<Vec<u32>> {
    let text = std::fs::read_to_string(fixture("bundled.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let lines = golden["lines"].as_array().unwrap().iter();
    let ids = |line: &serde_json::Value| -> Vec<u32> {
        serde_json::from_value(line["source"].clone()).unwrap()
    };
    lines.map(ids).collect()
}

/// Tokens, score, and the tokens' log-probabilities of a hypothesis.
type Bits = (Vec<u32>, u32, Vec<u32>);

/// Everything of a result that has bits.
fn bits(results: &[Hypothesis]) -> Vec<Bits> {
    let probabilities = |hypothesis: &Hypothesis| {
        hypothesis.token_log_probabilities.iter().map(|p| p.to_bits()).collect::<Vec<u32>>()
    };
    results.iter().map(|h| (h.tokens.clone(), h.score.to_bits(), probabilities(h))).collect()
}

/// Computed in a precision, with keys and values kept as that wants them.
fn numerics(precision: Precision) -> Numerics {
    let key_dtype = tfm_cpu::key_dtype(precision);
    Numerics { precision, key_dtype, ..Numerics::default() }
}

#[test]
fn translations_have_the_same_bits_in_any_company() {
    let checkpoint = open(root().join(BUNDLED));
    let sources = sources();
    let config = Arc::new(checkpoint.config().clone());
    for precision in Precision::ALL {
        let numerics = numerics(precision);
        let defaults = checkpoint.generation().clone();
        let beams = GenerationOptions { num_return_sequences: 4, ..defaults.clone() };
        let greedy = GenerationOptions { num_beams: 1, scores: false, ..defaults };
        for options in [beams, greedy] {
            let options = Arc::new(options);
            let session = cpu(&checkpoint, 1);
            let alone = scheduler(&session, &config, numerics, (1, 1), Limits::default());
            let one = |source| {
                let results = alone.generate(&options, std::slice::from_ref(source));
                bits(&results.unwrap()[0])
            };
            let expected: Vec<_> = sources.iter().map(one).collect();
            // Hypotheses together, workers, threads each; room for few sentences makes them come
            // and go.
            for (hypotheses, workers, threads) in
                [(128, 1, 1), (128, 1, 2), (12, 1, 1), (20, 2, 1), (8, 1, 3)]
            {
                let limits = Limits { hypotheses, ..Limits::default() };
                let company = (workers, threads);
                let together = scheduler(&session, &config, numerics, company, limits);
                for reversed in [false, true] {
                    let mut order: Vec<usize> = (0..sources.len()).collect();
                    if reversed {
                        order.reverse();
                    }
                    let shuffled: Vec<_> = order.iter().map(|&i| sources[i].clone()).collect();
                    let results = together.generate(&options, &shuffled).unwrap();
                    for (&i, result) in order.iter().zip(&results) {
                        assert_eq!(
                            bits(result),
                            expected[i],
                            "sentence {i}: {precision:?}, {hypotheses}, {workers}, {threads}"
                        );
                    }
                }
            }
        }
    }
}

/// Counts the bytes of the sentences that are being decoded: now, and the most there were.
struct Weighed {
    number: usize,
    bytes: usize,
    taken: bool,
    load: Arc<Mutex<(usize, usize)>>,
    send: Sender<(usize, Vec<Bits>)>,
}

impl Sink for Weighed {
    fn settled(&mut self, _: &[Settled]) -> Flow {
        if !std::mem::replace(&mut self.taken, true) {
            let mut load = self.load.lock().unwrap();
            load.0 += self.bytes;
            load.1 = load.0.max(load.1);
        }
        Flow::Continue
    }

    fn end(self: Box<Self>, outcome: tfm_model::Result<Vec<Hypothesis>>) {
        self.load.lock().unwrap().0 -= self.bytes;
        self.send.send((self.number, bits(&outcome.unwrap()))).unwrap();
    }
}

#[test]
fn sentences_wait_for_memory() {
    let checkpoint = open(root().join(BUNDLED));
    let config = Arc::new(checkpoint.config().clone());
    let defaults = checkpoint.generation().clone();
    let options = Arc::new(GenerationOptions {
        num_beams: 4,
        num_return_sequences: 1,
        max_new_tokens: Some(60),
        ..defaults
    });
    let sources = sources();
    // As `Limits::memory` counts a sentence of which nothing is found yet.
    let row = 2 * config.decoder.layers * config.d_model * 4;
    let bytes = |source: &[u32]| row * (source.len() + 4 * (2 * source.len()).min(60));
    let largest = sources.iter().map(|source| bytes(source)).max().unwrap();
    let mut expected: Option<Vec<_>> = None;
    for (memory, workers) in [(usize::MAX, 1), (3 * largest, 1), (1, 1), (2 * largest, 2)] {
        let limits = Limits { memory, ..Limits::default() };
        let settings = Settings { workers, limits, pin: workers == 2, ..Settings::default() };
        let session = cpu(&checkpoint, 2);
        let scheduler = Scheduler::new(&session, &config, Numerics::default(), &settings).unwrap();
        let load = Arc::new(Mutex::new((0, 0)));
        let (send, outcomes) = channel();
        for (number, source) in sources.iter().enumerate() {
            let (load, send, bytes) = (load.clone(), send.clone(), bytes(source));
            let sink = Weighed { number, bytes, taken: false, load, send };
            scheduler.submit(Request::new(source.clone(), &options, sink)).unwrap();
        }
        drop(send);
        let mut found = vec![Vec::new(); sources.len()];
        outcomes.iter().for_each(|(number, hypotheses)| found[number] = hypotheses);
        let most = load.lock().unwrap().1;
        let bound = memory.max(largest);
        assert!(workers > 1 || most <= bound, "{memory}: {most}");
        assert!(memory < usize::MAX || most > 4 * largest, "{most} of {largest}");
        assert_eq!(expected.get_or_insert_with(|| found.clone()), &found, "{memory}");
    }
}

#[test]
fn greedy_search_finds_the_same_tokens_without_scores() {
    let checkpoint = open(root().join(BUNDLED));
    let sources = sources();
    let config = Arc::new(checkpoint.config().clone());
    for precision in Precision::ALL {
        let numerics = numerics(precision);
        let session = cpu(&checkpoint, 2);
        let scheduler = scheduler(&session, &config, numerics, (1, 2), Limits::default());
        let defaults = checkpoint.generation().clone();
        let greedy = GenerationOptions { num_beams: 1, ..defaults };
        for options in [
            greedy.clone(),
            GenerationOptions {
                no_repeat_ngram_size: 1,
                min_new_tokens: Some(9),
                ..greedy.clone()
            },
            GenerationOptions { repetition_penalty: 1.3, ..greedy.clone() },
            GenerationOptions {
                renormalize_logits: true,
                bad_words_ids: vec![vec![5], vec![8, 9]],
                ..greedy
            },
        ] {
            let tokens = |scores| -> Vec<Vec<u32>> {
                let options = Arc::new(GenerationOptions { scores, ..options.clone() });
                let found = scheduler.generate(&options, &sources).unwrap();
                found.into_iter().flatten().map(|hypothesis| hypothesis.tokens).collect()
            };
            assert_eq!(tokens(false), tokens(true), "{precision:?}, {options:?}");
        }
    }
}

#[test]
fn logits_have_the_same_bits_alone_and_in_a_batch() {
    let checkpoint = open(root().join(BUNDLED));
    let config = Arc::new(checkpoint.config().clone());
    let sources = sources();
    let target = [config.special.decoder_start, 13, 63, 988];
    let pairs: Vec<Pair<'_>> =
        sources.iter().map(|source| Pair { source, target: &target }).collect();
    let mut model = TeacherForcing::new(cpu(&checkpoint, 2), config.clone(), Numerics::default());
    let together = model.logits(&pairs).unwrap();
    let size = target.len() * config.target.vocabulary;
    for (pair, together) in pairs.iter().zip(together.as_f32().unwrap().chunks(size)) {
        let alone = model.logits(&[*pair]).unwrap();
        assert!(
            alone.as_f32().unwrap().iter().zip(together).all(|(a, b)| a.to_bits() == b.to_bits())
        );
    }
}

/// Law 5 and 6 for the whole model: the log-probabilities that decoding step by step found, its
/// beams reordered all the time, are those of one pass over the whole target.
#[test]
fn stepwise_decoding_agrees_with_a_pass_over_the_whole_target() {
    let checkpoint = open(root().join(BUNDLED));
    let config = Arc::new(checkpoint.config().clone());
    let defaults = checkpoint.generation().clone();
    let options = Arc::new(GenerationOptions { num_return_sequences: 4, ..defaults });
    let session = cpu(&checkpoint, 1);
    let numerics = Numerics::default();
    let scheduler = scheduler(&session, &config, numerics, (1, 1), Limits::default());
    let mut model =
        TeacherForcing::new(session.fork(1).unwrap(), config.clone(), Numerics::default());
    let sources = sources();
    let results = scheduler.generate(&options, &sources).unwrap();
    for (source, results) in sources.iter().zip(&results) {
        for hypothesis in results.iter().filter(|hypothesis| {
            hypothesis.tokens.len() < options.longest(config.target.longest_sequence())
        }) {
            let start = std::iter::once(config.special.decoder_start);
            let target: Vec<u32> = start.chain(hypothesis.tokens.iter().copied()).collect();
            let target = &target[..hypothesis.tokens.len()];
            let whole =
                model.log_probabilities(&[Pair { source, target }], &hypothesis.tokens).unwrap();
            for (step, whole) in hypothesis.token_log_probabilities.iter().zip(&whole) {
                assert!((step - whole).abs() < 1e-4 * whole.abs().max(1.0), "{step} and {whole}");
            }
        }
    }
}
