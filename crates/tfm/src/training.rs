//! Training: from parallel text to a model, on a device.

pub use tfm_train::report::{Observer, Status};
pub use tfm_train::trainer::{Ended, Finished};
pub use tfm_train::{Error, TrainConfig, config, schedule};

use crate::{Device, Result};
use std::sync::atomic::AtomicBool;

/// Trains as `config` says on `device`. With `resume` it goes on from the last whole checkpoint in the output
/// folder, bit for bit as if it had not stopped. When `stop` becomes true, the update under way is finished,
/// a checkpoint is written, and the training ends. `observer` is told how far the training is; `&mut ()`
/// is one that shows nothing.
///
/// # Errors
/// What is wrong with configuration, data or model, before any work; a loss that is not finite; a checkpoint
/// that cannot be written.
pub fn train(
    config: &TrainConfig,
    device: Device,
    resume: bool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Finished> {
    let session = |parameters| device.session(parameters);
    let device = tfm_train::trainer::Device { session: &session, workers: device.workers() };
    Ok(tfm_train::trainer::train(config, resume, device, stop, observer)?)
}
