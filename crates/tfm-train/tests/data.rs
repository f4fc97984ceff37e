//! From files to batches: what is read, what is left out, and the laws of the row of batches.

use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tfm_train::config::{Batching, Corpora, Corpus, CorpusFiles, Filters, Synthetic, Task};
use tfm_train::data::{Batch, Encoder, Loader, Pairs, Position, Stream};
use tfm_train::trainer::Prepared;
use tfm_train::{Error, Result, TrainConfig};

/// A token for each letter, and an end token; a drawn segmentation has one more or none.
fn encoder() -> Encoder {
    Arc::new(|_, text, seed| {
        let extra = seed.is_some_and(|seed| seed % 2 == 0).then_some(3);
        Ok(text
            .bytes()
            .filter(|byte| *byte != b' ')
            .map(u32::from)
            .chain(extra)
            .chain([0])
            .collect())
    })
}

fn synthetic(pairs: usize) -> Corpora {
    Corpora::Synthetic(Synthetic {
        task: Task::Reverse,
        symbols: 26,
        minimum_length: 1,
        maximum_length: 12,
        pairs,
        seed: 5,
    })
}

fn files(files: CorpusFiles) -> Corpora {
    Corpora::Files(vec![Corpus { files, weight: 1.0 }])
}

fn table(path: PathBuf) -> Corpora {
    files(CorpusFiles::Table { path, columns: [0, 1] })
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn training(corpora: &Corpora, filters: &Filters) -> Result<Pairs> {
    Pairs::training(corpora, filters, &encoder(), false)
}

fn ids(batch: &Batch) -> Vec<(Vec<i32>, Vec<i32>)> {
    let both = batch.sources.iter().zip(batch.targets.iter());
    both.map(|(source, target)| (source.to_vec(), target.to_vec())).collect()
}

#[test]
fn filters_count_what_they_leave_out() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(2 << 20);
    let rows = format!(
        "ab\tcd\n\tcd\nab\t \nab\tcd\na\tbcdefgh\nabcdefghijk\tabc\nxyz\tuvw\textra\n{long}\ty\nx\ty\n"
    );
    let path = write(folder.path(), "rows.tsv", rows);
    let filters = Filters {
        minimum_tokens: 3,
        maximum_tokens: 10,
        maximum_ratio: Some(2.0),
        drop_duplicates: true,
    };
    let pairs = training(&table(path.clone()), &filters).unwrap();
    let counts = pairs.counts().next().unwrap();
    assert_eq!(
        counts.to_string(),
        "9 pairs read, 1 with a line above a mebibyte, 2 with an empty side, 1 there before, 2 too short, 1 too long, 2 used"
    );
    assert_eq!(pairs.len(), 2);
    assert_eq!(pairs.tokens(1), [4, 4]);
    let lax = Filters { minimum_tokens: 1, ..filters.clone() };
    assert_eq!(training(&table(path.clone()), &lax).unwrap().counts().next().unwrap().ratio, 1);
    let strict = Filters { minimum_tokens: 10, ..filters };
    let error = training(&table(path), &strict).unwrap_err().to_string();
    assert!(error.contains("rows.tsv has no pair to use: 9 pairs read"), "{error}");
}

#[test]
fn faults_of_corpora_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let read = |corpora| training(&corpora, &Filters::default()).unwrap_err();
    let three = write(folder.path(), "three.en", "a\nb\nc\n");
    let two = write(folder.path(), "two.fr", "a\nb");
    let pair = |source: &PathBuf, target: &PathBuf| {
        files(CorpusFiles::Pair { source: source.clone(), target: target.clone() })
    };
    for (source, target) in [(&three, &two), (&two, &three)] {
        let error = read(pair(source, target)).to_string();
        assert!(error.contains("two.fr ends before line 3, and "), "{error}");
    }
    let narrow = read(table(write(folder.path(), "narrow.tsv", "a\tb\nonly\n"))).to_string();
    assert!(
        narrow.contains("narrow.tsv, line 2: no column 2 (counted from 1): there are 1"),
        "{narrow}"
    );
    let binary = read(table(write(folder.path(), "binary.tsv", b"a\tb\nc\t\xc3(\n"))).to_string();
    assert!(binary.contains("binary.tsv, line 2: not UTF-8: byte 0xc3 at column 3"), "{binary}");
    let absent = read(table(folder.path().join("absent.tsv"))).to_string();
    assert!(absent.contains("absent.tsv") && absent.contains("TFM_DATA"), "{absent}");
    let a_folder = read(table(folder.path().into())).to_string();
    assert!(a_folder.contains("is a directory"), "{a_folder}");
    let empty = read(table(write(folder.path(), "empty.tsv", ""))).to_string();
    assert!(empty.contains("empty.tsv has no pair to use: 0 pairs read, 0 used"), "{empty}");
}

#[test]
fn validation_data_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "dev.tsv", "b\tc\na\t\na\t\nc\ta\n");
    let pairs = Pairs::validation(&table(path), &encoder()).unwrap();
    assert_eq!(pairs.len(), 4);
    assert_eq!(pairs.texts(3), Some(["c", "a"]));
    let batches: Vec<Batch> = pairs.in_order(6).unwrap().collect();
    let order: Vec<usize> = batches.iter().flat_map(|batch| batch.pairs.clone()).collect();
    assert_eq!(order, [0, 1, 2, 3]);
    assert!(batches.iter().all(|batch| batch.tokens() <= 6));
    assert!(matches!(pairs.in_order(3), Err(Error::BatchTooSmall { limit: 3, tokens: 4 })));
}

#[test]
fn a_batch_must_hold_every_pair() {
    let pairs = Arc::new(training(&synthetic(50), &Filters::default()).unwrap());
    let limit = pairs.longest() - 1;
    let batching = Batching { tokens: limit, accumulate: 1, window: 10, bucket: 1 };
    let refused = Stream::new(pairs, batching, 1, Position::default());
    assert!(matches!(refused, Err(Error::BatchTooSmall { .. })));
}

#[test]
fn a_place_that_is_not_there_is_refused() {
    let pairs = Arc::new(training(&synthetic(50), &Filters::default()).unwrap());
    let batching = Batching { tokens: 100, accumulate: 1, window: 10, bucket: 1 };
    for (epoch, window, batch) in [(0, 5, 0), (0, 0, 10), (u64::MAX, u64::MAX, u64::MAX)] {
        let start = Position { epoch, window, batch };
        let refused = Stream::new(pairs.clone(), batching, 1, start);
        assert!(matches!(refused, Err(Error::Position { .. })), "{start:?}");
    }
    let last = Position { epoch: u64::MAX, window: 4, batch: 0 };
    let mut stream = Stream::new(pairs, batching, 1, last).unwrap();
    (0..20).for_each(|_| drop(stream.next_batch().unwrap()));
}

#[test]
fn weights_are_shares_of_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = |name: &str, letter: char, count: usize, weight: f64| {
        let rows: String = (0..count).map(|i| format!("{letter}{i}\t{letter}{i}\n")).collect();
        let path = write(folder.path(), name, rows);
        Corpus { files: CorpusFiles::Table { path, columns: [0, 1] }, weight }
    };
    let corpora =
        Corpora::Files(vec![corpus("a.tsv", 'a', 40, 2.5), corpus("b.tsv", 'b', 100, 0.25)]);
    let pairs = Arc::new(training(&corpora, &Filters::default()).unwrap());
    let batching = Batching { tokens: 64, accumulate: 1, window: 50, bucket: 1 };
    let mut stream = Stream::new(pairs.clone(), batching, 9, Position::default()).unwrap();
    let mut uses = vec![0; pairs.len()];
    for epoch in 1..=4 {
        let mut seen = 0;
        loop {
            let batch = stream.next_batch().unwrap();
            batch.pairs.iter().for_each(|&pair| uses[pair] += 1);
            seen += batch.pairs.len();
            if batch.ends_epoch() {
                break;
            }
        }
        assert_eq!(seen, 125, "epoch {epoch}");
    }
    assert!(uses[..40].iter().all(|&uses| uses == 10), "{uses:?}");
    assert!(uses[40..].iter().all(|&uses| uses == 1), "{uses:?}");
}

#[test]
fn segmentations_are_drawn_anew_in_every_epoch() {
    let pairs = Pairs::training(&synthetic(200), &Filters::default(), &encoder(), true).unwrap();
    let batching = Batching { tokens: 80, accumulate: 1, window: 64, bucket: 1 };
    let mut stream = Stream::new(Arc::new(pairs), batching, 1, Position::default()).unwrap();
    let mut epochs = vec![Vec::new(); 2];
    while stream.position().epoch < 2 {
        let batch = stream.next_batch().unwrap();
        assert!(batch.tokens() <= 80);
        let pairs = batch.pairs.iter().copied().zip(ids(&batch));
        epochs[batch.at.epoch as usize].extend(pairs);
    }
    epochs.iter_mut().for_each(|epoch| epoch.sort());
    let changed = epochs[0].iter().zip(&epochs[1]).filter(|(a, b)| a != b).count();
    // Each pair stays as it is with a chance of one in four.
    assert!((120..=180).contains(&changed), "{changed}");
}

#[test]
fn the_loader_gives_the_stream_and_its_error() {
    let pairs = Arc::new(training(&synthetic(300), &Filters::default()).unwrap());
    let batching = Batching { tokens: 120, accumulate: 1, window: 100, bucket: 2 };
    let stream = || Stream::new(pairs.clone(), batching, 3, Position::default()).unwrap();
    let mut loader = Loader::start(stream(), 2).unwrap();
    let mut plain = stream();
    for _ in 0..40 {
        assert_eq!(loader.next_batch().unwrap(), plain.next_batch().unwrap());
    }
    drop(loader);

    // The first windows are well, a later one is not.
    let calls = AtomicUsize::new(0);
    let failing: Encoder = Arc::new(move |_, _, seed| {
        if seed.is_some() && calls.fetch_add(1, Ordering::Relaxed) > 250 {
            return Err(tfm_text::Error::TextTooLong { bytes: 1, limit: 0 });
        }
        Ok(vec![1, 0])
    });
    let pairs = Pairs::training(&synthetic(300), &Filters::default(), &failing, true).unwrap();
    let stream = Stream::new(Arc::new(pairs), batching, 3, Position::default()).unwrap();
    let mut loader = Loader::start(stream, 2).unwrap();
    let mut pairs = 0;
    let error = loop {
        match loader.next_batch() {
            Ok(batch) => pairs += batch.pairs.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(pairs, 100);
    assert!(matches!(error, Error::Encode { .. }), "{error}");
    assert!(matches!(loader.next_batch(), Err(Error::LoaderStopped)));
}

#[test]
fn fingerprints_tell_data_apart() {
    let read = |pairs| training(&synthetic(pairs), &Filters::default()).unwrap().fingerprint();
    assert_eq!(read(100), read(100));
    assert_ne!(read(100), read(101));
}

fn batchings() -> impl Strategy<Value = Batching> {
    (26usize..200, 1usize..80, 1usize..6).prop_map(|(tokens, window, bucket)| Batching {
        tokens,
        accumulate: 1,
        window,
        bucket,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_pair_once_an_epoch_and_no_batch_over_its_limit(
        count in 1usize..150, batching in batchings(), seed: u64, epoch in 0u64..1000,
    ) {
        let pairs = Arc::new(training(&synthetic(count), &Filters::default()).unwrap());
        let start = Position { epoch, window: 0, batch: 0 };
        let mut stream = Stream::new(pairs.clone(), batching, seed, start).unwrap();
        let mut seen = Vec::new();
        while stream.position().epoch == epoch {
            let batch = stream.next_batch().unwrap();
            prop_assert!(!batch.pairs.is_empty() && batch.tokens() <= batching.tokens);
            for (&pair, (source, target)) in batch.pairs.iter().zip(ids(&batch)) {
                prop_assert_eq!(pairs.tokens(pair), [source.len(), target.len()]);
                let letters = |ids: &[i32]| ids[..ids.len() - 1].to_vec();
                let mut reversed = letters(&target);
                reversed.reverse();
                prop_assert_eq!(letters(&source), reversed);
            }
            seen.extend(batch.pairs);
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn a_stream_goes_on_from_anywhere_as_if_it_had_not_stopped(
        count in 1usize..100, batching in batchings(), seed: u64, sampled: bool,
    ) {
        let filters = Filters::default();
        let pairs = Arc::new(
            Pairs::training(&synthetic(count), &filters, &encoder(), sampled).unwrap(),
        );
        let stream = |start| Stream::new(pairs.clone(), batching, seed, start);
        let mut whole = stream(Position::default()).unwrap();
        let all: Vec<Batch> = (0..60).map(|_| whole.next_batch().unwrap()).collect();
        for start in [1, 7, 30, 59] {
            let at = all[start - 1].next;
            prop_assert_eq!(at, all[start].at);
            let mut tail = stream(at).unwrap();
            for expected in &all[start..(start + 12).min(60)] {
                prop_assert_eq!(&tail.next_batch().unwrap(), expected);
            }
        }
    }
}

#[test]
fn the_order_does_not_depend_on_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let pairs =
                Pairs::training(&synthetic(20_000), &Filters::default(), &encoder(), true).unwrap();
            let batching = Batching { tokens: 4000, accumulate: 1, window: 5000, bucket: 2 };
            let mut stream =
                Stream::new(Arc::new(pairs), batching, 1, Position::default()).unwrap();
            (0..100).map(|_| stream.next_batch().unwrap()).collect::<Vec<_>>()
        })
    };
    assert!(run(1) == run(3));
}

/// A word-level tokeniser whose template puts `<s>` and `</s>` around every text.
const FRAMED: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}}
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            "<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]},
            "</s>": {"id": "</s>", "ids": [3], "tokens": ["</s>"]}
        }
    },
    "model": {
        "type": "WordLevel", "unk_token": "<unk>",
        "vocab": {"<unk>": 0, "<pad>": 1, "<s>": 2, "</s>": 3, "a": 4, "b": 5}
    }
}"#;

const FRAMED_CONFIG: &str =
    r#"{"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}"#;

#[test]
fn what_the_decoder_begins_with_is_no_part_of_a_target() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "tokenizer.json", FRAMED);
    write(folder.path(), "tokenizer_config.json", FRAMED_CONFIG);
    write(folder.path(), "train.tsv", "a b\tb a\n");
    let text = r#"
[model]
family = "transformer"
d_model = 16
encoder = { layers = 1, heads = 2, ffn_dim = 32 }
decoder = { layers = 1, heads = 2, ffn_dim = 32 }
[tokenizer]
directory = "."
[data]
train = { tsv = "train.tsv" }
[run]
output = "out"
updates = 1
"#;
    let config = TrainConfig::parse("train.toml", text, folder.path(), None).unwrap();
    let prepared = Prepared::new(&config, &mut |_| {}).unwrap();
    assert_eq!(prepared.config.special.decoder_start, 2);
    let batch = prepared.training.in_order(100).unwrap().next().unwrap();
    assert_eq!(batch.sources.iter().collect::<Vec<_>>(), [[2, 4, 5, 3]]);
    assert_eq!(batch.targets.iter().collect::<Vec<_>>(), [[5, 4, 3]]);
}
