//! What a training tells: measurements in a file of lines, for TensorBoard, as a picture, and as it goes.

mod chart;
mod curves;
mod memory;
mod metrics;
mod status;
mod tensorboard;

pub use curves::{LossAxis, curves, write_curves};
pub use memory::peak_memory;
pub use metrics::{Metrics, Record};
pub(crate) use status::Speed;
pub use status::{Observer, Status};
pub use tensorboard::EventFile;
