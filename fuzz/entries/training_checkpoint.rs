//! Arbitrary bytes as each file of a training's checkpoint give an error, or a checkpoint that can
//! be used.
//!
//! Shared by the fuzz target and by the property tests of tfm-train.

use tfm_train::checkpoint::{Loaded, Manifest};

const STATE: &[u8] = include_bytes!("../corpus/training_checkpoint/state.json");
/// The names of the two files. An empty file of tensors is one with an empty header.
const NAMES: [&str; 2] = ["state.json", "training.safetensors"];
const TENSORS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

pub(crate) fn run(bytes: &[u8]) {
    let refused = |loaded: tfm_train::Result<Loaded>| loaded.err().map(|error| error.to_string());
    if let Some(error) = refused(Loaded::from_files("fuzz", bytes, STATE, TENSORS.to_vec())) {
        assert!(error.contains("fuzz"));
    }
    // The manifest beside the bytes fits them, so that no checksum rejects them before the parser.
    read(bytes, TENSORS);
    read(STATE, bytes);
    let length = (bytes.len() as u64).to_le_bytes();
    read(STATE, &[&length[..], bytes, &[0; 64]].concat());
}

fn read(state: &[u8], tensors: &[u8]) {
    let manifest = Manifest::of(1, &[(NAMES[0], state), (NAMES[1], tensors)]).to_json();
    let Ok(loaded) = Loaded::from_files("fuzz", manifest.as_bytes(), state, tensors.to_vec())
    else {
        return;
    };
    assert_eq!(loaded.state.step, 1);
    for (name, shape) in loaded.tensors() {
        let (_, values) = loaded.tensor(name).expect("a listed tensor");
        assert_eq!(values.len(), shape.elements());
    }
}
