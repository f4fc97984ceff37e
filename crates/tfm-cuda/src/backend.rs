//! [`CudaBackend`]: each method of the trait launches the kernel of its types.

use crate::buffer::Buffer;
use crate::device::{device_error, driver_error, open};
use crate::launch::Argument::{Bits16, Count, Pointer, Signed, Stride};
use crate::launch::{Argument, Kernels, View as Operand, count};
use cudarc::driver::{CudaStream, sys};
use std::sync::Arc;
use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::op::{BinaryOp, ReduceOp, UnaryOp};
use tfm_core::{Backend, BackendError, DType, HostSlice, Layout, Tensor, TensorData};

/// A CUDA device as a backend.
///
/// All work goes to one stream, that of a fork too: forks take turns.
#[derive(Debug, Clone)]
pub struct CudaBackend {
    stream: Arc<CudaStream>,
    kernels: Arc<Kernels>,
}

impl CudaBackend {
    /// The device of that number, counted from 0.
    ///
    /// # Errors
    /// There is no driver, no such device, or the driver refuses.
    pub fn new(ordinal: usize) -> Outcome<CudaBackend> {
        let stream = open(ordinal)?;
        let kernels = Arc::new(Kernels::load(stream.context())?);
        Ok(CudaBackend { stream, kernels })
    }

    fn launch(&self, name: &str, n: usize, arguments: &[Argument]) -> Outcome {
        self.kernels.launch(&self.stream, name, n, arguments)
    }

    /// The start of a source's buffer; its view says where the elements are.
    fn source(&self, view: &View<'_, Buffer>) -> Argument {
        Pointer(view.buffer.at(0, &self.stream))
    }

    /// The first element of a destination without gaps.
    fn target(&self, view: &mut ViewMut<'_, Buffer>) -> Argument {
        Pointer(view.buffer.at_mut(view.layout.offset(), &self.stream))
    }
}

fn operand(layout: &Layout) -> Outcome<Argument> {
    Ok(Argument::View(Operand::new(layout)?))
}

/// The type in the names of kernels.
fn name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::I32 => "i32",
    }
}

/// The size in the names of kernels that only move elements.
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
        Ok(self.clone())
    }

    fn allocate(&self, dtype: DType, elements: usize) -> Outcome<Buffer> {
        // The driver has no memory of 0 bytes.
        let size = elements.saturating_mul(dtype.size()).max(1);
        // SAFETY: bytes may have any content, and nobody reads them before they are written.
        let data = unsafe { self.stream.alloc::<u8>(size) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                BackendError::OutOfMemory { backend: "cuda".into(), bytes: size }
            }
            _ => driver_error("memory", error),
        })?;
        Ok(Buffer { dtype, data })
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
        let copied = self.stream.memcpy_htod(source, &mut target);
        // The caller's memory is the caller's again when this returns.
        copied
            .and_then(|()| self.stream.synchronize())
            .map_err(|error| driver_error("upload", error))
    }

    fn download(&self, src: View<'_, Buffer>) -> Outcome<Tensor> {
        let shape = src.layout.shape().clone();
        let packed;
        let (buffer, offset) = if src.layout.is_contiguous() {
            (src.buffer, src.layout.offset())
        } else {
            let layout = Layout::contiguous(&shape);
            let mut buffer = self.allocate(src.dtype, shape.elements())?;
            self.copy(src, ViewMut { buffer: &mut buffer, dtype: src.dtype, layout: &layout })?;
            packed = buffer;
            (&packed, 0)
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
        let value = match dst.dtype {
            DType::F32 => Count((value as f32).to_bits()),
            DType::I32 => Signed(value as i32),
            DType::F16 => Bits16(half::f16::from_f64(value).to_bits()),
            DType::BF16 => Bits16(half::bf16::from_f64(value).to_bits()),
        };
        let arguments = [self.target(&mut dst), value, Count(count(n)?)];
        self.launch(&format!("fill_{}", bits(dst.dtype)), n, &arguments)
    }

    fn iota(&self, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        let n = dst.layout.shape().elements();
        self.launch("iota", n, &[self.target(&mut dst), Count(count(n)?)])
    }

    fn copy(&self, src: View<'_, Buffer>, dst: ViewMut<'_, Buffer>) -> Outcome {
        let n = dst.layout.shape().elements();
        let kernel = if src.dtype == dst.dtype {
            format!("copy_{}", bits(src.dtype))
        } else {
            format!("convert_{}_{}", name(src.dtype), name(dst.dtype))
        };
        let target = Pointer(dst.buffer.at_mut(0, &self.stream));
        let (from, to) = (operand(src.layout)?, operand(dst.layout)?);
        self.launch(&kernel, n, &[self.source(&src), from, target, to, Count(count(n)?)])
    }

    fn unary(&self, op: UnaryOp, src: View<'_, Buffer>, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        let n = dst.layout.shape().elements();
        let op = UnaryOp::ALL.iter().position(|other| *other == op).unwrap_or(0) as i32;
        let (from, to) = (operand(src.layout)?, self.target(&mut dst));
        let arguments = [Signed(op), self.source(&src), from, to, Count(count(n)?)];
        self.launch(&format!("unary_{}", name(dst.dtype)), n, &arguments)
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
        let (x, y) = (operand(a.layout)?, operand(b.layout)?);
        let to = self.target(&mut dst);
        let arguments = [Signed(op), self.source(&a), x, self.source(&b), y, to, Count(count(n)?)];
        self.launch(&format!("binary_{}", name(dst.dtype)), n, &arguments)
    }

    fn select(
        &self,
        condition: View<'_, Buffer>,
        a: View<'_, Buffer>,
        b: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = dst.layout.shape().elements();
        // −0 is 0.
        let mask = match condition.dtype {
            DType::I32 => Count(u32::MAX),
            DType::F32 => Count(u32::MAX >> 1),
            DType::F16 | DType::BF16 => Bits16(u16::MAX >> 1),
        };
        let (c, x, y) = (operand(condition.layout)?, operand(a.layout)?, operand(b.layout)?);
        let (pc, pa, pb) = (self.source(&condition), self.source(&a), self.source(&b));
        let arguments = [pc, c, mask, pa, x, pb, y, self.target(&mut dst), Count(count(n)?)];
        self.launch(&format!("select_{}_{}", bits(condition.dtype), bits(dst.dtype)), n, &arguments)
    }

    fn random(&self, stream: u32, key: View<'_, Buffer>, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        let n = dst.layout.shape().elements();
        let at = operand(key.layout)?;
        let arguments =
            [self.source(&key), at, Count(stream), self.target(&mut dst), Count(count(n)?)];
        self.launch(&format!("random_{}", name(dst.dtype)), n, &arguments)
    }

    fn reduce(
        &self,
        op: ReduceOp,
        axis: usize,
        src: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = dst.layout.shape().elements();
        let (extent, stride) = (src.layout.shape()[axis], src.layout.strides()[axis]);
        let shape = src.layout.shape().with_extent(axis, 1);
        let lines = Layout::from_parts(shape, src.layout.strides(), src.layout.offset());
        let op = match op {
            ReduceOp::Sum => 0,
            ReduceOp::Max => 1,
        };
        let (source, lines, target) = (self.source(&src), operand(&lines)?, self.target(&mut dst));
        let (extent, stride) = (Count(count(extent)?), Stride(stride as i64));
        let arguments = [Signed(op), source, lines, extent, stride, target, Count(count(n)?)];
        self.launch(&format!("reduce_{}", name(dst.dtype)), n, &arguments)
    }

    fn matmul(
        &self,
        a: View<'_, Buffer>,
        b: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = dst.layout.shape().elements();
        let rank = a.layout.shape().len();
        let [m, k] = [a.layout.shape()[rank - 2], a.layout.shape()[rank - 1]];
        let columns = b.layout.shape()[rank - 1];
        let (x, y) = (operand(a.layout)?, operand(b.layout)?);
        let (pa, pb, to) = (self.source(&a), self.source(&b), self.target(&mut dst));
        let [m, k, columns] = [count(m)?, count(k)?, count(columns)?].map(Count);
        let arguments = [pa, x, pb, y, to, m, k, columns, Count(count(n)?)];
        self.launch(&format!("matmul_{}", name(dst.dtype)), n, &arguments)
    }

    fn gather(
        &self,
        table: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = dst.layout.shape().elements();
        let width = Count(count(table.layout.shape()[1..].iter().product())?);
        let (rows, at) = (operand(table.layout)?, operand(ids.layout)?);
        let (pt, pi, to) = (self.source(&table), self.source(&ids), self.target(&mut dst));
        let arguments = [pt, rows, pi, at, to, width, Count(count(n)?)];
        self.launch(&format!("gather_{}", bits(dst.dtype)), n, &arguments)
    }

    fn scatter_add(
        &self,
        src: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        mut dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = dst.layout.shape().elements();
        let width = Count(count(dst.layout.shape()[1..].iter().product())?);
        let sources = Count(count(ids.layout.shape().elements())?);
        let (from, at) = (operand(src.layout)?, operand(ids.layout)?);
        let (ps, pi, to) = (self.source(&src), self.source(&ids), self.target(&mut dst));
        let arguments = [ps, from, pi, at, sources, to, width, Count(count(n)?)];
        self.launch(&format!("scatter_add_{}", name(dst.dtype)), n, &arguments)
    }

    fn write_rows(
        &self,
        src: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let n = src.layout.shape().elements();
        let width = Count(count(src.layout.shape()[1..].iter().product())?);
        let (from, at, to) = (operand(src.layout)?, operand(ids.layout)?, operand(dst.layout)?);
        let (ps, pi) = (self.source(&src), self.source(&ids));
        let target = Pointer(dst.buffer.at_mut(0, &self.stream));
        let arguments = [ps, from, pi, at, target, to, width, Count(count(n)?)];
        self.launch(&format!("write_rows_{}", bits(dst.dtype)), n, &arguments)
    }

    fn top_k(
        &self,
        k: usize,
        src: View<'_, Buffer>,
        mut values: ViewMut<'_, Buffer>,
        mut indices: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let (rows, columns) = (src.layout.shape()[0], src.layout.shape()[1]);
        let n = if k == 0 { 0 } else { rows };
        let from = operand(src.layout)?;
        let (to, at) = (self.target(&mut values), self.target(&mut indices));
        let (columns, k) = (count(columns)? as i32, count(k)? as i32);
        let arguments =
            [self.source(&src), from, Signed(columns), Signed(k), to, at, Count(count(rows)?)];
        self.launch(&format!("top_k_{}", name(src.dtype)), n, &arguments)
    }
}
