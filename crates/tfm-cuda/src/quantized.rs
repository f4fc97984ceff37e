//! Rows of 8-bit integers, each with its own scale: their layout, and the kernels that make them.

use crate::backend::CudaBackend;
use crate::buffer::{Buffer, Form};
use crate::fused::{row_threads, rows};
use crate::launch::{Call, Grid};
use crate::workspace::Scratch;
use std::ops::Deref;
use tfm_core::backend::{Outcome, View};
use tfm_core::op::PackFormat;
use tfm_core::{Backend, DType, HostSlice, Layout, RowSource};

/// The format of a weight `[n, k]` that is stored as `n` quantised rows.
pub(crate) const FORMAT: PackFormat = PackFormat("cuda int8 rows");
/// The longest row whose product with another still has its sum in 32 bits: `k·127² < 2³¹`.
pub(crate) const LONGEST: usize = (1 << 31) / (127 * 127);

/// A weight in the form that the kernels take. Either the load has stored it so, or this call
/// quantises it, because the load did not know it as a weight.
pub(crate) enum Weight<'a> {
    FromLoad(&'a Buffer),
    FromCall(Scratch<'a>),
}

impl Deref for Weight<'_> {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        match self {
            Weight::FromLoad(buffer) => buffer,
            Weight::FromCall(scratch) => scratch,
        }
    }
}

/// The size, counted in elements of `f32`, of the kernels' `Quantized`: the scales, and at the next
/// multiple of 128 bytes the rows, each a multiple of 16 bytes long.
fn elements(rows: usize, columns: usize) -> usize {
    let padded = columns.next_multiple_of(16);
    rows.next_multiple_of(32).saturating_add(rows.saturating_mul(padded / DType::F32.size()))
}

/// Launches a kernel that writes one quantised row for each row of the matrix.
fn quantize(call: Call<'_>, matrix: &Layout, out: &mut Buffer) -> Outcome {
    let (rows, columns) = (matrix.shape().rows(), matrix.shape().last_extent());
    let call = call.scratch(out, elements(rows, columns)).count(rows).count(columns);
    call.launch(Grid { blocks: [rows, 1, 1], threads: row_threads(columns), shared: 0 })
}

impl CudaBackend {
    /// Quantises the rows of activations.
    pub(crate) fn quantized_rows(&self, x: &View<'_, Buffer>) -> Outcome<Scratch<'_>> {
        let (n, columns, stride) = rows(x.layout);
        let mut out = self.scratch(DType::F32, elements(n, columns))?;
        let call = self.call("quantize", "quantize_rows").source(x).stride(stride);
        quantize(call, x.layout, &mut out)?;
        Ok(out)
    }

    /// A quantised weight, from a weight `[n, k]` of any strides or from what
    /// [`CudaBackend::stored_weight`] has made of it.
    pub(crate) fn quantized_weight<'a>(&'a self, weight: &View<'a, Buffer>) -> Outcome<Weight<'a>> {
        if weight.buffer.form == Form::Quantized {
            return Ok(Weight::FromLoad(weight.buffer));
        }
        let shape = weight.layout.shape();
        let mut out = self.scratch(DType::F32, elements(shape[0], shape[1]))?;
        self.quantize_weight(weight, &mut out)?;
        Ok(Weight::FromCall(out))
    }

    /// Quantises a weight and stores it in the format [`FORMAT`].
    pub(crate) fn stored_weight(&self, weight: &View<'_, Buffer>) -> Outcome<Buffer> {
        let shape = weight.layout.shape();
        let mut out = self.allocate(DType::F32, elements(shape[0], shape[1]))?;
        self.quantize_weight(weight, &mut out)?;
        Ok(Buffer { form: Form::Quantized, ..out })
    }

    /// Stores a weight that is quantised already in the format [`FORMAT`].
    pub(crate) fn stored_integers(&self, source: &dyn RowSource) -> Outcome<Buffer> {
        let [n, k] = source.extents();
        let mut words = vec![0.0; elements(n, k)];
        let (scales, rows) = words.split_at_mut(n.next_multiple_of(32));
        let mut integers = vec![0; k];
        let row_words = k.next_multiple_of(16) / DType::F32.size();
        for (row, scale) in scales[..n].iter_mut().enumerate() {
            source.read_quantized(row, &mut integers, std::slice::from_mut(scale));
            let words = &mut rows[row * row_words..][..row_words];
            for (word, integers) in words.iter_mut().zip(integers.chunks(DType::F32.size())) {
                let mut bytes = [0; 4];
                bytes.iter_mut().zip(integers).for_each(|(byte, &integer)| *byte = integer as u8);
                *word = f32::from_bits(u32::from_le_bytes(bytes));
            }
        }
        let mut out = self.allocate(DType::F32, words.len())?;
        self.upload(HostSlice::F32(&words), &mut out)?;
        Ok(Buffer { form: Form::Quantized, ..out })
    }

    fn quantize_weight(&self, weight: &View<'_, Buffer>, out: &mut Buffer) -> Outcome {
        let strides = weight.layout.strides();
        let call = self.call("quantize", "quantize_weight").source(weight);
        quantize(call.stride(strides[0]).stride(strides[1]), weight.layout, out)
    }
}
