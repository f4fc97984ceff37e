//! The laws find faults: a backend that is right but for one thing breaks at least the law that is
//! about it.

use tfm_core::backend::{Outcome, View, ViewMut};
use tfm_core::op::{BinaryOp, ReduceOp, UnaryOp};
use tfm_core::reference::{Buffer, Reference};
use tfm_core::testing::{Candidate, laws};
use tfm_core::{Backend, DType, HostSlice, Layout, Tensor};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// `exp` errs by 2 in 100,000.
    InexactExp,
    /// Products lose the bits that bfloat16 has not.
    ShortProducts,
    /// Unary ops take every operand for contiguous.
    IgnoredStrides,
    /// The last row gathered is never written.
    MissingRow,
    /// Sums are added to what the memory held.
    StaleSums,
    /// Equal elements come in the wrong order.
    WrongTies,
    /// A sum depends, in its last bits, on how many there are.
    Company,
    /// Rows are written one place too far.
    WrongRow,
}

#[derive(Debug)]
struct Faulty {
    inner: Reference<f64>,
    fault: Fault,
}

type B = Buffer<f64>;

impl Faulty {
    fn new(fault: Fault) -> Self {
        Faulty { inner: Reference::new(), fault }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

/// Changes the first elements of a destination in place.
fn change(dst: &mut B, elements: usize, f: impl Fn(f64) -> f64) {
    if let Buffer::Floats(data) = dst {
        data[..elements].iter_mut().for_each(|x| *x = f(*x));
    }
}

impl Backend for Faulty {
    type Buffer = B;

    fn name(&self) -> String {
        format!("faulty ({:?})", self.fault)
    }
    fn fork(&self, _: usize) -> Outcome<Self> {
        Ok(Faulty::new(self.fault))
    }
    fn allocate(&self, dtype: DType, elements: usize) -> Outcome<B> {
        self.inner.allocate(dtype, elements)
    }
    fn upload(&self, src: HostSlice<'_>, dst: &mut B) -> Outcome {
        self.inner.upload(src, dst)
    }
    fn download(&self, src: View<'_, B>) -> Outcome<Tensor> {
        self.inner.download(src)
    }
    fn fill(&self, value: f64, dst: ViewMut<'_, B>) -> Outcome {
        self.inner.fill(value, dst)
    }
    fn iota(&self, dst: ViewMut<'_, B>) -> Outcome {
        self.inner.iota(dst)
    }
    fn copy(&self, src: View<'_, B>, dst: ViewMut<'_, B>) -> Outcome {
        self.inner.copy(src, dst)
    }
    fn unary(&self, op: UnaryOp, src: View<'_, B>, dst: ViewMut<'_, B>) -> Outcome {
        let taken = Layout::contiguous(src.layout.shape());
        let layout = if self.has(Fault::IgnoredStrides) { &taken } else { src.layout };
        let elements = dst.layout.end();
        self.inner.unary(
            op,
            View { layout, ..src },
            ViewMut { buffer: &mut *dst.buffer, dtype: dst.dtype, layout: dst.layout },
        )?;
        if self.has(Fault::InexactExp) && op == UnaryOp::Exp {
            change(dst.buffer, elements, |x| x * (1.0 + 2e-5));
        }
        Ok(())
    }
    fn binary(&self, op: BinaryOp, a: View<'_, B>, b: View<'_, B>, dst: ViewMut<'_, B>) -> Outcome {
        self.inner.binary(op, a, b, dst)
    }
    fn select(
        &self,
        condition: View<'_, B>,
        a: View<'_, B>,
        b: View<'_, B>,
        dst: ViewMut<'_, B>,
    ) -> Outcome {
        self.inner.select(condition, a, b, dst)
    }
    fn random(&self, stream: u32, key: View<'_, B>, dst: ViewMut<'_, B>) -> Outcome {
        self.inner.random(stream, key, dst)
    }
    fn reduce(&self, op: ReduceOp, axis: usize, src: View<'_, B>, dst: ViewMut<'_, B>) -> Outcome {
        let elements = dst.layout.end();
        let target = ViewMut { buffer: &mut *dst.buffer, dtype: dst.dtype, layout: dst.layout };
        self.inner.reduce(op, axis, src, target)?;
        if self.has(Fault::Company) {
            change(dst.buffer, elements, |x| x * (1.0 + 1e-7 * elements as f64 / 100.0));
        }
        Ok(())
    }
    fn matmul(&self, a: View<'_, B>, b: View<'_, B>, dst: ViewMut<'_, B>) -> Outcome {
        let elements = dst.layout.end();
        let target = ViewMut { buffer: &mut *dst.buffer, dtype: dst.dtype, layout: dst.layout };
        self.inner.matmul(a, b, target)?;
        if self.has(Fault::ShortProducts) {
            change(dst.buffer, elements, |x| half::bf16::from_f64(x).to_f64());
        }
        Ok(())
    }
    fn gather(&self, table: View<'_, B>, ids: View<'_, B>, dst: ViewMut<'_, B>) -> Outcome {
        let rows = ids.layout.shape().first().copied().unwrap_or(0);
        if !self.has(Fault::MissingRow) || rows == 0 {
            return self.inner.gather(table, ids, dst);
        }
        let ids_layout = ids.layout.slice(0, 0, rows - 1);
        let layout = dst.layout.slice(0, 0, rows - 1);
        let dst = ViewMut { layout: &layout, dtype: dst.dtype, buffer: dst.buffer };
        self.inner.gather(table, View { layout: &ids_layout, ..ids }, dst)
    }
    fn scatter_add(&self, src: View<'_, B>, ids: View<'_, B>, dst: ViewMut<'_, B>) -> Outcome {
        let before =
            self.download(View { buffer: dst.buffer, dtype: dst.dtype, layout: dst.layout })?;
        let target = ViewMut { buffer: &mut *dst.buffer, dtype: dst.dtype, layout: dst.layout };
        self.inner.scatter_add(src, ids, target)?;
        if let (Fault::StaleSums, Buffer::Floats(data)) = (self.fault, dst.buffer) {
            data.iter_mut().zip(before.to_f64()).for_each(|(sum, before)| *sum += before);
        }
        Ok(())
    }
    fn write_rows(&self, src: View<'_, B>, ids: View<'_, B>, dst: ViewMut<'_, B>) -> Outcome {
        let rows = dst.layout.shape()[0] as i32;
        let mut moved = self.allocate(DType::I32, ids.layout.shape()[0])?;
        let by = i32::from(self.has(Fault::WrongRow));
        let given = self.download(ids)?;
        let places: Vec<i32> =
            given.as_i32().into_iter().flatten().map(|id| (id + by) % rows).collect();
        self.upload(places[..].into(), &mut moved)?;
        let layout = Layout::contiguous(ids.layout.shape());
        self.inner.write_rows(src, View { buffer: &moved, layout: &layout, ..ids }, dst)
    }
    fn top_k(
        &self,
        k: usize,
        src: View<'_, B>,
        values: ViewMut<'_, B>,
        indices: ViewMut<'_, B>,
    ) -> Outcome {
        let ViewMut { buffer, .. } = indices;
        let shape = values.layout.shape().clone();
        let layout = Layout::contiguous(&shape);
        let target = ViewMut { buffer: &mut *buffer, dtype: DType::I32, layout: &layout };
        let taken = ViewMut { buffer: &mut *values.buffer, dtype: values.dtype, layout: &layout };
        self.inner.top_k(k, src, taken, target)?;
        if let (Fault::WrongTies, Buffer::Integers(ids), Buffer::Floats(best)) =
            (self.fault, buffer, values.buffer)
        {
            for i in 1..shape.elements() {
                if i % k != 0 && best[i] == best[i - 1] {
                    ids.swap(i, i - 1);
                }
            }
        }
        Ok(())
    }
}

#[test]
fn each_fault_breaks_a_law() {
    let expected = [
        (Fault::InexactExp, 1),
        (Fault::ShortProducts, 1),
        (Fault::IgnoredStrides, 3),
        (Fault::MissingRow, 1),
        (Fault::StaleSums, 1),
        (Fault::WrongTies, 1),
        (Fault::Company, 7),
        (Fault::WrongRow, 5),
    ];
    for (fault, number) in expected {
        let subject = Candidate::new(Faulty::new(fault)).with_dtypes(&[DType::F32]);
        let law = laws::all().iter().find(|law| law.number == number).expect("the law exists");
        let failure = law.check(&subject, &laws::Config::default());
        let failure = failure.expect_err(&format!("{fault:?} keeps law {number}"));

        // The seed alone brings the failure back.
        let replay = laws::Config { seed: Some(failure.seed), ..laws::Config::default() };
        let again = law.check(&subject, &replay).expect_err("the seed replays the failure");
        assert_eq!(again.law, failure.law);
    }
}
