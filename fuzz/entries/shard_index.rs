//! Arbitrary bytes as `model.safetensors.index.json` give faults, or shards that lie beside it.
//!
//! Shared by the fuzz target and by the property tests of tfm-model.

use std::path::{Component, Path};
use tfm_model::checkpoint::Index;

pub(crate) fn run(bytes: &[u8]) {
    match Index::read("fuzz.index.json", bytes) {
        Ok(index) => {
            for shard in index.shards.keys() {
                let components: Vec<_> = Path::new(shard).components().collect();
                assert!(
                    matches!(components[..], [Component::Normal(_)]),
                    "{shard:?} stays in its folder"
                );
            }
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
}
