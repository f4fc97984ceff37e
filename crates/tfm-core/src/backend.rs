//! The contract of a backend: how a plan's steps are carried out.
//!
//! # Who validates
//! The graph checks every shape, type and axis as a node is added, and the session checks the
//! inputs. So a backend trusts its arguments, and may panic where the contract is broken. The
//! session checks indices in data (token ids, row ids, offsets) where they enter as bounded inputs;
//! a backend still never reads or writes outside its buffers.
//!
//! # What an error may be
//! Only what no check can foresee: memory runs out, the driver fails, the device is missing.
//!
//! # Destination passing
//! Every output exists before the call. A destination is contiguous, unless the method says
//! otherwise, and never overlaps a source. Its old content is undefined and must not be read,
//! except by `write_rows`, and by a fused op that computes a result in an operand's place
//! ([`FusedOp::in_place`](crate::fused::FusedOp)). A source may have any layout, broadcasts (stride
//! 0) included.
//!
//! # Numbers
//! Floating-point kernels accumulate in f32 or better, whatever the element type. An element of the
//! result depends on its operands alone: not on the number of threads, and for the row-wise ops
//! (`matmul` with a packed weight, fused ops) not on how many other rows the call has.

use crate::fused::Fused;
use crate::op::{BinaryOp, PackFormat, ReduceOp, UnaryOp};
use crate::{DType, HostSlice, Layout, RowSource, Tensor};

/// A failure of the device or the machine, not of the computation asked for.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum BackendError {
    /// No memory for a buffer.
    #[error(
        "{backend}: out of memory: {bytes} more bytes are needed; use smaller batches or a smaller model"
    )]
    OutOfMemory {
        /// The backend's name.
        backend: String,
        /// The size asked for.
        bytes: usize,
    },
    /// The driver or the device failed.
    #[error("{backend}: {problem}")]
    Device {
        /// The backend's name.
        backend: String,
        /// What it reported.
        problem: String,
    },
}

/// The result of a backend's methods.
pub type Outcome<T = ()> = Result<T, BackendError>;

/// A source operand: a buffer seen through a layout.
#[derive(Debug)]
pub struct View<'a, B> {
    /// The memory.
    pub buffer: &'a B,
    /// The element type.
    pub dtype: DType,
    /// Where the elements lie.
    pub layout: &'a Layout,
}

/// A destination operand.
#[derive(Debug)]
pub struct ViewMut<'a, B> {
    /// The memory.
    pub buffer: &'a mut B,
    /// The element type.
    pub dtype: DType,
    /// Where the elements lie.
    pub layout: &'a Layout,
}

impl<B> Clone for View<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for View<'_, B> {}

/// The types and layouts of a fused op's operands, for [`Backend::supports`].
#[derive(Debug)]
pub struct Signature<'a> {
    /// Element type and layout of each input.
    pub inputs: &'a [(DType, Layout)],
}

/// Work that [`Backend::record`] recorded.
pub trait Replay: Send {
    /// Repeats the work, on the same buffers.
    ///
    /// # Errors
    /// The driver's.
    fn replay(&self) -> Outcome;
}

/// Executes the steps of a plan on a device. See the [module](self) for the contract.
pub trait Backend: Send + Sync + Sized + 'static {
    /// Memory of the device. It knows its element type and length.
    type Buffer: Send + Sync + 'static;

    /// A short name with the settings that matter, such as `cpu (avx512, 2 threads)`.
    fn name(&self) -> String;

    /// The same device for another worker, which runs at the same time as this one. The fork has
    /// its own streams, scratch memory and share of the threads. Both can read all buffers.
    fn fork(&self, threads: usize) -> Outcome<Self>;

    /// Divides work among that many threads from now on, if this device has threads. Results do not
    /// depend on the number.
    fn limit_threads(&self, threads: usize) {
        let _ = threads;
    }

    // ---- memory ----

    /// A buffer of `elements` elements, of any content.
    fn allocate(&self, dtype: DType, elements: usize) -> Outcome<Self::Buffer>;

    /// Copies the host's elements to the start of `dst`, which is at least as long and of their
    /// type.
    fn upload(&self, src: HostSlice<'_>, dst: &mut Self::Buffer) -> Outcome;

    /// A buffer of the tensor's elements.
    fn adopt(&self, tensor: Tensor) -> Outcome<Self::Buffer> {
        let mut buffer = self.allocate(tensor.dtype(), tensor.shape().elements())?;
        self.upload(tensor.as_slice(), &mut buffer)?;
        Ok(buffer)
    }

    /// Lengthens a buffer to `elements`. The elements that it has stay, the new ones are undefined.
    /// Returns false, and changes nothing, where this would cost as much as a copy.
    fn enlarge(&self, _buffer: &mut Self::Buffer, _elements: usize) -> Outcome<bool> {
        Ok(false)
    }

    /// The elements of `src`, in row-major order. Waits for the work that computes them.
    fn download(&self, src: View<'_, Self::Buffer>) -> Outcome<Tensor>;

    // ---- element-wise ----

    /// Sets every element to `value`, rounded to the destination's type.
    fn fill(&self, value: f64, dst: ViewMut<'_, Self::Buffer>) -> Outcome;

    /// `dst[i] = i`, in `I32`, one axis.
    fn iota(&self, dst: ViewMut<'_, Self::Buffer>) -> Outcome;

    /// Copies, converting the type where it differs (float to integer truncates towards zero).
    /// The destination may have any layout without overlaps. The shapes are equal.
    fn copy(&self, src: View<'_, Self::Buffer>, dst: ViewMut<'_, Self::Buffer>) -> Outcome;

    /// `dst = op(src)`.
    fn unary(
        &self,
        op: UnaryOp,
        src: View<'_, Self::Buffer>,
        dst: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    /// `dst = op(a, b)`; all three of one shape and type.
    fn binary(
        &self,
        op: BinaryOp,
        a: View<'_, Self::Buffer>,
        b: View<'_, Self::Buffer>,
        dst: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    /// `dst = condition ≠ 0 ? a : b`; all of one shape, `a`, `b` and `dst` of one type.
    fn select(
        &self,
        condition: View<'_, Self::Buffer>,
        a: View<'_, Self::Buffer>,
        b: View<'_, Self::Buffer>,
        dst: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    /// Uniform numbers in [0, 1) by [`crate::philox`]; `key` is `I32 [3]`: seed (low, high), step.
    fn random(
        &self,
        stream: u32,
        key: View<'_, Self::Buffer>,
        dst: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    // ---- reductions, products, indices ----

    /// Reduces `axis`, which has extent 1 in `dst`. An empty sum is 0, an empty maximum −∞ (or
    /// `i32::MIN`).
    fn reduce(
        &self,
        op: ReduceOp,
        axis: usize,
        src: View<'_, Self::Buffer>,
        dst: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    /// `dst[…, m, n] = Σ_k a[…, m, k]·b[…, k, n]`; equal outer axes.
    fn matmul(
        &self,
        a: View<'_, Self::Buffer>,
        b: View<'_, Self::Buffer>,
        dst: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    /// `dst[i…, :] = table[ids[i…], :]`, where `:` is all axes of the table but the first.
    fn gather(
        &self,
        table: View<'_, Self::Buffer>,
        ids: View<'_, Self::Buffer>,
        dst: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    /// `dst = 0`, then `dst[ids[i], :] += src[i, :]`, in the order of i for each row.
    fn scatter_add(
        &self,
        src: View<'_, Self::Buffer>,
        ids: View<'_, Self::Buffer>,
        dst: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    /// `dst[ids[i], :] = src[i, :]`, the other rows of `dst` kept. The ids are distinct.
    fn write_rows(
        &self,
        src: View<'_, Self::Buffer>,
        ids: View<'_, Self::Buffer>,
        dst: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    /// The `k` largest of each row of `src [n, m]`, largest first, the lower index first among
    /// equals: `values [n, k]` of the source's type and `indices [n, k]` in `I32`.
    fn top_k(
        &self,
        k: usize,
        src: View<'_, Self::Buffer>,
        values: ViewMut<'_, Self::Buffer>,
        indices: ViewMut<'_, Self::Buffer>,
    ) -> Outcome;

    // ---- the work of a whole plan ----

    /// Waits until all submitted work is done, so that forks may read the results.
    fn settle(&self) -> Outcome {
        Ok(())
    }

    /// Records the calls of `work` without executing them, so that a single call can repeat them
    /// all. Returns `None`, without calling `work`, if this backend gains nothing by it. The
    /// session records calls that it has made before on the same buffers, and uses the recording as
    /// long as these buffers live.
    fn record(&self, work: &mut dyn FnMut() -> Outcome) -> Outcome<Option<Box<dyn Replay>>> {
        let _ = work;
        Ok(None)
    }

    // ---- fused ops ----

    /// Whether [`Backend::fused`] computes this op on operands of this signature. If not, lowering
    /// decomposes the op into primitives.
    fn supports(&self, op: &Fused, signature: &Signature<'_>) -> bool {
        let _ = (op, signature);
        false
    }

    /// Computes a fused op that [`Backend::supports`] accepted. The inputs come in the order of the
    /// op's `operands!`, without those that the op computes in place: they lie in the memory of the
    /// first outputs.
    fn fused(
        &self,
        op: &Fused,
        inputs: &[View<'_, Self::Buffer>],
        outputs: &mut [ViewMut<'_, Self::Buffer>],
    ) -> Outcome {
        let _ = (inputs, outputs);
        unreachable!("{}: `supports` refuses {op:?}", self.name())
    }

    /// How this backend wants input `operand` of `op` stored when it depends on parameters alone,
    /// or `None` to take it as it is. The packed buffer then arrives in [`Backend::fused`] with the
    /// layout that the operand had.
    fn pack_format(
        &self,
        op: &Fused,
        operand: usize,
        signature: &Signature<'_>,
    ) -> Option<PackFormat> {
        let _ = (op, operand, signature);
        None
    }

    /// The source, stored as `format` says. The session packs each weight once, at load.
    fn pack(&self, format: PackFormat, src: View<'_, Self::Buffer>) -> Outcome<Self::Buffer> {
        let _ = src;
        unreachable!("{}: no format {format:?}", self.name())
    }

    /// [`Backend::pack`] of an `F32` matrix that is not in memory, with the same bits. A backend
    /// that reads a few rows at a time never holds the whole matrix.
    fn pack_rows(&self, format: PackFormat, source: &dyn RowSource) -> Outcome<Self::Buffer> {
        pack_whole(self, format, source)
    }
}

/// [`Backend::pack_rows`] for a backend that packs the whole matrix at once.
///
/// # Errors
/// The backend's.
pub fn pack_whole<B: Backend>(
    backend: &B,
    format: PackFormat,
    source: &dyn RowSource,
) -> Outcome<B::Buffer> {
    let layout = Layout::contiguous(&source.extents().into());
    let mut values = vec![0.0; layout.shape().elements()];
    source.read(0, &mut values);
    let tensor = Tensor::from_f32(layout.shape().clone(), values).expect("as many elements");
    let buffer = backend.adopt(tensor)?;
    backend.pack(format, View { buffer: &buffer, dtype: DType::F32, layout: &layout })
}
