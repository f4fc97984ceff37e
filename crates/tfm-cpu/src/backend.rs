//! [`CpuBackend`]: each method of the trait finds the kernel for its types.

use tfm_core::backend::{Outcome, Signature, View, ViewMut};
use tfm_core::fused::Fused;
use tfm_core::op::{BinaryOp, PackFormat, ReduceOp, UnaryOp};
use tfm_core::{Backend, BackendError, DType, HostSlice, RowSource, Tensor, TensorData, philox};

use crate::buffer::{Buffer, Element, allocate, destination, from_offset, in_order, with_element};
use crate::kernels::philox::fill_uniform;
use crate::kernels::rows::Rows;
use crate::kernels::scratch::Scratch;
use crate::kernels::simd::Isa;
use crate::kernels::threads::Threads;
use crate::kernels::top_k::top_k;
use crate::selections::Selections;
use crate::{fused, primitive, products, strided, weights};

/// The CPU as a backend.
///
/// An element of a result depends only on its operands: not on the number of threads and, for
/// linear layers, attention and the other fused ops, not on the other rows of the call. (In a
/// product of two matrices of which neither is a weight, the number of rows may change the last
/// bits.)
#[derive(Debug)]
pub struct CpuBackend {
    pub(crate) isa: Isa,
    pub(crate) threads: Threads,
    pub(crate) scratch: Scratch,
    pub(crate) selections: Selections,
}

impl CpuBackend {
    /// A backend with `threads` threads, including the caller's; 0 stands for one for each core. It
    /// uses the best instruction set, or the one that the environment's `TFM_CPU_ISA` names.
    ///
    /// # Errors
    /// This CPU lacks the named instruction set, or the system starts no threads.
    pub fn new(threads: usize) -> Outcome<CpuBackend> {
        let isa = match std::env::var("TFM_CPU_ISA") {
            Ok(name) => Isa::by_name(&name).ok_or_else(|| device_error(no_such_isa(&name)))?,
            Err(_) => Isa::best(),
        };
        CpuBackend::with_isa(isa, threads)
    }

    /// A backend on a given instruction set; see [`CpuBackend::new`].
    ///
    /// # Errors
    /// The system starts no threads.
    pub fn with_isa(isa: Isa, threads: usize) -> Outcome<CpuBackend> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let threads = Threads::new(threads)
            .map_err(|error| device_error(format!("cannot start {threads} threads: {error}")))?;
        Ok(CpuBackend { isa, threads, scratch: Scratch::new(), selections: Selections::default() })
    }
}

fn no_such_isa(name: &str) -> String {
    let available: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
    format!(
        "TFM_CPU_ISA={name}: this CPU has {}; name one of them, or unset it",
        available.join(", ")
    )
}

fn device_error(problem: String) -> BackendError {
    BackendError::Device { backend: "cpu".into(), problem }
}

/// Evaluates `$float` with `$T` standing for a float type, or `$integer`.
macro_rules! float_or_integer {
    ($dtype:expr, $T:ident => $float:expr, $integer:expr) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $float
            }
            DType::F16 => {
                type $T = half::f16;
                $float
            }
            DType::BF16 => {
                type $T = half::bf16;
                $float
            }
            DType::I32 => $integer,
        }
    };
}

impl Backend for CpuBackend {
    type Buffer = Buffer;

    fn name(&self) -> String {
        let count = self.threads.count();
        format!("cpu ({}, {count} thread{})", self.isa.name(), if count == 1 { "" } else { "s" })
    }

    fn fork(&self, threads: usize) -> Outcome<CpuBackend> {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.fork(if threads == 0 { all } else { threads });
        let threads =
            threads.map_err(|error| device_error(format!("cannot start threads: {error}")))?;
        let (isa, selections) = (self.isa, Selections::default());
        Ok(CpuBackend { isa, threads, scratch: Scratch::new(), selections })
    }

    fn limit_threads(&self, threads: usize) {
        self.threads.limit(threads);
    }

    fn allocate(&self, dtype: DType, elements: usize) -> Outcome<Buffer> {
        allocate(dtype, elements)
    }

    fn enlarge(&self, buffer: &mut Buffer, elements: usize) -> Outcome<bool> {
        Ok(match buffer {
            Buffer::F32(data) => data.enlarge(elements),
            Buffer::F16(data) => data.enlarge(elements),
            Buffer::BF16(data) => data.enlarge(elements),
            Buffer::I32(data) => data.enlarge(elements),
            Buffer::Packed(_) | Buffer::Pairs(_) | Buffer::Quantized(_) => false,
        })
    }

    fn upload(&self, src: HostSlice<'_>, dst: &mut Buffer) -> Outcome {
        fn put<T: Element>(src: &[T], dst: &mut Buffer) {
            T::slice_mut(dst)[..src.len()].copy_from_slice(src);
        }
        match src {
            HostSlice::F32(src) => put(src, dst),
            HostSlice::F16(src) => put(src, dst),
            HostSlice::BF16(src) => put(src, dst),
            HostSlice::I32(src) => put(src, dst),
        }
        Ok(())
    }

    fn adopt(&self, tensor: Tensor) -> Outcome<Buffer> {
        Ok(match tensor.into_data() {
            TensorData::F32(data) => Buffer::F32(data.into()),
            TensorData::F16(data) => Buffer::F16(data.into()),
            TensorData::BF16(data) => Buffer::BF16(data.into()),
            TensorData::I32(data) => Buffer::I32(data.into()),
        })
    }

    fn download(&self, src: View<'_, Buffer>) -> Outcome<Tensor> {
        let data = match src.dtype {
            DType::F32 => TensorData::F32(in_order(&src).into_owned()),
            DType::F16 => TensorData::F16(in_order(&src).into_owned()),
            DType::BF16 => TensorData::BF16(in_order(&src).into_owned()),
            DType::I32 => TensorData::I32(in_order(&src).into_owned()),
        };
        Ok(Tensor::new(src.layout.shape().clone(), data).expect("one value an element"))
    }

    fn fill(&self, value: f64, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        with_element!(dst.dtype, T => {
            let value = T::from_f64(value);
            self.threads.rows(destination::<T>(&mut dst), 1, 2, |_, out| out.fill(value));
        });
        Ok(())
    }

    fn iota(&self, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        destination::<i32>(&mut dst).iter_mut().zip(0..).for_each(|(x, i)| *x = i);
        Ok(())
    }

    fn copy(&self, src: View<'_, Buffer>, dst: ViewMut<'_, Buffer>) -> Outcome {
        if dst.layout.shape().contains(&0) {
            return Ok(());
        }
        let offset = dst.layout.offset();
        with_element!(src.dtype, T => {
            let data = from_offset::<T>(&src);
            if src.dtype == dst.dtype {
                let out = &mut T::slice_mut(dst.buffer)[offset..];
                if src.layout.is_contiguous() && dst.layout.is_contiguous() {
                    let out = &mut out[..dst.layout.shape().elements()];
                    self.threads.rows(out, 1, 4, |range, out| out.copy_from_slice(&data[range]));
                } else {
                    strided::copy(data, src.layout, out, dst.layout);
                }
            } else if (src.dtype, dst.dtype) == (DType::F32, DType::BF16) {
                let data = from_offset(&src);
                let out = &mut half::bf16::slice_mut(dst.buffer)[offset..];
                strided::round_to_bf16(self.isa, data, src.layout, out, dst.layout);
            } else {
                with_element!(dst.dtype, U => {
                    let out = &mut U::slice_mut(dst.buffer)[offset..];
                    strided::convert::<T, U>(data, src.layout, out, dst.layout);
                });
            }
        });
        Ok(())
    }

    fn unary(&self, op: UnaryOp, src: View<'_, Buffer>, dst: ViewMut<'_, Buffer>) -> Outcome {
        float_or_integer!(
            dst.dtype,
            T => primitive::unary::<T>(self, op, src, dst),
            primitive::unary_i32(
                match op {
                    UnaryOp::Neg => i32::wrapping_neg,
                    UnaryOp::Abs => i32::wrapping_abs,
                    _ => unreachable!("{op:?} takes no integers"),
                },
                src,
                dst,
            )
        );
        Ok(())
    }

    fn binary(
        &self,
        op: BinaryOp,
        a: View<'_, Buffer>,
        b: View<'_, Buffer>,
        dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        float_or_integer!(
            dst.dtype,
            T => primitive::binary::<T>(self, op, a, b, dst),
            primitive::binary_i32(
                match op {
                    BinaryOp::Add => i32::wrapping_add,
                    BinaryOp::Sub => i32::wrapping_sub,
                    BinaryOp::Mul => i32::wrapping_mul,
                    BinaryOp::Div => |a, b| if b == 0 { 0 } else { a.wrapping_div(b) },
                    BinaryOp::Max => |a, b| a.max(b),
                    BinaryOp::Min => |a, b| a.min(b),
                    BinaryOp::Less => |a, b| i32::from(a < b),
                    BinaryOp::Equal => |a, b| i32::from(a == b),
                },
                a,
                b,
                dst,
            )
        );
        Ok(())
    }

    fn select(
        &self,
        condition: View<'_, Buffer>,
        a: View<'_, Buffer>,
        b: View<'_, Buffer>,
        dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        with_element!(condition.dtype, C => {
            with_element!(dst.dtype, T => primitive::select::<C, T>(&self.threads, condition, a, b, dst))
        });
        Ok(())
    }

    fn random(&self, stream: u32, key: View<'_, Buffer>, mut dst: ViewMut<'_, Buffer>) -> Outcome {
        let key = in_order::<i32>(&key);
        let key = [key[0], key[1], key[2]];
        if dst.dtype == DType::F32 {
            let out = destination::<f32>(&mut dst);
            self.threads.rows(out, 1, 30, |range, out| {
                fill_uniform(self.isa, key, stream, range.start as u64, out);
            });
            return Ok(());
        }
        with_element!(dst.dtype, T => {
            for (position, x) in destination::<T>(&mut dst).iter_mut().enumerate() {
                *x = T::from_f32(philox::uniform(key, stream, position));
            }
        });
        Ok(())
    }

    fn reduce(
        &self,
        op: ReduceOp,
        axis: usize,
        src: View<'_, Buffer>,
        dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        match dst.dtype {
            DType::F32 => primitive::reduce_f32(self, op, axis, src, dst),
            DType::F16 => primitive::reduce::<half::f16>(self, op, axis, src, dst),
            DType::BF16 => primitive::reduce::<half::bf16>(self, op, axis, src, dst),
            DType::I32 => primitive::reduce_i32(op, axis, src, dst),
        }
        Ok(())
    }

    fn matmul(
        &self,
        a: View<'_, Buffer>,
        b: View<'_, Buffer>,
        dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        products::matmul(self, a, b, dst)
    }

    fn gather(
        &self,
        table: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        with_element!(dst.dtype, T => primitive::gather::<T>(&self.threads, table, ids, dst));
        Ok(())
    }

    fn scatter_add(
        &self,
        src: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        fn add<T: Element>(a: T, b: T) -> T {
            T::from_f32(a.to_f32() + b.to_f32())
        }
        match dst.dtype {
            DType::F32 => primitive::scatter_add_f32(self, src, ids, dst),
            DType::F16 => primitive::scatter_add::<half::f16>(add, src, ids, dst),
            DType::BF16 => primitive::scatter_add::<half::bf16>(add, src, ids, dst),
            DType::I32 => primitive::scatter_add::<i32>(i32::wrapping_add, src, ids, dst),
        }
        Ok(())
    }

    fn write_rows(
        &self,
        src: View<'_, Buffer>,
        ids: View<'_, Buffer>,
        dst: ViewMut<'_, Buffer>,
    ) -> Outcome {
        with_element!(dst.dtype, T => primitive::write_rows::<T>(src, ids, dst));
        Ok(())
    }

    fn top_k(
        &self,
        k: usize,
        src: View<'_, Buffer>,
        mut values: ViewMut<'_, Buffer>,
        mut indices: ViewMut<'_, Buffer>,
    ) -> Outcome {
        let (rows, cols) = (src.layout.shape()[0], src.layout.shape()[1]);
        let indices = destination::<i32>(&mut indices);
        with_element!(src.dtype, T => {
            let data = in_order::<T>(&src);
            let x = Rows::new(&data, rows, cols, cols);
            top_k(&self.threads, x, k, destination::<T>(&mut values), indices);
        });
        Ok(())
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
        weights::format(op, operand)
    }

    fn pack(&self, format: PackFormat, src: View<'_, Buffer>) -> Outcome<Buffer> {
        weights::pack(self, format, &src)
    }

    fn pack_rows(&self, format: PackFormat, source: &dyn RowSource) -> Outcome<Buffer> {
        weights::pack_rows(self, format, source)
    }
}
