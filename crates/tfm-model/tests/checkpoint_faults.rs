//! Broken, hostile and mismatched checkpoints: every fault is listed, with tensor names and shapes.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use support::{Tensors, fixture, read_tensors, safetensors_file, write_tensors};
use tempfile::TempDir;
use tfm_core::{ParameterSource, Tensor};
use tfm_model::checkpoint::Header;
use tfm_model::config::{Embedding, PositionKind};
use tfm_model::{Checkpoint, Error, Fault};

/// A copy of a small checkpoint, to break.
fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fixture(name).read_dir().unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with("golden") {
            fs::write(folder.path().join(entry.file_name()), fs::read(entry.path()).unwrap())
                .unwrap();
        }
    }
    folder
}

/// A copy whose tensors `change` has changed.
fn changed(name: &str, change: impl FnOnce(&mut Tensors)) -> TempDir {
    let folder = copy(name);
    let path = folder.path().join("model.safetensors");
    let mut tensors = read_tensors(&path);
    change(&mut tensors);
    write_tensors(&path, &tensors);
    folder
}

fn change_config(folder: &Path, field: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    fs::write(path, config.to_string()).unwrap();
}

/// What is said of a folder, fault by fault.
fn faults(folder: &Path) -> Vec<String> {
    match Checkpoint::open(folder) {
        Err(error @ Error::Checkpoint { .. }) => {
            let text = error.to_string();
            let Error::Checkpoint { faults, .. } = error else { unreachable!() };
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            assert!(faults.iter().take(20).all(|fault| text.contains(fault)), "{text}");
            faults
        }
        other => panic!("{other:?}"),
    }
}

/// What is said of a file with this header and that much data.
fn header_faults(header: &str, data: usize) -> Vec<String> {
    let file = safetensors_file(header, &vec![0; data]);
    Header::read("f", &file).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn files_that_are_no_weights() {
    let problem = |bytes: &[u8]| Header::read("f", bytes).unwrap_err()[0].to_string();
    assert_eq!(problem(b"short"), "f: has 5 bytes, which is too short for a safetensors file");
    let long = [&200u64.to_le_bytes()[..], b"{}"].concat();
    assert_eq!(
        problem(&long),
        "f: claims a header of 200 bytes, but only 2 follow: it is incomplete, get it again"
    );
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(problem(&huge).starts_with("f: claims a header of 18446744073709551615 bytes"));
    assert!(problem(&safetensors_file("[]", &[])).contains("not a JSON object"));
    assert!(problem(&safetensors_file("{\"a\":", &[])).contains("not valid JSON"));
    assert!(problem(&safetensors_file("{} x", &[])).contains("not valid JSON"));
}

#[test]
fn every_broken_entry_of_a_header_is_listed() {
    let header = r#"{
        "__metadata__": {"format": 1},
        "shape": {"dtype": "F32", "shape": [1152921504606846976, 16], "data_offsets": [0, 8]},
        "zero": {"dtype": "F32", "shape": [0, 1152921504606846976, 64], "data_offsets": [0, 0]},
        "range": {"dtype": "F32", "shape": [25], "data_offsets": [0, 100]},
        "order": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]},
        "size": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 8]},
        "type": {"dtype": "F31", "shape": [2], "data_offsets": [0, 8]},
        "minus": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        "none": {},
        "number": 7,
        "twice": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "twice": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        "fields": {"dtype": "F32", "shape": [4], "shape": [2], "data_offsets": [0, 8]}
    }"#;
    let found = header_faults(header, 16);
    assert!(found[0].starts_with("f: is incomplete: it has "), "{found:?}");
    assert_eq!(
        found[1..],
        [
            "f: `__metadata__` is not an object of texts",
            "f: tensor `shape` has shape [1152921504606846976, 16], whose size overflows",
            "f: tensor `zero` has shape [0, 1152921504606846976, 64], whose size overflows",
            "f: tensor `order` has data_offsets that end before they start: [8, 4]",
            "f: tensor `size` needs 16 bytes for F32 [2, 2], but its offsets span 8",
            "f: tensor `type` has the unknown dtype \"F31\"",
            "f: tensor `minus` has the shape [-2], which is not a list of sizes",
            "f: tensor `none` has no `dtype`",
            "f: tensor `none` has no `shape`",
            "f: tensor `none` has no `data_offsets`",
            "f: tensor `number` has an entry that is not a JSON object",
            "f: tensor `twice` occurs more than once",
            "f: tensor `fields` has the field `shape` more than once",
        ]
    );
}

#[test]
fn tensors_may_neither_overlap_nor_leave_gaps() {
    let header = r#"{
        "a": {"dtype": "F32", "shape": [4], "data_offsets": [4, 20]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [12, 28]},
        "c": {"dtype": "F32", "shape": [0], "data_offsets": [24, 24]},
        "d": {"dtype": "F32", "shape": [1], "data_offsets": [32, 36]}
    }"#;
    assert_eq!(
        header_faults(header, 50),
        [
            "f: tensor `b` shares 8 bytes with `a`",
            "f: tensor `c` is empty but lies inside `b`",
            "f: tensor `a` leaves a gap of 4 bytes before it",
            "f: tensor `d` leaves a gap of 4 bytes before it",
            "f: has 14 bytes after the last tensor that belong to none",
        ]
    );
}

#[test]
fn names_from_files_are_printed_without_control_characters() {
    let faults = header_faults(r#"{"\u001b[2Jé": 1}"#, 0);
    assert_eq!(faults, ["f: tensor `\\u{1b}[2Jé` has an entry that is not a JSON object"]);
    let faults = header_faults(&format!("{{\"{}\": 1}}", "x".repeat(5000)), 0);
    assert!(faults[0].len() < 300 && faults[0].contains('…'));
}

#[test]
fn a_truncated_file_is_refused() {
    let folder = copy("marian_swish_tied");
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(faults(folder.path()).iter().all(|fault| fault.starts_with("model.safetensors: ")));
    }
}

#[test]
fn every_tensor_that_does_not_fit_is_listed() {
    let folder = changed("marian_swish_tied", |tensors| {
        let mut set = |name: &str, dtype: &str, shape: &[usize], data: Vec<u8>| {
            tensors.insert(name.into(), (dtype.into(), shape.to_vec(), data));
        };
        set("model.encoder.layers.0.fc1.weight", "F32", &[16, 32], vec![0; 16 * 32 * 4]);
        set("model.encoder.layers.1.fc1.bias", "I64", &[32], vec![0; 32 * 8]);
        let special = [f32::NAN, f32::INFINITY, -f32::INFINITY, 1.0].map(f32::to_le_bytes).concat();
        set("model.decoder.layers.0.fc2.bias", "F32", &[16], special.repeat(4));
        set("extra.weight", "F32", &[1], vec![0; 4]);
        tensors.remove("model.decoder.layers.1.encoder_attn.k_proj.weight").unwrap();
        tensors.remove("model.shared.weight").unwrap();
    });
    assert_eq!(
        faults(folder.path()),
        [
            "tensor `model.shared.weight` [48, 16] is missing (nor is `model.encoder.embed_tokens.weight`, nor \
             `model.decoder.embed_tokens.weight`, nor `lm_head.weight`); take config.json and the weights from \
             the same model",
            "tensor `model.encoder.layers.0.fc1.weight` should be [32, 16] by config.json, but is [16, 32]; take \
             config.json and the weights from the same model",
            "tensor `model.encoder.layers.1.fc1.bias` holds I64; weights are read from F64, F32, F16 or \
             BF16, and matrices from I8 with scales",
            "tensor `model.decoder.layers.0.fc2.bias` has 4 NaN and 8 infinite elements of 16; the file is damaged, \
             or training had diverged; get it again",
            "tensor `model.decoder.layers.1.encoder_attn.k_proj.weight` [16, 16] is missing; take config.json and \
             the weights from the same model",
        ]
    );
}

#[test]
fn a_joined_tensor_is_at_fault_once() {
    let folder = changed("nn_transformer_post", |tensors| {
        tensors.remove("transformer.encoder.layers.0.self_attn.in_proj_weight").unwrap();
        let bias = tensors.get_mut("transformer.encoder.layers.0.self_attn.in_proj_bias").unwrap();
        *bias = ("F32".into(), vec![47], vec![0; 47 * 4]);
    });
    let faults = faults(folder.path());
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults[0].contains("in_proj_weight` [48, 16] is missing"));
    assert!(faults[1].contains("in_proj_bias` should be [48] by config.json, but is [47]"));
}

#[test]
fn faults_of_all_files_are_listed_together() {
    let folder = changed("marian_swish_tied", |tensors| {
        tensors.get_mut("model.shared.weight").unwrap().1 = vec![1 << 60, 1 << 60];
    });
    change_config(folder.path(), "d_model", json!("16"));
    fs::write(folder.path().join("generation_config.json"), "{").unwrap();
    let faults = faults(folder.path());
    assert_eq!(faults.len(), 3, "{faults:#?}");
    assert!(faults[0].starts_with("config.json: `d_model` is \"16\""));
    assert!(faults[1].starts_with("generation_config.json: is not valid JSON"));
    assert!(faults[2].starts_with("model.safetensors: tensor `model.shared.weight` has shape"));
}

#[test]
fn absent_files_are_listed_together() {
    let folder = tempfile::tempdir().unwrap();
    let found = faults(folder.path());
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("config.json: is missing"));
    assert!(
        found[1]
            .starts_with("model.safetensors: is missing, and so is model.safetensors.index.json")
    );
    fs::write(folder.path().join("pytorch_model.bin"), "pickle").unwrap();
    assert!(faults(folder.path())[1].contains("save_pretrained"));

    let absent = folder.path().join("absent");
    assert!(faults(&absent)[0].contains("cannot be opened"));
    assert!(
        faults(&folder.path().join("pytorch_model.bin"))[0].contains("is a file; give the folder")
    );
    fs::create_dir(folder.path().join("config.json")).unwrap();
    assert!(faults(folder.path())[0].contains("cannot be read: it is not a regular file"));
}

#[test]
fn any_name_of_a_tied_table_will_do_but_they_must_agree() {
    const NAMES: [&str; 3] = [
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
        "lm_head.weight",
    ];
    let table = |tensors: &mut Tensors| tensors.remove("model.shared.weight").unwrap();
    let original = Checkpoint::open(fixture("marian_swish_tied")).unwrap();
    for name in NAMES {
        let renamed = changed("marian_swish_tied", |tensors| {
            let table = table(tensors);
            tensors.insert(name.into(), table);
        });
        let read = Checkpoint::open(renamed.path()).unwrap();
        let tensor = |checkpoint: &Checkpoint| checkpoint.tensor("output.weight").unwrap();
        assert_eq!(tensor(&read), tensor(&original), "{name}");
    }
    let twice = changed("marian_swish_tied", |tensors| {
        let table = table(tensors);
        tensors.extend(NAMES.map(|name| (name.to_owned(), table.clone())));
    });
    assert!(Checkpoint::open(twice.path()).unwrap().notes().is_empty());

    let differing = changed("marian_swish_tied", |tensors| {
        let mut table = tensors["model.shared.weight"].clone();
        table.2[0] ^= 1;
        tensors.insert("lm_head.weight".into(), table);
    });
    let faults = faults(differing.path());
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(
        faults[0].starts_with(
            "tensors `model.shared.weight` and `lm_head.weight` are tied by config.json"
        )
    );
    // A model that does not tie them may have both.
    change_config(differing.path(), "tie_word_embeddings", json!(false));
    Checkpoint::open(differing.path()).unwrap();
}

#[test]
fn odd_but_harmless_files_are_read_with_notes() {
    let folder = changed("marian_swish_tied", |tensors| {
        tensors.remove("final_logits_bias").unwrap();
        tensors.insert("extra".into(), ("I64".into(), vec![2], vec![0; 16]));
    });
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(
        checkpoint.notes(),
        [
            "tensor `final_logits_bias` is not in the files: zeros are used",
            "tensor `extra` [2] is not part of the model and is not read",
        ]
    );
    let bias = checkpoint.tensor("output.bias").unwrap();
    assert_eq!(bias.as_f32().unwrap(), [0.0; 48]);
}

/// `transformers` computes with the positions of the file.
#[test]
fn positions_that_are_not_those_computed_are_used() {
    const NAME: &str = "model.encoder.embed_positions.weight";
    let original = Checkpoint::open(fixture("marian_swish_tied")).unwrap();
    let computed = tfm_model::computed(original.config(), "encoder.positions.weight").unwrap();
    let bytes = |tensor: &Tensor| -> Vec<u8> {
        tensor.as_f32().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect()
    };
    let with = |shape: Vec<usize>, data: Vec<u8>| {
        changed("marian_swish_tied", |tensors| {
            tensors.insert(NAME.into(), ("F32".into(), shape, data));
        })
    };
    let same = with(computed.shape().to_vec(), bytes(&computed));
    assert_eq!(Checkpoint::open(same.path()).unwrap().notes(), original.notes());
    let mut other = bytes(&computed);
    other[17 * 4..][..4].copy_from_slice(&0.25f32.to_le_bytes());
    let folder = with(computed.shape().to_vec(), other.clone());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let used = checkpoint.tensor("encoder.positions.weight").unwrap();
    assert_eq!(bytes(&used), other);
    let kind = |embedding: &Embedding| embedding.positions.unwrap().kind;
    assert_eq!(kind(&checkpoint.config().source), PositionKind::Learned { offset: 0 });
    assert_eq!(kind(&checkpoint.config().target), kind(&original.config().target));
    let note = checkpoint.notes().iter().find(|note| note.contains(NAME)).unwrap();
    assert!(note.contains("holds other positions"), "{note}");
    let found = faults(with(vec![1, 16], vec![0; 16 * 4]).path());
    assert!(found[0].contains(NAME) && found[0].contains("but is [1, 16]"), "{found:?}");
}

/// Files of `MarianModel`, which has no output, lack a part of the names.
#[test]
fn files_of_the_model_without_its_output_are_read() {
    let original = Checkpoint::open(fixture("marian_swish_tied")).unwrap();
    let base = changed("marian_swish_tied", |tensors| {
        let all = std::mem::take(tensors).into_iter();
        let base =
            all.filter_map(|(name, tensor)| Some((name.strip_prefix("model.")?.into(), tensor)));
        tensors.extend(base);
    });
    let read = Checkpoint::open(base.path()).unwrap();
    assert_eq!(read.notes(), ["tensor `final_logits_bias` is not in the files: zeros are used"]);
    for parameter in original.parameters().filter(|parameter| parameter.name != "output.bias") {
        assert_eq!(read.load(parameter.name), original.load(parameter.name), "{}", parameter.name);
    }
}

#[test]
fn double_precision_is_read_rounded() {
    let original = Checkpoint::open(fixture("marian_swish_tied")).unwrap();
    let double = changed("marian_swish_tied", |tensors| {
        for (dtype, _, data) in tensors.values_mut() {
            assert_eq!(dtype, "F32");
            *dtype = "F64".into();
            let words =
                data.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
            // Less than half of the distance to the next f32.
            *data = words.flat_map(|x| (f64::from(x) * (1.0 + 1e-9)).to_le_bytes()).collect();
        }
    });
    let read = Checkpoint::open(double.path()).unwrap();
    for parameter in original.parameters() {
        assert_eq!(read.load(parameter.name), original.load(parameter.name), "{}", parameter.name);
    }
    let overflowing = changed("marian_swish_tied", |tensors| {
        let bias = tensors.get_mut("model.decoder.layers.0.fc2.bias").unwrap();
        *bias =
            ("F64".into(), vec![16], [1e300f64, f64::NAN].map(f64::to_le_bytes).concat().repeat(8));
    });
    assert!(faults(overflowing.path())[0].contains("has 8 NaN and 8 infinite elements of 16"));
}

#[test]
fn an_index_stays_in_its_folder() {
    let folder = copy("marian_eos_nonzero");
    let index = json!({ "weight_map": {
        "a": "../model.safetensors", "b": "/etc/passwd", "c": "sub/model.safetensors", "d": "..",
        "e": "C:model.safetensors", "f": "model.bin", "g": 7, "h": "\\\\host\\model.safetensors",
    } });
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let faults = faults(folder.path());
    assert_eq!(faults.len(), 8, "{faults:#?}");
    assert!(faults.iter().all(|fault| fault.starts_with("model.safetensors.index.json: ")));
    assert_eq!(
        faults.iter().filter(|fault| fault.contains("leaves the model's folder")).count(),
        6
    );
}

#[test]
fn shards_and_their_index_must_agree() {
    let folder = copy("marian_eos_nonzero");
    let path = folder.path().join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let map = index["weight_map"].as_object_mut().unwrap();
    map.insert("model.ghost.weight".into(), json!("model-00001-of-00003.safetensors"));
    map.insert("model.lost.weight".into(), json!("model-00009-of-00003.safetensors"));
    let bias = map.remove("final_logits_bias").unwrap();
    fs::write(&path, index.to_string()).unwrap();
    let found = faults(folder.path());
    assert_eq!(
        found,
        [
            "model.safetensors.index.json: tensor `model.ghost.weight` should be in \
             model-00001-of-00003.safetensors, which does not have it",
            "model-00009-of-00003.safetensors: is missing; a model's folder needs it",
        ]
    );
    let map = index["weight_map"].as_object_mut().unwrap();
    map.remove("model.ghost.weight");
    map.remove("model.lost.weight");
    fs::write(&path, index.to_string()).unwrap();
    let notes = Checkpoint::open(folder.path()).unwrap().notes().to_vec();
    assert_eq!(notes.len(), 2, "{notes:#?}");
    assert!(
        notes[0].starts_with(&format!("{}: tensor `final_logits_bias`", bias.as_str().unwrap()))
    );

    let twice = r#"{"weight_map": {"a": "m.safetensors", "a": "m.safetensors"}}"#;
    fs::write(&path, twice).unwrap();
    assert!(faults(folder.path())[0].contains("tensor `a` is named more than once"));
    fs::write(&path, "{}").unwrap();
    assert!(faults(folder.path())[0].contains("has no `weight_map`"));
    fs::write(&path, "{\"weight_map\": []}").unwrap();
    assert!(faults(folder.path())[0].contains("is not a valid index"));
}

#[test]
fn a_fault_can_be_told_apart_by_kind() {
    let folder = changed("marian_swish_tied", |tensors| {
        tensors.remove("model.encoder.layers.0.fc1.weight").unwrap();
    });
    let Err(Error::Checkpoint { place, faults }) = Checkpoint::open(folder.path()) else {
        panic!()
    };
    assert_eq!(place, folder.path().display().to_string());
    let [Fault::Missing { tensor, expected, .. }] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!(
        (tensor.as_str(), &expected[..]),
        ("model.encoder.layers.0.fc1.weight", &[32, 16][..])
    );
}

#[test]
fn a_file_that_is_cut_off_is_one_fault() {
    let folder = copy("marian_swish_tied");
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let half = whole.len() / 2;
    fs::write(&path, &whole[..half]).unwrap();
    let all = whole.len();
    let expected = format!(
        "model.safetensors: is incomplete: it has {half} bytes, and its header promises {all}; get it again"
    );
    assert_eq!(faults(folder.path()), [expected]);
}

#[test]
fn pointers_of_git_lfs_are_told_from_files() {
    for name in ["model.safetensors", "config.json", "generation_config.json"] {
        let folder = copy("marian_swish_tied");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 99\n";
        fs::write(folder.path().join(name), pointer).unwrap();
        let found = faults(folder.path());
        let [fault] = &found[..] else { panic!("{found:?}") };
        assert!(fault.starts_with(name) && fault.contains("`git lfs pull`"), "{fault}");
    }
}

#[test]
fn many_faults_are_cut_in_messages_and_not_in_the_error() {
    let folder = copy("marian_swish_tied");
    change_config(folder.path(), "encoder_layers", json!(1024));
    let error = Checkpoint::open(folder.path()).unwrap_err();
    let message = error.to_string();
    assert_eq!(message.lines().count(), 22, "{message}");
    let Error::Checkpoint { faults, .. } = error else { panic!("{error:?}") };
    assert!(faults.len() > 10_000);
    assert!(message.ends_with(&format!("\n  and {} more", faults.len() - 20)), "{message}");
}

#[test]
fn layers_that_the_model_does_not_have_are_noted() {
    let folder = changed("marian_swish_tied", |tensors| {
        for number in 0..30 {
            let name = format!("model.encoder.layers.{number}.extra.weight");
            tensors.insert(name, ("F32".into(), vec![2], vec![0; 8]));
        }
    });
    let notes = Checkpoint::open(folder.path()).unwrap().notes().to_vec();
    let listed = notes.iter().filter(|note| note.contains("extra.weight")).count();
    assert_eq!(listed, 20);
    let rest = "30 tensors are not part of the model and are not read; 10 of them";
    assert!(notes.iter().any(|note| note.starts_with(rest)), "{notes:?}");
}
