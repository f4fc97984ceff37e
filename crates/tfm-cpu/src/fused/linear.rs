//! The ops whose weight may be packed: the linear layer and the embedding.

use std::borrow::Cow;

use tfm_core::BackendError;
use tfm_core::backend::{Outcome, View};
use tfm_core::fused::{
    Embedding, EmbeddingOperands, Linear, LinearOperands, Precision, TopLogits, TopLogitsOperands,
    TopOfLinear, TopOfLinearOperands,
};

use super::rows;
use crate::CpuBackend;
use crate::buffer::{Buffer, in_order, out_of_memory};
use crate::kernels::candidates::{Ranked, candidates};
use crate::kernels::embedding::{Table, embedding};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::gemm::{Projection, linear};
use crate::kernels::int8;
use crate::kernels::int8::quantize::QuantizedRows;
use crate::kernels::pack::Panels;
use crate::kernels::pairs::{at_once, floats, pair_rows};
use crate::kernels::rows::Rows;
use crate::kernels::screen::Screened;
use crate::weights::{packed, strided};

/// A weight as the kernels take it: packed at load, or for this call where it was not known then.
pub(super) enum Weight<'a> {
    Packed(&'a Buffer),
    Now(Box<Buffer>),
}

impl<'a> Weight<'a> {
    pub(super) fn new(
        cpu: &CpuBackend,
        precision: Precision,
        view: &View<'a, Buffer>,
    ) -> Outcome<Self> {
        Ok(match view.buffer {
            Buffer::Packed(_) | Buffer::Pairs(_) | Buffer::Quantized(_) => {
                Weight::Packed(view.buffer)
            }
            _ => Weight::Now(Box::new(packed(cpu, precision, strided(view))?)),
        })
    }

    pub(super) fn buffer(&self) -> &Buffer {
        match self {
            Weight::Packed(buffer) => buffer,
            Weight::Now(buffer) => buffer,
        }
    }
}

/// Runs a linear layer.
pub(super) fn run(
    cpu: &CpuBackend,
    op: &Linear,
    inputs: &[View<'_, Buffer>],
    out: &mut [f32],
) -> Outcome {
    let threads = &cpu.threads;
    let LinearOperands { x, weight, bias, residual } = op.operands(inputs);
    let (x, n) = (rows(&x), weight.layout.shape()[0]);
    let bias: Option<Cow<'_, [f32]>> = bias.as_ref().map(in_order);
    let residual = residual.as_ref().map(rows);
    let epilogue = Epilogue { bias: bias.as_deref(), activation: op.activation, residual };
    let memory = |elements| cpu.scratch.take(elements).map_err(|_| no_memory(elements));
    if op.precision == Precision::Full && !matches!(weight.buffer, Buffer::Packed(_)) {
        let weight = strided(&weight);
        let mut memory = memory(Panels::elements(cpu.isa, weight.n, weight.k))?;
        let weight = Panels::pack(cpu.isa, threads, weight, &mut memory);
        linear(threads, x, weight, epilogue, out, n);
        return Ok(());
    }
    product(cpu, x, Weight::new(cpu, op.precision, &weight)?.buffer(), epilogue, out, n)
}

/// The product with a packed weight of `n` columns, and what follows it.
pub(super) fn product(
    cpu: &CpuBackend,
    x: Rows<'_>,
    weight: &Buffer,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    n: usize,
) -> Outcome {
    let threads = &cpu.threads;
    match weight {
        Buffer::Packed(weight) => linear(threads, x, weight, epilogue, out, n),
        Buffer::Pairs(weight) => {
            let floats = floats(cpu.isa, x.cols());
            let elements = x.rows() * floats;
            let mut memory = cpu.scratch.take(elements).map_err(|_| no_memory(elements))?;
            pair_rows(cpu.isa, threads, x, &mut memory[..elements]);
            let x = Rows::new(&memory, x.rows(), floats, floats);
            match at_once(&weight.panels()) {
                Some(weight) => linear(threads, x, weight, epilogue, out, n),
                None => linear(threads, x, weight, epilogue, out, n),
            }
        }
        Buffer::Quantized(weight) => {
            int8::gemm::linear(threads, &cpu.scratch, x, weight, epilogue, out, n)
                .map_err(|_| no_memory(x.rows() * x.cols()))?;
        }
        _ => unreachable!("the weight is packed"),
    }
    Ok(())
}

/// Runs the output projection with the search for its best.
pub(super) fn run_top(
    cpu: &CpuBackend,
    op: &TopOfLinear,
    inputs: &[View<'_, Buffer>],
    values: &mut [f32],
    ids: &mut [i32],
) -> Outcome {
    let TopOfLinearOperands { x, weight, bias, bans } = op.operands(inputs);
    let bias: Option<Cow<'_, [f32]>> = bias.as_ref().map(in_order);
    let bans = in_order::<f32>(&bans);
    let weight = Weight::new(cpu, op.precision, &weight)?;
    let best = Wanted { bias: bias.as_deref(), bans: &bans, k: op.k, values, ids };
    best.find(cpu, Ranked::LogProbabilities, rows(&x), weight.buffer())
}

/// Runs the output projection with the search for its greatest.
pub(super) fn run_top_logits(
    cpu: &CpuBackend,
    op: &TopLogits,
    inputs: &[View<'_, Buffer>],
    values: &mut [f32],
    ids: &mut [i32],
) -> Outcome {
    let TopLogitsOperands { x, weight, screen, bias, bans } = op.operands(inputs);
    let x = rows(&x);
    let bias: Option<Cow<'_, [f32]>> = bias.as_ref().map(in_order);
    let bans = in_order::<f32>(&bans);
    let best = Wanted { bias: bias.as_deref(), bans: &bans, k: op.k, values, ids };
    if let (Buffer::Packed(weight), Some(Buffer::Quantized(screen))) =
        (weight.buffer, screen.map(|screen| screen.buffer))
    {
        let Wanted { bias, bans, k, values, ids } = best;
        let screened = Screened { x, weight: weight.panels(), screen, bias };
        return screened
            .greatest(cpu.isa, &cpu.threads, &cpu.scratch, bans, k, (values, ids))
            .map(|_| ())
            .map_err(|_| no_memory(x.rows() * (x.cols() + bans.len() / 16)));
    }
    let weight = Weight::new(cpu, op.precision, &weight)?;
    best.find(cpu, Ranked::Logits, x, weight.buffer())
}

/// The best of each row of a projection that are wanted, and where to.
struct Wanted<'a> {
    bias: Option<&'a [f32]>,
    bans: &'a [f32],
    k: usize,
    values: &'a mut [f32],
    ids: &'a mut [i32],
}

impl Wanted<'_> {
    fn find(self, cpu: &CpuBackend, ranked: Ranked, x: Rows<'_>, weight: &Buffer) -> Outcome {
        let CpuBackend { isa, threads, scratch, .. } = cpu;
        let Wanted { bias, bans, k, values, ids } = self;
        let (bans, out, n) = ((bans, ranked), (values, ids), bans.len());
        let found = match weight {
            Buffer::Packed(weight) => {
                let product = Projection { x, weight: weight.panels(), bias };
                candidates(*isa, threads, scratch, &product, bans, k, out)
            }
            Buffer::Pairs(weight) => {
                let floats = floats(*isa, x.cols());
                let elements = x.rows() * floats;
                let mut memory = scratch.take(elements).map_err(|_| no_memory(elements))?;
                pair_rows(*isa, threads, x, &mut memory[..elements]);
                let (x, weight) = (Rows::new(&memory, x.rows(), floats, floats), weight.panels());
                match at_once(&weight) {
                    Some(weight) => {
                        let product = Projection { x, weight, bias };
                        candidates(*isa, threads, scratch, &product, bans, k, out)
                    }
                    None => {
                        let product = Projection { x, weight, bias };
                        candidates(*isa, threads, scratch, &product, bans, k, out)
                    }
                }
            }
            Buffer::Quantized(weight) => QuantizedRows::new(weight.isa(), threads, scratch, x)
                .and_then(|x| {
                    let product = int8::gemm::Projection { x: &x, weight, bias };
                    candidates(*isa, threads, scratch, &product, bans, k, out)
                }),
            _ => unreachable!("the weight is packed"),
        };
        found.map_err(|_| no_memory(x.rows() * (x.cols() + n / 256)))
    }
}

pub(super) fn no_memory(elements: usize) -> BackendError {
    out_of_memory(size_of::<f32>() * elements)
}

/// Runs an embedding.
pub(super) fn embed(
    cpu: &CpuBackend,
    op: &Embedding,
    inputs: &[View<'_, Buffer>],
    out: &mut [f32],
) -> Outcome {
    let EmbeddingOperands { ids, table, positions, position_table } = op.operands(inputs);
    let ids = in_order(&ids);
    let positions = positions.as_ref().map(in_order);
    let positions = position_table.as_ref().map(rows).zip(positions.as_deref());
    let scale = op.scale as f32;
    let weight;
    let table = match table.buffer {
        Buffer::F32(_) if op.precision == Precision::Full => {
            let copy = in_order(&table);
            let table = match table.layout.as_rows() {
                Some(_) => rows(&table),
                None => Rows::contiguous(&copy, table.layout.shape()[1]),
            };
            embedding(Table::Rows(table), &ids, scale, positions, out);
            return Ok(());
        }
        _ => {
            weight = Weight::new(cpu, op.precision, &table)?;
            match weight.buffer() {
                Buffer::Packed(weight) => Table::Panels(weight.panels()),
                Buffer::Pairs(weight) => Table::Pairs(weight.panels()),
                Buffer::Quantized(weight) => Table::Quantized(weight),
                _ => unreachable!("the table is packed"),
            }
        }
    };
    embedding(table, &ids, scale, positions, out);
    Ok(())
}
