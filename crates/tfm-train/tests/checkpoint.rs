//! Checkpoints of a training: what is saved is loaded, what is not whole is refused, the last one
//! stays.

use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use tfm_train::Error;
use tfm_train::checkpoint::*;
use tfm_train::config::Metric;
use tfm_train::data::Position;

fn state(step: u64) -> State {
    State {
        step,
        position: Position { epoch: 3, window: 1, batch: 4 },
        seed: u64::MAX,
        data: 77,
        tokens: 1 << 60,
        seconds: 0.1 + 0.2,
        scores: vec![Score { step: 5, score: 1.0 / 3.0 }],
        config: "[model]\n# é\n".into(),
        program: "0.1.0".into(),
    }
}

fn save_one(output: &Path, step: u64) -> PathBuf {
    let weights: Vec<f32> = (0..6).map(|i| (i as f32 + step as f32) / 3.0).collect();
    let tensors = [
        TrainingTensor { name: "z.weight", shape: &[2, 3], values: &weights },
        TrainingTensor { name: "adam.first/z.weight", shape: &[2, 3], values: &[f32::NAN; 6] },
        TrainingTensor { name: "scalar", shape: &[], values: &[-0.0] },
        TrainingTensor { name: "empty", shape: &[0, 4], values: &[] },
    ];
    save(output, &state(step), tensors).unwrap()
}

fn problem(folder: &Path) -> String {
    match load(folder) {
        Err(error @ Error::Checkpoint { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn names(output: &Path) -> Vec<String> {
    let entries = fs::read_dir(output.join("checkpoints")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_is_loaded_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = save_one(folder.path(), 12_000);
    assert!(path.ends_with("checkpoints/step-00012000"));
    assert_eq!(names(folder.path()), ["step-00012000"]);
    let loaded = load(&path).unwrap();
    assert_eq!(loaded.state, state(12_000));
    let order: Vec<_> = loaded.tensors().map(|(name, _)| name).collect();
    assert_eq!(order, ["z.weight", "adam.first/z.weight", "scalar", "empty"]);
    let (shape, values) = loaded.tensor("z.weight").unwrap();
    assert_eq!(shape[..], [2, 3]);
    assert_eq!(values[5], 12_005.0 / 3.0);
    let bits =
        |name| loaded.tensor(name).unwrap().1.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits("adam.first/z.weight"), [f32::NAN.to_bits(); 6]);
    assert_eq!(bits("scalar"), [(-0.0f32).to_bits()]);
    assert!(bits("empty").is_empty());
    assert!(loaded.tensor("other").is_none());
    // Any reader of the format can read it.
    let bytes = fs::read(path.join("training.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("z.weight").unwrap().shape(), [2, 3]);
}

#[test]
fn senseless_tensors_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let one = TrainingTensor { name: "a", shape: &[2], values: &[1.0] };
    let error = save(folder.path(), &state(1), [one]).unwrap_err().to_string();
    assert!(error.contains("`a` has 1 elements, which is not its shape [2]"), "{error}");
    let one = TrainingTensor { shape: &[1], ..one };
    let error = save(folder.path(), &state(1), [one, one]).unwrap_err().to_string();
    assert!(error.contains("two tensors have the name `a`"), "{error}");
    assert!(!folder.path().join("checkpoints").exists());
}

#[test]
fn the_same_update_again_replaces_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = save_one(folder.path(), 7);
    fs::write(path.join("manifest.json"), "torn").unwrap();
    fs::create_dir_all(folder.path().join("checkpoints/.step-00000007.part/old")).unwrap();
    save_one(folder.path(), 7);
    load(&path).unwrap();
    assert_eq!(names(folder.path()), ["step-00000007"]);
}

#[test]
fn what_is_torn_or_foreign_is_refused_and_the_one_before_offered() {
    let folder = tempfile::tempdir().unwrap();
    save_one(folder.path(), 1);
    let path = save_one(folder.path(), 2);
    let whole = |name: &str| fs::read(path.join(name)).unwrap();
    let [tensors, state_json, manifest] =
        ["training.safetensors", "state.json", "manifest.json"].map(whole);
    let text = String::from_utf8(manifest.clone()).unwrap();
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        bytes
    };
    let cases: [(&str, Option<Vec<u8>>, &str); 10] = [
        ("training.safetensors", None, "training.safetensors is missing"),
        ("training.safetensors", Some(tensors[..99].into()), "is cut short: it has 99 bytes, but"),
        ("training.safetensors", Some([&tensors[..], &[0]].concat()), "bytes, but"),
        ("training.safetensors", Some(flipped(&tensors)), "training.safetensors is damaged"),
        ("state.json", Some(flipped(&state_json)), "state.json is damaged"),
        ("manifest.json", None, "manifest.json is missing"),
        ("manifest.json", Some(manifest[..40].into()), "manifest.json is not what it should be"),
        ("manifest.json", Some(vec![b' '; 1 << 17]), "has 131072 bytes"),
        (
            "manifest.json",
            Some(text.replace("\"version\": 1", "\"version\": 2").into()),
            "it has version 2 of the format",
        ),
        (
            "manifest.json",
            Some(text.replace("tfm-training", "other").into()),
            "is not that of a tfm training",
        ),
    ];
    for (name, bytes, says) in cases {
        let file = path.join(name);
        let before = fs::read(&file).unwrap();
        match bytes {
            Some(bytes) => fs::write(&file, bytes).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let error = problem(&path);
        assert!(error.contains("step-00000002") && error.contains(says), "{error}");
        assert!(error.ends_with("step-00000001 looks whole"), "{error}");
        let latest = latest_good(folder.path()).unwrap();
        assert_eq!(latest.found.unwrap().1.state.step, 1);
        assert_eq!(latest.refused.len(), 1);
        fs::write(&file, before).unwrap();
    }
    load(&path).unwrap();
    assert!(latest_good(&folder.path().join("none")).unwrap().found.is_none());
}

#[test]
fn the_newest_and_the_best_stay() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path();
    (1..=8).for_each(|step| drop(save_one(output, step * 10)));
    fs::create_dir(output.join("checkpoints/.step-00000090.part")).unwrap();
    fs::create_dir(output.join("checkpoints/step-mine")).unwrap();
    let scores = [(10, 5.0), (15, 99.0), (20, 9.0), (30, 9.0), (40, 8.0), (70, 1.0)];
    let scores = scores.map(|(step, score)| Score { step, score });
    let removed = prune(output, 2, 2, Metric::Bleu, &scores).unwrap();
    assert_eq!(removed.len(), 4);
    let kept: Vec<u64> = steps(output).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(kept, [20, 30, 70, 80]);
    assert!(names(output).contains(&"step-mine".to_owned()));
    assert!(names(output).iter().all(|name| !name.starts_with('.')));
    // By the loss the lowest is the best.
    prune(output, 1, 1, Metric::Loss, &scores).unwrap();
    let kept: Vec<u64> = steps(output).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(kept, [70, 80]);
}

#[test]
fn the_last_good_one_is_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (1..=4).map(|step| save_one(folder.path(), step)).collect();
    for torn in &paths[2..] {
        fs::File::options()
            .write(true)
            .open(torn.join("training.safetensors"))
            .unwrap()
            .set_len(10)
            .unwrap();
    }
    prune(folder.path(), 1, 0, Metric::Loss, &[]).unwrap();
    assert_eq!(names(folder.path()), ["step-00000002", "step-00000004"]);
}

#[test]
fn what_comes_after_a_resumed_update_goes() {
    let folder = tempfile::tempdir().unwrap();
    (1..=4).for_each(|step| drop(save_one(folder.path(), step)));
    assert_eq!(discard_after(folder.path(), 2).unwrap().len(), 2);
    assert_eq!(names(folder.path()), ["step-00000001", "step-00000002"]);
    assert!(discard_after(&folder.path().join("none"), 0).unwrap().is_empty());
}

#[test]
fn averages() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = [1, 2, 6].into_iter().map(|step| save_one(folder.path(), step)).collect();
    let mean = average(&paths, |name| name == "z.weight").unwrap();
    assert_eq!(mean.len(), 1);
    for (index, value) in mean[0].values.iter().enumerate() {
        assert!((value - (index as f32 + 3.0) / 3.0).abs() < 1e-6);
    }
    assert!(average(&[], |_| true).is_err());
    let tensor = TrainingTensor { name: "z.weight", shape: &[6], values: &[0.0; 6] };
    let other = save(folder.path(), &state(9), [tensor]).unwrap();
    let error = average(&[paths[0].clone(), other], |name| name == "z.weight").unwrap_err();
    assert!(error.to_string().contains("`z.weight` has shape"), "{error}");
}

#[test]
fn the_best_score_and_how_long_ago_it_was() {
    let scores = [3.0, 5.0, 5.0, 4.0].into_iter().zip(1..);
    let scores = scores.map(|(score, step)| Score { step, score }).collect();
    let state = State { scores, ..state(9) };
    assert_eq!(state.best(Metric::Bleu).unwrap().step, 2);
    assert_eq!(state.since_best(Metric::Bleu), 2);
    assert_eq!(state.since_best(Metric::Loss), 3);
    assert_eq!(State { scores: Vec::new(), ..state }.since_best(Metric::Loss), 0);
}

#[path = "../../../fuzz/entries/training_checkpoint.rs"]
mod checkpoint_entry;
#[path = "../../../fuzz/entries/train_config.rs"]
mod config_entry;

fn damaged(seed: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..6);
    damage.prop_map(move |damage| {
        let mut bytes = seed.as_bytes().to_vec();
        for (place, byte, kind) in damage {
            let place = place.index(bytes.len().max(1));
            match kind {
                0 if place < bytes.len() => bytes[place] = byte,
                1 => bytes.insert(place.min(bytes.len()), byte),
                _ => bytes.truncate(place),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_are_too_strange_for_a_checkpoint(
        bytes in prop_oneof![
            damaged(include_str!("../../../fuzz/corpus/training_checkpoint/manifest.json")),
            damaged(include_str!("../../../fuzz/corpus/training_checkpoint/state.json")),
            prop::collection::vec(any::<u8>(), 0..200),
        ],
    ) {
        checkpoint_entry::run(&bytes);
    }

    #[test]
    fn no_bytes_are_too_strange_for_a_configuration(
        bytes in prop_oneof![
            damaged(include_str!("../../../fuzz/corpus/train_config/all.toml")),
            prop::collection::vec(any::<u8>(), 0..200),
        ],
    ) {
        config_entry::run(&bytes);
    }
}
