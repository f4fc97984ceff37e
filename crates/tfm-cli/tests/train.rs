//! `tfm train`: a task is learnt, a training that is killed goes on bit for bit, bad input is
//! refused in time.

mod command;

use command::{argument, bundled, run, tfm};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A training of a small model, in a folder of its own.
fn configuration(folder: &Path, more: &[(&str, &str)]) -> PathBuf {
    let mut text = String::from(
        r#"
[model]
family = "transformer"
d_model = 32
encoder = { layers = 1, heads = 2, ffn_dim = 64 }
decoder = { layers = 1, heads = 2, ffn_dim = 64 }
norm = "pre"
max_positions = 32

[tokenizer]
kind = "bpe"
vocabulary = 12

[data]
synthetic = { task = "reverse", symbols = 8, minimum_length = 1, maximum_length = 6, pairs = 12000, seed = SEED }
synthetic_validation = { task = "reverse", symbols = 8, minimum_length = 1, maximum_length = 6, pairs = 200, seed = 77 }
maximum_tokens = 16

[batch]
tokens = 512

[schedule]
kind = "linear"
peak = 1e-2
warmup = 50

[loss]
label_smoothing = 0.0

[dropout]
residual = RATE

[validation]
every = EVERY
metrics = ["loss", "accuracy"]
best = "accuracy"

[checkpoint]
every = KEEP

[run]
output = "out"
seed = SEED
updates = UPDATES
"#,
    );
    let defaults =
        [("SEED", "1"), ("RATE", "0.0"), ("EVERY", "100"), ("KEEP", "100"), ("UPDATES", "1200")];
    for (name, value) in more.iter().chain(&defaults) {
        text = text.replace(name, value);
    }
    let path = folder.join("config.toml");
    fs::write(&path, text).unwrap();
    path
}

/// The last accuracy in `metrics.jsonl`.
fn accuracy(folder: &Path) -> f64 {
    let metrics = fs::read_to_string(folder.join("out/metrics.jsonl")).unwrap();
    let line = metrics.lines().rfind(|line| line.contains("accuracy")).unwrap();
    let record: serde_json::Value = serde_json::from_str(line).unwrap();
    record["accuracy"].as_f64().unwrap()
}

#[test]
fn a_task_is_learnt_and_the_model_used() {
    let folder = tempfile::tempdir().unwrap();
    // Another seed at every run: what is learnt must not hang on luck.
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() % 10_000 + 1;
    let seed = seed.to_string();
    let config = configuration(folder.path(), &[("SEED", &seed)]);
    let outcome = run(&["train", argument(&config)], b"");
    assert_eq!(outcome.status, 0, "seed {seed}: {outcome:?}");
    let accuracy = accuracy(folder.path());
    assert!(accuracy >= 98.0, "seed {seed}: {accuracy}% after 1200 updates");
    let model = folder.path().join("out/model");
    let translated = run(&["translate", "--model", argument(&model), "abcd", "hgfe"], b"");
    assert_eq!(translated.success(), "dcba\nefgh\n", "seed {seed}");
    for file in ["metrics.jsonl", "curves.svg", "tensorboard"] {
        assert!(folder.path().join("out").join(file).exists(), "{file}");
    }
}

fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("out/checkpoints")) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("step-"));
    found.sort();
    found
}

#[test]
fn a_training_that_was_killed_goes_on_bit_for_bit() {
    let settings = [("RATE", "0.1"), ("EVERY", "1000"), ("KEEP", "40"), ("UPDATES", "200")];
    let [whole, broken] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let config = configuration(whole.path(), &settings);
    assert_eq!(run(&["train", "--quiet", argument(&config)], b"").status, 0);

    let config = configuration(broken.path(), &settings);
    let mut child = tfm(&["train", "--quiet", "--threads", "1", argument(&config)]);
    let mut child = child.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    // An epoch has about 270 updates: the checkpoint of update 40 lies in the middle of the first.
    while checkpoints(broken.path()).is_empty() && started.elapsed() < Duration::from_secs(100) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let before = checkpoints(broken.path());
    assert!(!before.is_empty(), "no checkpoint was written");
    assert!(!broken.path().join("out/model").exists(), "the training ended before it was killed");

    // A torn checkpoint that is newer is named, and the one before it taken.
    let torn = broken.path().join("out/checkpoints/step-00000199");
    fs::create_dir(&torn).unwrap();
    fs::write(torn.join("state.json"), "{").unwrap();
    let resumed = run(&["train", "--resume", "--threads", "3", argument(&config)], b"");
    assert_eq!(resumed.status, 0, "{resumed:?}");
    assert!(resumed.stderr.contains("step-00000199"), "{}", resumed.stderr);
    assert!(resumed.stderr.contains("going on from"), "{}", resumed.stderr);
    assert!(broken.path().join("out/checkpoints/refused-00000199").exists());

    for file in ["checkpoints/step-00000200/training.safetensors", "model/model.safetensors"] {
        let [a, b] =
            [&whole, &broken].map(|folder| fs::read(folder.path().join("out").join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    // Nothing is told twice.
    let metrics = fs::read_to_string(broken.path().join("out/metrics.jsonl")).unwrap();
    let steps: Vec<u64> = metrics
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(steps, (1..=20).map(|i| i * 10).collect::<Vec<_>>());
}

#[test]
fn a_used_folder_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), &[("UPDATES", "60"), ("KEEP", "60")]);
    assert_eq!(run(&["train", "--quiet", argument(&config)], b"").status, 0);
    let again = run(&["train", argument(&config)], b"");
    let (_, message) = again.failure(1);
    assert!(message.contains("--resume") && message.contains("step-00000060"), "{message}");
}

#[test]
fn bad_configurations_and_data_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |config: &Path, words: &[&str]| {
        let (_, message) = run(&["train", argument(config)], b"").failure(1);
        for word in words {
            assert!(message.contains(word), "{word} is not in: {message}");
        }
        assert!(!folder.path().join("out/checkpoints").exists());
    };
    let config = configuration(folder.path(), &[]);
    let good = fs::read_to_string(&config).unwrap();
    for (old, new, words) in [
        ("updates = 1200", "updats = 1200", &["updats", "updates"][..]),
        ("tokens = 512", "tokens = 20", &["batch.tokens", "maximum_tokens"]),
        ("vocabulary = 12", "vocabulary = 9", &["9", "too small"]),
        ("max_positions = 32", "max_positions = 8", &["positions"]),
        (
            "seed = 1\n",
            "seed = 1\nrecompute = [\"encoder.layer.0\"]\n",
            &["recompute", "encoder.layers.*"],
        ),
        ("heads = 2", "heads = 5", &["heads"]),
    ] {
        assert!(good.contains(old));
        fs::write(&config, good.replace(old, new)).unwrap();
        refused(&config, words);
    }
    // Files whose lines do not pair up, and one that is empty.
    let (start, end) = (good.find("synthetic = ").unwrap(), good.find("maximum_tokens").unwrap());
    let files = r#"train = [{ source = "a.txt", target = "b.txt" }]
validation = [{ source = "a.txt", target = "a.txt" }]
"#;
    fs::write(&config, [&good[..start], files, &good[end..]].concat()).unwrap();
    for (a, b, words) in
        [("one\ntwo\n", "eins\n", &["b.txt ends before line 2", "a.txt"][..]), ("", "", &["a.txt"])]
    {
        fs::write(folder.path().join("a.txt"), a).unwrap();
        fs::write(folder.path().join("b.txt"), b).unwrap();
        refused(&config, words);
    }
}

#[test]
fn the_bundled_model_is_tuned_with_adapters() {
    let folder = tempfile::tempdir().unwrap();
    let model = bundled();
    let pairs = "The cat sleeps.\tLe chat roupille.\nThe dog sleeps.\tLe chien roupille.\n";
    fs::write(folder.path().join("pairs.tsv"), pairs).unwrap();
    let config = folder.path().join("config.toml");
    let text = format!(
        r#"
[model]
init_from = "{}"
[lora]
rank = 8
alpha = 16.0
targets = ["query", "value", "inner", "outer"]
[data]
train = [{{ tsv = "pairs.tsv", columns = [0, 1] }}]
[batch]
tokens = 1024
[schedule]
kind = "constant"
peak = 3e-3
[loss]
label_smoothing = 0.0
[dropout]
residual = 0.0
[run]
output = "out"
updates = 40
"#,
        argument(&model)
    );
    fs::write(&config, text).unwrap();
    let outcome = run(&["train", "--quiet", argument(&config)], b"");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let tuned = folder.path().join("out/model");
    let translated = run(&["translate", "--model", argument(&tuned), "The cat sleeps."], b"");
    assert_eq!(translated.success(), "Le chat roupille.\n");
}

/// A training that is under way: it has done its first hundred updates.
#[cfg(unix)]
fn under_way(folder: &Path, config: &Path) -> std::process::Child {
    let mut command = tfm(&["train", argument(config), "--threads", "1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = folder.join("out/metrics.jsonl");
    let clock = Instant::now();
    while !fs::read_to_string(&metrics).is_ok_and(|text| text.contains("accuracy")) {
        assert!(clock.elapsed() < Duration::from_secs(120), "the training does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[cfg(unix)]
#[test]
fn a_second_training_in_the_folder_is_refused_and_a_request_to_end_is_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), &[("UPDATES", "1000000"), ("KEEP", "1000000")]);
    let child = under_way(folder.path(), &config);
    for more in [&[][..], &["--resume"]] {
        let (_, message) = run(&[&["train", argument(&config)][..], more].concat(), b"").failure(1);
        assert!(message.contains("is in use by another process"), "{message}");
    }
    // As Slurm and Kubernetes end their jobs.
    let kill = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let message = String::from_utf8(ended.stderr).unwrap();
    assert!(
        ended.status.code() == Some(130) && message.contains("go on with: tfm train --resume"),
        "{message}"
    );
    let metrics = fs::read_to_string(folder.path().join("out/metrics.jsonl")).unwrap();
    assert!(metrics.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));

    // Nothing is left to train, and that is said.
    let config = configuration(folder.path(), &[("UPDATES", "60")]);
    let found = run(&["train", "--resume", argument(&config)], b"");
    assert_eq!(found.status, 0, "{found:?}");
    assert!(found.stderr.contains("more than run.updates = 60"), "{found:?}");
}

#[cfg(unix)]
#[test]
fn a_training_that_is_killed_at_any_moment_leaves_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    let often = [("UPDATES", "1000000"), ("KEEP", "20"), ("EVERY", "100")];
    let config = configuration(folder.path(), &often);
    under_way(folder.path(), &config).kill().unwrap();
    for moment in 0..10 {
        let command = ["train", "--resume", "--quiet", argument(&config)];
        let mut child = tfm(&command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(150 + 37 * moment));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // It goes on from a checkpoint that is whole, and is at its end.
    let state = |folder: &Path| fs::read_dir(folder.join("out/checkpoints")).unwrap().count();
    assert!(state(folder.path()) > 0);
    let config = configuration(folder.path(), &[("UPDATES", "60")]);
    let found = run(&["train", "--resume", argument(&config)], b"");
    assert_eq!(found.status, 0, "{found:?}");
    let model = folder.path().join("out/model");
    let answer = run(&["translate", "-m", argument(&model), "s1 s2"], b"");
    assert_eq!(answer.status, 0, "{answer:?}");
}
