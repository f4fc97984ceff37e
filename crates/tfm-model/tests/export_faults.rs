//! Writing a model that cannot be written: every fault is listed, and what was there stays as it
//! was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tfm_core::{ParameterSource, Tensor};
use tfm_model::checkpoint::{ElementType, export};
use tfm_model::config::{NormPlacement, PositionKind};
use tfm_model::{Checkpoint, Config, Description, Error};

fn fixture(name: &str) -> Checkpoint {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tfm/tests/fixtures");
    Checkpoint::open(fixtures.join(name)).unwrap()
}

/// The parameters of a checkpoint, some of them replaced, or taken away.
struct Changed<'a> {
    original: &'a Checkpoint,
    changes: BTreeMap<&'a str, Option<Tensor>>,
}

impl ParameterSource for Changed<'_> {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        match self.changes.get(name) {
            Some(Some(tensor)) => Ok(tensor.clone()),
            Some(None) => Err("was taken away".into()),
            None => self.original.load(name),
        }
    }
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn refused(result: tfm_model::Result<()>) -> Vec<String> {
    match result {
        Err(Error::Export { faults, .. }) => faults.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_parameters_are_listed_and_leave_the_folder_as_it_was() {
    let original = fixture("nn_transformer_post");
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), original.description(), &original, ElementType::F32).unwrap();
    let before = contents(folder.path());

    let large = Tensor::from_f32([16], [65_504.0, 70_000.0].repeat(8)).unwrap();
    let small = Tensor::from_f32([3], vec![0.0; 3]).unwrap();
    let integers = Tensor::from_i32([16], vec![0; 16]).unwrap();
    let source = Changed {
        original: &original,
        changes: BTreeMap::from([
            ("encoder.layers.0.self_attention.key.bias", Some(small)),
            ("encoder.layers.0.self_attention.output.bias", Some(integers)),
            ("encoder.layers.1.self_attention_norm.bias", Some(large)),
            ("decoder.final_norm.weight", None),
        ]),
    };
    let write = |folder: &Path| export(folder, original.description(), &source, ElementType::F16);
    assert_eq!(
        refused(write(folder.path())),
        [
            "parameter `decoder.final_norm.weight`: was taken away",
            "parameter `encoder.layers.0.self_attention.key.bias`: has the shape [3], but 16 elements are expected",
            "parameter `encoder.layers.0.self_attention.output.bias`: is i32, not f32",
            "tensor `transformer.encoder.layers.1.norm1.bias` has 0 NaN and 8 infinite elements of 16; f16 ends at \
             65504: store bf16 or f32",
        ]
    );
    assert_eq!(contents(folder.path()), before);

    let new = folder.path().join("new");
    refused(write(&new));
    assert!(!new.exists());
}

fn set_positions(config: &mut Config, kind: PositionKind) {
    for embedding in [&mut config.source, &mut config.target] {
        embedding.positions.as_mut().unwrap().kind = kind;
    }
}

#[test]
fn what_a_familys_files_cannot_say_is_refused() {
    let original = fixture("marian_swish_tied");
    let folder = tempfile::tempdir().unwrap();
    let cases: [fn(&mut Config); 6] = [
        |config| config.encoder.norm.placement = NormPlacement::Pre,
        |config| config.decoder.norm.epsilon = 1e-3,
        |config| set_positions(config, PositionKind::Learned { offset: 2 }),
        |config| config.target.positions = None,
        |config| config.source.scale = 3.0,
        |config| config.decoder.feed_forward.gated = true,
    ];
    for change in cases {
        let mut description = original.description().clone();
        change(&mut description.config);
        let result = export(folder.path(), &description, &original, ElementType::F32);
        let faults = refused(result);
        assert!(faults[0].contains("cannot say all of"), "{faults:?}");
        assert!(contents(folder.path()).is_empty());
    }
    let mut senseless = original.description().clone();
    senseless.config.d_model = 0;
    refused(export(folder.path(), &senseless, &original, ElementType::F32));
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let original = fixture("marian_swish_tied");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let result = export(file.join("model"), original.description(), &original, ElementType::F32);
    assert!(matches!(result, Err(Error::Write { action: "make", .. })), "{result:?}");
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn learned_positions_and_norms_without_biases_come_back() {
    let original = fixture("nn_transformer_pre");
    let mut description = original.description().clone();
    set_positions(&mut description.config, PositionKind::Learned { offset: 2 });
    for stack in [&mut description.config.encoder, &mut description.config.decoder] {
        stack.attention.biases = false;
        stack.feed_forward.biases = false;
    }
    description.config.cross_attention.biases = false;
    let Description { config, .. } = &description;
    let table = |start: f32| {
        let (rows, d) = (config.source.longest_sequence(), config.d_model);
        Tensor::from_f32([rows, d], (0..rows * d).map(|i| start + i as f32).collect()).unwrap()
    };
    let zeros = Tensor::from_f32([config.d_model], vec![0.0; config.d_model]).unwrap();
    let norms = ["self_attention_norm", "cross_attention_norm", "feed_forward_norm"];
    let norm_biases: Vec<String> = ["encoder", "decoder"]
        .iter()
        .flat_map(|side| {
            let layers = (0..3).flat_map(move |layer| {
                norms.map(|norm| format!("{side}.layers.{layer}.{norm}.bias"))
            });
            layers.chain([format!("{side}.final_norm.bias")])
        })
        .collect();
    let mut changes = BTreeMap::from([
        ("encoder.positions.weight", Some(table(0.0))),
        ("decoder.positions.weight", Some(table(0.5))),
    ]);
    changes.extend(norm_biases.iter().map(|name| (name.as_str(), Some(zeros.clone()))));
    let source = Changed { original: &original, changes };
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), &description, &source, ElementType::F32).unwrap();

    let read = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(read.description(), &description);
    for parameter in read.parameters() {
        assert_eq!(read.tensor(parameter.name).unwrap(), source.load(parameter.name).unwrap());
    }
    assert_eq!(read.tensor("decoder.positions.weight").unwrap(), table(0.5));
    // What is zero and may be left out is: torch's modules without biases have no such tensor.
    assert!(
        read.parameters()
            .filter(|parameter| parameter.name.ends_with("norm.bias"))
            .all(|p| p.stored.is_none())
    );
    assert!(read.shape("encoder.layers.0.feed_forward.inner.bias").is_none());
}
