//! `tfm convert`: the model in another type is the model.

mod command;

use command::{CAT, THANKS, argument, bundled, fixture, run};
use std::fs;
use std::path::Path;

/// The folder of the model that is bundled.
fn convert(from: &Path, to: &Path, dtype: &str) {
    let arguments = ["convert", argument(from), "--output", argument(to), "--dtype", dtype];
    assert_eq!(run(&arguments, b"").success(), "");
}

/// Translations with everything that is known of them, down to the last digit.
fn translations(model: &Path, dtype: &str, lines: &[u8]) -> String {
    let model = ["translate", "-m", argument(model), "--dtype", dtype, "--beam", "3"];
    let results = ["--n-best", "2", "--scores", "--alignments", "--format", "jsonl"];
    run(&[&model[..], &results].concat(), lines).success()
}

#[test]
fn in_8_bits_it_translates_as_the_original_does_in_8_bits() {
    let folder = tempfile::tempdir().unwrap();
    let [f32, int8, again, back] =
        ["f32", "int8", "again", "back"].map(|name| folder.path().join(name));
    let lines = fs::read(fixture("bundled.en")).unwrap();
    convert(&bundled(), &f32, "f32");
    convert(&bundled(), &int8, "int8");
    let original = translations(&bundled(), "int8", &lines);
    assert!(original.lines().count() > 10);
    assert_eq!(translations(&int8, "int8", &lines), original);

    // A quarter of f32; norms, biases and scales are a few percent of so small a model.
    let size = |model: &Path| fs::metadata(model.join("model.safetensors")).unwrap().len();
    let share = size(&int8) as f64 / size(&f32) as f64;
    assert!((0.25..0.28).contains(&share), "{share}");

    convert(&int8, &again, "int8");
    let bytes = |model: &Path| fs::read(model.join("model.safetensors")).unwrap();
    assert!(bytes(&again) == bytes(&int8), "integers are not rounded again");

    // Read as floats they are the numbers that the integers stand for, from either file.
    convert(&int8, &back, "f32");
    assert_eq!(translations(&back, "f32", &lines), translations(&int8, "f32", &lines));
}

#[test]
fn inspect_says_what_is_in_8_bits() {
    let folder = tempfile::tempdir().unwrap();
    let int8 = folder.path().join("int8");
    convert(&bundled(), &int8, "int8");
    let page = run(&["inspect", "-m", argument(&int8), "--parameters"], b"").success();
    let stored = |name: &str| {
        let line = page.lines().find(|line| line.starts_with(name)).expect(name);
        line.split('\t').nth(3).expect("the column of types").to_owned()
    };
    assert_eq!(stored("source_embedding.weight"), "I8");
    assert_eq!(stored("decoder.layers.0.cross_attention.key.weight"), "I8");
    assert_eq!(stored("decoder.layers.0.cross_attention.key.bias"), "F32");
    assert_eq!(stored("encoder.layers.0.feed_forward_norm.weight"), "F32");
}

#[test]
fn scales_that_are_wrong_are_one_line_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let int8 = folder.path().join("int8");
    convert(&bundled(), &int8, "int8");
    let path = int8.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let name = b"\"model.shared.weight_scale\"";
    let place = bytes.windows(name.len()).position(|window| window == name).expect("the scales");
    bytes[place + 1] = b'n';
    fs::write(&path, bytes).unwrap();
    let (stdout, stderr) = run(&["translate", "-m", argument(&int8), CAT, THANKS], b"").failure(1);
    assert_eq!(stdout, "");
    let expected = "model.safetensors: tensor `model.shared.weight` is I8 [4000, 256] and needs the scales of its \
                    rows, `model.shared.weight_scale` F32 [4000, 1], which no file has; convert the model again, \
                    from its original";
    assert!(stderr.contains(expected), "{stderr}");
}
