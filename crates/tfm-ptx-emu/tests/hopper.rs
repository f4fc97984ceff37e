//! Bulk copies, barriers in shared memory and products of a warpgroup. A matrix product
//! (`fixtures/hopper.cu`) is compared with f64, and its mutants must be caught.

mod common;

use common::{bytes, everywhere, floats, noise};
use half::f16;
use std::sync::LazyLock;
use tfm_ptx_emu::{Device, Fault, Launch, Module, Swizzle, TensorMap};

const PTX: &str = include_str!("fixtures/hopper.ptx");
static MODULE: LazyLock<Module> =
    LazyLock::new(|| Module::parse(PTX).unwrap_or_else(|error| panic!("{error}")));

/// Runs the kernel that computes `C [m, n] = A [m, k] · B [n, k]ᵀ`.
fn product(module: &Module, [m, n, k]: [usize; 3], how: Launch) -> Result<Vec<f32>, Fault> {
    let mut device = Device::new();
    let halves =
        |seed, len| -> Vec<u8> { bytes(&noise(seed, len), |x| f16::from_f32(x).to_le_bytes()) };
    let (a, b) = (device.upload(&halves(1, m * k)), device.upload(&halves(2, n * k)));
    let c = device.allocate(m * n * 4);
    let map = |address, element: usize, rows: usize, columns: usize, swizzle| {
        let map = TensorMap {
            address,
            element,
            extents: vec![columns as u64, rows as u64],
            strides: vec![(columns * element) as u64],
            tile: vec![64, 64],
            swizzle,
            nan: false,
        };
        map.encode().unwrap()
    };
    let maps = [
        map(a, 2, m, k, Swizzle::Bytes128),
        map(b, 2, n, k, Swizzle::Bytes128),
        map(c, 4, m, n, Swizzle::None),
    ];
    let tiles = (k.div_ceil(64) as i32).to_le_bytes();
    let launch = Launch {
        blocks: [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1],
        threads: [256, 1, 1],
        shared: 49152 + 32,
        steps: 1_000_000,
        ..how
    };
    device.launch(module, "hopper_product", &launch, &[&maps[0], &maps[1], &maps[2], &tiles])?;
    let found = device.download(c, m * n * 4).map_err(|problem| Fault {
        problem,
        kernel: "hopper_product".into(),
        line: 0,
        block: [0; 3],
        thread: [0; 3],
    })?;
    Ok(floats(&found))
}

fn check(module: &Module, [m, n, k]: [usize; 3], how: Launch) -> Result<(), String> {
    let found = product(module, [m, n, k], how).map_err(|fault| fault.to_string())?;
    let round = |seed, len| -> Vec<f64> {
        noise(seed, len).into_iter().map(|x| f16::from_f32(x).to_f64()).collect()
    };
    let (a, b) = (round(1, m * k), round(2, n * k));
    for i in 0..m {
        for j in 0..n {
            let dot: f64 = (0..k).map(|p| a[i * k + p] * b[j * k + p]).sum();
            let found = f64::from(found[i * n + j]);
            if (found - dot).abs().is_nan() || (found - dot).abs() > 1e-4 {
                return Err(format!("row {i}, column {j}: {found}, not {dot}"));
            }
        }
    }
    Ok(())
}

#[test]
fn a_product_of_matrices() {
    for shape in [[64, 64, 64], [64, 64, 320], [40, 100, 136]] {
        everywhere(|how| check(&MODULE, shape, how).unwrap_or_else(|e| panic!("{shape:?}: {e}")));
    }
}

/// A mutant without one wait, arrival or fence is caught, and so is one with a wrong count.
#[test]
fn synchronisation_that_is_left_out_is_caught() {
    let mut tried = 0;
    for (what, instead) in [
        ("bar.sync", "// bar.sync"),
        ("fence.mbarrier_init", "// fence.mbarrier_init"),
        ("mbarrier.init.shared::cta.b64 [%r", "// mbarrier.init.shared::cta.b64 [%r"),
        ("@!done bra AGAIN", "// @!done bra AGAIN"),
        ("mbarrier.arrive.expect_tx", "// mbarrier.arrive.expect_tx"),
        ("], 16384;", "], 8192;"),
        ("mbarrier.arrive.shared", "// mbarrier.arrive.shared"),
        ("wgmma.fence", "// wgmma.fence"),
        ("wgmma.commit_group", "// wgmma.commit_group"),
        ("wgmma.wait_group.sync.aligned 0", "wgmma.wait_group.sync.aligned 1"),
        ("wgmma.wait_group", "// wgmma.wait_group"),
        ("fence.proxy.async", "// fence.proxy.async"),
        ("cp.async.bulk.commit_group", "// cp.async.bulk.commit_group"),
        ("cp.async.bulk.wait_group.read 0", "cp.async.bulk.wait_group.read 1"),
        ("cp.async.bulk.tensor", "// cp.async.bulk.tensor"),
        (".shared::cta.b64 [%r29], 4;", ".shared::cta.b64 [%r29], 1;"),
        (".shared::cta.b64 [%r31], 4;", ".shared::cta.b64 [%r31], 3;"),
        (".shared::cta.b64 [%r31], 4;", ".shared::cta.b64 [%r31], 5;"),
    ] {
        let mut here = 0;
        let mut places: Vec<usize> = PTX.match_indices(what).map(|(at, _)| at).collect();
        match what {
            // Nothing writes the sums between one product and the next, so only the first fence is
            // needed.
            "wgmma.fence" => places.truncate(1),
            // Nothing waits for the last arrival.
            "mbarrier.arrive.shared" => places.truncate(places.len() - 1),
            _ => {}
        }
        for at in places {
            let after = at + what.len();
            let mutant = format!("{}{instead}{}", &PTX[..at], &PTX[after..]);
            let mutant = Module::parse(&mutant).unwrap_or_else(|error| panic!("{error}"));
            let caught = (0..4).any(|seed| {
                let how = Launch { seed, lazy: seed % 2 == 0, ..Launch::default() };
                // Enough tiles for the unrolled loop and for the rest behind it.
                let result = check(&mutant, [64, 64, 64 * 11], how);
                result.is_err()
            });
            assert!(caught, "`{what}` in line {} can be left out", PTX[..at].lines().count());
            here += 1;
        }
        assert!(here > 0, "there is no `{what}`");
        tried += here;
    }
    assert!(tried >= 40, "{tried} mutants");
}
