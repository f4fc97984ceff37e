//! What the tests of whole models share: where data lies, sessions on each backend, comparisons.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::Arc;
use tfm_core::Session;
use tfm_core::reference::Reference;
use tfm_cpu::CpuBackend;
use tfm_model::scheduler::{Limits, Scheduler, Settings};
use tfm_model::{Checkpoint, Config, Numerics, Parameters};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The checked-in fixture of that name.
pub(crate) fn fixture(name: &str) -> PathBuf {
    root().join("crates/tfm/tests/fixtures").join(name)
}

/// A path in the large test data: where `TFM_TEST_DATA` points, else `../shared`. `None`, and a
/// line that says so, where it is absent.
pub(crate) fn test_data(path: &str) -> Option<PathBuf> {
    let base =
        std::env::var_os("TFM_TEST_DATA").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = base.join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no {}", path.display());
    None
}

/// A checkpoint that must be good.
pub(crate) fn open(directory: PathBuf) -> Arc<Checkpoint> {
    match Checkpoint::open(&directory) {
        Ok(checkpoint) => Arc::new(checkpoint),
        Err(error) => panic!("{}: {error}", directory.display()),
    }
}

/// The CPU's session for a checkpoint.
pub(crate) fn cpu(checkpoint: &Arc<Checkpoint>, threads: usize) -> Session {
    Session::new(CpuBackend::new(threads).unwrap(), Arc::new(Parameters::new(checkpoint.clone())))
}

/// The f64 reference's session for a checkpoint.
pub(crate) fn reference(checkpoint: &Arc<Checkpoint>) -> Session {
    Session::new(Reference::<f64>::new(), Arc::new(Parameters::new(checkpoint.clone())))
}

/// `‖a − b‖/‖b‖`.
pub(crate) fn relative_distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b))).max(f64::MIN_POSITIVE)
}

/// The largest `|a − b|`, relative to the largest `|b|`.
pub(crate) fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(f64::MIN_POSITIVE, |max, &b| max.max(f64::from(b.abs())));
    let difference = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    difference.fold(
        0.0,
        |max, difference| if difference.is_nan() { f64::NAN } else { f64::max(max, difference) },
    ) / scale
}

/// A scheduler with so many workers, each with so many threads.
pub(crate) fn scheduler(
    session: &Session,
    config: &Arc<Config>,
    numerics: Numerics,
    (workers, threads): (usize, usize),
    limits: Limits,
) -> Scheduler {
    let settings = Settings { workers, threads, limits, ..Settings::default() };
    Scheduler::new(session, config, numerics, &settings).unwrap()
}
