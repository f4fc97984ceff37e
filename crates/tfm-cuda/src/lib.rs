//! The CUDA backend of tfm: kernels compiled to PTX in advance and loaded through the driver.
//!
//! Nothing of CUDA is needed to build it, and only the driver (`libcuda`) to run it. An op without
//! a kernel of its own is decomposed into primitives.

mod backend;
mod buffer;
mod cublaslt;
mod device;
mod fused;
mod graph;
mod launch;
mod modules;
mod product;
mod quantized;
mod reduce;
mod scatter;
mod workspace;

pub use backend::CudaBackend;
pub use buffer::Buffer;
pub use device::probe;
