//! Kernels that `nvcc` compiled (`fixtures/kernels.cu`), against what they should compute.

use half::{bf16, f16};
use tfm_ptx_emu::{Device, Launch, Problem};

mod common;

use common::{bytes, everywhere, floats, ints, launch, noise};

#[test]
fn saxpy() {
    let (x, y) = (noise(1, 1000), noise(2, 1000));
    everywhere(|how| {
        let mut device = Device::new();
        let (dx, dy) = (
            device.upload(&bytes(&x, f32::to_le_bytes)),
            device.upload(&bytes(&y, f32::to_le_bytes)),
        );
        let arguments: [&[u8]; 4] =
            [&dx.to_le_bytes(), &dy.to_le_bytes(), &3f32.to_le_bytes(), &1000i32.to_le_bytes()];
        let counters = launch(&mut device, "saxpy", (4, 256), how, &arguments).unwrap();
        let found = floats(&device.download(dy, 4000).unwrap());
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 3f32.mul_add(*x, *y)).collect();
        assert_eq!(found, expected);
        // The kernel reads each of 1,000 elements twice and writes it once; the lanes of a warp
        // access adjacent elements.
        assert_eq!((counters.global_bytes, counters.global_sectors), (12_000, 375));
        // With more elements than there are, the first access out of bounds is found.
        let mut beyond = arguments;
        let count = 1001i32.to_le_bytes();
        beyond[3] = &count;
        let fault = launch(&mut device, "saxpy", (4, 256), how, &beyond).unwrap_err();
        assert!(
            matches!(fault.problem, Problem::OutOfBounds { space: "global", bytes: 4, .. }),
            "{fault}"
        );
        assert_eq!((fault.block, fault.thread), ([3, 0, 0], [1000 - 768, 0, 0]));
    });
}

#[test]
fn sums_by_shuffles_and_shared_memory() {
    for (threads, columns) in [(32, 5), (64, 64), (256, 1000), (1024, 33)] {
        let x = noise(3, 3 * columns);
        everywhere(|how| {
            let mut device = Device::new();
            let (dx, out) = (device.upload(&bytes(&x, f32::to_le_bytes)), device.allocate(12));
            let columns = (columns as i32).to_le_bytes();
            let arguments: [&[u8]; 3] = [&dx.to_le_bytes(), &out.to_le_bytes(), &columns];
            launch(&mut device, "row_sum", (3, threads), how, &arguments).unwrap();
            let found = floats(&device.download(out, 12).unwrap());
            for (found, row) in found.iter().zip(x.chunks(x.len() / 3)) {
                let expected: f64 = row.iter().map(|x| f64::from(*x)).sum();
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} {expected}");
            }
            // Without the barrier between the write and the read there is a race, if more than one
            // warp takes part.
            let result = launch(&mut device, "row_sum_racy", (1, threads), how, &arguments);
            match result {
                Ok(_) => assert_eq!(threads, 32),
                // The reader and the writer may come in either order.
                Err(fault) => assert!(
                    matches!(
                        fault.problem,
                        Problem::Race { space: "shared", .. } | Problem::Uninitialised { .. }
                    ),
                    "{fault}"
                ),
            }
        });
    }
}

#[test]
fn atomics_count_all() {
    let x: Vec<i32> = (0..777).map(|i| i * i % 10).collect();
    everywhere(|how| {
        let mut device = Device::new();
        let (dx, bins) = (device.upload(&bytes(&x, i32::to_le_bytes)), device.upload(&[0; 40]));
        let arguments: [&[u8]; 3] = [&dx.to_le_bytes(), &bins.to_le_bytes(), &777i32.to_le_bytes()];
        launch(&mut device, "histogram", (7, 128), how, &arguments).unwrap();
        let found = ints(&device.download(bins, 40).unwrap());
        let expected: Vec<i32> =
            (0..10).map(|bin| x.iter().filter(|x| **x == bin).count() as i32).collect();
        assert_eq!(found, expected);
    });
}

#[test]
fn functions_of_floats() {
    let x: Vec<f32> =
        noise(4, 60).iter().map(|x| x * 4.0).chain([0.0, -0.0, 1e-42, 30.0]).collect();
    let n = x.len();
    let mut device = Device::new();
    let (dx, out) = (device.upload(&bytes(&x, f32::to_le_bytes)), device.allocate(40 * n));
    let arguments: [&[u8]; 3] = [&dx.to_le_bytes(), &out.to_le_bytes(), &(n as i32).to_le_bytes()];
    launch(&mut device, "math", (1, 64), Launch::default(), &arguments).unwrap();
    let found = floats(&device.download(out, 40 * n).unwrap());
    let functions: [fn(f64) -> f64; 10] = [
        f64::exp2,
        f64::exp,
        |x| x.abs().sqrt(),
        |x| 1.0 / f64::from(x.abs() as f32 + 1.0).sqrt(),
        |x| x / 3.0,
        f64::tanh,
        |x| f64::from(x.abs() as f32 + 0.5).ln(),
        f64::exp,
        |x| x.min(1.0),
        f64::round,
    ];
    for (f, (function, found)) in functions.iter().zip(found.chunks(n)).enumerate() {
        for (x, found) in x.iter().zip(found) {
            let expected = function(f64::from(*x));
            let bound = 3e-6 * expected.abs().max(1e-3);
            assert!(
                (f64::from(*found) - expected).abs() <= bound,
                "function {f} of {x}: {found}, not {expected}"
            );
        }
    }
}

#[test]
fn halves() {
    let x: Vec<f16> = noise(5, 64).into_iter().map(f16::from_f32).collect();
    let b: Vec<bf16> = noise(6, 64).into_iter().map(bf16::from_f32).collect();
    let mut device = Device::new();
    let dx = device.upload(&bytes(&x, f16::to_le_bytes));
    let db = device.upload(&bytes(&b, bf16::to_le_bytes));
    let (out, bout) = (device.allocate(128), device.allocate(128));
    let pointers = [dx, db, out, bout].map(u64::to_le_bytes);
    let n = 64i32.to_le_bytes();
    let arguments: Vec<&[u8]> = pointers.iter().map(|p| &p[..]).chain([&n[..]]).collect();
    launch(&mut device, "halves", (1, 32), Launch::default(), &arguments).unwrap();
    let found = device.download(out, 128).unwrap();
    for (x, found) in x.iter().zip(found.chunks(2)) {
        let x = x.to_f64();
        let expected = f16::from_f64(x * x + 0.5).max(f16::from_f64(0.25));
        assert_eq!(f16::from_le_bytes(found.try_into().unwrap()), expected);
    }
    let found = device.download(bout, 128).unwrap();
    for (i, (b, found)) in b.iter().zip(found.chunks(2)).enumerate() {
        let expected = if i % 2 == 0 { b.to_f32() * 2.0 } else { b.to_f32() + 1.0 };
        assert_eq!(bf16::from_le_bytes(found.try_into().unwrap()), bf16::from_f32(expected));
    }
}

#[test]
fn integers_and_jumps() {
    let x = [0, 1, -1, 5, -7, 1000, i32::MIN, i32::MAX, 12345678, -99, 31, 2, 3, 64, 77, -4];
    let mut device = Device::new();
    let (dx, out) = (device.upload(&bytes(&x, i32::to_le_bytes)), device.allocate(13 * 64));
    let arguments: [&[u8]; 3] = [&dx.to_le_bytes(), &out.to_le_bytes(), &16i32.to_le_bytes()];
    launch(&mut device, "integers", (1, 20), Launch::default(), &arguments).unwrap();
    let found = ints(&device.download(out, 13 * 64).unwrap());
    let permute = |v: i32| {
        let bytes = [v.to_le_bytes(), 0x01020304i32.to_le_bytes()].concat();
        i32::from_le_bytes([0, 4, 1, 5].map(|i: usize| bytes[i]))
    };
    let functions: [&dyn Fn(i32) -> i32; 13] = [
        &|v| v.count_ones() as i32,
        &|v| v.leading_zeros() as i32,
        &|v| v.reverse_bits(),
        &|v| v / 7,
        &|v| v % 7,
        &|v| ((u64::from(v as u32) * 0x9E3779B9) >> 32) as i32,
        &|v| v.rotate_left(7),
        &permute,
        &|v| (i64::from(v).wrapping_mul(i64::from(v)) >> 16) as i32,
        &|v| v.max(-5),
        &|v| v.wrapping_abs(),
        &|v| if v == 0 { 0 } else { v.trailing_zeros() as i32 + 1 },
        &|v| match v & 3 {
            0 => 10,
            1 => v.wrapping_mul(3),
            2 => v ^ 77,
            _ => v.wrapping_neg(),
        },
    ];
    for (f, (function, found)) in functions.iter().zip(found.chunks(16)).enumerate() {
        let expected: Vec<i32> = x.iter().map(|v| function(*v)).collect();
        assert_eq!(found, expected, "function {f}");
    }
}

#[test]
fn votes_and_shuffles() {
    let x: Vec<i32> = (0..32).map(|i| (i * 7) % 11 - 3).collect();
    let mut device = Device::new();
    let (dx, out) = (device.upload(&bytes(&x, i32::to_le_bytes)), device.allocate(32 * 24));
    let arguments: [&[u8]; 2] = [&dx.to_le_bytes(), &out.to_le_bytes()];
    launch(&mut device, "votes", (1, 32), Launch::default(), &arguments).unwrap();
    let found = ints(&device.download(out, 32 * 24).unwrap());
    let ballot = (0..32).fold(0, |mask, i| mask | i32::from(x[i] > 0) << i);
    for (i, found) in found.chunks(6).enumerate() {
        let up = if i >= 1 { x[i - 1] } else { x[i] };
        let down = if i + 3 < 32 { x[i + 3] } else { x[i] };
        let at = x[i / 8 * 8 + (x[i] & 7) as usize];
        assert_eq!(found, [ballot, 0, 1, up, down, at], "lane {i}");
    }
}

/// The same kernel under the same seed executes exactly the same instructions.
#[test]
fn a_seed_decides_the_order() {
    let x = bytes(&noise(9, 1000), f32::to_le_bytes);
    let counters = |seed| {
        let mut device = Device::new();
        let (dx, out) = (device.upload(&x), device.allocate(4));
        let arguments: [&[u8]; 3] = [&dx.to_le_bytes(), &out.to_le_bytes(), &1000i32.to_le_bytes()];
        let how = Launch { seed, ..Launch::default() };
        let counters = launch(&mut device, "row_sum", (1, 256), how, &arguments).unwrap();
        (counters, device.download(out, 4).unwrap())
    };
    assert_eq!(counters(1), counters(1));
    assert_eq!(counters(1), counters(2));
}
