//! The CUDA backend of tfm: kernels that were compiled to PTX in advance, and that the driver
//! loads.
//!
//! Building it needs nothing of CUDA, and running it needs only the driver (`libcuda`). An op
//! without a kernel of its own is decomposed into primitives.

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
