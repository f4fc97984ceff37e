//! AMX, by inline assembly: the intrinsics are not stable yet. The compiler itself uses no tile, so
//! what one instruction leaves in a tile is there for the next.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

use super::{ROW_BYTES, Shapes, TILES, Unit};

/// Proof that the CPU has the unit, with products of bytes, and that the system lets the process
/// use it.
#[derive(Clone, Copy, Debug)]
pub struct Amx(());

impl Amx {
    /// The unit, if the CPU has it and the system allows it. The first call asks the system.
    pub fn detect() -> Option<Amx> {
        static IS_THERE: OnceLock<bool> = OnceLock::new();
        IS_THERE.get_or_init(|| has_instructions() && is_permitted()).then_some(Amx(()))
    }

    /// The unit.
    ///
    /// # Safety
    /// [`Amx::detect`] must have found it.
    pub(in crate::kernels) unsafe fn assume() -> Amx {
        Amx(())
    }
}

/// Whether the CPU has tiles and products of bytes, and the system saves tiles when it changes
/// threads.
fn has_instructions() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: OSXSAVE says that the CPU has the instruction.
    let saved = unsafe { saved_state() };
    __cpuid_count(7, 0).edx & TILE_AND_INT8 == TILE_AND_INT8 && saved & TILE_STATE == TILE_STATE
}

/// The parts of a thread's state that the system saves.
#[target_feature(enable = "xsave")]
unsafe fn saved_state() -> u64 {
    // SAFETY: the caller's promise.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the use of tiles, for all threads of this process.
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: the call reads no memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    first_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Unit for Amx {
    #[inline(always)]
    fn configure(self, rows: &Shapes) {
        let mut configuration = Configuration {
            palette: 1,
            first_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        configuration.row_bytes[..TILES].fill(ROW_BYTES as u16);
        configuration.rows[..TILES].copy_from_slice(rows);
        // SAFETY: the value proves that the CPU has the instruction, which reads the 64 bytes.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const configuration,
                options(nostack, readonly, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn release(self) {
        // SAFETY: the value proves that the CPU has the instruction.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn load<const T: u8>(self, from: *const u8, stride: usize) {
        // SAFETY: the value proves that the CPU has the instruction; the memory is the caller's
        // promise.
        unsafe {
            asm!(
                "tileloadd tmm{tile}, [{from} + {stride}*1]",
                tile = const T,
                from = in(reg) from,
                stride = in(reg) stride,
                options(nostack, readonly, preserves_flags)
            );
        }
    }

    #[inline(always)]
    unsafe fn store<const T: u8>(self, to: *mut u8, stride: usize) {
        // SAFETY: as in `load`.
        unsafe {
            asm!(
                "tilestored [{to} + {stride}*1], tmm{tile}",
                tile = const T,
                to = in(reg) to,
                stride = in(reg) stride,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn dot_bytes<const C: u8, const A: u8, const B: u8>(self) {
        // SAFETY: the value proves that the CPU has the instruction.
        unsafe {
            asm!(
                "tdpbusd tmm{c}, tmm{a}, tmm{b}",
                c = const C,
                a = const A,
                b = const B,
                options(nostack, nomem, preserves_flags)
            );
        }
    }
}
