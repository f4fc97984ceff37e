//! The CUDA backend of tfm: every primitive op as a kernel, compiled to PTX in advance and loaded through the driver.
//!
//! Nothing of CUDA is needed to build it, and only the driver (`libcuda`) to run it. So far it has no fused kernels: fused ops are
//! decomposed into primitives, and products are computed a thread an element. It is right, and not yet fast.

mod backend;
mod buffer;
mod device;
mod launch;

pub use backend::CudaBackend;
pub use buffer::Buffer;
