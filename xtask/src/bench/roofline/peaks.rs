//! The CPU's peaks, which the program `peaks` of the benches measures, and the floor of a piece of
//! work.

use super::count::Work;
use crate::bench::cpu;
use crate::project::{self, Outcome};
use serde::Deserialize;
use std::process::Command;

const PROGRAM: &str = "peaks";
/// As in all benchmarks beside other programs.
const THREADS: usize = 2;

/// A peak, for each number of threads.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Peak {
    pub(super) name: String,
    kind: String,
    pub(super) best: Vec<f64>,
}

/// A product of the linear layer and its operations a second, for each number of threads.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Product {
    pub(super) kind: String,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) rows: usize,
    pub(super) best: Vec<f64>,
}

#[derive(Deserialize)]
struct Products {
    products: Vec<Product>,
}

/// The measurements.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Peaks {
    pub(super) threads: Vec<usize>,
    pub(super) giga_operations: Vec<Peak>,
    pub(super) gigabytes: Vec<Peak>,
    #[serde(skip)]
    pub(super) products: Vec<Product>,
    /// The bytes of the shared cache.
    #[serde(skip)]
    pub(super) cache: usize,
}

/// The precision of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    F32,
    Bf16,
    Int8,
}

impl Precision {
    pub(super) const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

    pub(super) fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }

    /// The bytes of a weight.
    pub(super) fn bytes(self) -> f64 {
        match self {
            Precision::F32 => 4.0,
            Precision::Bf16 => 2.0,
            Precision::Int8 => 1.0,
        }
    }
}

/// The least time that a piece of work can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    pub(super) seconds: f64,
    /// Whether memory sets the floor, instead of operations.
    pub(super) memory: bool,
}

impl Peaks {
    /// Builds and runs the program that measures.
    pub(super) fn measure() -> Outcome<Peaks> {
        let package =
            ["build", "--release", "--locked", "--package", "tfm-benches", "--bin", PROGRAM];
        project::run(project::cargo().args(package))?;
        let xtask = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut program = Command::new(xtask.with_file_name(PROGRAM));
        program.args(["--threads", &THREADS.to_string()]);
        let cache = cpu::last_cache();
        if let Some(bytes) = cache {
            program.args(["--cache", &bytes.to_string()]);
        }
        let peaks: Peaks = parsed(&project::output(&mut program)?)?;
        let products: Products = parsed(&project::output(program.arg("--products"))?)?;
        Ok(Peaks { products: products.products, cache: cache.unwrap_or(0), ..peaks })
    }

    /// The share of its precision's peak that a product reaches, for each number of threads.
    pub(super) fn shares(&self, product: &Product) -> Vec<f64> {
        let of = |kind: &str, at: usize| {
            let all = self.giga_operations.iter().filter(|peak| peak.kind == kind);
            all.filter_map(|peak| peak.best.get(at)).copied().fold(0.0, f64::max)
        };
        // If the CPU has no products of a kind, those of f32 replace them.
        let peak = |at| of(&product.kind, at).max(of("f32", at));
        product.best.iter().enumerate().map(|(at, best)| best / peak(at)).collect()
    }

    /// The best of a kind with all threads, in units a second.
    fn best(peaks: &[Peak], kind: &str) -> Option<f64> {
        let all = peaks.iter().filter(|peak| peak.kind == kind);
        all.filter_map(|peak| peak.best.last()).copied().reduce(f64::max).map(|giga| giga * 1e9)
    }

    /// Operations a second in a precision. A CPU without products of `bf16` or `int8` converts the
    /// numbers to `f32`.
    pub(super) fn operations(&self, precision: Precision) -> f64 {
        let f32 = Self::best(&self.giga_operations, "f32").unwrap_or(f64::NAN);
        Self::best(&self.giga_operations, precision.name()).map_or(f32, |peak| peak.max(f32))
    }

    /// Bytes a second of data that are read again and again. Data of at most half of the shared
    /// cache are assumed to stay in it.
    pub(super) fn bandwidth(&self, bytes: f64) -> f64 {
        let memory = Self::best(&self.gigabytes, "read").unwrap_or(f64::NAN);
        let cache = Self::best(&self.gigabytes, "cache").unwrap_or(memory);
        if bytes <= self.cache as f64 / 2.0 { cache } else { memory }
    }

    /// The floor of a piece of work that reads its weights once.
    pub(super) fn floor(&self, work: Work, precision: Precision) -> Floor {
        let f32 = self.operations(Precision::F32);
        let operations = work.operations / self.operations(precision) + work.attention / f32;
        let bytes = work.weights * precision.bytes() + work.keys;
        let memory = bytes / self.bandwidth(bytes);
        Floor { seconds: operations.max(memory), memory: memory > operations }
    }

    /// The floor of parts that follow one another. The part that takes longest says what sets it.
    pub(super) fn floor_of_all(&self, parts: &[Work], precision: Precision) -> Floor {
        let floors: Vec<Floor> = parts.iter().map(|&part| self.floor(part, precision)).collect();
        let sum = |memory: bool| -> f64 {
            floors.iter().filter(|floor| floor.memory == memory).map(|floor| floor.seconds).sum()
        };
        let [operations, memory] = [sum(false), sum(true)];
        Floor { seconds: operations + memory, memory: memory > operations }
    }
}

fn parsed<T: serde::de::DeserializeOwned>(printed: &str) -> Outcome<T> {
    serde_json::from_str(printed).map_err(|error| format!("{PROGRAM} printed {printed:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peaks() -> Peaks {
        let peak = |kind: &str, best: f64| Peak {
            name: String::new(),
            kind: kind.into(),
            best: vec![1.0, best],
        };
        Peaks {
            threads: vec![1, 2],
            giga_operations: vec![peak("f32", 200.0), peak("int8", 300.0), peak("int8", 400.0)],
            gigabytes: vec![peak("read", 20.0), peak("cache", 100.0)],
            products: Vec::new(),
            cache: 32 << 20,
        }
    }

    #[test]
    fn the_floor_is_that_of_what_takes_longer() {
        let peaks = peaks();
        let few = Work { operations: 2e8, weights: 1e8, ..Work::default() };
        let floor = peaks.floor(few, Precision::F32);
        assert!(floor.memory && (floor.seconds - 4e8 / 20e9).abs() < 1e-12);
        let many = Work { operations: 8e9, ..few };
        let floor = peaks.floor(many, Precision::Int8);
        assert!(!floor.memory && (floor.seconds - 8e9 / 400e9).abs() < 1e-12);
        let both = peaks.floor_of_all(&[few, many], Precision::F32);
        assert!(!both.memory && (both.seconds - 0.02 - 0.04).abs() < 1e-12);
        // The CPU has no products of bf16, so those of f32 count.
        assert_eq!(peaks.operations(Precision::Bf16), 200e9);
    }

    #[test]
    fn shares_are_of_the_best_peak_of_the_precision() {
        let product = |kind: &str| Product {
            kind: kind.into(),
            inputs: 1,
            outputs: 1,
            rows: 1,
            best: vec![0.5, 100.0],
        };
        assert_eq!(peaks().shares(&product("int8")), [0.5, 0.25]);
        assert_eq!(peaks().shares(&product("bf16")), [0.5, 0.5]);
    }

    #[test]
    fn small_weights_stay_in_the_cache() {
        assert_eq!(peaks().bandwidth(16e6), 100e9);
        assert_eq!(peaks().bandwidth(17e6), 20e9);
    }
}
