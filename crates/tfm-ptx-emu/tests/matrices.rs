//! Tensor cores: `mma`, `ldmatrix` and asynchronous copies.

mod common;

use common::{bytes, everywhere, floats, launch, noise};
use half::{bf16, f16};
use tfm_ptx_emu::{Device, Launch, Module};

#[test]
fn a_product_by_tensor_cores() {
    for k in [32, 96] {
        let a: Vec<f16> = noise(7, 64 * k).into_iter().map(f16::from_f32).collect();
        let b: Vec<f16> = noise(8, 64 * k).into_iter().map(f16::from_f32).collect();
        everywhere(|how| {
            let mut device = Device::new();
            let da = device.upload(&bytes(&a, f16::to_le_bytes));
            let db = device.upload(&bytes(&b, f16::to_le_bytes));
            let out = device.allocate(64 * 64 * 4);
            let size = (k as i32).to_le_bytes();
            let arguments: [&[u8]; 4] =
                [&da.to_le_bytes(), &db.to_le_bytes(), &out.to_le_bytes(), &size];
            launch(&mut device, "mma_product", (1, 128), how, &arguments).unwrap();
            let found = floats(&device.download(out, 64 * 64 * 4).unwrap());
            for i in 0..64 {
                for j in 0..64 {
                    let dot: f64 =
                        (0..k).map(|p| a[i * k + p].to_f64() * b[j * k + p].to_f64()).sum();
                    assert!((f64::from(found[i * 64 + j]) - dot).abs() < 1e-4, "{i} {j}");
                }
            }
        });
    }
}

/// The place of each element of a tile (lane, register, place in the register) as the documentation
/// of `mma` says it, where a register holds `per` elements.
fn place_a(row: usize, column: usize, per: usize) -> [usize; 3] {
    [row % 8 * 4 + column % (4 * per) / per, row / 8 + 2 * (column / (4 * per)), column % per]
}

fn place_b(row: usize, column: usize, per: usize) -> [usize; 3] {
    [column * 4 + row % (4 * per) / per, row / (4 * per), row % per]
}

#[test]
fn tensor_cores_of_every_type_and_shape() {
    type Encode = fn(f32) -> u32;
    let cases: [(&str, usize, usize, Encode); 9] = [
        ("m16n8k8.row.col.f32.f16.f16.f32", 8, 2, |x| f16::from_f32(x).to_bits().into()),
        ("m16n8k16.row.col.f32.f16.f16.f32", 16, 2, |x| f16::from_f32(x).to_bits().into()),
        ("m16n8k16.row.col.f16.f16.f16.f16", 16, 2, |x| f16::from_f32(x).to_bits().into()),
        ("m16n8k8.row.col.f32.bf16.bf16.f32", 8, 2, |x| bf16::from_f32(x).to_bits().into()),
        ("m16n8k16.row.col.f32.bf16.bf16.f32", 16, 2, |x| bf16::from_f32(x).to_bits().into()),
        ("m16n8k4.row.col.f32.tf32.tf32.f32", 4, 1, f32::to_bits),
        ("m16n8k8.row.col.f32.tf32.tf32.f32", 8, 1, f32::to_bits),
        ("m16n8k16.row.col.s32.s8.u8.s32", 16, 4, |x| (x as i32 as u32) & 0xFF),
        ("m16n8k32.row.col.s32.s8.s8.s32", 32, 4, |x| (x as i32 as u32) & 0xFF),
    ];
    for (name, k, per, encode) in cases {
        // Small whole numbers, which every type can hold, so that sums are exact.
        let number = |i: usize, j: usize, by: usize| {
            ((i * 5 + j * by) % 15) as f32 - if name.contains("u8") && by == 3 { 0.0 } else { 7.0 }
        };
        let (a, b) = (|i, p| number(i, p, 7), |p, j| number(p, j, 3));
        let (of_a, of_b) = (16 * k / per / 32, 8 * k / per / 32);
        let sums = if name.contains(".f16.f16.f16.f16") { 2 } else { 4 };
        let mut registers = vec![[0u32; 12]; 32];
        for i in 0..16 {
            for p in 0..k {
                let [lane, register, part] = place_a(i, p, per);
                registers[lane][register] |= encode(a(i, p)) << (part * 32 / per);
            }
        }
        for p in 0..k {
            for j in 0..8 {
                let [lane, register, part] = place_b(p, j, per);
                registers[lane][4 + register] |= encode(b(p, j)) << (part * 32 / per);
            }
        }
        // C is 1 everywhere.
        let one = match &name[name.len() - 3..] {
            "s32" => 1,
            "f16" => 0x3C00_3C00,
            _ => 1f32.to_bits(),
        };
        registers.iter_mut().for_each(|lane| lane[6..10].fill(one));
        let list = |first: usize, n: usize| {
            let names: Vec<_> = (first..first + n).map(|r| format!("%r{r}")).collect();
            format!("{{{}}}", names.join(","))
        };
        let load: String =
            (0..12).map(|r| format!("ld.global.u32 %r{r}, [%rd4+{}];", 4 * r)).collect();
        let store: String =
            (0..sums).map(|r| format!("st.global.u32 [%rd4+{}], %r{};", 4 * r, 12 + r)).collect();
        let (d, c) = (list(12, sums), list(6, sums));
        let text = format!(
            ".version 7.0 .target sm_80 .address_size 64 .visible .entry k(.param .u64 x) {{
             .reg .b32 %r<20>; .reg .b64 %rd<5>;
             ld.param.u64 %rd1, [x]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd2, %r0, 48; add.s64 %rd4, %rd1, %rd2;
             {load} mma.sync.aligned.{name} {d}, {}, {}, {c}; {store} }}",
            list(0, of_a),
            list(4, of_b),
        );
        let module = Module::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut device = Device::new();
        let x = device
            .upload(&registers.iter().flatten().flat_map(|r| r.to_le_bytes()).collect::<Vec<_>>());
        let launch = Launch { threads: [32, 1, 1], ..Launch::default() };
        device.launch(&module, "k", &launch, &[&x.to_le_bytes()]).unwrap();
        let found = device.download(x, 32 * 48).unwrap();
        for i in 0..16 {
            for j in 0..8 {
                let expected: f32 = 1.0 + (0..k).map(|p| a(i, p) * b(p, j)).sum::<f32>();
                let (lane, index) = (i % 8 * 4 + j / 2, i / 8 * 2 + j % 2);
                let at = 48 * lane;
                let word =
                    |r: usize| u32::from_le_bytes(found[at + 4 * r..][..4].try_into().unwrap());
                let sum = match &name[name.len() - 3..] {
                    "s32" => word(index) as i32 as f32,
                    "f16" => {
                        f16::from_bits((word(index / 2) >> (16 * (index % 2))) as u16).to_f32()
                    }
                    _ => f32::from_bits(word(index)),
                };
                assert_eq!(sum, expected, "{name}: row {i}, column {j}");
            }
        }
    }
}
