//! Files with weights in 8 bits: what is written, what is read of it, and what is refused.

mod support;

use std::fs;
use std::path::Path;
use support::{Tensors, fixture, read_tensors, write_tensors};
use tempfile::TempDir;
use tfm_core::ParameterSource;
use tfm_core::fused::quantized;
use tfm_model::checkpoint::{ElementType, export};
use tfm_model::{Checkpoint, Error};

const FIXTURES: [&str; 19] = [
    "marian_swish_tied",
    "marian_relu_untied",
    "marian_relu_all_separate",
    "marian_gelu_separate_vocab",
    "marian_eos_nonzero",
    "bart",
    "bart_scaled",
    "mbart",
    "plbart",
    "pegasus",
    "blenderbot",
    "m2m_100",
    "m2m_100_odd",
    "t5",
    "t5_v1_1",
    "mt5",
    "umt5",
    "nn_transformer_post",
    "nn_transformer_pre",
];

fn write(model: &Checkpoint, element_type: ElementType) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), model.description(), model, element_type).unwrap();
    folder
}

fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder).unwrap_or_else(|error| panic!("{error}"))
}

/// The integers and scales of all rows of a parameter.
fn integers(model: &Checkpoint, name: &str) -> (Vec<i8>, Vec<f32>) {
    let rows = model.rows(name).unwrap().expect("a matrix");
    let [n, k] = rows.extents();
    let (mut integers, mut scales) = (vec![0; n * k], vec![0.0; n]);
    rows.read_quantized(0, &mut integers, &mut scales);
    (integers, scales)
}

#[test]
fn weights_are_the_integers_that_quantising_the_original_makes_and_the_rest_is_as_it_was() {
    for name in FIXTURES {
        let original = open(&fixture(name));
        let folder = write(&original, ElementType::I8);
        let read = open(folder.path());
        assert_eq!((read.config(), read.generation()), (original.config(), original.generation()));
        let mut weights = 0;
        for parameter in read.parameters() {
            let (name, stored) = (parameter.name, parameter.stored.map(|stored| stored.1));
            let (before, after) = (original.load(name).unwrap(), read.load(name).unwrap());
            if stored != Some(ElementType::I8) {
                assert_eq!(after, before, "{name}");
                continue;
            }
            weights += 1;
            let (integers, scales) = integers(&read, name);
            let k = parameter.shape[1];
            let rows = before.as_f32().unwrap().chunks(k).zip(after.as_f32().unwrap().chunks(k));
            for (row, (before, after)) in rows.enumerate() {
                let mut expected = vec![0; k];
                assert_eq!(scales[row], quantized::quantize(before, &mut expected), "{name}");
                assert_eq!(integers[row * k..][..k], expected, "{name}");
                let numbers = expected.iter().map(|&integer| f32::from(integer) * scales[row]);
                assert!(numbers.eq(after.iter().copied()), "{name}");
            }
        }
        // Four for self-attention, as many for attention to the source, two of the feed-forward
        // network or three where it is gated.
        let layers = (read.config().encoder.layers, read.config().decoder.layers);
        let tables = 3
            - usize::from(read.config().shared_embeddings)
            - usize::from(read.config().output.tied);
        let gates = usize::from(read.config().encoder.feed_forward.gated) * (layers.0 + layers.1);
        assert_eq!(weights, 6 * layers.0 + 10 * layers.1 + gates + tables, "{name}");
    }
}

#[test]
fn the_file_is_as_other_programs_expect_it() {
    for name in FIXTURES {
        let original = open(&fixture(name));
        let folder = write(&original, ElementType::I8);
        let path = folder.path().join("model.safetensors");
        let as_floats =
            read_tensors(&write(&original, ElementType::F32).path().join("model.safetensors"));
        let tensors = read_tensors(&path);
        for (name, (dtype, shape, bytes)) in &as_floats {
            let (written, its_shape, its_bytes) = &tensors[name];
            assert_eq!(its_shape, shape);
            let scales = tensors.get(&format!("{name}_scale"));
            match written.as_str() {
                "I8" => {
                    let (dtype, shape, _) = scales.expect("scales");
                    assert_eq!((dtype.as_str(), &shape[..]), ("F32", &[its_shape[0], 1][..]));
                }
                _ => {
                    assert_eq!((written, its_bytes), (dtype, bytes));
                    assert!(scales.is_none());
                }
            }
        }
        let scales = tensors.keys().filter(|name| name.ends_with("_scale")).count();
        assert_eq!(tensors.len(), as_floats.len() + scales);
        // Elements lie at multiples of their size.
        let bytes = fs::read(&path).unwrap();
        let header = tfm_model::checkpoint::Header::read("file", &bytes).unwrap();
        let aligned = |start: usize, bits: usize| (start * 8).is_multiple_of(bits);
        assert!(
            header.tensors.iter().all(|tensor| aligned(tensor.bytes.start, tensor.dtype.bitsize()))
        );
    }
}

#[test]
fn written_again_a_file_is_the_same() {
    for name in FIXTURES {
        let first = write(&open(&fixture(name)), ElementType::I8);
        let second = write(&open(first.path()), ElementType::I8);
        let bytes = |folder: &TempDir| fs::read(folder.path().join("model.safetensors")).unwrap();
        assert!(bytes(&first) == bytes(&second), "{name}");
    }
}

/// The faults of a model in 8 bits whose tensors `change` has changed.
fn faults(change: impl FnOnce(&mut Tensors)) -> Vec<String> {
    let folder = changed(change);
    match Checkpoint::open(folder.path()) {
        Err(Error::Checkpoint { faults, .. }) => faults.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn changed(change: impl FnOnce(&mut Tensors)) -> TempDir {
    let folder = write(&open(&fixture("marian_swish_tied")), ElementType::I8);
    let path = folder.path().join("model.safetensors");
    let mut tensors = read_tensors(&path);
    change(&mut tensors);
    write_tensors(&path, &tensors);
    folder
}

const WEIGHT: &str = "model.encoder.layers.0.fc1.weight";
const SCALES: &str = "model.encoder.layers.0.fc1.weight_scale";

#[test]
fn scales_that_are_missing_or_do_not_fit_are_refused() {
    let missing = faults(|tensors| {
        tensors.remove(SCALES).unwrap();
    });
    assert_eq!(
        missing,
        [
            "model.safetensors: tensor `model.encoder.layers.0.fc1.weight` is I8 [32, 16] and needs the scales of its \
          rows, `model.encoder.layers.0.fc1.weight_scale` F32 [32, 1], which no file has; convert the model again, \
          from its original"
        ]
    );
    for (dtype, shape, bytes) in [
        ("F32", vec![32], 128),
        ("F32", vec![31, 1], 124),
        ("F32", vec![1, 32], 128),
        ("F16", vec![32, 1], 64),
        ("F32", vec![], 4),
        ("I8", vec![32, 1], 32),
    ] {
        let found = faults(|tensors| {
            tensors.insert(SCALES.into(), (dtype.into(), shape.clone(), vec![0; bytes]));
        });
        let shape = tfm_core::Shape::new(&shape);
        let expected = format!(
            "model.safetensors: tensor `{SCALES}` should be F32 [32, 1], the scales of the rows of `{WEIGHT}` I8 \
             [32, 16], but is {dtype} {shape}; convert the model again, from its original"
        );
        assert_eq!(found, [expected]);
    }
}

#[test]
fn scales_that_no_weight_could_have_are_refused() {
    for bad in
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, -f32::MIN_POSITIVE, f32::MAX / 100.0]
    {
        let found = faults(|tensors| {
            let (_, _, bytes) = tensors.get_mut(SCALES).unwrap();
            bytes[4..8].copy_from_slice(&bad.to_le_bytes());
            bytes[16..20].copy_from_slice(&bad.to_le_bytes());
        });
        assert_eq!(
            found,
            [
                "model.safetensors: tensor `model.encoder.layers.0.fc1.weight_scale` has 2 scales of 32 that are \
              negative, not numbers or too large; the file is damaged: convert the model again, from its original"
            ],
            "{bad}"
        );
    }
    let tiny = changed(|tensors| {
        let (_, _, bytes) = tensors.get_mut(SCALES).unwrap();
        bytes[..4].copy_from_slice(&f32::from_bits(1).to_le_bytes());
        bytes[4..8].copy_from_slice(&0.0f32.to_le_bytes());
        bytes[8..12].copy_from_slice(&(f32::MAX / 128.0).to_le_bytes());
    });
    let weight = open(tiny.path()).tensor("encoder.layers.0.feed_forward.inner.weight").unwrap();
    assert!(weight.as_f32().unwrap().iter().all(|number| number.is_finite()));
}

#[test]
fn integers_where_no_rows_are_and_of_another_shape_are_refused() {
    let found = faults(|tensors| {
        tensors
            .insert("model.encoder.layers.0.fc1.bias".into(), ("I8".into(), vec![32], vec![1; 32]));
        let (_, shape, _) = tensors.get_mut(WEIGHT).unwrap();
        *shape = vec![16, 32];
    });
    let [weight, scales, bias] = &found[..] else { panic!("{found:#?}") };
    assert!(
        weight.contains("fc1.weight` should be [32, 16] by config.json, but is [16, 32]"),
        "{weight}"
    );
    assert!(scales.contains("fc1.weight_scale` should be F32 [16, 1]"), "{scales}");
    assert!(
        bias.contains(
            "fc1.bias` holds I8; weights are read from F64, F32, F16 or BF16, and matrices"
        ),
        "{bias}"
    );
}

/// Integers of other quantisers, which may be −128 and whose neighbours may sum to more than
/// products of two bytes in 16 bits hold, stand for the same numbers; for products in 8 bits they
/// are quantised again.
#[test]
fn integers_of_another_quantiser_are_made_fit_for_products() {
    let folder = changed(|tensors| {
        let (_, _, bytes) = tensors.get_mut(WEIGHT).unwrap();
        bytes[..16].fill(127);
        bytes[16] = 0x80;
        let (_, _, scales) = tensors.get_mut(SCALES).unwrap();
        scales[..4].copy_from_slice(&0.25f32.to_le_bytes());
    });
    let model = open(folder.path());
    let name = "encoder.layers.0.feed_forward.inner.weight";
    let numbers = model.tensor(name).unwrap();
    assert_eq!(numbers.as_f32().unwrap()[..16], [127.0 * 0.25; 16]);
    let (integers, scales) = integers(&model, name);
    assert!(integers.chunks(16).all(quantized::is_row));
    assert_eq!(integers[..16], [64; 16]);
    assert!((64.0 * scales[0] - 127.0 * 0.25).abs() < 1e-6);
    assert_eq!(integers[16], -127);
}

#[test]
fn tied_tensors_in_8_bits_are_compared_with_their_scales() {
    let shared = "model.shared.weight";
    let tied = changed(|tensors| {
        for (suffix, alias) in [("", "lm_head.weight"), ("_scale", "lm_head.weight_scale")] {
            let tensor = tensors[&format!("{shared}{suffix}")].clone();
            tensors.insert(alias.into(), tensor);
        }
    });
    assert!(!open(tied.path()).notes().iter().any(|note| note.contains("is not read")));
    let found = faults(|tensors| {
        for (suffix, alias) in [("", "lm_head.weight"), ("_scale", "lm_head.weight_scale")] {
            let tensor = tensors[&format!("{shared}{suffix}")].clone();
            tensors.insert(alias.into(), tensor);
        }
        tensors.get_mut("lm_head.weight_scale").unwrap().2[..4].fill(0x3f);
    });
    assert!(
        matches!(&found[..], [conflict] if conflict.contains("are tied by config.json but differ")),
        "{found:?}"
    );
}
