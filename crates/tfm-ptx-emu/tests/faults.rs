//! Kernels with faults, all of which must be found.

mod common;

use common::{PTX, bytes, everywhere, module, noise};
use half::f16;
use tfm_ptx_emu::{Device, Launch, Module, Problem};

/// The kernel with one piece of its text replaced.
fn mutant(from: &str, to: &str) -> Module {
    let start = PTX.find("entry mma_product").expect("the kernel is there");
    let (before, kernel) = PTX.split_at(start);
    let at = kernel.find(from).unwrap_or_else(|| panic!("{from} is not there"));
    let text = format!("{before}{}{to}{}", &kernel[..at], &kernel[at + from.len()..]);
    Module::parse(&text).unwrap()
}

#[test]
fn what_a_kernel_must_not_forget_is_missed() {
    let half = bytes(&[f16::ONE; 64 * 96], f16::to_le_bytes);
    let faults = |module: &Module, how: Launch| {
        let mut device = Device::new();
        let (a, b, out) =
            (device.upload(&half), device.upload(&half), device.allocate(64 * 64 * 4));
        let arguments: [&[u8]; 4] =
            [&a.to_le_bytes(), &b.to_le_bytes(), &out.to_le_bytes(), &96i32.to_le_bytes()];
        let how = Launch { threads: [128, 1, 1], ..how };
        device
            .launch(module, "mma_product", &how, &arguments)
            .map(|_| ())
            .map_err(|fault| fault.problem)
    };
    everywhere(|how| {
        assert_eq!(faults(&mutant("ret;", "ret;"), how), Ok(()));
        let unsynchronised = faults(&mutant("bar.sync", "// bar.sync"), how);
        let found = matches!(
            unsynchronised,
            Err(Problem::Race { .. } | Problem::InFlight { .. } | Problem::Uninitialised { .. })
        );
        assert!(found, "{unsynchronised:?}");
        let unwaited = faults(&mutant("cp.async.wait_group 0", "cp.async.wait_group 1"), how);
        assert!(matches!(unwaited, Err(Problem::InFlight { .. })), "{unwaited:?}");
    });
}

#[test]
fn swapped_registers_of_a_fragment_change_the_product() {
    let opcode = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {";
    let at = PTX.find(opcode).expect("the kernel loads fragments") + opcode.len();
    let registers: Vec<&str> = PTX[at..].split(['}', ',']).take(2).collect();
    let (from, to) = (registers.join(","), format!("{},{}", registers[1], registers[0]));
    let half = bytes(
        &noise(1, 64 * 32).into_iter().map(f16::from_f32).collect::<Vec<_>>(),
        f16::to_le_bytes,
    );
    let product = |module: &Module| {
        let mut device = Device::new();
        let (a, b, out) =
            (device.upload(&half), device.upload(&half), device.allocate(64 * 64 * 4));
        let arguments: [&[u8]; 4] =
            [&a.to_le_bytes(), &b.to_le_bytes(), &out.to_le_bytes(), &32i32.to_le_bytes()];
        let how = Launch { threads: [128, 1, 1], ..Launch::default() };
        device.launch(module, "mma_product", &how, &arguments).unwrap();
        device.download(out, 64 * 64 * 4).unwrap()
    };
    assert_ne!(product(&module()), product(&mutant(&from, &to)));
}

/// Short kernels, each with one fault.
#[test]
fn faults_are_named() {
    let run = |body: &str, threads: u32| {
        let text = format!(
            ".version 7.0 .target sm_80 .address_size 64 .visible .entry k(.param .u64 x) {{
             .reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %rd<9>; .shared .align 16 .b8 s[256];
             ld.param.u64 %rd1, [x]; mov.u32 %r1, %tid.x; {body} }}"
        );
        let module = Module::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut device = Device::new();
        let x = device.upload(&[0; 64]);
        let launch = Launch { threads: [threads, 1, 1], steps: 10_000, ..Launch::default() };
        let fault = device.launch(&module, "k", &launch, &[&x.to_le_bytes()]).unwrap_err();
        fault.problem
    };
    assert!(matches!(
        run("ld.shared.u32 %r2, [s];", 1),
        Problem::Uninitialised { space: "shared", .. }
    ));
    assert!(matches!(run("add.s32 %r2, %r3, 1;", 1), Problem::Undefined { .. }));
    assert!(matches!(run("ld.global.u32 %r2, [%rd1+2];", 1), Problem::Misaligned { .. }));
    assert!(matches!(run("ld.global.u32 %r2, [%rd1+64];", 1), Problem::OutOfBounds { .. }));
    assert!(matches!(run("st.shared.u32 [s+256], %r1;", 1), Problem::OutOfBounds { .. }));
    assert!(matches!(run("ld.global.u32 %r2, [0];", 1), Problem::OutOfBounds { .. }));
    assert!(matches!(run("st.global.u32 [%rd1], 7;", 64), Problem::Race { space: "global", .. }));
    assert_eq!(run("trap;", 1), Problem::Trap);
    assert!(matches!(run("L: bra L;", 1), Problem::OutOfSteps { .. }));
    let half = "setp.lt.u32 %p1, %r1, 16;";
    assert!(matches!(run(&format!("{half} @%p1 bar.sync 0;"), 32), Problem::Diverged { .. }));
    assert!(matches!(
        run(&format!("{half} @%p1 shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;"), 32),
        Problem::Diverged { .. }
    ));
    assert!(matches!(
        run(&format!("{half} @%p1 shfl.sync.bfly.b32 %r2, %r1, 16, 31, 0xffff;"), 32),
        Problem::ShuffleSource { .. }
    ));
    let one_warp = "setp.lt.u32 %p1, %r1, 32; @%p1 bar.sync 1; ";
    assert!(matches!(run(one_warp, 64), Problem::Deadlock { .. }));
    assert!(matches!(
        run("cp.async.ca.shared.global [s], [%rd1], 4;", 1),
        Problem::NotWaitedFor { copies: 1 }
    ));
    assert!(matches!(
        run("cp.async.ca.shared.global [s], [%rd1], 4; ld.shared.u32 %r2, [s];", 1),
        Problem::InFlight { .. }
    ));
}

#[test]
fn text_that_is_not_understood_is_refused_with_its_line() {
    let parse = |body: &str| {
        let text =
            format!(".version 7.0\n.target sm_80\n.entry k() {{\n.reg .b32 %r<3>;\n{body}\n}}");
        Module::parse(&text).unwrap_err()
    };
    for (body, problem) in [
        ("frobnicate.b32 %r1, %r2;", "not known"),
        ("add.s32 %r1, %r2;", "too few"),
        ("add.s32 %r1, %r2, %r9;", "not declared"),
        ("add.wild.s32 %r1, %r2, %r0;", "`.wild`"),
        ("bra NOWHERE;", "NOWHERE"),
        (
            "mma.sync.aligned.m16n8k16.row.col.f32.s8.s8.f32 {%r1}, {%r1}, {%r1}, {%r1};",
            "go together",
        ),
        (".shared .align 3 .b8 s[4];", "alignment"),
        (".reg .b32 %x<99999999>;", "registers"),
    ] {
        let error = parse(body);
        assert!(error.problem.contains(problem) && error.line == 5, "{body}: {error}");
    }
    // No text makes the parser panic.
    for end in 0..PTX.len() / 16 {
        let _ = Module::parse(&PTX[..16 * end]);
    }
}
