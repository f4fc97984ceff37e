//! Single instructions of compute capability 9.0: every layout of a tile, tiles at the edges of
//! tensors, barriers in shared memory, and uses of them that are forbidden.

mod common;

use common::{bytes, everywhere, floats, noise};
use half::{bf16, f16};
use tfm_ptx_emu::{Device, Fault, Launch, Module, Problem, Swizzle, TensorMap};

const SWIZZLES: [(Swizzle, usize); 4] =
    [(Swizzle::None, 1), (Swizzle::Bytes32, 2), (Swizzle::Bytes64, 4), (Swizzle::Bytes128, 8)];

/// A kernel with this body, which finds `%tid.x` in `%r0`.
fn module(body: &str) -> Module {
    let text = format!(
        ".version 8.0 .target sm_90a .address_size 64 .extern .shared .align 1024 .b8 m[];
         .visible .entry k(.param .align 64 .b8 a[128], .param .align 64 .b8 b[128], .param .u64 x) {{
         .reg .pred %p<9>; .reg .b32 %r<90>; .reg .b64 %rd<9>; .reg .f32 %f<90>;
         mov.u32 %r0, %tid.x; setp.ne.u32 %p1, %r0, 0; ld.param.u64 %rd3, [x];
         mov.b64 %rd1, a; cvta.param.u64 %rd1, %rd1; mov.b64 %rd2, b; cvta.param.u64 %rd2, %rd2;
         {body} }}"
    );
    Module::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn launch(
    device: &mut Device,
    module: &Module,
    maps: [[u8; 128]; 2],
    x: u64,
    how: Launch,
) -> Result<(), Fault> {
    let how = Launch { shared: 33 << 10, steps: 100_000, ..how };
    device.launch(module, "k", &how, &[&maps[0], &maps[1], &x.to_le_bytes()]).map(|_| ())
}

/// One operand of a product: `rows` of M or N, and 16 of K.
struct Operand {
    rows: usize,
    transposed: bool,
    swizzle: (Swizzle, usize),
}

impl Operand {
    /// The columns and rows of a tile, and the number of tiles.
    fn tiles(&self) -> ([usize; 2], usize) {
        let wide = 8 * self.swizzle.1;
        match self.transposed {
            false => ([wide, self.rows], if self.swizzle.1 == 1 { 2 } else { 1 }),
            true => ([wide, 16], self.rows.div_ceil(wide)),
        }
    }

    fn map(&self, address: u64) -> [u8; 128] {
        let [columns, rows] = if self.transposed { [self.rows, 16] } else { [16, self.rows] };
        let (tile, _) = self.tiles();
        let map = TensorMap {
            address,
            element: 2,
            extents: vec![columns as u64, rows as u64],
            strides: vec![2 * columns as u64],
            tile: tile.map(|n| n as u32).to_vec(),
            swizzle: self.swizzle.0,
            nan: false,
        };
        map.encode().unwrap()
    }

    /// The loads of all tiles to shared memory from `at` on, and the number of bytes that they
    /// copy.
    fn loads(&self, map: &str, at: usize) -> (String, usize) {
        let ([wide, high], count) = self.tiles();
        let load = |i: usize| {
            format!(
                "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes \
                 [m+{}], [{map}, {{{}, 0}}], [m+32768];",
                at + i * wide * high * 2,
                i * wide
            )
        };
        ((0..count).map(load).collect(), count * wide * high * 2)
    }

    fn descriptor(&self, at: usize) -> u64 {
        let span = self.swizzle.1;
        let (leading, stride) = match (self.transposed, span) {
            (false, 1) => (self.rows * 16, 128),
            (false, _) => (0, 128 * span),
            (true, 1) => (128, 256),
            (true, _) => (256 * span, 128 * span),
        };
        let mode = [0, 0, 3, 0, 2, 0, 0, 0, 1][span];
        (at >> 4 | (leading >> 4) << 16 | (stride >> 4) << 32 | mode << 62) as u64
    }
}

/// Checks the product of A `[64, 16]` and B `[32, 16]`. D is 2 everywhere before, in case the
/// product is added to it.
fn product(types: &str, a: &Operand, b: &Operand, of_registers: bool, scales: [&str; 3]) {
    let is_bf16 = types.contains("bf16");
    let encode =
        |x: &f32| if is_bf16 { bf16::from_f32(*x).to_bits() } else { f16::from_f32(*x).to_bits() };
    let decode =
        |x: u16| if is_bf16 { bf16::from_bits(x).to_f64() } else { f16::from_bits(x).to_f64() };
    let (of_a, of_b): (Vec<u16>, Vec<u16>) = (
        noise(1, 64 * 16).iter().map(encode).collect(),
        noise(2, 32 * 16).iter().map(encode).collect(),
    );
    let (loads_a, bytes_a) = a.loads("%rd1", 0);
    let (loads_b, bytes_b) = b.loads("%rd2", 16384);
    let sums = if types.starts_with("f16") { 8 } else { 16 };
    let two = if sums == 8 { 0x4000_4000 } else { 2f32.to_bits() };
    let d: Vec<String> = (0..sums).map(|i| format!("%r{}", 10 + i)).collect();
    let start: String = d.iter().map(|r| format!("mov.b32 {r}, {two};")).collect();
    let store: String = d
        .iter()
        .enumerate()
        .map(|(i, r)| format!("st.global.u32 [%rd5+{}], {r};", 4 * i))
        .collect();
    let [add, negate_a, negate_b] = scales;
    let turn = |x: &Operand| u8::from(x.transposed);
    let source = if of_registers {
        "{%r40, %r41, %r42, %r43}".into()
    } else {
        format!("{}", a.descriptor(0))
    };
    let turn_a = if of_registers { String::new() } else { format!("{}, ", turn(a)) };
    // The registers of A as `mma` has them: rows of 32 bytes, 16 rows in each warp.
    let registers =
        "shr.u32 %r30, %r0, 5; and.b32 %r31, %r0, 31; shr.u32 %r32, %r31, 2; and.b32 %r33, %r31, 3;
         mad.lo.u32 %r34, %r30, 16, %r32; mul.lo.u32 %r34, %r34, 32; mad.lo.u32 %r34, %r33, 4, %r34;
         cvt.u64.u32 %rd6, %r34; add.s64 %rd6, %rd3, %rd6;
         ld.global.u32 %r40, [%rd6+8192]; ld.global.u32 %r41, [%rd6+8448];
         ld.global.u32 %r42, [%rd6+8208]; ld.global.u32 %r43, [%rd6+8464];";
    let module = module(&format!(
        "{registers} {start} @%p1 bra GO;
         mbarrier.init.shared.b64 [m+32768], 1; fence.proxy.async;
         mbarrier.arrive.expect_tx.shared.b64 _, [m+32768], {};
         {loads_a} {loads_b}
         GO: bar.sync 0;
         WAIT: mbarrier.try_wait.parity.shared.b64 %p2, [m+32768], 0; @!%p2 bra WAIT;
         setp.ne.u32 %p3, {add}, 0; wgmma.fence.sync.aligned;
         wgmma.mma_async.sync.aligned.m64n32k16.{types} {{{}}}, {source}, {}, %p3, {negate_a}, {negate_b}, {turn_a}{};
         wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
         mul.wide.u32 %rd4, %r0, {}; add.s64 %rd5, %rd3, %rd4; {store}",
        bytes_a + bytes_b,
        d.join(", "),
        b.descriptor(16384),
        turn(b),
        4 * sums,
    ));
    // The elements as the kernel wants them: by rows of K, or by columns.
    let lay = |x: &[u16], operand: &Operand| -> Vec<u8> {
        let n = operand.rows;
        let at = |i: usize| if operand.transposed { x[i % n * 16 + i / n] } else { x[i] };
        (0..n * 16).flat_map(|i| at(i).to_le_bytes()).collect()
    };
    for how in [0, 1].map(|seed| Launch {
        seed,
        lazy: seed == 1,
        threads: [128, 1, 1],
        ..Launch::default()
    }) {
        let mut device = Device::new();
        let (da, db) = (device.upload(&lay(&of_a, a)), device.upload(&lay(&of_b, b)));
        let out = device.allocate(8192 + 2048);
        device.write(out + 8192, &bytes(&of_a, u16::to_le_bytes)).unwrap();
        launch(&mut device, &module, [a.map(da), b.map(db)], out, how)
            .unwrap_or_else(|fault| panic!("{fault}"));
        let found = device.download(out, 128 * 4 * sums).unwrap();
        for (row, column) in (0..64).flat_map(|row| (0..32).map(move |column| (row, column))) {
            let thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
            let i = column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
            let sum: f64 =
                (0..16).map(|p| decode(of_a[row * 16 + p]) * decode(of_b[column * 16 + p])).sum();
            let sum = if negate_a == negate_b { sum } else { -sum };
            let sum = sum + if add == "0" { 0.0 } else { 2.0 };
            let (found, bound) = if sums == 8 {
                let at = (thread * 8 + i / 2) * 4 + i % 2 * 2;
                (f16::from_le_bytes([found[at], found[at + 1]]).to_f64(), 4e-3)
            } else {
                (floats(&found[(thread * 16 + i) * 4..][..4])[0].into(), 1e-5)
            };
            assert!((found - sum).abs() < bound, "{types} {row} {column}: {found}, not {sum}");
        }
    }
}

#[test]
fn products_of_every_arrangement() {
    let operand = |rows, transposed, swizzle| Operand { rows, transposed, swizzle };
    for swizzle in SWIZZLES {
        for (of_a, of_b) in [(false, false), (true, false), (false, true), (true, true)] {
            // The other operand has another layout.
            let other = SWIZZLES[(swizzle.1 + usize::from(of_a)) % 4];
            if of_b && other.1 * 8 > 32 {
                continue;
            }
            let (a, b) = (operand(64, of_a, swizzle), operand(32, of_b, other));
            product("f32.f16.f16", &a, &b, false, ["0", "1", "1"]);
        }
    }
    let (a, b) = (operand(64, false, SWIZZLES[3]), operand(32, true, SWIZZLES[2]));
    for types in ["f32.f16.f16", "f32.bf16.bf16", "f16.f16.f16"] {
        for of_registers in [false, true] {
            product(types, &a, &b, of_registers, ["1", "1", "1"]);
            product(types, &a, &b, of_registers, ["1", "-1", "1"]);
        }
    }
}

/// A tile that lies partly in the tensor is filled up when it is loaded, and only that part is
/// stored.
#[test]
fn tiles_at_the_edges() {
    for (nan, corner) in [(false, [-2, 1, 0]), (true, [2, -1, 1]), (false, [100, 0, 0])] {
        let x: Vec<f32> = (0..8 * 3 * 2).map(|i| i as f32 + 1.0).collect();
        let map = |address| TensorMap {
            address,
            element: 4,
            extents: vec![6, 3, 2],
            strides: vec![32, 96],
            tile: vec![4, 2, 2],
            swizzle: Swizzle::None,
            nan,
        };
        let at = corner.map(|n: i32| n.to_string()).join(", ");
        let copy = module(&format!(
            "@%p1 exit; mbarrier.init.shared.b64 [m+32768], 1; fence.proxy.async;
             mbarrier.arrive.expect_tx.shared.b64 _, [m+32768], 64;
             cp.async.bulk.tensor.3d.shared::cta.global.mbarrier::complete_tx::bytes [m], [%rd1, {{{at}}}], [m+32768];
             WAIT: mbarrier.try_wait.parity.shared.b64 %p2, [m+32768], 0; @!%p2 bra WAIT;
             cp.async.bulk.global.shared::cta.bulk_group [%rd3], [m], 64;
             cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%rd2, {{{at}}}], [m];
             cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
        ));
        everywhere(|how| {
            let mut device = Device::new();
            let from = device.upload(&bytes(&x, f32::to_le_bytes));
            let to = device.upload(&vec![0; 4 * x.len()]);
            let out = device.allocate(64);
            let maps = [map(from), map(to)].map(|map| map.encode().unwrap());
            let how = Launch { threads: [32, 1, 1], ..how };
            launch(&mut device, &copy, maps, out, how).unwrap_or_else(|fault| panic!("{fault}"));
            let (tile, back) =
                (floats(&device.download(out, 64).unwrap()), device.download(to, 192).unwrap());
            let mut expected = vec![0.0; x.len()];
            for (i, found) in tile.into_iter().enumerate() {
                let place = [i % 4, i / 4 % 2, i / 8].map(|n| n as i32);
                let [c, r, p] = [0, 1, 2].map(|d| place[d] + corner[d]);
                if (0..6).contains(&c) && (0..3).contains(&r) && (0..2).contains(&p) {
                    let index = (c + 8 * r + 24 * p) as usize;
                    expected[index] = x[index];
                    assert_eq!(found, x[index]);
                } else {
                    assert!(if nan { found.is_nan() } else { found == 0.0 }, "{found}");
                }
            }
            assert_eq!(floats(&back), expected);
        });
    }
}

#[test]
fn barriers_count() {
    // 64 threads arrive, two at a time. Threads that wait by token and threads that wait by parity
    // then continue, and another phase follows.
    let counts = module(
        "@%p1 bra GO; mbarrier.init.shared.b64 [m], 128;
         GO: bar.sync 0; mul.wide.u32 %rd4, %r0, 4; add.s64 %rd5, %rd3, %rd4; shl.b32 %r1, %r0, 2; mov.u32 %r2, m; add.u32 %r1, %r1, %r2;
         st.shared.u32 [%r1+64], %r0; mbarrier.arrive.shared.b64 %rd6, [m], 2;
         A: mbarrier.test_wait.shared.b64 %p2, [m], %rd6; @!%p2 bra A;
         xor.b32 %r3, %r1, 128; ld.shared.u32 %r4, [%r3+64];
         mbarrier.arrive.noComplete.shared.b64 %rd6, [m], 1;
         bar.sync 0; mbarrier.arrive.shared.b64 %rd6, [m];
         B: mbarrier.try_wait.parity.shared.b64 %p2, [m], 1, 1000; @!%p2 bra B;
         st.shared.u32 [%r1+64], %r4; st.global.u32 [%rd5], %r4;",
    );
    everywhere(|how| {
        let mut device = Device::new();
        let out = device.allocate(256);
        let how = Launch { threads: [64, 1, 1], ..how };
        launch(&mut device, &counts, [[0; 128]; 2], out, how)
            .unwrap_or_else(|fault| panic!("{fault}"));
        let found = common::ints(&device.download(out, 256).unwrap());
        assert_eq!(found, (0..64).map(|i| i ^ 32).collect::<Vec<i32>>());
    });
}

#[test]
fn faults_are_named() {
    let run = |body: &str| {
        let mut device = Device::new();
        let x = device.upload(&[0; 4096]);
        let how = Launch { threads: [64, 1, 1], ..Launch::default() };
        let fault = launch(&mut device, &module(body), [[0; 128]; 2], x, how);
        fault.expect_err(body).problem
    };
    let barrier = |problem: Problem| match problem {
        Problem::Barrier { problem, .. } => problem,
        other => other.to_string(),
    };
    let init = "mbarrier.init.shared.b64 [m], 1;";
    assert!(barrier(run("mbarrier.init.shared.b64 [m], 0;")).contains("0 arrivals"));
    assert!(barrier(run(&format!("@!%p1 {init} @!%p1 {init}"))).contains("twice"));
    let over = format!("@%p1 exit; {init} mbarrier.arrive.shared.b64 _, [m], 2;");
    assert!(barrier(run(&over)).contains("2 arrivals where 1"));
    let completes =
        format!("@%p1 exit; {init} mbarrier.arrive.noComplete.shared.b64 %rd4, [m], 1;");
    assert!(barrier(run(&completes)).contains("noComplete"));
    let none = "st.shared.u64 [m], 0; @%p1 exit; mbarrier.arrive.shared.b64 _, [m];";
    assert!(matches!(run(&format!("@%p1 exit; {none}")), Problem::Barrier { .. }));
    let ended = format!(
        "@%p1 exit; {init} mbarrier.inval.shared.b64 [m]; mbarrier.arrive.shared.b64 _, [m];"
    );
    assert!(barrier(run(&ended)).contains("there is none"));
    // No other thread arrives.
    let waits = format!(
        "@%p1 exit; {init} W: mbarrier.try_wait.parity.shared.b64 %p2, [m], 0; @!%p2 bra W;"
    );
    assert!(matches!(run(&waits), Problem::Deadlock { .. }));
    // Copies that are wrong: nobody waits, too many bytes, a wrong address, and not a map.
    let load = |what: &str| {
        format!(
            "@%p1 exit; {init} fence.proxy.async; mbarrier.arrive.expect_tx.shared.b64 _, [m], 64;
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes {what}, [m];"
        )
    };
    assert!(matches!(run(&load("[m+128], [%rd3], 64")), Problem::NotWaitedFor { .. }));
    assert!(matches!(run(&load("[m+128], [%rd3], 65520")), Problem::Launch(_)));
    assert!(matches!(run(&load("[m+128], [%rd3+4064], 64")), Problem::OutOfBounds { .. }));
    assert!(matches!(run(&load("[m+136], [%rd3], 64")), Problem::Misaligned { .. }));
    assert!(matches!(run(&load("[m+33744], [%rd3], 64")), Problem::OutOfBounds { .. }));
    let map = "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [m+128], [%rd1, {0}], [m];";
    assert!(matches!(
        run(&format!("@%p1 exit; {init} fence.proxy.async; {map}")),
        Problem::Launch(_)
    ));
    // A store's source is overwritten before the store has read it.
    let overwritten = "@%p1 exit; st.shared.v4.u32 [m+128], {%r0, %r0, %r0, %r0}; fence.proxy.async;
         cp.async.bulk.global.shared::cta.bulk_group [%rd3], [m+128], 16; cp.async.bulk.commit_group;";
    let again = "st.shared.u32 [m+128], %r0; cp.async.bulk.wait_group.read 0;";
    assert!(matches!(run(&format!("{overwritten} {again}")), Problem::Asynchronous { .. }));
    assert!(matches!(run(overwritten), Problem::NotWaitedFor { .. }));
    assert!(matches!(run("@%p1 elect.sync _|%p2, -1;"), Problem::Diverged { .. }));
    // Two warps are not a warpgroup.
    let alone = "setp.gt.u32 %p2, %r0, 31; @%p2 exit;
         shl.b32 %r1, %r0, 4; mov.u32 %r2, m; add.u32 %r1, %r1, %r2;
         st.shared.v4.u32 [%r1], {%r0, %r0, %r0, %r0}; fence.proxy.async; bar.warp.sync -1;
         mov.b32 %f0, %r0; mov.b32 %f1, %r0; mov.b32 %f2, %r0; mov.b32 %f3, %r0;
         wgmma.fence.sync.aligned;
         wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16
             {%f0, %f1, %f2, %f3}, {%r0, %r0, %r0, %r0}, 0, 1, 1, 1, 0;
         wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;";
    assert!(barrier(run(alone)).contains("did [1, 0] products"));
}

#[test]
fn maps_that_the_driver_refuses() {
    let map = TensorMap {
        address: 256,
        element: 2,
        extents: vec![64, 8],
        strides: vec![128],
        tile: vec![64, 8],
        swizzle: Swizzle::Bytes128,
        nan: false,
    };
    assert!(map.encode().is_ok());
    for (wrong, what) in [
        (TensorMap { address: 8, ..map.clone() }, "multiple of 16"),
        (TensorMap { element: 3, ..map.clone() }, "elements of 3"),
        (TensorMap { strides: vec![], ..map.clone() }, "0 strides"),
        (TensorMap { strides: vec![100], ..map.clone() }, "a stride of 100"),
        (TensorMap { extents: vec![64, 0], ..map.clone() }, "an extent of 0"),
        (TensorMap { tile: vec![64, 257], ..map.clone() }, "257 elements"),
        (TensorMap { tile: vec![4, 8], ..map.clone() }, "rows of 8 bytes"),
        (TensorMap { swizzle: Swizzle::Bytes64, ..map }, "turned within 64"),
    ] {
        let problem = wrong.encode().unwrap_err();
        assert!(problem.contains(what), "{problem}");
    }
}
