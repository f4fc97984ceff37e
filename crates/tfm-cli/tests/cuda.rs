//! `--device cuda`: the command as it is shipped, over a driver that interprets its kernels; and
//! what it says where there is no such device.
#![cfg(feature = "cuda")]

mod command;

use command::{Outcome, argument, run, test_data, tfm};
use std::fs;
use std::path::{Path, PathBuf};
use tfm_fake_driver::Installed;

/// Runs the command with the fake driver.
fn emulated(driver: &Installed, environment: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut command = tfm(arguments);
    command.envs(environment.iter().copied());
    Outcome::from(driver.apply(&mut command).output().expect("the command starts"))
}

#[test]
fn translations_on_cuda_are_those_on_the_cpu() {
    let Some(model) = test_data("models/marian-tatoeba-en-fr") else { return };
    let driver = Installed::new().unwrap();
    driver.add("libtfm_fake_cublaslt.so", "libcublasLt.so").unwrap();
    let translate = |model: &Path, device: &[&str], sentences: &[&str]| {
        let model = ["translate", "-m", argument(model), "--beam", "2", "--device"];
        let arguments = [&model, device, sentences].concat();
        let outcome = emulated(&driver, &[("TFM_FAKE_LAZY", "1")], &arguments);
        assert!(outcome.status == 0 && !outcome.stderr.contains("refused"), "{outcome:?}");
        outcome.stdout
    };
    let sentences = ["Hi.", "I like it.", "The cat is asleep."];
    let on_cpu = translate(&model, &["cpu"], &sentences);
    assert_eq!(on_cpu.lines().count(), sentences.len());
    assert_eq!(translate(&model, &["cuda"], &sentences), on_cpu);
    let sampled = |device| {
        let options = ["translate", "-q", "-m", argument(&model), "--sample", "--seed", "3"];
        let arguments =
            [&options[..], &["--top-k", "0", "--device", device], &sentences[..]].concat();
        emulated(&driver, &[("TFM_FAKE_LAZY", "1")], &arguments)
    };
    let [on_cuda, on_cpu_too] = ["cuda", "cpu"].map(|device| sampled(device).stdout);
    assert_eq!(on_cuda, on_cpu_too, "the seed decides, not the device");
    assert_eq!(on_cpu_too.lines().count(), sentences.len());
    assert_ne!(on_cpu_too, on_cpu);
    let [on_cuda, on_cpu_too] =
        ["cuda", "cpu"].map(|device| translate(&model, &[device, "--dtype", "int8"], &sentences));
    assert_eq!(on_cuda, on_cpu_too);
    let folder = tempfile::tempdir().unwrap();
    let converted = folder.path().join("int8");
    let to = ["--output", argument(&converted), "--dtype", "int8"];
    run(&[&["convert", argument(&model)], &to[..]].concat(), b"").success();
    let from_integers = translate(&converted, &["cuda", "--dtype", "int8"], &sentences);
    assert_eq!(from_integers, on_cuda, "integers of a file are those of the kernel");
    // The model is sure of the last: 16 bits change its score and not its words.
    for dtype in ["f16", "bf16"] {
        let on_cuda = translate(&model, &["cuda", "--dtype", dtype], &sentences[2..]);
        assert_eq!(on_cuda.lines().last(), on_cpu.lines().last(), "{dtype}");
    }
}

#[test]
fn sixteen_bits_are_for_devices_that_have_them() {
    let outcome = run(&["translate", "--device", "cpu", "--dtype", "f16", "Hi."], b"");
    let (_, stderr) = outcome.failure(2);
    assert_eq!(stderr, "error: --dtype: f16: the cpu computes in f32, bf16 and int8\n");
}

/// The configuration of a small training, dropout and all.
fn configuration(folder: &Path, device: &str) -> PathBuf {
    let path = folder.join(format!("{device}.toml"));
    let text = format!(
        r#"
[model]
family = "transformer"
d_model = 16
encoder = {{ layers = 1, heads = 2, ffn_dim = 32 }}
decoder = {{ layers = 1, heads = 2, ffn_dim = 32 }}
max_positions = 16

[tokenizer]
kind = "bpe"
vocabulary = 12

[data]
synthetic = {{ task = "reverse", symbols = 8, minimum_length = 1, maximum_length = 6, pairs = 100, seed = 1 }}
synthetic_validation = {{ task = "reverse", symbols = 8, minimum_length = 1, maximum_length = 6, pairs = 4, seed = 2 }}
maximum_tokens = 8

[batch]
tokens = 64

[schedule]
kind = "linear"
peak = 1e-2
warmup = 2

[dropout]
residual = 0.1
attention = 0.1

[validation]
every = 4
metrics = ["loss", "accuracy"]

[run]
output = "{device}"
device = "{device}"
seed = 1
updates = 4
report_every = 1
"#
    );
    fs::write(&path, text).unwrap();
    path
}

/// The losses in `metrics.jsonl`, those of training and of validation.
fn losses(folder: &Path) -> Vec<f64> {
    let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let records = metrics.lines().map(serde_json::from_str::<serde_json::Value>);
    let losses = records.filter_map(|record| {
        let record = record.unwrap();
        record.get("loss").or(record.get("validation_loss")).and_then(serde_json::Value::as_f64)
    });
    losses.collect()
}

/// A training makes the same steps on both, dropout included; and which device `auto` takes is
/// said.
#[test]
fn training_on_cuda_is_that_on_the_cpu() {
    let (folder, driver) = (tempfile::tempdir().unwrap(), Installed::new().unwrap());
    let [cpu, cuda] = ["cpu", "cuda"].map(|device| configuration(folder.path(), device));
    let trained = run(&["train", "--quiet", argument(&cpu)], b"");
    assert_eq!(trained.status, 0, "{trained:?}");
    let trained =
        emulated(&driver, &[("TFM_FAKE_SEED", "3")], &["train", "--quiet", argument(&cuda)]);
    assert_eq!(trained.status, 0, "{trained:?}");
    let [on_cpu, on_cuda] = ["cpu", "cuda"].map(|device| losses(&folder.path().join(device)));
    assert!(on_cpu.len() >= 5, "{on_cpu:?}");
    assert_eq!(on_cpu.len(), on_cuda.len());
    for (a, b) in on_cpu.iter().zip(&on_cuda) {
        assert!((a - b).abs() < 1e-4 * a, "{on_cpu:?} {on_cuda:?}");
    }

    let model = folder.path().join("cuda/model");
    let arguments = ["translate", "-m", argument(&model), "--device", "auto", "--beam", "1", "abc"];
    let with = emulated(&driver, &[], &arguments);
    assert_eq!(with.status, 0, "{with:?}");
    assert!(with.stderr.starts_with("note: computing on cuda:0 (PTX interpreter)\n"), "{with:?}");
    let without = emulated(&driver, &[("TFM_FAKE_VERSION", "10020")], &arguments);
    assert_eq!(without.status, 0, "{without:?}");
    let expected = "note: computing on the cpu (cuda: the driver is for CUDA 10.2, and 11.4 or newer \
                    is needed; update NVIDIA's driver)\n";
    assert!(without.stderr.starts_with(expected), "{without:?}");
    assert_eq!(with.stdout, without.stdout);
}

/// Each trouble is one line, and exit status 1.
#[test]
fn a_device_that_cannot_be_used_is_one_line() {
    let driver = Installed::new().unwrap();
    let troubles = [
        (("TFM_FAKE_VERSION", "11020"), "cuda", "update NVIDIA's driver"),
        (("TFM_FAKE_MEMORY", "1000000"), "cuda:0", "out of memory"),
        (("TFM_FAKE_LAZY", "0"), "cuda:3", "there is no device 3; 1 found"),
    ];
    for (environment, device, expected) in troubles {
        let outcome = emulated(&driver, &[environment], &["translate", "--device", device, "Hi."]);
        let (stdout, stderr) = outcome.failure(1);
        assert_eq!(stdout, "");
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
    }
    let missing = tfm(&["translate", "--device", "cuda:99", "Hi."]).output().unwrap();
    let (_, stderr) = Outcome::from(missing).failure(1);
    assert!(stderr.contains("no CUDA driver found") || stderr.contains("no device 99"), "{stderr}");
}
