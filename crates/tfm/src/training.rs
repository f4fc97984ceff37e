//! Training: from parallel text to a model, on a device.

pub use tfm_train::report::{Observer, Status};
pub use tfm_train::trainer::{Ended, Finished};
pub use tfm_train::{Error, TrainConfig, config, schedule};

use crate::{Device, Result};
use std::sync::atomic::AtomicBool;

/// Trains as `config` says on `device`. With `resume` it continues from the last complete
/// checkpoint in the output folder, bit for bit as if it had not stopped. When `stop` becomes true,
/// it finishes the current update, writes a checkpoint and ends. It reports its progress to
/// `observer`; `&mut ()` is an observer that shows nothing.
///
/// # Errors
/// Faults of the configuration, the data or the model, before any work; a loss that is not finite;
/// a checkpoint that cannot be written.
pub fn train(
    config: &TrainConfig,
    device: Device,
    resume: bool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Finished> {
    device.check()?;
    let session = |parameters| device.session(parameters);
    let device = tfm_train::trainer::Device { session: &session, workers: device.workers() };
    Ok(tfm_train::trainer::train(config, resume, device, stop, observer)?)
}
