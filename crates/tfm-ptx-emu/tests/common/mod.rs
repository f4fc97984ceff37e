//! What the tests share: the compiled kernels, and test values.

#![allow(dead_code, reason = "each test uses a part")]

use tfm_ptx_emu::{Counters, Device, Fault, Launch, Module};

pub(crate) const PTX: &str = include_str!("../fixtures/kernels.ptx");

pub(crate) fn module() -> Module {
    Module::parse(PTX).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn bytes<T: Copy, const N: usize>(values: &[T], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|x| to(*x)).collect()
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

pub(crate) fn ints(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Numbers in [-1, 1) that look random.
pub(crate) fn noise(seed: u32, n: usize) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2654435761).wrapping_add(12345);
    let mut next = || {
        x = x.wrapping_mul(1664525).wrapping_add(1013904223);
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Runs a check under launches with several seeds, eager and lazy.
pub(crate) fn everywhere(run: impl Fn(Launch)) {
    for seed in 0..3 {
        for lazy in [false, true] {
            run(Launch { seed, lazy, ..Launch::default() });
        }
    }
}

pub(crate) fn launch(
    device: &mut Device,
    kernel: &str,
    shape: (u32, u32),
    launch: Launch,
    arguments: &[&[u8]],
) -> Result<Counters, Fault> {
    let launch = Launch { blocks: [shape.0, 1, 1], threads: [shape.1, 1, 1], ..launch };
    device.launch(&module(), kernel, &launch, arguments)
}
