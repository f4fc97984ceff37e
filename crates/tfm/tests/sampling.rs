//! Sampled translations: the seed and a request's number decide, not backend, company or workers.

mod common;

use common::{cpu, fixture, open, reference, root, scheduler};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use tfm_core::Session;
use tfm_model::generation::{GenerationOptions, Hypothesis, Settled};
use tfm_model::scheduler::{Flow, Limits, Request, Scheduler, Sink};
use tfm_model::{Checkpoint, Numerics};

/// Options that draw from the best, from the whole row, and with rules that lower and raise tokens.
fn sampling(checkpoint: &Checkpoint) -> Vec<GenerationOptions> {
    let base = GenerationOptions {
        do_sample: true,
        seed: 11,
        num_beams: 1,
        num_return_sequences: 2,
        max_length: None,
        max_new_tokens: Some(12),
        ..checkpoint.generation().clone()
    };
    vec![
        GenerationOptions { top_k: 10, temperature: 0.8, ..base.clone() },
        GenerationOptions { top_k: 0, top_p: 0.9, ..base.clone() },
        GenerationOptions { repetition_penalty: 1.4, no_repeat_ngram_size: 2, ..base.clone() },
        GenerationOptions { repetition_penalty: 0.9, min_p: Some(0.05), ..base },
    ]
}

fn start(checkpoint: &Arc<Checkpoint>, session: &Session, company: (usize, usize)) -> Scheduler {
    let config = Arc::new(checkpoint.config().clone());
    scheduler(session, &config, Numerics::default(), company, Limits::default())
}

fn tokens(found: &[Vec<Hypothesis>]) -> Vec<Vec<Vec<u32>>> {
    found.iter().map(|all| all.iter().map(|one| one.tokens.clone()).collect()).collect()
}

#[test]
fn the_same_seed_gives_the_same_text_on_the_reference_and_the_processor() {
    let checkpoint = open(fixture("marian_swish_tied"));
    let sources: Vec<Vec<u32>> =
        (1..9).map(|n| (0..n).map(|i| 3 + (5 * i + n) % 20).collect()).collect();
    let on_cpu = start(&checkpoint, &cpu(&checkpoint, 2), (2, 1));
    let alone = start(&checkpoint, &cpu(&checkpoint, 1), (1, 1));
    let on_reference = start(&checkpoint, &reference(&checkpoint), (1, 1));
    for options in sampling(&checkpoint) {
        let options = Arc::new(options);
        let found = tokens(&on_cpu.generate(&options, &sources).unwrap());
        assert!(found.iter().any(|two| two[0] != two[1]), "the draws are independent");
        assert_eq!(tokens(&alone.generate(&options, &sources).unwrap()), found);
        assert_eq!(tokens(&on_reference.generate(&options, &sources).unwrap()), found);
        let other = GenerationOptions { seed: 12, ..GenerationOptions::clone(&options) };
        assert_ne!(tokens(&on_cpu.generate(&Arc::new(other), &sources).unwrap()), found);
    }
}

/// Tokens and score of each sequence of a request.
type Bits = Vec<(Vec<u32>, u32)>;

/// Sends what was found, and checks that what was settled is its beginning.
struct Collected {
    place: usize,
    settled: Vec<u32>,
    send: Sender<(usize, Bits)>,
}

impl Sink for Collected {
    fn settled(&mut self, tokens: &[Settled]) -> Flow {
        self.settled.extend(tokens.iter().map(|settled| settled.token));
        Flow::Continue
    }

    fn end(self: Box<Self>, outcome: tfm_model::Result<Vec<Hypothesis>>) {
        let found = outcome.unwrap();
        assert!(found[0].tokens.starts_with(&self.settled));
        let bits = found.iter().map(|one| (one.tokens.clone(), one.score.to_bits()));
        self.send.send((self.place, bits.collect())).unwrap();
    }
}

/// All kinds of options in one batch: each request has the bits that it has alone.
#[test]
fn all_kinds_of_rows_go_together() {
    let checkpoint = open(root().join("crates/tfm/models/marian-tatoeba-en-fr"));
    let own = checkpoint.generation().clone();
    let mut kinds = sampling(&checkpoint);
    kinds.extend([
        own.clone(),
        GenerationOptions { num_beams: 1, scores: false, ..own.clone() },
        GenerationOptions { repetition_penalty: 0.8, num_beams: 3, ..own.clone() },
        GenerationOptions { encoder_repetition_penalty: 1.3, num_beams: 1, ..own.clone() },
        GenerationOptions { suppress_tokens: (100..140).collect(), ..own.clone() },
        GenerationOptions { sequence_bias: vec![(vec![63], 2.5)], ..own },
    ]);
    let kinds: Vec<_> = kinds
        .into_iter()
        .map(|options| Arc::new(GenerationOptions { max_new_tokens: Some(12), ..options }))
        .collect();
    let sources: Vec<Vec<u32>> =
        (0..20).map(|n| vec![13 + n, 63, 988 - 7 * n, 40 + n, 0]).collect();
    let together = start(&checkpoint, &cpu(&checkpoint, 1), (1, 1));
    let alone = start(&checkpoint, &cpu(&checkpoint, 1), (1, 1));
    let (send, outcomes) = channel();
    for (place, source) in sources.iter().enumerate() {
        let sink = Collected { place, settled: Vec::new(), send: send.clone() };
        let request = Request::new(source.clone(), &kinds[place % kinds.len()], sink);
        together.submit(Request { number: place as u64, ..request }).unwrap();
    }
    drop(send);
    for (place, found) in outcomes {
        let (send, own) = channel();
        let sink = Collected { place, settled: Vec::new(), send };
        let request = Request::new(sources[place].clone(), &kinds[place % kinds.len()], sink);
        alone.submit(Request { number: place as u64, ..request }).unwrap();
        assert_eq!(own.recv().unwrap().1, found, "request {place}");
    }
}
