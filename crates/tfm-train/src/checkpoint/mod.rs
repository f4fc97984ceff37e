//! The state of a training on disk: enough to resume bit for bit.
//!
//! A checkpoint of update 12000 is the folder `checkpoints/step-00012000` with three files:
//!
//! | file | holds |
//! |---|---|
//! | `training.safetensors` | parameters, moments of the optimiser and averages, all f32 |
//! | `state.json` | [`State`]: the rest |
//! | `manifest.json` | length and CRC-32 of the other two |
//!
//! It is written under another name, flushed to the disk, and renamed when it is complete.

mod average;
mod load;
mod manifest;
mod retention;
mod save;
mod state;

pub use average::{Averaged, average};
pub use load::{Loaded, load};
pub use manifest::Manifest;
pub use retention::{Latest, discard_after, latest_good, prune, steps};
pub use save::{TrainingTensor, save};
pub use state::{Score, State};

use std::path::{Path, PathBuf};

const FOLDER: &str = "checkpoints";
const TENSORS: &str = "training.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// The folder of all checkpoints of the training whose results go to `output`.
fn all(output: &Path) -> PathBuf {
    output.join(FOLDER)
}

/// The name of a checkpoint's folder.
fn name(step: u64) -> String {
    format!("step-{step:08}")
}
