//! Reports: measurements as JSON lines, for TensorBoard and as a picture; and the progress.

mod chart;
mod curves;
mod memory;
mod metrics;
mod status;
mod tensorboard;

pub use curves::{LossAxis, curves, write_curves};
pub(crate) use memory::available_memory;
pub use memory::peak_memory;
pub use metrics::{Metrics, Record};
pub(crate) use status::Speed;
pub use status::{Observer, Status};
pub use tensorboard::EventFile;
