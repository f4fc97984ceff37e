//! Runs NVIDIA PTX on a CPU: what a CUDA kernel computes, and what it does wrong.
//!
//! The text that is shipped is executed, not a model of it. Every access is checked:
//! - out of bounds, misaligned, or of memory or registers that were never written;
//! - races between warps, by vector clocks, and between blocks of a launch;
//! - asynchronous copies whose result is used before they are waited for, or never waited for;
//! - barriers and collective operations that some threads of a warp do not reach; deadlock.
//!
//! Warps are scheduled in an order that a seed decides, and asynchronous copies take place as early
//! or as late as is allowed, as the [`Launch`] says: a kernel that is right gives the same result
//! for every choice.
//!
//! What it cannot show: speed, faults of the assembler and the hardware, and how far the hardware's
//! approximate instructions are off (they are computed exactly here and rounded). Matrix products
//! are summed in f64 and rounded once. Data handed from block to block of one launch by atomic
//! operations is reported as a race.
//!
//! ```
//! use tfm_ptx_emu::{Device, Launch, Module};
//!
//! let module = Module::parse(
//!     ".version 7.0 .target sm_80 .address_size 64
//!      .visible .entry double(.param .u64 x) {
//!        .reg .b32 %r<3>; .reg .b64 %rd<4>;
//!        ld.param.u64 %rd1, [x];
//!        mov.u32 %r1, %tid.x;
//!        mul.wide.u32 %rd2, %r1, 4;
//!        add.s64 %rd3, %rd1, %rd2;
//!        ld.global.u32 %r2, [%rd3];
//!        shl.b32 %r2, %r2, 1;
//!        st.global.u32 [%rd3], %r2;
//!        ret;
//!      }",
//! )?;
//! let mut device = Device::new();
//! let x = device.upload(&[1, 0, 0, 0, 2, 0, 0, 0]);
//! let launch = Launch { threads: [2, 1, 1], ..Launch::default() };
//! device.launch(&module, "double", &launch, &[&x.to_le_bytes()])?;
//! assert_eq!(device.download(x, 8)?, [2, 0, 0, 0, 4, 0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod asynchronous;
mod block;
mod decode;
mod device;
mod execute;
mod fault;
mod float;
mod instruction;
mod integer;
mod lex;
mod matrix;
mod memory;
mod module;
mod parse;
mod tensor;
mod warp;

pub use device::{Counters, Device, Launch, Pointer};
pub use fault::{Fault, ParseError, Problem};
pub use module::{Kernel, Module};
pub use tensor::{Swizzle, TensorMap};
