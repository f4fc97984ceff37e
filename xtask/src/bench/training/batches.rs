//! The training data: batches from Tatoeba's training split, as ids, and the shapes of models.

use crate::project::Outcome;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use tfm::Model;
use tfm_core::philox::philox4x32;

const PAIRS: &str = "data/tatoeba/train.en-fr.tsv.gz";
/// The model whose `config.json` and vocabulary are used; its weights are not.
const MODEL: &str = "models/marian-tatoeba-en-fr";
/// The number of pairs that are drawn.
const DRAWN: usize = 6000;
const SEED: u32 = 1;
const TOKENS: usize = 4096;
const SENTENCES: usize = 32;

/// A sentence and its translation, as ids with eos.
type Pair = [Vec<u32>; 2];

/// A model's shape, and batches for it.
pub(super) struct Workload {
    /// The name in the table.
    pub(super) name: &'static str,
    /// A sentence that describes it.
    pub(super) description: &'static str,
    /// The number of steps before the clock starts.
    pub(super) warmup: usize,
    /// The number of steps that are timed.
    pub(super) steps: usize,
    file: &'static str,
    config: Value,
    batches: Vec<Vec<Pair>>,
}

/// All workloads. `data` is the folder of large test data.
pub(super) fn workloads(data: &Path) -> Outcome<Vec<Workload>> {
    let pairs = draw(data)?;
    let mut config = config(data)?;
    config["dtype"] = json!("float32");
    let mut base = config.clone();
    for (field, value) in [
        ("d_model", json!(512)),
        ("encoder_layers", json!(6)),
        ("decoder_layers", json!(6)),
        ("encoder_attention_heads", json!(8)),
        ("decoder_attention_heads", json!(8)),
        ("encoder_ffn_dim", json!(2048)),
        ("decoder_ffn_dim", json!(2048)),
        ("activation_function", json!("relu")),
        ("init_std", json!(512f64.powf(-0.5))),
    ] {
        base[field] = value;
    }
    let mut alike = pairs.clone();
    alike.sort_by_key(|[source, target]| (target.len(), source.len()));
    let by_sentences = pairs.chunks_exact(SENTENCES).map(<[Pair]>::to_vec).collect();
    Ok(vec![
        Workload {
            name: "small, alike",
            description: "the reference checkpoint's shape (d 256, 3+3 layers, ffn 512, V 8,001), batches \
                          of up to 4,096 tokens whose pairs have similar lengths.",
            warmup: 2,
            steps: 12,
            file: "small-alike",
            config: config.clone(),
            batches: shuffled(by_tokens(alike)),
        },
        Workload {
            name: "small, mixed",
            description: "the same, randomly composed batches of up to 4,096 tokens.",
            warmup: 2,
            steps: 8,
            file: "small-mixed",
            config,
            batches: by_tokens(pairs),
        },
        Workload {
            name: "base, mixed",
            description: "transformer-base (d 512, 6+6 layers, ffn 2,048, V 8,001), randomly composed \
                          batches of 32 pairs.",
            warmup: 2,
            steps: 10,
            file: "base-mixed",
            config: base,
            batches: by_sentences,
        },
    ])
}

impl Workload {
    /// Writes the model's `config.json` and the batches, a line each.
    pub(super) fn write(&self, folder: &Path) -> Outcome<[PathBuf; 2]> {
        let mut lines = String::new();
        for batch in &self.batches {
            let side = |side: usize| batch.iter().map(|pair| &pair[side]).collect::<Vec<_>>();
            lines += &json!({"sources": side(0), "targets": side(1)}).to_string();
            lines.push('\n');
        }
        let config = format!("{:#}\n", self.config);
        let write = |ending: &str, text: String| {
            let path = folder.join(format!("{}.{ending}", self.file));
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(path)
        };
        Ok([write("config.json", config)?, write("batches.jsonl", lines)?])
    }

    /// The share of real tokens in the timed batches, if each batch were padded to its longest
    /// sentence.
    pub(super) fn real_share(&self) -> f64 {
        let (mut real, mut padded) = (0, 0);
        for batch in self.batches.iter().cycle().take(self.steps) {
            for side in 0..2 {
                let lengths = batch.iter().map(|pair| pair[side].len());
                padded += batch.len() * lengths.clone().max().unwrap_or(0);
                real += lengths.sum::<usize>();
            }
        }
        real as f64 / padded as f64
    }
}

/// Random pairs of the training split, since short ones come first in the file.
fn draw(data: &Path) -> Outcome<Vec<Pair>> {
    let path = data.join(PAIRS);
    let fault = |problem: String| format!("{}: {problem}", path.display());
    let mut text = String::new();
    let file = File::open(&path).map_err(|error| fault(error.to_string()))?;
    GzDecoder::new(file).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
    let model = Model::open(data.join(MODEL)).map_err(|error| error.to_string())?;
    let tokenizer = model.tokenizer();
    let encode = |line: &str| {
        let (source, target) =
            line.split_once('\t').ok_or_else(|| fault(format!("no tab: {line}")))?;
        let source = tokenizer.encode_source(source).map_err(|error| fault(error.to_string()))?;
        let target = tokenizer.encode_target(target).map_err(|error| fault(error.to_string()))?;
        Ok([source, target])
    };
    shuffled(text.lines().collect()).into_iter().take(DRAWN).map(encode).collect()
}

/// The `config.json` of the reference checkpoint.
fn config(data: &Path) -> Outcome<Value> {
    let path = data.join(MODEL).join("config.json");
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The items in a random order, which is always the same.
fn shuffled<T>(items: Vec<T>) -> Vec<T> {
    let mut keyed: Vec<_> = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| (philox4x32([index as u32, 0, 0, 0], [SEED, 0]), item))
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, item)| item).collect()
}

/// Batches of at most [`TOKENS`] tokens, source and target together. The pairs left at the end are
/// dropped.
fn by_tokens(pairs: Vec<Pair>) -> Vec<Vec<Pair>> {
    let (mut batches, mut batch, mut tokens) = (Vec::new(), Vec::new(), 0);
    for pair in pairs {
        let length = pair[0].len() + pair[1].len();
        if tokens + length > TOKENS && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            tokens = 0;
        }
        batch.push(pair);
        tokens += length;
    }
    batches
}
