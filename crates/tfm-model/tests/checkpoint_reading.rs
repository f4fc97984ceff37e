//! Whole checkpoints: the fixtures of `transformers` and torch, and the bundled model, are read,
//! and written and read again without a number changing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tfm_core::ParameterSource;
use tfm_model::Checkpoint;
use tfm_model::checkpoint::{ElementType, export};
use tfm_model::config::{
    Activation, NormPlacement, OutputBias, PositionKind, PositionTable, SinusoidLayout,
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn fixture(name: &str) -> Checkpoint {
    let folder = repository().join("crates/tfm/tests/fixtures").join(name);
    Checkpoint::open(&folder).unwrap_or_else(|error| panic!("{error}"))
}

fn bundled() -> PathBuf {
    repository().join("crates/tfm/models/marian-tatoeba-en-fr")
}

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

#[test]
fn the_bundled_model_is_described() {
    let checkpoint = Checkpoint::open(bundled()).unwrap();
    let config = checkpoint.config();
    assert_eq!(checkpoint.description().family.model_type(), "marian");
    assert_eq!(config.d_model, 256);
    let stack = &config.encoder;
    assert_eq!((stack.layers, stack.feed_forward.inner), (3, 512));
    assert_eq!((stack.attention.count, stack.attention.size), (4, 64));
    assert_eq!(stack.attention.scale, 1.0 / 8.0);
    assert_eq!((stack.norm.placement, stack.norm.after_last_layer), (NormPlacement::Post, false));
    assert_eq!(stack.feed_forward.activation, Activation::Swish);
    assert_eq!(config.decoder, config.encoder);
    assert_eq!((config.source.vocabulary, config.target.vocabulary), (4000, 4000));
    let kind = PositionKind::Sinusoidal(SinusoidLayout::Halves);
    assert_eq!(config.source.positions, Some(PositionTable { rows: 512, kind }));
    assert_eq!(config.source.scale, 16.0);
    assert!(config.shared_embeddings && config.output.tied);
    assert_eq!(config.output.bias, OutputBias::Constant);
    assert_eq!((config.special.bos, config.special.pad), (None, Some(3999)));
    assert_eq!((config.special.decoder_start, &config.special.eos[..]), (3999, &[0][..]));
    let generation = checkpoint.generation();
    assert_eq!((generation.num_beams, generation.max_length), (4, Some(512)));
    assert_eq!(generation.bad_words_ids, [[3999]]);
    assert_eq!(generation.forced_eos_token_id, [0]);
    // One table, 16 tensors in each encoder layer and 26 in each decoder layer, one bias.
    assert_eq!(checkpoint.parameters().count(), 1 + 3 * 16 + 3 * 26 + 1);
    let [note] = checkpoint.notes() else { panic!("{:?}", checkpoint.notes()) };
    assert!(note.contains("`final_logits_bias` is not in the files"), "{note}");
}

#[test]
fn the_same_bytes_in_memory_are_the_same_model() {
    let read = |name: &str| std::fs::read(bundled().join(name)).unwrap();
    let config = read("config.json");
    let generation = read("generation_config.json");
    let weights = read("model.safetensors");
    let memory = Checkpoint::from_files("memory", &config, Some(&generation), weights).unwrap();
    let folder = Checkpoint::open(bundled()).unwrap();
    assert_eq!((memory.config(), memory.generation()), (folder.config(), folder.generation()));
    assert_same_parameters(&memory, &folder);
}

#[test]
fn tied_tables_are_known_by_each_name() {
    let tied = fixture("marian_swish_tied");
    let table = tied.tensor("source_embedding.weight").unwrap();
    assert_eq!(tied.tensor("target_embedding.weight").unwrap(), table);
    assert_eq!(tied.tensor("output.weight").unwrap(), table);

    let untied = fixture("marian_relu_untied");
    let table = untied.tensor("source_embedding.weight").unwrap();
    assert_eq!(untied.tensor("target_embedding.weight").unwrap(), table);
    assert_ne!(untied.tensor("output.weight").unwrap(), table);

    let separate = fixture("marian_gelu_separate_vocab");
    assert_eq!(separate.shape("source_embedding.weight").unwrap()[..], [57, 24]);
    assert_eq!(separate.shape("output.weight").unwrap()[..], [45, 24]);
    assert_eq!(
        separate.tensor("output.weight").unwrap(),
        separate.tensor("target_embedding.weight").unwrap()
    );
    assert!(separate.tensor("no.such.weight").is_err());
}

#[test]
fn joined_projections_of_torch_are_taken_apart() {
    let checkpoint = fixture("nn_transformer_pre");
    let bytes = std::fs::read(
        repository().join("crates/tfm/tests/fixtures/nn_transformer_pre/model.safetensors"),
    )
    .unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let joined = file.tensor("transformer.decoder.layers.2.multihead_attn.in_proj_weight").unwrap();
    let d = checkpoint.config().d_model;
    assert_eq!(joined.shape(), [3 * d, d]);
    let joined: Vec<f32> = joined
        .data()
        .chunks_exact(4)
        .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    for (number, projection) in ["query", "key", "value"].into_iter().enumerate() {
        let name = format!("decoder.layers.2.cross_attention.{projection}.weight");
        let tensor = checkpoint.tensor(&name).unwrap();
        let size = d * d;
        assert_eq!(tensor.as_f32().unwrap(), &joined[number * size..(number + 1) * size], "{name}");
    }
    let config = checkpoint.config();
    let norm = config.decoder.norm;
    assert_eq!((norm.placement, norm.after_last_layer), (NormPlacement::Pre, true));
    assert_eq!((norm.epsilon, config.output.bias), (1e-6, OutputBias::Learnt));
    assert_eq!(fixture("nn_transformer_post").config().output.bias, OutputBias::None);
}

#[test]
fn what_is_written_reads_the_same() {
    for name in FIXTURES {
        let original = fixture(name);
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/here");
        export(&folder, original.description(), &original, ElementType::F32).unwrap();
        let read = Checkpoint::open(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.description(), original.description());
        assert_same_parameters(&read, &original);
        let mut files: Vec<_> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["config.json", "generation_config.json", "model.safetensors"]);
    }
}

#[test]
fn half_precision_survives_as_it_was_stored() {
    for (name, element_type) in [
        ("marian_relu_untied", ElementType::F16),
        ("marian_gelu_separate_vocab", ElementType::BF16),
    ] {
        let original = fixture(name);
        assert!(original.parameters().all(|parameter| parameter.stored.unwrap().1 == element_type));
        let folder = tempfile::tempdir().unwrap();
        export(folder.path(), original.description(), &original, element_type).unwrap();
        let read = Checkpoint::open(folder.path()).unwrap();
        assert!(read.parameters().all(|parameter| parameter.stored.unwrap().1 == element_type));
        assert_same_parameters(&read, &original);
    }
}

/// `transformers` and torch find every tensor they look for, and none that they don't know.
#[test]
fn written_files_have_the_tensors_that_the_reference_wrote() {
    for name in FIXTURES {
        let original = fixture(name);
        let folder = tempfile::tempdir().unwrap();
        export(folder.path(), original.description(), &original, ElementType::BF16).unwrap();
        let written = tensor_shapes(folder.path());
        let mut reference =
            tensor_shapes(&repository().join("crates/tfm/tests/fixtures").join(name));
        // Tables that are computed are not written.
        let positions = original.config().source.positions.map(|table| table.kind);
        let is_computed = matches!(positions, Some(PositionKind::Sinusoidal(_)));
        reference.retain(|tensor, _| !is_computed || !tensor.ends_with("embed_positions.weight"));
        assert_eq!(written, reference, "{name}");
    }
}

/// The names and shapes of all tensors in a folder's files.
fn tensor_shapes(folder: &Path) -> BTreeMap<String, Vec<usize>> {
    let is_weights =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("model");
    let paths = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut shapes = BTreeMap::new();
    for path in paths.filter(is_weights).filter(|path| path.extension().unwrap() == "safetensors") {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        shapes.extend(file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())));
    }
    shapes
}

fn assert_same_parameters(a: &Checkpoint, b: &Checkpoint) {
    let names = |checkpoint: &Checkpoint| -> Vec<String> {
        checkpoint.parameters().map(|parameter| parameter.name.to_owned()).collect()
    };
    assert_eq!(names(a), names(b));
    assert!(a.parameters().count() > 30);
    for name in names(a) {
        assert_eq!(a.load(&name).unwrap(), b.load(&name).unwrap(), "{name}");
        assert_eq!(a.shape(&name).unwrap(), a.load(&name).unwrap().shape(), "{name}");
    }
}
