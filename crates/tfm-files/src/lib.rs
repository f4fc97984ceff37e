#![doc = include_str!("../README.md")]

mod aside;
mod compressed;
mod error;
mod identity;
mod lines;
mod lock;
mod output;
mod pairs;
mod stage;
mod unfinished;
mod whole;

pub use aside::Aside;
pub use error::{Error, LineProblem, Result};
pub use identity::refuse_inputs;
pub use lines::{LONGEST_LINE, Lines};
pub use lock::FolderLock;
pub use output::Output;
pub use pairs::{Pair, Pairs};
pub use stage::FolderStage;
pub use unfinished::interrupt;
pub use whole::{lfs_pointer, read_whole, write_whole};
