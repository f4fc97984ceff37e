//! Loops of one kind of instruction that wait for nothing else: they use no memory, and enough sums
//! that none waits for the one before.
//!
//! They are written in assembly, since a compiler would find out that such a loop has no effect.

/// A kind of instruction.
pub struct Kernel {
    /// Its name.
    pub name: &'static str,
    /// What it computes: `f32`, `bf16` or `int8`.
    pub kind: &'static str,
    /// Runs for about a millisecond and returns the number of operations, where a product and its
    /// addition count as two.
    pub run: fn() -> u64,
}

/// The kernels whose instructions the CPU has.
pub fn available() -> Vec<Kernel> {
    #[cfg(target_arch = "x86_64")]
    let kernels = x86::available();
    #[cfg(not(target_arch = "x86_64"))]
    let kernels = vec![Kernel { name: "f32, as the compiler has it", kind: "f32", run: portable }];
    kernels
}

/// For CPUs that no kernel is written for.
#[cfg(not(target_arch = "x86_64"))]
fn portable() -> u64 {
    use std::hint::black_box;
    const TIMES: u64 = 1 << 15;
    const LANES: usize = 64;
    let (mut sums, x, y) = ([0.0f32; LANES], black_box(1.0f32), black_box(1e-3f32));
    for _ in 0..TIMES {
        for sum in &mut sums {
            *sum = x.mul_add(y, *sum);
        }
    }
    black_box(sums);
    TIMES * LANES as u64 * 2
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Kernel;
    use std::arch::asm;
    #[cfg(target_os = "linux")]
    use tfm_cpu::kernels::matrix_unit::{Amx, Unit};

    /// Iterations of a loop over twelve vectors.
    const TIMES: u64 = 1 << 17;
    /// The number of vectors that hold sums.
    const SUMS: u64 = 12;
    /// 1 and 0.001 as `f32`. Read as integers or `bf16` they are other numbers, which do not
    /// matter.
    const X: f32 = 1.0;
    const Y: f32 = 1e-3;

    /// Defines a function that repeats the instructions `$one` for each of twelve sums. In `$one`,
    /// `{s}` is the number of a sum, 13 and 14 are the operands, 15 is for intermediate results,
    /// and 12 holds ones. `$register` is `ymm` or `zmm`.
    macro_rules! kernel {
        ($name:ident, $register:literal, $operations:expr, $one:ident) => {
            fn $name() -> u64 {
                // SAFETY: the instructions touch only registers, all of which are named as
                // clobbered, and read two floats that are alive. `available` hands the function out
                // only where the CPU has the instructions.
                unsafe {
                    asm!(
                        concat!("vbroadcastss ", $register, "13, dword ptr [{x}]"),
                        concat!("vbroadcastss ", $register, "14, dword ptr [{y}]"),
                        concat!("vbroadcastss ", $register, "12, dword ptr [{x}]"),
                        "vxorps xmm0, xmm0, xmm0", "vxorps xmm1, xmm1, xmm1",
                        "vxorps xmm2, xmm2, xmm2", "vxorps xmm3, xmm3, xmm3",
                        "vxorps xmm4, xmm4, xmm4", "vxorps xmm5, xmm5, xmm5",
                        "vxorps xmm6, xmm6, xmm6", "vxorps xmm7, xmm7, xmm7",
                        "vxorps xmm8, xmm8, xmm8", "vxorps xmm9, xmm9, xmm9",
                        "vxorps xmm10, xmm10, xmm10", "vxorps xmm11, xmm11, xmm11",
                        "2:",
                        $one!("0"), $one!("1"), $one!("2"), $one!("3"), $one!("4"), $one!("5"),
                        $one!("6"), $one!("7"), $one!("8"), $one!("9"), $one!("10"), $one!("11"),
                        "dec {n}",
                        "jnz 2b",
                        "vzeroupper",
                        x = in(reg) &X,
                        y = in(reg) &Y,
                        n = inout(reg) TIMES => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                        out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                        out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        options(nostack, readonly),
                    );
                }
                TIMES * SUMS * $operations
            }
        };
    }

    macro_rules! fma256 {
        ($s:literal) => {
            concat!("vfmadd231ps ymm", $s, ", ymm13, ymm14")
        };
    }
    macro_rules! fma512 {
        ($s:literal) => {
            concat!("vfmadd231ps zmm", $s, ", zmm13, zmm14")
        };
    }
    macro_rules! words256 {
        ($s:literal) => {
            concat!("vpmaddwd ymm15, ymm13, ymm14\nvpaddd ymm", $s, ", ymm", $s, ", ymm15")
        };
    }
    macro_rules! words512 {
        ($s:literal) => {
            concat!("vpmaddwd zmm15, zmm13, zmm14\nvpaddd zmm", $s, ", zmm", $s, ", zmm15")
        };
    }
    macro_rules! bytes256 {
        ($s:literal) => {
            concat!(
                "vpmaddubsw ymm15, ymm13, ymm14\nvpmaddwd ymm15, ymm15, ymm12\n",
                "vpaddd ymm",
                $s,
                ", ymm",
                $s,
                ", ymm15"
            )
        };
    }
    macro_rules! dot256 {
        ($s:literal) => {
            concat!("{{vex}} vpdpbusd ymm", $s, ", ymm13, ymm14")
        };
    }
    macro_rules! dot512 {
        ($s:literal) => {
            concat!("vpdpbusd zmm", $s, ", zmm13, zmm14")
        };
    }
    macro_rules! halves512 {
        ($s:literal) => {
            concat!("vdpbf16ps zmm", $s, ", zmm13, zmm14")
        };
    }

    kernel!(f32_avx2, "ymm", 16, fma256);
    kernel!(f32_avx512, "zmm", 32, fma512);
    kernel!(int8_words_avx2, "ymm", 32, words256);
    kernel!(int8_words_avx512, "zmm", 64, words512);
    kernel!(int8_bytes_avx2, "ymm", 64, bytes256);
    kernel!(int8_dot_avx, "ymm", 64, dot256);
    kernel!(int8_dot_avx512, "zmm", 128, dot512);
    kernel!(bf16_avx512, "zmm", 64, halves512);

    /// Products of whole tiles, for four sums.
    #[cfg(target_os = "linux")]
    fn int8_amx() -> u64 {
        const TIMES: u64 = 1 << 16;
        /// 16 rows of 16 sums of 64 products.
        const OPERATIONS: u64 = 16 * 16 * 64 * 2;
        let Some(amx) = Amx::detect() else { return 0 };
        amx.configure(&[16; 8]);
        for _ in 0..TIMES {
            amx.dot_bytes::<0, 4, 6>();
            amx.dot_bytes::<1, 4, 7>();
            amx.dot_bytes::<2, 5, 6>();
            amx.dot_bytes::<3, 5, 7>();
        }
        amx.release();
        TIMES * 4 * OPERATIONS
    }

    /// The kernels whose instructions this CPU has.
    pub(super) fn available() -> Vec<Kernel> {
        let (avx2, avx512) = (
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            is_x86_feature_detected!("avx512f"),
        );
        let words = avx512 && is_x86_feature_detected!("avx512bw");
        let dot = avx512 && is_x86_feature_detected!("avx512vnni");
        let kernel = |here: bool, kind, name, run| here.then_some(Kernel { name, kind, run });
        let vex = avx2 && is_x86_feature_detected!("avxvnni");
        let halves = avx512 && is_x86_feature_detected!("avx512bf16");
        let all = [
            kernel(avx2, "f32", "f32, AVX2 vfmadd", f32_avx2 as fn() -> u64),
            kernel(avx512, "f32", "f32, AVX-512 vfmadd", f32_avx512),
            kernel(halves, "bf16", "bf16, AVX-512 vdpbf16ps", bf16_avx512),
            kernel(avx2, "int8", "int8 as words, AVX2 vpmaddwd", int8_words_avx2),
            kernel(words, "int8", "int8 as words, AVX-512 vpmaddwd", int8_words_avx512),
            // Exact for weights whose neighbours have bounded sums, such as those of
            // `Precision::Int8`.
            kernel(avx2, "int8", "int8, AVX2 vpmaddubsw", int8_bytes_avx2),
            kernel(vex, "int8", "int8, AVX-VNNI vpdpbusd", int8_dot_avx),
            kernel(dot, "int8", "int8, AVX-512 VNNI vpdpbusd", int8_dot_avx512),
            #[cfg(target_os = "linux")]
            kernel(Amx::detect().is_some(), "int8", "int8, AMX tdpbusd", int8_amx),
        ];
        all.into_iter().flatten().collect()
    }
}
