//! Weights that are read row by row while they are packed equal those that are packed from memory,
//! bit for bit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tfm_core::fused::{Embedding, Linear, Precision, quantized};
use tfm_core::{
    CompileOptions, DType, Graph, MemoryRows, ParameterSource, RowSource, Session, Tensor,
};
use tfm_cpu::CpuBackend;
use tfm_cpu::kernels::simd::Isa;

/// How a source gives its matrices.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Give {
    Whole,
    Rows,
    Integers,
    /// Rows that do not have the shape that was asked for.
    WrongRows,
    Failing,
}

struct Source {
    matrices: HashMap<&'static str, ([usize; 2], Vec<f32>)>,
    give: Give,
    loads: AtomicUsize,
}

/// A matrix that was quantised already.
struct Integers {
    columns: usize,
    integers: Vec<i8>,
    scales: Vec<f32>,
}

impl Integers {
    fn new(values: &[f32], columns: usize) -> Integers {
        let mut integers = vec![0; values.len()];
        let rows = values.chunks(columns).zip(integers.chunks_mut(columns));
        let scales = rows.map(|(row, out)| quantized::quantize(row, out)).collect();
        Integers { columns, integers, scales }
    }
}

impl RowSource for Integers {
    fn extents(&self) -> [usize; 2] {
        [self.scales.len(), self.columns]
    }

    fn read(&self, first: usize, out: &mut [f32]) {
        let numbers = self.integers[first * self.columns..].iter().enumerate();
        for (out, (i, &integer)) in out.iter_mut().zip(numbers) {
            *out = self.scales[first + i / self.columns] * f32::from(integer);
        }
    }

    fn is_quantized(&self) -> bool {
        true
    }

    fn read_quantized(&self, first: usize, integers: &mut [i8], scales: &mut [f32]) {
        integers.copy_from_slice(&self.integers[first * self.columns..][..integers.len()]);
        scales.copy_from_slice(&self.scales[first..][..scales.len()]);
    }
}

impl ParameterSource for Source {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let (shape, values) = &self.matrices[name];
        Tensor::from_f32(*shape, values.clone()).map_err(|error| error.to_string())
    }

    fn rows<'a>(&'a self, name: &str) -> Result<Option<Box<dyn RowSource + 'a>>, String> {
        let ([_, columns], values) = &self.matrices[name];
        let rows = MemoryRows { values, columns: *columns };
        Ok(match self.give {
            Give::Whole => None,
            Give::Rows => Some(Box::new(rows)),
            Give::Integers => Some(Box::new(Integers::new(values, *columns))),
            Give::WrongRows => Some(Box::new(MemoryRows { columns: columns + 1, ..rows })),
            Give::Failing => return Err("the file is gone".into()),
        })
    }
}

fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Three matrices of `columns` columns. Two of them are read as one, and the third also row by row.
fn source(columns: usize, give: Give) -> Arc<Source> {
    let matrix = |seed, rows: usize| ([rows, columns], noise(seed, rows * columns));
    let matrices = [("a", matrix(1, 37)), ("b", matrix(2, 100)), ("table", matrix(3, 333))];
    Arc::new(Source { matrices: matrices.into(), give, loads: AtomicUsize::new(0) })
}

/// Products with all three, and every row of the table.
fn graph(columns: usize, precision: Precision) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, [3, columns]);
    let linear = Linear { precision, ..Linear::default() };
    let embedding = Embedding { scale: 1.0, precision, ..Embedding::default() };
    for (name, rows) in [("a", 37), ("b", 100)] {
        let weight = graph.parameter(name, DType::F32, [rows, columns]);
        let y = graph.fused(linear, &[x, weight]);
        graph.output(y);
    }
    let table = graph.parameter("table", DType::F32, [333, columns]);
    let ids = graph.indices("ids", 333, [333]);
    let rows = graph.fused(embedding, &[ids, table]);
    graph.output(rows);
    let twice = graph.add(x, x);
    let y = graph.fused(linear, &[twice, table]);
    graph.output(y);
    graph
}

fn outputs(cpu: CpuBackend, source: Arc<Source>, precision: Precision) -> Vec<Tensor> {
    let columns = source.matrices["a"].0[1];
    let (x, ids) = (noise(4, 3 * columns), (0..333).collect::<Vec<i32>>());
    let mut session = Session::new(cpu, source);
    let program = session.compile(&graph(columns, precision), &CompileOptions::default()).unwrap();
    session.run(&program, &[("x", x[..].into()), ("ids", ids[..].into())], &mut []).unwrap()
}

#[test]
fn read_row_by_row_or_whole_a_weight_is_the_same() {
    // With few columns many panels are packed together, with many one at a time.
    for columns in [1, 70, 2501] {
        for isa in Isa::available() {
            for threads in [1, 3] {
                for precision in Precision::ALL {
                    let run = |give| {
                        let source = source(columns, give);
                        let cpu = CpuBackend::with_isa(isa, threads).unwrap();
                        let outputs = outputs(cpu, source.clone(), precision);
                        (outputs, source.loads.load(Ordering::Relaxed))
                    };
                    let (whole, loads) = run(Give::Whole);
                    assert_eq!(loads, 3, "each is read once");
                    assert_eq!(run(Give::Rows), (whole.clone(), 0), "{columns} {precision:?}");
                    if precision == Precision::Int8 {
                        assert_eq!(run(Give::Integers), (whole, 0), "{columns} {isa:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn integers_serve_other_precisions_as_the_numbers_they_stand_for() {
    let integers = source(70, Give::Integers);
    let mut numbers = source(70, Give::Whole);
    for ([_, columns], values) in
        Arc::get_mut(&mut numbers).expect("not shared yet").matrices.values_mut()
    {
        let quantized = Integers::new(values, *columns);
        quantized.read(0, values);
    }
    for precision in [Precision::Full, Precision::BFloat16] {
        let cpu = || CpuBackend::new(2).unwrap();
        assert_eq!(
            outputs(cpu(), integers.clone(), precision),
            outputs(cpu(), numbers.clone(), precision)
        );
    }
}

#[test]
fn what_a_source_says_of_its_rows_is_checked() {
    let fault = |give| {
        let mut session = Session::new(CpuBackend::new(1).unwrap(), source(36, give));
        let graph = graph(36, Precision::Full);
        session.compile(&graph, &CompileOptions::default()).unwrap_err().to_string()
    };
    let wrong = fault(Give::WrongRows);
    assert_eq!(wrong, "parameter `a`: the graph declares f32 [37, 36], but it is f32 [36, 37]");
    assert_eq!(fault(Give::Failing), "parameter `a`: the file is gone");
}
