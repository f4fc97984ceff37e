//! Lanes of one warp need not run in step. What one lane writes, another may touch only after both
//! have synchronised.

mod common;

use common::{PTX, bytes, everywhere};
use half::f16;
use tfm_ptx_emu::{Device, Fault, Launch, Module, Problem};

/// Runs one warp. Each lane has its number in `%r1`, the address of its own word in `%r2`, and the
/// addresses of the words of the next lane and the lane 16 further in `%r3` and `%r4`. All of the
/// memory is written before.
fn run(body: &str) -> Result<(), Fault> {
    let text = format!(
        ".version 8.0 .target sm_80 .address_size 64 .visible .entry k(.param .u64 x) {{
         .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<19>; .reg .b64 %rd<9>;
         .shared .align 16 .b8 s[256]; .local .align 16 .b8 l[16];
         ld.param.u64 %rd1, [x]; mov.u32 %r1, %tid.x; mov.u32 %r5, s; shl.b32 %r6, %r1, 2;
         add.s32 %r2, %r5, %r6; xor.b32 %r3, %r6, 4; add.s32 %r3, %r5, %r3;
         xor.b32 %r4, %r6, 64; add.s32 %r4, %r5, %r4; setp.lt.u32 %p1, %r1, 16; setp.eq.u32 %p2, %r1, 0;
         st.shared.u32 [%r2], 0; st.shared.u32 [%r2+128], 0; bar.sync 0;
         {body}
         }}"
    );
    let module = Module::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut device = Device::new();
    let x = device.upload(&[0; 256]);
    let launch = Launch { threads: [32, 1, 1], ..Launch::default() };
    device.launch(&module, "k", &launch, &[&x.to_le_bytes()]).map(|_| ())
}

/// Checks that a body is right, and wrong without the synchronisation at `|`: then `this` access
/// races with `that` one.
fn needs(between: &str, body: &str, this: &str, that: &str, by: Option<u32>) {
    assert!(body.contains('|'));
    assert_eq!(run(&body.replace('|', between)), Ok(()), "{body}");
    let fault = run(&body.replace('|', "")).expect_err(body);
    let Problem::RaceInWarp { access, other, lane, .. } = fault.problem else {
        panic!("{body}: {fault}")
    };
    assert_eq!((access, other, lane), (this, that, by), "{body}");
}

const SYNC: &str = "bar.warp.sync -1;";

#[test]
fn another_lanes_write_is_read_after_a_synchronisation() {
    let body = "st.shared.u32 [%r2], %r1; | ld.shared.u32 %r7, [%r3];";
    needs(SYNC, body, "read", "write", Some(1));
    needs("bar.sync 0;", body, "read", "write", Some(1));
    // Instructions that only bring the lanes together do not order memory.
    for other in ["shfl.sync.bfly.b32 %r8, %r1, 1, 31, -1;", "activemask.b32 %r8;"] {
        let fault = run(&body.replace('|', other)).unwrap_err();
        assert_eq!((fault.kernel.as_str(), fault.thread, fault.line), ("k", [0, 0, 0], 8));
        let text = fault.to_string();
        assert!(
            text.contains("race within the warp") && text.contains("write by lane 1"),
            "{text}"
        );
    }
    // Global memory, also through generic addresses.
    let address = "mul.wide.u32 %rd2, %r1, 4; add.s64 %rd2, %rd1, %rd2; xor.b32 %r9, %r1, 1;
                   mul.wide.u32 %rd3, %r9, 4; add.s64 %rd3, %rd1, %rd3;";
    let body = format!("{address} st.global.u32 [%rd2], %r1; | ld.u32 %r7, [%rd3];");
    needs(SYNC, &body, "read", "write", Some(1));
    let body = format!("{address} ld.u32 %r7, [%rd3]; | st.global.u32 [%rd2], %r1;");
    needs(SYNC, &body, "write", "read", Some(1));
}

#[test]
fn another_lanes_read_comes_before_a_write() {
    let body = "ld.shared.u32 %r7, [%r3]; | st.shared.u32 [%r2], %r1;";
    needs(SYNC, body, "write", "read", Some(1));
    let body = "ld.shared.u32 %r7, [s]; | @%p2 st.shared.u32 [s], %r1;";
    needs(SYNC, body, "write", "read", None);
    let body =
        "setp.eq.u32 %p3, %r1, 31; ld.shared.u16 %h1, [s+2]; | @%p3 st.shared.u16 [s+2], %h1;";
    needs(SYNC, body, "write", "read", None);
    // The lane that writes first on behalf of all is the one that has read.
    let body = "@%p2 ld.shared.u32 %r7, [s]; | st.shared.u32 [s], 1;";
    needs(SYNC, body, "write", "read", Some(0));
    // Reads do not race with one another, whether a synchronisation lies between them or not.
    run("ld.shared.u32 %r7, [%r3]; bar.warp.sync -1; ld.shared.u32 %r7, [%r2]; st.shared.u32 [%r2], 1;").unwrap();
}

#[test]
fn what_is_a_lanes_own_needs_no_synchronisation() {
    run("st.shared.u32 [%r2], %r1; ld.shared.u32 %r7, [%r2]; st.shared.u32 [%r2], %r7;").unwrap();
    // Different lanes write different bytes of one word.
    let half = "shl.b32 %r8, %r1, 1; add.s32 %r8, %r5, %r8; cvt.u16.u32 %h1, %r1;";
    run(&format!(
        "{half} ld.shared.u16 %h2, [%r8]; st.shared.u16 [%r8], %h1; ld.shared.u16 %h2, [%r8];
         st.shared.u16 [%r8], %h1;"
    ))
    .unwrap();
    let other = "xor.b32 %r9, %r8, 2; st.shared.u16 [%r8], %h1; | ld.shared.u16 %h2, [%r9];";
    needs(SYNC, &format!("{half} {other}"), "read", "write", Some(1));
    // All lanes use the same address of local memory.
    run("st.local.u32 [l], %r1; ld.local.u32 %r7, [l];").unwrap();
    run("mov.u64 %rd2, l; cvta.local.u64 %rd2, %rd2; st.u32 [%rd2], %r1; ld.u32 %r7, [%rd2];")
        .unwrap();
}

#[test]
fn one_store_to_one_place_has_one_value() {
    run("st.shared.u32 [s], 7;").unwrap();
    run("shr.u32 %r7, %r1, 1; shl.b32 %r8, %r7, 2; add.s32 %r8, %r5, %r8; st.shared.u32 [%r8], %r7;")
        .unwrap();
    needs(SYNC, "st.shared.u32 [s], 7; | ld.shared.u32 %r7, [s];", "read", "write", None);
    needs(SYNC, "st.shared.u32 [s], 7; | @%p2 st.shared.u32 [s], 8;", "write", "write", None);
    for place in ["shared.u32 [s]", "global.u32 [%rd1]", "u32 [%rd1]"] {
        let fault = run(&format!("st.{place}, %r1;")).unwrap_err();
        assert!(matches!(fault.problem, Problem::StoreConflict { lane: 0, .. }), "{fault}");
        assert_eq!(fault.thread, [1, 0, 0]);
    }
    // Addresses that neither ascend nor lie close together; the last two lanes have the same one.
    let fault = run(
        "min.u32 %r7, %r1, 30; xor.b32 %r7, %r7, 21; shl.b32 %r7, %r7, 2; add.s32 %r7, %r5, %r7;
                     st.shared.u32 [%r7], %r1;",
    )
    .unwrap_err();
    assert!(matches!(fault.problem, Problem::StoreConflict { lane: 30, .. }), "{fault}");
}

#[test]
fn a_part_of_the_lanes_synchronises_for_itself() {
    let halves = "@%p1 bra LOW; st.shared.u32 [%r2], 1; bar.warp.sync 0xffff0000; ld.shared.u32 %r7, [%r3];
                  bra END; LOW: st.shared.u32 [%r2], 2; bar.warp.sync 0xffff; ld.shared.u32 %r7, [%r3];
                  END:";
    run(halves).unwrap();
    // The lanes know nothing of the other half.
    needs(SYNC, &format!("{halves} | ld.shared.u32 %r7, [%r4];"), "read", "write", Some(16));
    needs(SYNC, &format!("{halves} | st.shared.u32 [%r4], 3;"), "write", "write", Some(16));
    // A chain of synchronisations: lane 0 writes, then 0 to 15 meet, then 8 to 23; 24 to 31 never
    // take part.
    let chain = "@%p2 st.shared.u32 [s], 1; @!%p1 bra A; bar.warp.sync 0xffff; A:
                 setp.lt.u32 %p3, %r1, 8; setp.ge.u32 %p4, %r1, 24; or.pred %p5, %p3, %p4;
                 @%p5 bra B; bar.warp.sync 0xffff00; B:";
    run(&format!("{chain} @!%p5 ld.shared.u32 %r7, [s];")).unwrap();
    run(&format!("{chain} @%p3 ld.shared.u32 %r7, [s];")).unwrap();
    needs(SYNC, &format!("{chain} | @%p4 ld.shared.u32 %r7, [s];"), "read", "write", Some(0));
    // A read that is ordered after another read stands for both.
    let reads = "@!%p1 bra A; ld.shared.u32 %r7, [s]; bar.warp.sync 0xffff; A: @%p2 ld.shared.u32 %r7, [s];";
    run(&format!("{reads} @%p2 st.shared.u32 [s], 1;")).unwrap();
}

#[test]
fn matrices_copies_and_atomic_operations_are_accesses_too() {
    let row = "shl.b32 %r8, %r1, 4; and.b32 %r8, %r8, 127; add.s32 %r8, %r5, %r8;";
    let matrix = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r9}, [%r8];";
    let body = format!("{row} st.shared.u32 [%r2], %r1; | {matrix}");
    needs(SYNC, &body, "read", "write", Some(1));
    needs(SYNC, &format!("{row} {matrix} | st.shared.u32 [%r2], 1;"), "write", "read", Some(0));
    // A lane that has waited for its copy may read it. Other lanes need a synchronisation.
    let copy = "mul.wide.u32 %rd2, %r1, 4; add.s64 %rd2, %rd1, %rd2;
                cp.async.ca.shared.global [%r2], [%rd2], 4; cp.async.wait_all;";
    run(&format!("{copy} ld.shared.u32 %r7, [%r2];")).unwrap();
    needs(SYNC, &format!("{copy} | ld.shared.u32 %r7, [%r3];"), "read", "write", Some(1));
    let body = format!("ld.shared.u32 %r7, [%r3]; | {copy}");
    needs(SYNC, &body, "write", "read", Some(1));
    // Atomic operations race only with other accesses.
    let add = "atom.shared.add.u32 %r7, [s], 1;";
    needs(SYNC, &format!("{add} {add} | ld.shared.u32 %r7, [s];"), "read", "atomic", None);
    needs(SYNC, &format!("@%p2 st.shared.u32 [s], 1; | {add}"), "atomic", "write", Some(0));
}

/// A compiled kernel, launched as one warp: copies, then fragments, then the next copies.
#[test]
fn a_product_of_one_warp_needs_a_synchronisation_before_and_after_its_fragments() {
    let start = PTX.find("entry mma_product").unwrap();
    let (before, kernel) = PTX.split_at(start);
    let half = bytes(&[f16::ONE; 64 * 96], f16::to_le_bytes);
    everywhere(|how| {
        let run = |kernel: &str| {
            let module = Module::parse(&format!("{before}{kernel}")).unwrap();
            let mut device = Device::new();
            let (a, b, out) =
                (device.upload(&half), device.upload(&half), device.allocate(64 * 64 * 4));
            let arguments: [&[u8]; 4] =
                [&a.to_le_bytes(), &b.to_le_bytes(), &out.to_le_bytes(), &96i32.to_le_bytes()];
            let how = Launch { threads: [32, 1, 1], ..how };
            device.launch(&module, "mma_product", &how, &arguments).map_err(|fault| fault.problem)
        };
        let (barrier, of_warp) = ("bar.sync \t0;", "bar.warp.sync -1;");
        assert_eq!(kernel.matches(barrier).count(), 2);
        assert!(run(kernel).is_ok());
        let right = kernel.replace(barrier, of_warp);
        assert!(run(&right).is_ok());
        for (left_out, access, other) in [(0, "read", "write"), (1, "write", "read")] {
            let at = right.match_indices(of_warp).nth(left_out).unwrap().0;
            let wrong = format!("{}{}", &right[..at], &right[at + of_warp.len()..]);
            let found = run(&wrong).unwrap_err();
            let Problem::RaceInWarp { access: this, other: that, .. } = found else {
                panic!("{found:?}")
            };
            assert_eq!((this, that), (access, other));
        }
    });
}
