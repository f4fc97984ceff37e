//! How weights are stored for products, and what they are made of.

use tfm_core::backend::{Outcome, View};
use tfm_core::fused::{Fused, Precision};
use tfm_core::op::PackFormat;
use tfm_core::{BackendError, RowSource};

use crate::CpuBackend;
use crate::buffer::{Buffer, from_offset, out_of_memory};
use crate::kernels::columns::{Columns, Read};
use crate::kernels::int8::DotIsa;
use crate::kernels::int8::pack::QuantizedWeight;
use crate::kernels::pack::{PackedWeight, Strided};

/// How a weight `[n, k]` of `f32` is stored for products of a precision.
const fn of(precision: Precision) -> PackFormat {
    PackFormat(match precision {
        Precision::Full => "cpu panels",
        Precision::BFloat16 => "cpu bf16 panels",
        Precision::Int8 => "cpu int8 panels",
    })
}

/// The precision of products that a format of this backend serves.
fn precision(format: PackFormat) -> Precision {
    let precision = Precision::ALL.into_iter().find(|&known| of(known) == format);
    precision.expect("a format of this backend")
}

/// The format in which an operand of `op` should be stored: see [`tfm_core::Backend::pack_format`].
pub(crate) fn format(op: &Fused, operand: usize) -> Option<PackFormat> {
    // An embedding's table is often the weight of the last product too. It is then stored once.
    let (weight, precision) = match op {
        Fused::Linear(op) => (op.positions().weight, op.precision),
        Fused::Embedding(op) => (op.positions().table, op.precision),
        Fused::TopOfLinear(op) => (op.positions().weight, op.precision),
        Fused::TopOfShortlist(op) => (op.positions().weight, op.precision),
        Fused::TopLogits(op) if op.positions().screen == Some(operand) => match op.precision {
            Precision::Full => (operand, Precision::Int8),
            other => (operand, other),
        },
        Fused::TopLogits(op) => (op.positions().weight, op.precision),
        _ => return None,
    };
    (operand == weight).then(|| of(precision))
}

/// Stores a weight in memory in a format.
pub(crate) fn pack(
    cpu: &CpuBackend,
    format: PackFormat,
    src: &View<'_, Buffer>,
) -> Outcome<Buffer> {
    packed(cpu, precision(format), strided(src))
}

/// Stores a weight whose rows are read while it is packed.
pub(crate) fn pack_rows(
    cpu: &CpuBackend,
    format: PackFormat,
    source: &dyn RowSource,
) -> Outcome<Buffer> {
    match precision(format) {
        Precision::Int8 if source.is_quantized() => {
            let packed = QuantizedWeight::of_integers(DotIsa::of(cpu.isa), &cpu.threads, source);
            packed.map(Buffer::Quantized).map_err(|_| no_memory(source.extents()))
        }
        precision => packed(cpu, precision, Read(source)),
    }
}

/// Packs a weight `[n, k]` in panels.
pub(crate) fn packed(
    cpu: &CpuBackend,
    precision: Precision,
    weight: impl Columns,
) -> Outcome<Buffer> {
    let (threads, extents) = (&cpu.threads, weight.extents());
    let packed = match precision {
        Precision::Full => PackedWeight::new(cpu.isa, threads, weight).map(Buffer::Packed),
        Precision::BFloat16 => PackedWeight::rounded(cpu.isa, threads, weight).map(Buffer::Pairs),
        Precision::Int8 => {
            QuantizedWeight::new(DotIsa::of(cpu.isa), threads, weight).map(Buffer::Quantized)
        }
    };
    packed.map_err(|_| no_memory(extents))
}

fn no_memory([n, k]: [usize; 2]) -> BackendError {
    out_of_memory(size_of::<f32>().saturating_mul(n).saturating_mul(k))
}

/// A weight `[n, k]` in memory, with its strides.
pub(crate) fn strided<'a>(weight: &View<'a, Buffer>) -> Strided<'a> {
    let (shape, strides) = (weight.layout.shape(), weight.layout.strides());
    Strided {
        data: from_offset(weight),
        n: shape[0],
        k: shape[1],
        column_stride: strides[0],
        input_stride: strides[1],
    }
}
