//! [`CudaBackend`]: each method of the trait launches the kernel of its types.

use crate::buffer::{Buffer, Form};
use crate::cublaslt::CublasLt;
use crate::device::{device_error, driver_error, open};
use crate::fused;
use crate::graph::Graph;
use crate::launch::{Call, Grid};
use crate::modules::Modules;
use crate::product::{self, Epilogue, Product};
use crate::quantized;
use crate::workspace::{Scratch, Workspace};
use cudarc::driver::{CudaStream, sys};
use std::sync::{Arc, OnceLock};
use tfm_core::backend::{Outcome, Replay, Signature, View, ViewMut, pack_whole};
use tfm_core::fused::Fused;
use tfm_core::op::{BinaryOp, PackFormat, ReduceOp, UnaryOp};
use tfm_core::{Backend, BackendError, DType, HostSlice, Layout, RowSource, Tensor, TensorData};

/// A CUDA device as a backend.
///
/// All its work goes to one stream, in order. A fork has a stream of its own.
#[derive(Debug)]
pub struct CudaBackend {
    stream: Arc<CudaStream>,
    modules: Arc<Modules>,
    workspace: Workspace,
    /// Opened when the first product asks for it; `None` where the library is not installed.
    cublaslt: OnceLock<Option<CublasLt>>,
}

impl CudaBackend {
    /// Opens the device with this number, counted from 0.
    ///
    /// # Errors
    /// There is no driver, no such device, or the driver refuses.
    pub fn new(ordinal: usize) -> Outcome<CudaBackend> {
        let stream = open(ordinal)?;
        let modules = Arc::new(Modules::new(stream.context()));
        Ok(Self::with(stream, modules))
    }

    /// The same device, but our own kernels compute all products, even where cuBLASLt is installed.
    /// The bits of a row then never depend on how many rows there are; large products are slower.
    #[must_use]
    pub fn with_own_products(self) -> CudaBackend {
        CudaBackend { cublaslt: OnceLock::from(None), ..self }
    }

    fn with(stream: Arc<CudaStream>, modules: Arc<Modules>) -> CudaBackend {
        let (workspace, cublaslt) = Default::default();
        CudaBackend { stream, modules, workspace, cublaslt }
    }

    /// Prepares the launch of a module's kernel. The caller adds the arguments.
    pub(crate) fn call(&self, module: &'static str, kernel: impl Into<String>) -> Call<'_> {
        Call::new(&self.modules, &self.stream, module, kernel)
    }

    /// Takes scratch memory for at least so many elements. Its content is arbitrary.
    pub(crate) fn scratch(&self, dtype: DType, elements: usize) -> Outcome<Scratch<'_>> {
        self.workspace.take(self, dtype, elements)
    }

    /// The stream that all work goes to.
    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// NVIDIA's library for products; `None` where it is not installed.
    pub(crate) fn cublaslt(&self) -> Option<&CublasLt> {
        self.cublaslt.get_or_init(|| CublasLt::open(&self.stream)).as_ref()
    }

    fn primitive(&self, kernel: impl Into<String>) -> Call<'_> {
        self.call("primitives", kernel)
    }
}

/// The type's part in the names of kernels.
pub(crate) fn name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::I32 => "i32",
    }
}

/// The element size in bits, which is part of the names of kernels that only move elements.
fn bits(dtype: DType) -> usize {
    8 * dtype.size()
}

fn bytes<T>(x: &[T]) -> &[u8] {
    // SAFETY: numbers without padding; any byte is a `u8`.
    unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), size_of_val(x)) }
}

impl Backend for CudaBackend {
    type Buffer = Buffer;

    fn name(&self) -> String {
        let device = self.stream.context().name().unwrap_or_else(|_| "unknown".into());
        format!("cuda ({device})")
    }

    fn fork(&self, _: usize) -> Outcome<CudaBackend> {
        let stream = self.stream.context().new_stream();
        let stream = stream.map_err(|error| driver_error("stream", error))?;
        let forked = Self::with(stream, self.modules.clone());
        let has_own = matches!(self.cublaslt.get(), Some(None));
        Ok(if has_own { forked.with_own_products() } else { forked })
    }

    fn allocate(&self, dtype: DType, elements: usize) -> Outcome<Buffer> {
        // The driver cannot allocate 0 bytes.
        let size = elements.saturating_mul(dtype.size()).max(1);
        // SAFETY: bytes may have any content, and nobody reads them before they are written.
        let data = unsafe { self.stream.alloc::<u8>(size) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                BackendError::OutOfMemory { backend: "cuda".into(), bytes: size }
            }
            _ => driver_error("memory", error),
        })?;
        Ok(Buffer { dtype, form: Form::Elements, data })
    }

    fn upload(&self, src: HostSlice<'_>, dst: &mut Buffer) -> Outcome {
        let source = match src {
            HostSlice::F32(x) => bytes(x),
            HostSlice::F16(x) => bytes(x),
            HostSlice::BF16(x) => bytes(x),
            HostSlice::I32(x) => bytes(x),
        };
        if source.is_empty() {
            return Ok(());
        }
        let mut target = dst.data.slice_mut(..source.len());
        // The driver copies memory that is not page-locked to a buffer of its own before this
        // returns. So the caller may change `source` at once.
        let copied = self.stream.memcpy_htod(source, &mut target);
        copied.map_err(|error| driver_error("upload", error))
    }

    fn download(&self, src: View<'_, Buffer>) -> Outcome<Tensor> {
        let shape = src.layout.shape().clone();
        let packed;
        let (buffer, offset) = if src.layout.is_contiguous() {
            (src.buffer, src.layout.offset())
        } else {
            packed = self.packed(src)?;
            (&*packed, 0)
        };
        let (size, elements) = (src.dtype.size(), shape.elements());
        let mut data = vec![0; size * elements];
        if elements > 0 {
            let range = buffer.data.slice(size * offset..size * (offset + elements));
            let copied = self.stream.memcpy_dtoh(&range, &mut data);
            copied
                .and_then(|()| self.stream.synchronize())
                .map_err(|error| driver_error("download", error))?;
        }
        macro_rules! decode {
            ($variant:ident, $T:ty) => {
                TensorData::$variant(
                    data.as_chunks().0.iter().map(|b| <$T>::from_ne_bytes(*b)).collect(),
                )
            };
        }
        let data = match src.dtype {
            DType::F32 => decode!(F32, f32),
            DType::F16 => decode!(F16, half::f16),
            DType::BF16 => decode!(BF16, half::bf16),
            DType::I32 => decode!(I32, i32),
        };
        Tensor::new(shape, data).map_err(|error| device_error(error.to_string()))
    }

    fn fill(&self, value: f64, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        let n = dst.layout.shape().elements();
        let call = self.primitive(format!("fill_{}", bits(dst.dtype))).target(&mut dst);
        let call = match dst.dtype {
            DType::F32 => call.float(value),
            DType::I32 => call.signed(value as i32),
            DType::F16 => call.bits_16(tfm_core::f16_from_f64(value).to_bits()),
            DType::BF16 => call.bits_16(tfm_core::bf16_from_f64(value).to_bits()),
        };
        call.each(n)
    }

    fn iota(&self, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        let n = dst.layout.shape().elements();
        self.primitive("iota").target(&mut dst).each(n)
    }

    fn copy(&self, src: View<'_, Buffer>, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        let n = dst.layout.shape().elements();
        let gapless = src.layout.is_contiguous() && dst.layout.is_contiguous();
        if gapless && src.dtype == dst.dtype && n > 0 {
            let size = src.dtype.size();
            let part = |layout: &Layout| size * layout.offset()..size * (layout.offset() + n);
            let from = src.buffer.data.slice(part(src.layout));
            let mut to = dst.buffer.data.slice_mut(part(dst.layout));
            let copied = self.stream.memcpy_dtod(&from, &mut to);
            return copied.map_err(|error| driver_error("copy", error));
        }
        let kernel = if src.dtype == dst.dtype {
            format!("copy_{}", bits(src.dtype))
        } else {
            format!("convert_{}_{}", name(src.dtype), name(dst.dtype))
        };
        self.primitive(kernel).strided(&src).strided_target(&mut dst).each(n)
    }

    fn unary(&self, op: UnaryOp, src: View<'_, Buffer>, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        let n = dst.layout.shape().elements();
        let op = UnaryOp::ALL.iter().position(|other| *other == op).unwrap_or(0) as i32;
        let call = self.primitive(format!("unary_{}", name(dst.dtype))).signed(op);
        call.strided(&src).target(&mut dst).each(n)
    }

    fn binary(
        &self,
        op: BinaryOp,
        a: View<'_, Buffer>,
        b: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = dst.layout.shape().elements();
        let op = BinaryOp::ALL.iter().position(|other| *other == op).unwrap_or(0) as i32;
        let call = self.primitive(format!("binary_{}", name(dst.dtype))).signed(op);
        call.strided(&a).strided(&b).target(&mut dst).each(n)
    }

    fn select(
        &self,
        condition: View<'_, Buffer>,
        a: View<'_, Buffer>,
        b: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = dst.layout.shape().elements();
        let kernel = format!("select_{}_{}", bits(condition.dtype), bits(dst.dtype));
        let call = self.primitive(kernel).strided(&condition);
        // −0 counts as 0.
        let call = match condition.dtype {
            DType::I32 => call.bits(u32::MAX),
            DType::F32 => call.bits(u32::MAX >> 1),
            DType::F16 | DType::BF16 => call.bits_16(u16::MAX >> 1),
        };
        call.strided(&a).strided(&b).target(&mut dst).each(n)
    }

    fn random(&self, stream: u32, key: View<'_, Buffer>, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        let n = dst.layout.shape().elements();
        let call = self.primitive(format!("random_{}", name(dst.dtype)));
        call.strided(&key).bits(stream).target(&mut dst).each(n)
    }

    fn reduce(
        &self,
        op: ReduceOp,
        axis: usize,
        src: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        self.reduce_lines(op, axis, src, &mut dst)
    }

    fn matmul(
        &self,
        a: View<'_, Buffer>,
        b: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let product = Product { a, b, epilogue: Epilogue::default() };
        product::run(self, &product, &mut dst)
    }

    fn gather(
        &self,
        table: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = dst.layout.shape().elements();
        let width = table.layout.shape()[1..].iter().product();
        let call = self.primitive(format!("gather_{}", bits(dst.dtype)));
        call.strided_rows(&table).strided(&ids).target(&mut dst).count(width).each(n)
    }

    fn scatter_add(
        &self,
        src: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        self.sum_by_ids(src, ids, &mut dst)
    }

    fn write_rows(
        &self,
        src: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = src.layout.shape().elements();
        let width = src.layout.shape()[1..].iter().product();
        let call = self.primitive(format!("write_rows_{}", bits(dst.dtype)));
        call.strided(&src).strided(&ids).strided_target_rows(&mut dst).count(width).each(n)
    }

    fn top_k(
        &self,
        k: usize,
        src: View<'_, Buffer>,
        mut values: ViewMut<'_, Buffer>,
        mut indices: ViewMut<'_, Buffer>,
    ) -> Outcome {
        if k == 0 {
            return Ok(());
        }
        let (packed, contiguous);
        let src = if src.layout.as_rows().is_some() {
            src
        } else {
            packed = self.packed(src)?;
            contiguous = Layout::contiguous(src.layout.shape());
            View { buffer: &*packed, dtype: src.dtype, layout: &contiguous }
        };
        let (rows, columns, stride) = fused::rows(src.layout);
        let call = self.call("search", format!("top_k_{}", name(src.dtype)));
        let call = call.source(&src).stride(stride);
        let call = call.target(&mut values).target(&mut indices).count(columns).count(k);
        call.launch(Grid { blocks: [rows, 1, 1], threads: fused::row_threads(columns), shared: 0 })
    }

    fn settle(&self) -> Outcome {
        self.stream.synchronize().map_err(|error| driver_error("synchronization", error))
    }

    fn record(&self, work: &mut dyn FnMut() -> Outcome) -> Outcome<Option<Box<dyn Replay>>> {
        Ok(Some(Box::new(Graph::capture(&self.stream, work)?)))
    }

    fn supports(&self, op: &Fused, signature: &Signature<'_>) -> bool {
        fused::supports(op, signature)
    }

    fn fused(
        &self,
        op: &Fused,
        inputs: &[View<'_, Buffer>],
        outputs: &mut [ViewMut<'_, Buffer>],
    ) -> Outcome {
        fused::run(self, op, inputs, outputs)
    }

    fn pack_format(&self, op: &Fused, operand: usize, _: &Signature<'_>) -> Option<PackFormat> {
        fused::pack_format(op, operand)
    }

    fn pack(&self, format: PackFormat, src: View<'_, Buffer>) -> Outcome<Buffer> {
        assert_eq!(format, quantized::FORMAT, "the only format of this backend");
        self.stored_weight(&src)
    }

    fn pack_rows(&self, format: PackFormat, source: &dyn RowSource) -> Outcome<Buffer> {
        assert_eq!(format, quantized::FORMAT, "the only format of this backend");
        match source.is_quantized() {
            true => self.stored_integers(source),
            false => pack_whole(self, format, source),
        }
    }
}
