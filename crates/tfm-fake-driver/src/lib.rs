//! A `libcuda.so` for machines without a GPU: the part of the CUDA driver API that tfm's host code
//! calls, over [`tfm_ptx_emu`]. A binary that would find the real driver finds this one through
//! `LD_LIBRARY_PATH`.
//!
//! Streams are not asynchronous. Work runs when it is enqueued, or is recorded while its stream is
//! captured. The driver prints a kernel's fault and returns `CUDA_ERROR_LAUNCH_FAILED`; as with the
//! real driver, all later calls fail too. Some variables of the environment matter: `TFM_FAKE_SEED`
//! (a number) and `TFM_FAKE_LAZY` (`1`) choose the schedule of every launch, `TFM_FAKE_MEMORY` is
//! the bytes of the device, and `TFM_FAKE_VERSION` is its CUDA version (13000 by default).

// These are the driver's names.
#![allow(non_snake_case)]

pub mod driver;
mod installed;
mod restart;
mod state;

pub use installed::Installed;
pub use restart::{SCHEDULES, has_driver, restart_with_driver, with_driver};
