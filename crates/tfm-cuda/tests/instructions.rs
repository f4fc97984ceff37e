//! Kernels of one instruction each: what a device answers, beside what the interpreter answers.
//! Every other test of the kernels relies on the interpreter; this one shows whether it agrees with
//! the hardware.
//!
//! With `TFM_CUDA_DEVICE=1` the test asks the device, and with `TFM_CUDA_GOLDEN` it writes the
//! answers to that file. They are kept as `tests/instructions.golden`; without a device, the
//! interpreter is compared with them.

use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::fmt::Write as _;
use tfm_ptx_emu::{Device, Launch, Module};

/// Threads of the launch. Each has four words of input and four of output.
const THREADS: usize = 32;
const BLOCKS: usize = 16;
const WORDS: usize = 4 * THREADS * BLOCKS;

/// How close the two answers must be.
#[derive(Clone, Copy)]
enum Like {
    /// The same bits.
    Bits,
    /// Numbers in f32: the same bits, or both NaN.
    Numbers,
    /// Numbers in f32 that differ by at most this share of their size, for approximations and for
    /// sums in another order.
    Within(f32),
}
use Like::{Bits, Numbers, Within};

/// Instructions on the inputs `%i0` to `%i3`, with results in `%o0` to `%o3`.
const CASES: &[(&str, Like, &str)] = &[
    ("add.rn", Numbers, "add.rn.f32 %o0, %i0, %i1;"),
    ("add.rz.ftz", Numbers, "add.rz.ftz.f32 %o0, %i0, %i1;"),
    ("mul.rn", Numbers, "mul.rn.f32 %o0, %i0, %i1;"),
    ("mul.rp", Numbers, "mul.rp.f32 %o0, %i0, %i1;"),
    ("fma.rn", Numbers, "fma.rn.f32 %o0, %i0, %i1, %i2;"),
    ("fma.rm", Numbers, "fma.rm.f32 %o0, %i0, %i1, %i2;"),
    ("div.rn", Numbers, "div.rn.f32 %o0, %i0, %i1;"),
    ("rcp.rn", Numbers, "rcp.rn.f32 %o0, %i0;"),
    ("sqrt.rn", Numbers, "sqrt.rn.f32 %o0, %i0;"),
    ("min", Numbers, "min.f32 %o0, %i0, %i1; max.f32 %o1, %i0, %i1; max.NaN.f32 %o2, %i0, %i1;"),
    ("neg", Bits, "neg.f32 %o0, %i0; abs.f32 %o1, %i1;"),
    ("ex2.approx", Within(3e-7), "ex2.approx.ftz.f32 %o0, %i0;"),
    ("lg2.approx", Within(1e-6), "abs.f32 %o0, %i0; lg2.approx.ftz.f32 %o0, %o0;"),
    ("rcp.approx", Within(2e-7), "rcp.approx.ftz.f32 %o0, %i0;"),
    ("rsqrt.approx", Within(5e-7), "rsqrt.approx.ftz.f32 %o0, %i0;"),
    ("sqrt.approx", Within(5e-7), "sqrt.approx.ftz.f32 %o0, %i0;"),
    ("div.approx", Within(5e-7), "div.approx.ftz.f32 %o0, %i0, %i1;"),
    ("tanh.approx", Within(1e-3), "tanh.approx.f32 %o0, %i0;"),
    ("cvt.f16", Bits, "cvt.rn.f16.f32 %h0, %i0; cvt.rz.f16.f32 %h1, %i1; mov.b32 %o0, {%h0, %h1};"),
    (
        "cvt.f32.f16",
        Numbers,
        "mov.b32 {%h0, %h1}, %i0; cvt.f32.f16 %o0, %h0; cvt.f32.f16 %o1, %h1;",
    ),
    ("cvt.f16x2", Bits, "cvt.rn.f16x2.f32 %o0, %i0, %i1;"),
    ("cvt.bf16x2", Bits, "cvt.rn.bf16x2.f32 %o0, %i0, %i1;"),
    (
        "cvt.s32",
        Bits,
        "cvt.rzi.s32.f32 %o0, %i0; cvt.rni.s32.f32 %o1, %i1; cvt.rmi.u32.f32 %o2, %i2;",
    ),
    ("cvt.f32.s32", Numbers, "cvt.rn.f32.s32 %o0, %i0; cvt.rz.f32.u32 %o1, %i1;"),
    (
        "cvt.f32.f32",
        Numbers,
        "cvt.rni.f32.f32 %o0, %i0; cvt.rmi.f32.f32 %o1, %i1; cvt.sat.f32.f32 %o2, %i2;",
    ),
    (
        "setp",
        Bits,
        "setp.lt.f32 %p, %i0, %i1; selp.b32 %o0, 1, 0, %p; setp.gtu.f32 %p, %i0, %i1; selp.b32 %o1, 1, 0, %p;",
    ),
    (
        "mad.lo",
        Bits,
        "mad.lo.s32 %o0, %i0, %i1, %i2; mul.hi.u32 %o1, %i0, %i1; mul.hi.s32 %o2, %i0, %i1;",
    ),
    (
        "shifts",
        Bits,
        "shl.b32 %o0, %i0, %i1; shr.u32 %o1, %i0, %i1; shr.s32 %o2, %i0, %i1; shf.l.wrap.b32 %o3, %i0, %i1, %i2;",
    ),
    ("bits", Bits, "popc.b32 %o0, %i0; clz.b32 %o1, %i0; brev.b32 %o2, %i0; bfind.u32 %o3, %i0;"),
    ("bfe", Bits, "bfe.u32 %o0, %i0, 5, 9; bfe.s32 %o1, %i0, 3, 7; bfi.b32 %o2, %i0, %i1, 4, 8;"),
    ("prmt", Bits, "prmt.b32 %o0, %i0, %i1, 0x5410; prmt.b32 %o1, %i0, %i1, %i2;"),
    ("lop3", Bits, "lop3.b32 %o0, %i0, %i1, %i2, 0x96;"),
    (
        "div",
        Bits,
        "or.b32 %o3, %i1, 1; div.u32 %o0, %i0, %o3; rem.s32 %o1, %i0, %o3; div.s32 %o2, %i0, %o3;",
    ),
    (
        "shfl",
        Bits,
        "shfl.sync.bfly.b32 %o0, %i0, 5, 31, -1; shfl.sync.up.b32 %o1, %i1, 3, 0, -1; shfl.sync.idx.b32 %o2, %i2, 7, 0x181f, -1;",
    ),
    ("vote", Bits, "setp.lt.s32 %p, %i0, %i1; vote.sync.ballot.b32 %o0, %p, -1;"),
    (
        "redux",
        Bits,
        "redux.sync.add.s32 %o0, %i0, -1; redux.sync.max.u32 %o1, %i1, -1; redux.sync.xor.b32 %o2, %i2, -1;",
    ),
    (
        "mma.f16",
        Within(1e-5),
        "mov.b32 %z, 0; mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%o0, %o1, %o2, %o3}, {%i0, %i1, %i2, %i3}, {%i2, %i0}, {%z, %z, %z, %z};",
    ),
    (
        "mma.bf16",
        Within(1e-5),
        "mov.b32 %z, 0; mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%o0, %o1, %o2, %o3}, {%i0, %i1, %i2, %i3}, {%i2, %i0}, {%z, %z, %z, %z};",
    ),
    (
        "mma.tf32",
        Within(1e-5),
        "mov.b32 %z, 0; mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%o0, %o1, %o2, %o3}, {%i0, %i1, %i2, %i3}, {%i2, %i0}, {%z, %z, %z, %z};",
    ),
    (
        "mma.s8",
        Bits,
        "mov.b32 %z, 7; mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%o0, %o1, %o2, %o3}, {%i0, %i1, %i2, %i3}, {%i2, %i0}, {%z, %z, %z, %z};",
    ),
    (
        "ldmatrix",
        Bits,
        "st.shared.v4.b32 [%a], {%i0, %i1, %i2, %i3}; bar.sync 0; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%o0, %o1, %o2, %o3}, [%a];",
    ),
    (
        "ldmatrix.trans",
        Bits,
        "st.shared.v4.b32 [%a], {%i0, %i1, %i2, %i3}; bar.sync 0; ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%o0, %o1, %o2, %o3}, [%a];",
    ),
    (
        "cp.async",
        Bits,
        "cp.async.cg.shared.global [%a], [%x], 16, 9; cp.async.commit_group; cp.async.wait_group 0; ld.shared.v4.b32 {%o0, %o1, %o2, %o3}, [%a];",
    ),
];

/// The kernel of a case.
fn source(body: &str) -> String {
    format!(
        ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry one(.param .u64 from, .param .u64 to)\n{{\n\
         .reg .b32 %i<4>, %o<4>, %t<3>, %a, %z;\n.reg .b16 %h<2>;\n.reg .b64 %x, %y, %d;\n.reg .pred %p;\n\
         .shared .align 16 .b8 memory[512];\n\
         mov.u32 %t0, %tid.x;\nmov.u32 %t1, %ctaid.x;\nmad.lo.s32 %t1, %t1, {THREADS}, %t0;\n\
         mul.wide.u32 %d, %t1, 16;\nld.param.u64 %x, [from];\nadd.s64 %x, %x, %d;\n\
         ld.param.u64 %y, [to];\nadd.s64 %y, %y, %d;\nmov.u32 %a, memory;\nmad.lo.s32 %a, %t0, 16, %a;\n\
         ld.global.v4.b32 {{%i0, %i1, %i2, %i3}}, [%x];\n\
         mov.b32 %o0, 0;\nmov.b32 %o1, 0;\nmov.b32 %o2, 0;\nmov.b32 %o3, 0;\n{}\n\
         st.global.v4.b32 [%y], {{%o0, %o1, %o2, %o3}};\nret;\n}}\n",
        body.replace("; ", ";\n")
    )
}

/// Inputs. Odd blocks have arbitrary bits. Even blocks have numbers of usual size, of which both
/// halves are usual f16 numbers too.
fn inputs() -> Vec<u32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as u32
    };
    let word = |i: usize| {
        let bits = next();
        if i / (4 * THREADS) % 2 == 1 { bits } else { bits & 0x8FFF_8FFF | 0x3000_3000 }
    };
    (0..WORDS).map(word).collect()
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

fn interpreted(source: &str, inputs: &[u32]) -> Vec<u32> {
    let module = Module::parse(source).unwrap();
    let mut device = Device::new();
    let (from, to) = (device.upload(&bytes(inputs)), device.upload(&vec![0; 4 * WORDS]));
    let launch = Launch {
        blocks: [BLOCKS as u32, 1, 1],
        threads: [THREADS as u32, 1, 1],
        ..Launch::default()
    };
    device.launch(&module, "one", &launch, &[&from.to_le_bytes(), &to.to_le_bytes()]).unwrap();
    words(&device.download(to, 4 * WORDS).unwrap())
}

fn on_device(source: &str, inputs: &[u32]) -> Vec<u32> {
    let stream = CudaContext::new(0).unwrap().default_stream();
    let module = stream.context().load_module(Ptx::from_src(source)).unwrap();
    let kernel = module.load_function("one").unwrap();
    let from = stream.clone_htod(inputs).unwrap();
    let mut to = stream.alloc_zeros::<u32>(WORDS).unwrap();
    let config = LaunchConfig {
        grid_dim: (BLOCKS as u32, 1, 1),
        block_dim: (THREADS as u32, 1, 1),
        shared_mem_bytes: 0,
    };
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&from).arg(&mut to);
    // SAFETY: the kernel takes two pointers, each to four words for every thread.
    unsafe { launch.launch(config) }.unwrap();
    stream.clone_dtoh(&to).unwrap()
}

fn alike(like: Like, expected: u32, found: u32) -> bool {
    let (a, b) = (f32::from_bits(expected), f32::from_bits(found));
    match like {
        Bits => expected == found,
        Numbers => expected == found || (a.is_nan() && b.is_nan()),
        Within(share) => {
            let near = (a - b).abs() <= share * a.abs().max(b.abs()).max(1e-3);
            expected == found || (a.is_nan() && b.is_nan()) || near
        }
    }
}

/// Describes where the interpreter's answers differ from the device's.
fn differences(name: &str, like: Like, device: &[u32], interpreter: &[u32]) -> Option<String> {
    let pairs = device.iter().zip(interpreter).enumerate();
    let mut wrong = pairs.filter(|(_, (device, ours))| !alike(like, **device, **ours));
    let (first, (expected, found)) = wrong.next()?;
    let count = 1 + wrong.count();
    Some(format!(
        "{name}: {count} words differ; word {first} is {expected:08x}, interpreted {found:08x}"
    ))
}

#[test]
fn the_interpreter_answers_as_a_device_does() {
    let inputs = inputs();
    let golden = std::env::var("CARGO_MANIFEST_DIR").ok();
    let golden = golden.and_then(|crate_folder| {
        std::fs::read_to_string(format!("{crate_folder}/tests/instructions.golden")).ok()
    });
    let asked = std::env::var_os("TFM_CUDA_DEVICE").is_some();
    let (mut faults, mut answers, mut compared) = (Vec::new(), String::new(), 0);
    for (name, like, body) in CASES {
        let source = source(body);
        let ours = interpreted(&source, &inputs);
        let device = if asked {
            let device = on_device(&source, &inputs);
            let hex: String = device.iter().map(|word| format!("{word:08x}")).collect();
            writeln!(answers, "{name} {hex}").unwrap();
            Some(device)
        } else {
            let line = golden.iter().flat_map(|text| text.lines());
            let line = line.filter_map(|line| line.split_once(' ')).find(|(key, _)| key == name);
            line.map(|(_, hex)| {
                let word = |i| u32::from_str_radix(&hex[8 * i..8 * i + 8], 16).unwrap();
                (0..WORDS).map(word).collect()
            })
        };
        if let Some(device) = device {
            compared += 1;
            faults.extend(differences(name, *like, &device, &ours));
        }
    }
    if let (true, Some(file)) = (asked, std::env::var_os("TFM_CUDA_GOLDEN")) {
        std::fs::write(file, answers).unwrap();
    }
    if compared == 0 {
        println!("skipped: no device has answered yet, and TFM_CUDA_DEVICE is not set");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
