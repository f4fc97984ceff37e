//! Configurations: the ones that come with the project, defaults, and how faults are told.

use std::path::{Path, PathBuf};
use tfm_model::config::{NormPlacement, OutputBias, SpecialTokens};
use tfm_model::{Description, Family, GenerationOptions};
use tfm_train::config::*;
use tfm_train::schedule::{Decay, Schedule};
use tfm_train::{Error, TrainConfig};

const LEAST: &str = r#"
[model]
family = "transformer"
d_model = 64
encoder = { layers = 2, heads = 4, ffn_dim = 256 }
decoder = { layers = 2, heads = 4, ffn_dim = 256 }
[data]
train = { tsv = "train.tsv" }
[run]
output = "out"
updates = 100
"#;

fn parse(text: &str) -> Result<TrainConfig, Error> {
    TrainConfig::parse("train.toml", text, Path::new("here"), None)
}

/// The faults of a configuration, as they are printed.
fn faults(text: &str) -> Vec<String> {
    match parse(text) {
        Err(Error::Config { faults, .. }) => faults.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{error}"),
        Ok(config) => panic!("no faults: {config:?}"),
    }
}

/// [`LEAST`] with a line more under a section.
fn with(section: &str, line: &str) -> String {
    match LEAST.contains(&format!("[{section}]")) {
        true => LEAST.replace(&format!("[{section}]"), &format!("[{section}]\n{line}")),
        false => format!("{LEAST}[{section}]\n{line}\n"),
    }
}

#[test]
fn the_projects_own_configurations_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let file = path.display().to_string();
        let config = TrainConfig::parse(&file, &text, &folder, None);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let Start::Scratch(shape) = &config.model.start else { panic!("{file}") };
        let special = SpecialTokens { bos: None, eos: vec![0], pad: Some(1), decoder_start: 1 };
        let config = shape.config(1000, 1000, special);
        config.check().unwrap_or_else(|faults| panic!("{file}: {faults:?}"));
        // The family's files can say all of it.
        let generation = GenerationOptions::new(1, vec![0]);
        let description = Description { family: shape.family, config, generation };
        let [json, settings] = description.to_json();
        let read = Description::from_json(json.as_bytes(), Some(settings.as_bytes())).unwrap();
        assert_eq!(read, description, "{file}");
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn defaults() {
    let config = parse(LEAST).unwrap();
    let Start::Scratch(shape) = &config.model.start else { panic!() };
    assert_eq!(Some(shape.family), Family::of_type("transformer"));
    assert_eq!((shape.norm, shape.final_norm), (NormPlacement::Post, false));
    assert!(shape.share_embeddings && shape.tie_output);
    assert_eq!(shape.output_bias, OutputBias::None);
    assert_eq!(config.schedule, Schedule::Paper { factor: 1.0, warmup: 4000 });
    assert_eq!(config.optimizer.betas, [0.9, 0.98]);
    assert_eq!(config.run.output, Path::new("here/out"));
    assert_eq!(config.validation.every, None);
    assert_eq!(config.text, LEAST);
    let Corpora::Files(files) = &config.data.train else { panic!() };
    let path = PathBuf::from("here/train.tsv");
    assert_eq!(files[0].files, CorpusFiles::Table { path, columns: [0, 1] });
}

#[test]
fn paths_are_relative_to_the_file_and_to_the_root_of_data() {
    let rooted = with("data", "root = \"../data\"");
    let train = |text: &str, root: Option<&Path>| {
        let config = TrainConfig::parse("x", text, Path::new("/a/configs"), root).unwrap();
        let Corpora::Files(files) = config.data.train else { panic!() };
        match &files[0].files {
            CorpusFiles::Table { path, .. } => path.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(train(LEAST, None), Path::new("/a/configs/train.tsv"));
    assert_eq!(train(&rooted, None), Path::new("/a/configs/../data/train.tsv"));
    assert_eq!(train(&rooted, Some(Path::new("/big"))), Path::new("/big/train.tsv"));
}

#[test]
fn all_faults_are_told_with_line_key_and_remedy() {
    let text = r#"
[model]
family = "transformer"
d_modle = 64
d_model = 100
encoder = { layers = 2, heads = 8, ffn_dim = 256 }
decoder = { layers = 0, heads = 4, ffn_dim = 256, drpout = 1 }
activation = "selu"
[data]
train = [{ tsv = "a.tsv", weight = -1 }, { source = "b.en" }]
[optimiser]
name = "adam"
[optimizer]
betas = [0.9, 1.0]
[dropout]
residual = "much"
[run]
seed = 1
"#;
    assert_eq!(
        faults(text),
        [
            "line 4: `model.d_modle` is not known; is `d_model` meant?",
            "line 6: `model.encoder.heads` is 8, but must divide model.d_model = 100",
            "line 7: `model.decoder.layers` is 0, but must be a whole number from 1 to 1024",
            "line 7: `model.decoder.drpout` is not known; there are: layers, heads, ffn_dim",
            "line 8: `model.activation` is \"selu\", but must be one of \"relu\", \"gelu\", \"gelu_tanh\", \"swish\", \"tanh\"",
            "line 10: `data.train[0].weight` is -1, but must be a number above 0, at most 1000",
            "line 10: `data.train[1].target` is missing",
            "line 11: `optimiser` is not known; is `optimizer` meant?",
            "line 14: `optimizer.betas` is [0.9, 1.0], but must be two numbers from 0 to below 1, as in [0.9, 0.98]",
            "line 16: `dropout.residual` is \"much\", but must be a probability from 0 to below 1",
            "line 17: `run.output` is missing",
            "line 17: `run.updates` is missing, as is `epochs`: when does the training end?",
        ]
    );
}

#[test]
fn sections_must_agree() {
    let one = |text: &str| {
        let faults = faults(text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.into_iter().next().unwrap()
    };
    for (text, says) in [
        (
            with("batch", "tokens = 500"),
            "`batch.tokens` is 500, but a pair may have 256 source and 256 target tokens: raise it to 512 or lower data.maximum_tokens",
        ),
        (
            with("model", "max_positions = 100"),
            "`data.maximum_tokens` is 256, but the model has 100 positions",
        ),
        (
            with("validation", "every = 10"),
            "`validation.every` is set, but there is nothing to validate on",
        ),
        (with("validation", "patience = 10"), "`validation.patience` needs measurements"),
        (
            with("validation", "best = \"bleu\""),
            "`validation.best` is \"bleu\", which `metrics` does not list",
        ),
        (with("checkpoint", "keep_best = 1"), "`checkpoint.keep_best` needs measurements"),
        (
            with("checkpoint", "average = 5\nkeep_last = 2"),
            "`checkpoint.average` is 5, but keep_last = 2",
        ),
        (with("schedule", "peak = 0.1"), "`schedule.peak` belongs to the other kinds"),
        (with("schedule", "kind = \"cosine\""), "`schedule.peak` is missing"),
        (
            with("schedule", "kind = \"linear\"\npeak = 1e-3\nwarmup = 100"),
            "`schedule.warmup` leaves nothing of 100 updates",
        ),
        (
            with("tokenizer", "joint = false"),
            "`tokenizer.joint` is false, but model.share_embeddings needs one",
        ),
        (
            with("tokenizer", "directory = \"t\"\nvocabulary = 100"),
            "`tokenizer.vocabulary` belongs to a tokeniser that is made",
        ),
        (
            with("data", "synthetic = { task = \"copy\", pairs = 9 }"),
            "`data.synthetic` stands beside `train`",
        ),
        (
            with("data", "minimum_tokens = 300"),
            "`data.minimum_tokens` is 300, above maximum_tokens = 256",
        ),
        (with("lora", "alpha = 3"), "`lora.rank` is missing"),
        (
            with("model", "freeze = [\"encoder.*.weight\"]"),
            "`model.freeze` holds \"encoder.*.weight\"",
        ),
        (
            LEAST.replace("\"transformer\"", "\"marian\"\nnorm = \"pre\""),
            "`model.norm` is fixed in the files of the family \"marian\"",
        ),
    ] {
        let fault = one(&text);
        assert!(fault.contains(says), "{fault}\ninstead of\n{says}");
    }
}

#[test]
fn a_model_to_go_on_with_brings_its_shape_and_tokeniser() {
    let fine = r#"
[model]
init_from = "../model"
freeze = ["encoder.**"]
[lora]
rank = 8
targets = ["query"]
[data]
train = [{ source = "a", target = "b" }]
[run]
output = "out"
epochs = 1
"#;
    let config = parse(fine).unwrap();
    let folder = PathBuf::from("here/../model");
    assert_eq!(config.model.start, Start::Pretrained(folder.clone()));
    assert_eq!(config.tokenizer.origin, TokenizerOrigin::Directory(folder));
    assert_eq!(config.lora.unwrap().alpha, 8.0);
    let mixed = fine.replace("[lora]", "d_model = 64\n[tokenizer]\nkind = \"bpe\"\n[lora]");
    let faults = faults(&mixed);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("`model.d_model` comes with the model of init_from"));
}

#[test]
fn schedules() {
    let read = |line: &str| parse(&with("schedule", line)).unwrap().schedule;
    assert_eq!(
        read("kind = \"cosine\"\npeak = 1e-3\nwarmup = 10\nfinal = 1e-5"),
        Schedule::Peak {
            peak: 1e-3,
            warmup: 10,
            decay: Decay::Cosine { updates: 100, last: 1e-5 }
        }
    );
    assert_eq!(
        read("kind = \"inverse_sqrt\"\npeak = 1"),
        Schedule::Peak { peak: 1.0, warmup: 4000, decay: Decay::InverseSqrt }
    );
}

#[test]
fn broken_toml_is_told_by_line() {
    let faults = faults("[model]\nfamily = \n[data\n");
    assert!(faults.len() >= 2 && faults[0].starts_with("line 2: "), "{faults:?}");
    let error = TrainConfig::read("no/such.toml").unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such.toml"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.toml");
    std::fs::write(&large, "#".repeat(2 << 20)).unwrap();
    let error = TrainConfig::read(&large).unwrap_err().to_string();
    assert!(error.contains("line 1: has more than 1048576 bytes"), "{error}");
}
