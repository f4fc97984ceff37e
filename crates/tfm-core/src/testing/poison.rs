//! A backend around another one, which fills memory that must not be read with NaN.

use crate::backend::{Outcome, Signature, View, ViewMut};
use crate::fused::Fused;
use crate::fused::FusedOp;
use crate::op::{BinaryOp, PackFormat, ReduceOp, UnaryOp};
use crate::{Backend, DType, HostSlice, Layout, RowSource, Tensor};

/// The same backend, but new memory and every contiguous destination hold NaN (or −1) before they
/// are written. So the laws notice a kernel that reads its destination or does not write all of it.
#[derive(Debug)]
pub struct Poisoned<B> {
    inner: B,
}

/// A destination that a method hands on.
type Target<'a, B> = ViewMut<'a, <B as Backend>::Buffer>;

impl<B: Backend> Poisoned<B> {
    /// `inner`, with poison.
    pub fn new(inner: B) -> Self {
        Poisoned { inner }
    }

    fn poison(&self, dst: &mut Target<'_, B>) -> Outcome {
        if !dst.layout.is_contiguous() {
            return Ok(());
        }
        let value = if dst.dtype.is_float() { f64::NAN } else { -1.0 };
        self.inner
            .fill(value, ViewMut { buffer: &mut *dst.buffer, dtype: dst.dtype, layout: dst.layout })
    }

    fn poisoned<'a>(&self, mut dst: Target<'a, B>) -> Outcome<Target<'a, B>> {
        self.poison(&mut dst)?;
        Ok(dst)
    }
}

impl<B: Backend> Backend for Poisoned<B> {
    type Buffer = B::Buffer;

    fn name(&self) -> String {
        self.inner.name()
    }
    fn fork(&self, threads: usize) -> Outcome<Self> {
        Ok(Poisoned { inner: self.inner.fork(threads)? })
    }
    fn settle(&self) -> Outcome {
        self.inner.settle()
    }
    fn limit_threads(&self, threads: usize) {
        self.inner.limit_threads(threads);
    }

    fn allocate(&self, dtype: DType, elements: usize) -> Outcome<B::Buffer> {
        let mut buffer = self.inner.allocate(dtype, elements)?;
        let layout = Layout::contiguous(&[elements].into());
        self.poison(&mut ViewMut { buffer: &mut buffer, dtype, layout: &layout })?;
        Ok(buffer)
    }
    fn upload(&self, src: HostSlice<'_>, dst: &mut B::Buffer) -> Outcome {
        self.inner.upload(src, dst)
    }
    fn download(&self, src: View<'_, B::Buffer>) -> Outcome<Tensor> {
        self.inner.download(src)
    }
    fn fill(&self, value: f64, dst: Target<'_, B>) -> Outcome {
        self.inner.fill(value, dst)
    }
    fn iota(&self, dst: Target<'_, B>) -> Outcome {
        self.inner.iota(self.poisoned(dst)?)
    }
    fn copy(&self, src: View<'_, B::Buffer>, dst: Target<'_, B>) -> Outcome {
        self.inner.copy(src, self.poisoned(dst)?)
    }
    fn unary(&self, op: UnaryOp, src: View<'_, B::Buffer>, dst: Target<'_, B>) -> Outcome {
        self.inner.unary(op, src, self.poisoned(dst)?)
    }
    fn binary(
        &self,
        op: BinaryOp,
        a: View<'_, B::Buffer>,
        b: View<'_, B::Buffer>,
        dst: Target<'_, B>,
    ) -> Outcome {
        self.inner.binary(op, a, b, self.poisoned(dst)?)
    }
    fn select(
        &self,
        condition: View<'_, B::Buffer>,
        a: View<'_, B::Buffer>,
        b: View<'_, B::Buffer>,
        dst: Target<'_, B>,
    ) -> Outcome {
        self.inner.select(condition, a, b, self.poisoned(dst)?)
    }
    fn random(&self, stream: u32, key: View<'_, B::Buffer>, dst: Target<'_, B>) -> Outcome {
        self.inner.random(stream, key, self.poisoned(dst)?)
    }
    fn reduce(
        &self,
        op: ReduceOp,
        axis: usize,
        src: View<'_, B::Buffer>,
        dst: Target<'_, B>,
    ) -> Outcome {
        self.inner.reduce(op, axis, src, self.poisoned(dst)?)
    }
    fn matmul(
        &self,
        a: View<'_, B::Buffer>,
        b: View<'_, B::Buffer>,
        dst: Target<'_, B>,
    ) -> Outcome {
        self.inner.matmul(a, b, self.poisoned(dst)?)
    }
    fn gather(
        &self,
        table: View<'_, B::Buffer>,
        ids: View<'_, B::Buffer>,
        dst: Target<'_, B>,
    ) -> Outcome {
        self.inner.gather(table, ids, self.poisoned(dst)?)
    }
    fn scatter_add(
        &self,
        src: View<'_, B::Buffer>,
        ids: View<'_, B::Buffer>,
        dst: Target<'_, B>,
    ) -> Outcome {
        self.inner.scatter_add(src, ids, self.poisoned(dst)?)
    }
    fn write_rows(
        &self,
        src: View<'_, B::Buffer>,
        ids: View<'_, B::Buffer>,
        dst: Target<'_, B>,
    ) -> Outcome {
        self.inner.write_rows(src, ids, dst)
    }
    fn top_k(
        &self,
        k: usize,
        src: View<'_, B::Buffer>,
        values: Target<'_, B>,
        indices: Target<'_, B>,
    ) -> Outcome {
        self.inner.top_k(k, src, self.poisoned(values)?, self.poisoned(indices)?)
    }
    fn supports(&self, op: &Fused, signature: &Signature<'_>) -> bool {
        self.inner.supports(op, signature)
    }
    fn fused(
        &self,
        op: &Fused,
        inputs: &[View<'_, B::Buffer>],
        outputs: &mut [Target<'_, B>],
    ) -> Outcome {
        let mut written = outputs.iter_mut().skip(op.in_place());
        written.try_for_each(|output| self.poison(output))?;
        self.inner.fused(op, inputs, outputs)
    }
    fn pack_format(
        &self,
        op: &Fused,
        operand: usize,
        signature: &Signature<'_>,
    ) -> Option<PackFormat> {
        self.inner.pack_format(op, operand, signature)
    }
    fn pack(&self, format: PackFormat, src: View<'_, B::Buffer>) -> Outcome<B::Buffer> {
        self.inner.pack(format, src)
    }
    fn pack_rows(&self, format: PackFormat, source: &dyn RowSource) -> Outcome<B::Buffer> {
        self.inner.pack_rows(format, source)
    }
}
