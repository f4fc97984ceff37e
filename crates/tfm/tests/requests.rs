//! Requests come and go: each has its own options, tokens, cancel, fault and end, and none notices
//! another.

mod common;

use common::{cpu, fixture, open, root};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tfm_core::{ParameterSource, RowSource, Session, Tensor, TensorData};
use tfm_cpu::CpuBackend;
use tfm_model::generation::{EarlyStopping, GenerationOptions, Hypothesis, Settled};
use tfm_model::scheduler::{Flow, Limits, Rejection, Request, Scheduler, Settings, Sink, Stats};
use tfm_model::{Checkpoint, Error, Numerics, Parameters};

const BUNDLED: &str = "crates/tfm/models/marian-tatoeba-en-fr";

/// The 24 sentences of the bundled golden, as token ids.
fn sources() -> Vec<Vec<u32>> {
    let text = std::fs::read_to_string(fixture("bundled.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let lines = golden["lines"].as_array().unwrap().iter();
    lines.map(|line| serde_json::from_value(line["source"].clone()).unwrap()).collect()
}

fn defaults(checkpoint: &Checkpoint) -> GenerationOptions {
    checkpoint.generation().clone()
}

/// Everything of a result that has bits.
fn bits(results: &[Hypothesis]) -> Vec<(Vec<u32>, u32, Vec<u32>)> {
    let probabilities =
        |h: &Hypothesis| h.token_log_probabilities.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
    results.iter().map(|h| (h.tokens.clone(), h.score.to_bits(), probabilities(h))).collect()
}

/// What a sink heard.
#[derive(Default)]
struct Heard {
    settled: Vec<u32>,
    calls: usize,
}

/// Notes what it hears, and cancels its request at the call of that number.
struct Recorder {
    heard: Arc<Mutex<Heard>>,
    cancel_at: Option<usize>,
    end: Sender<tfm_model::Result<Vec<Hypothesis>>>,
}

impl Sink for Recorder {
    fn settled(&mut self, tokens: &[Settled]) -> Flow {
        let mut heard = self.heard.lock().unwrap();
        heard.settled.extend(tokens.iter().map(|settled| settled.token));
        heard.calls += 1;
        let cancelled = self.cancel_at.is_some_and(|call| heard.calls >= call);
        if cancelled { Flow::Cancel } else { Flow::Continue }
    }

    fn end(self: Box<Self>, outcome: tfm_model::Result<Vec<Hypothesis>>) {
        self.end.send(outcome).unwrap();
    }
}

/// A request on its way.
struct Sent {
    heard: Arc<Mutex<Heard>>,
    end: Receiver<tfm_model::Result<Vec<Hypothesis>>>,
}

impl Sent {
    fn outcome(&self) -> tfm_model::Result<Vec<Hypothesis>> {
        let outcome = self.end.recv_timeout(Duration::from_secs(60)).expect("it ends");
        assert!(self.end.recv().is_err(), "a request ends once, and its sink is dropped");
        outcome
    }
}

fn send(
    scheduler: &Scheduler,
    source: &[u32],
    options: &Arc<GenerationOptions>,
    cancel_at: Option<usize>,
) -> Sent {
    let (heard, (send, end)) = (Arc::<Mutex<Heard>>::default(), channel());
    let sink = Recorder { heard: heard.clone(), cancel_at, end: send };
    scheduler.submit(Request::new(source.to_vec(), options, sink)).expect("there is room");
    Sent { heard, end }
}

/// The numbers when no request is being decoded any more. A worker counts between steps: a little
/// after the last end.
fn idle(scheduler: &Scheduler) -> Stats {
    let start = Instant::now();
    while scheduler.stats().running > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", scheduler.stats());
        std::thread::yield_now();
    }
    scheduler.stats()
}

#[test]
fn when_one_of_many_fails_the_others_are_not_decoded_to_their_end() {
    let checkpoint = open(root().join(BUNDLED));
    let config = Arc::new(checkpoint.config().clone());
    let long = GenerationOptions { min_new_tokens: Some(400), ..defaults(&checkpoint) };
    let options = Arc::new(GenerationOptions { max_new_tokens: Some(400), num_beams: 4, ..long });
    let session = cpu(&checkpoint, 1);
    let scheduler =
        Scheduler::new(&session, &config, Numerics::default(), &Settings::default()).unwrap();
    let mut sources = sources();
    sources.truncate(6);
    sources.insert(0, vec![u32::MAX]);
    let error = scheduler.generate(&options, &sources).unwrap_err();
    assert!(matches!(error, Error::TokenOutOfVocabulary { .. }), "{error}");
    // The others may not even have been taken on when the first has failed.
    let start = Instant::now();
    let stats = loop {
        let stats = scheduler.stats();
        if stats.finished + stats.cancelled + stats.failed == sources.len() as u64 {
            break stats;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{stats:?}");
        std::thread::yield_now();
    };
    assert_eq!((stats.finished, stats.cancelled, stats.failed), (0, 6, 1));
    assert!(stats.steps < 100, "{stats:?}");
}

#[test]
fn one_streams_another_is_cancelled_and_a_third_fails_in_one_batch() {
    let checkpoint = open(root().join(BUNDLED));
    let config = Arc::new(checkpoint.config().clone());
    let options = Arc::new(GenerationOptions { num_beams: 4, ..defaults(&checkpoint) });
    let session = cpu(&checkpoint, 1);
    let scheduler =
        Scheduler::new(&session, &config, Numerics::default(), &Settings::default()).unwrap();
    let sources = sources();
    let longest = sources.iter().max_by_key(|source| source.len()).unwrap();
    let alone = scheduler.generate(&options, std::slice::from_ref(longest)).unwrap();

    let streamed = send(&scheduler, longest, &options, None);
    let cancelled = send(&scheduler, longest, &options, Some(4));
    let failing = send(&scheduler, &[u32::MAX], &options, None);

    let result = streamed.outcome().unwrap();
    assert_eq!(bits(&result), bits(&alone[0]));
    let heard = streamed.heard.lock().unwrap();
    assert!(!heard.settled.is_empty(), "something is settled before the end");
    assert!(result[0].tokens.starts_with(&heard.settled));
    assert!(matches!(cancelled.outcome(), Err(Error::Cancelled)));
    assert_eq!(cancelled.heard.lock().unwrap().calls, 4, "no step follows a cancel");
    assert!(matches!(failing.outcome(), Err(Error::TokenOutOfVocabulary { token: u32::MAX, .. })));
    let stats = idle(&scheduler);
    assert_eq!((stats.finished, stats.cancelled, stats.failed), (2, 1, 1));
    assert_eq!((stats.waiting, stats.cache_bytes), (0, 0));
}

/// Law 7 for the scheduler: random arrivals, options, cancels and faults, and each result has the
/// bits that the request has alone.
#[test]
fn a_request_has_its_own_bits_in_any_company() {
    let checkpoint = open(root().join(BUNDLED));
    let config = Arc::new(checkpoint.config().clone());
    let base = defaults(&checkpoint);
    let kinds: Vec<Arc<GenerationOptions>> = [
        GenerationOptions { num_beams: 1, scores: false, ..base.clone() },
        GenerationOptions { num_beams: 1, repetition_penalty: 1.3, ..base.clone() },
        GenerationOptions { num_beams: 4, num_return_sequences: 4, ..base.clone() },
        GenerationOptions {
            num_beams: 3,
            no_repeat_ngram_size: 2,
            early_stopping: EarlyStopping::Yes,
            ..base.clone()
        },
        GenerationOptions {
            num_beams: 5,
            renormalize_logits: true,
            length_penalty: 0.4,
            ..base.clone()
        },
        GenerationOptions {
            num_beams: 2,
            bad_words_ids: vec![vec![5], vec![13], vec![8, 9]],
            early_stopping: EarlyStopping::Never,
            ..base
        },
    ]
    .map(Arc::new)
    .to_vec();
    let sources = sources();
    let session = cpu(&checkpoint, 2);
    let lonely =
        Scheduler::new(&session, &config, Numerics::default(), &Settings::default()).unwrap();
    let mut alone = HashMap::new();
    let mut numbers = Numbers(0x5eed);
    for (workers, hypotheses) in [(1, 128), (2, 24), (1, 6)] {
        let limits = Limits { hypotheses, ..Limits::default() };
        let settings = Settings { workers, limits, ..Settings::default() };
        let scheduler = Scheduler::new(&session, &config, Numerics::default(), &settings).unwrap();
        let mut sent = Vec::new();
        for _ in 0..60 {
            let (source, kind) = (numbers.below(sources.len()), numbers.below(kinds.len()));
            let fate = numbers.below(6);
            let cancel_at = (fate == 0).then(|| 1 + numbers.below(6));
            let mut tokens = sources[source].clone();
            if fate == 1 {
                tokens.push(u32::MAX);
            }
            sent.push((source, kind, fate, send(&scheduler, &tokens, &kinds[kind], cancel_at)));
            if numbers.below(4) == 0 {
                std::thread::sleep(Duration::from_micros(numbers.below(3000) as u64));
            }
        }
        for (source, kind, fate, sent) in sent {
            let outcome = sent.outcome();
            match (fate, outcome) {
                (1, Err(Error::TokenOutOfVocabulary { .. })) => {}
                (0, Err(Error::Cancelled)) => {}
                // It may have been done before.
                (_, Ok(result)) if fate != 1 => {
                    let expected = alone.entry((source, kind)).or_insert_with(|| {
                        let found = lonely.generate(&kinds[kind], &sources[source..=source]);
                        bits(&found.unwrap()[0])
                    });
                    assert_eq!(&bits(&result), expected, "sentence {source}, options {kind}");
                    let settled = &sent.heard.lock().unwrap().settled;
                    assert!(
                        result[0].tokens.starts_with(settled),
                        "sentence {source}, options {kind}: {settled:?} of {:?}",
                        result[0].tokens
                    );
                }
                (fate, outcome) => panic!("fate {fate}: {outcome:?}"),
            }
        }
        let stats = idle(&scheduler);
        assert_eq!((stats.waiting, stats.hypotheses), (0, 0));
        assert_eq!(stats.finished + stats.cancelled + stats.failed, 60);
    }
}

/// A sequence of numbers that is the same at every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 33) as usize) % bound
    }
}

#[test]
fn a_sink_that_panics_is_nobody_elses_concern() {
    struct Panics;
    impl Sink for Panics {
        fn settled(&mut self, _: &[Settled]) -> Flow {
            panic!("a sink's own fault");
        }
        fn end(self: Box<Self>, _: tfm_model::Result<Vec<Hypothesis>>) {
            panic!("a sink's own fault");
        }
    }
    let checkpoint = open(fixture("marian_swish_tied"));
    let config = Arc::new(checkpoint.config().clone());
    let options = Arc::new(defaults(&checkpoint));
    let session = cpu(&checkpoint, 1);
    let scheduler =
        Scheduler::new(&session, &config, Numerics::default(), &Settings::default()).unwrap();
    let source = [5, 6, 7, config.special.eos[0]];
    let expected = scheduler.generate(&options, &[source.to_vec()]).unwrap();
    for _ in 0..3 {
        scheduler.submit(Request::new(source.to_vec(), &options, Panics)).unwrap();
        let found = scheduler.generate(&options, &[source.to_vec()]).unwrap();
        assert_eq!(bits(&found[0]), bits(&expected[0]));
    }
}

#[test]
fn deadlines_closing_and_full_queues_are_said() {
    let checkpoint = open(fixture("marian_swish_tied"));
    let config = Arc::new(checkpoint.config().clone());
    let options = Arc::new(defaults(&checkpoint));
    let session = cpu(&checkpoint, 1);
    let settings = Settings { waiting: 2, ..Settings::default() };
    let scheduler = Scheduler::new(&session, &config, Numerics::default(), &settings).unwrap();
    let source = vec![5, 6, 7, config.special.eos[0]];
    let (send, outcomes) = channel();
    let request = |deadline| {
        let send = send.clone();
        let sink = move |outcome: tfm_model::Result<_>| send.send(outcome.is_ok()).unwrap();
        Request { deadline, ..Request::new(source.clone(), &options, sink) }
    };
    scheduler.submit(request(Some(Instant::now()))).unwrap();
    assert!(!outcomes.recv().unwrap(), "its deadline has passed");

    // A worker is kept busy while others come.
    let (go, wait) = channel::<()>();
    let blocked = move |_: tfm_model::Result<Vec<Hypothesis>>| {
        let _ = wait.recv();
    };
    scheduler.submit(Request::new(source.clone(), &options, blocked)).unwrap();
    let mut taken = 0;
    let reason = loop {
        match scheduler.submit(request(None)) {
            Ok(()) => taken += 1,
            Err(rejected) => break rejected.reason,
        }
        assert!(taken < 1000, "requests are taken without end");
    };
    assert_eq!(reason, Rejection::Full { waiting: 2 });
    scheduler.close();
    assert_eq!(scheduler.submit(request(None)).unwrap_err().reason, Rejection::Closed);
    go.send(()).unwrap();
    for _ in 0..taken {
        assert!(outcomes.recv().unwrap(), "what was taken before is served");
    }

    // The end of the scheduler ends what waits.
    let scheduler = Scheduler::new(&session, &config, Numerics::default(), &settings).unwrap();
    let (go, wait) = channel::<()>();
    let blocked = move |_: tfm_model::Result<Vec<Hypothesis>>| {
        let _ = wait.recv();
    };
    scheduler.submit(Request::new(source.clone(), &options, blocked)).unwrap();
    while scheduler.stats().finished == 0 {
        std::thread::yield_now();
    }
    scheduler.submit(request(None)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| drop(scheduler));
        assert!(!outcomes.recv().unwrap(), "it was cancelled");
        go.send(()).unwrap();
    });
}

/// Parameters of a checkpoint, one of which is as large as f32 allows.
struct Overflowing(Parameters, &'static str);

impl ParameterSource for Overflowing {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        let tensor = self.0.load(name)?;
        let (shape, is_it) = (tensor.shape().clone(), name == self.1);
        match tensor.into_data() {
            TensorData::F32(mut values) if is_it => {
                values.iter_mut().for_each(|value| *value *= 1e38);
                Ok(Tensor::from_f32(shape, values).unwrap())
            }
            data => Ok(Tensor::new(shape, data).unwrap()),
        }
    }

    fn rows<'a>(&'a self, name: &str) -> Result<Option<Box<dyn RowSource + 'a>>, String> {
        if name == self.1 { Ok(None) } else { self.0.rows(name) }
    }
}

/// Numbers that no model has need of are bounded by what the model has.
#[test]
fn more_candidates_than_tokens_are_all_tokens() {
    let checkpoint = open(fixture("marian_swish_tied"));
    let config = Arc::new(checkpoint.config().clone());
    let session = cpu(&checkpoint, 1);
    let settings = Settings::default();
    let scheduler = Scheduler::new(&session, &config, Numerics::default(), &settings).unwrap();
    let source = vec![5, 6, 7, config.special.eos[0]];
    for top_k in [config.target.vocabulary, usize::MAX, (1 << 63) + 1] {
        let options = GenerationOptions { do_sample: true, top_k, ..defaults(&checkpoint) };
        let options = GenerationOptions { num_beams: 1, max_new_tokens: Some(9), ..options };
        let all = scheduler.generate(&Arc::new(options), std::slice::from_ref(&source)).unwrap();
        assert!(!all[0][0].tokens.is_empty());
    }
}

#[test]
fn numbers_that_are_not_finite_are_an_error_that_names_the_op() {
    let checkpoint = open(root().join(BUNDLED));
    let config = Arc::new(checkpoint.config().clone());
    for side in ["encoder", "decoder"] {
        let name = match side {
            "encoder" => "encoder.layers.1.feed_forward.inner.weight",
            _ => "decoder.layers.1.feed_forward.inner.weight",
        };
        let parameters = Overflowing(Parameters::new(checkpoint.clone()), name);
        let session = Session::new(CpuBackend::new(1).unwrap(), Arc::new(parameters));
        let base = defaults(&checkpoint);
        for options in [
            GenerationOptions { num_beams: 1, scores: false, ..base.clone() },
            GenerationOptions { num_beams: 1, ..base.clone() },
            GenerationOptions { num_beams: 4, ..base },
        ] {
            let options = Arc::new(options);
            let settings = Settings::default();
            let scheduler =
                Scheduler::new(&session, &config, Numerics::default(), &settings).unwrap();
            match scheduler.generate(&options, &sources()[..2]) {
                Err(Error::NotFinite(found)) => {
                    assert!(found.scope.starts_with(side), "{side}: {found:?}");
                }
                other => panic!("{side}: {other:?}"),
            }
        }
    }
}
