//! A `libcuda.so` for machines without a GPU: the part of the CUDA driver API that tfm's host code
//! calls, over [`tfm_ptx_emu`]. The same binary that would find the real driver finds this one by
//! `LD_LIBRARY_PATH`.
//!
//! Streams are not asynchronous: what is enqueued happens at once, or is recorded while a stream is
//! captured. A kernel's fault is printed and becomes `CUDA_ERROR_LAUNCH_FAILED`; as with the real
//! driver all later calls fail too. `TFM_FAKE_SEED` (a number) and `TFM_FAKE_LAZY` (`1`) choose the
//! schedule of every launch, `TFM_FAKE_MEMORY` the bytes of the device, `TFM_FAKE_VERSION` the CUDA
//! version (13000).

// The names are the driver's.
#![allow(non_snake_case)]

pub mod driver;
mod installed;
mod restart;
mod state;

pub use installed::Installed;
pub use restart::{SCHEDULES, has_driver, restart_with_driver, with_driver};
