//! The laws of all backends, on every instruction set of this machine.

use tfm_core::testing::{Candidate, laws};
use tfm_cpu::CpuBackend;
use tfm_cpu::kernels::simd::Isa;

fn check(name: &str) {
    // A set that this machine lacks cannot be tested on it.
    let Some(isa) = Isa::by_name(name) else { return eprintln!("skipped: this CPU has no {name}") };
    let backend = CpuBackend::with_isa(isa, 1).expect("one thread needs nothing");
    laws::assert_all(&Candidate::new(backend), &laws::Config::from_environment());
}

#[test]
fn portable() {
    check("portable");
}

#[test]
fn avx2() {
    check("avx2");
}

#[test]
fn avx512() {
    check("avx512");
}

#[test]
fn amx() {
    check("amx");
}

#[test]
fn neon() {
    check("neon");
}
