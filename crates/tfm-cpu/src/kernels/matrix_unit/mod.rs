//! The matrix unit (AMX): eight tiles of up to 16 rows of 64 bytes, and instructions that add the
//! product of two tiles to a third.
//!
//! Kernels are written over the trait [`Unit`], an instruction a method. [`Amx`] is the unit of the
//! CPU. Tests also run the kernels on a model of it in plain Rust, which is strict about shapes, so
//! that they are checked on any CPU. Source: Intel 64 and IA-32 Architectures Software Developer's
//! Manual, volume 1, chapter 18.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use amx::Amx;
#[cfg(test)]
pub(super) use model::{Mistake, Model};

/// Bytes of a tile's row.
pub const ROW_BYTES: usize = 64;
/// The most rows of a tile.
pub const MOST_ROWS: usize = 16;
/// The number of tiles.
pub const TILES: usize = 8;

/// The rows of each tile; every row has [`ROW_BYTES`] bytes.
pub type Shapes = [u8; TILES];

/// The instructions of a matrix unit. A tile is named by its number, from 0 to 7.
///
/// The tiles belong to the thread. A kernel [configures](Unit::configure) them before any other
/// call, and [releases](Unit::release) them at its end.
pub trait Unit: Copy + Send + Sync {
    /// Sets the rows of each tile (at most [`MOST_ROWS`]) and fills all tiles with zeros.
    fn configure(self, rows: &Shapes);

    /// Gives the tiles back.
    fn release(self);

    /// Reads the rows of tile `T` from `from`, each `stride` bytes behind the one before.
    ///
    /// # Safety
    /// Every row must be readable for [`ROW_BYTES`] bytes.
    unsafe fn load<const T: u8>(self, from: *const u8, stride: usize);

    /// Writes the rows of tile `T` to `to`, each `stride` bytes behind the one before.
    ///
    /// # Safety
    /// Every row must be writable for [`ROW_BYTES`] bytes.
    unsafe fn store<const T: u8>(self, to: *mut u8, stride: usize);

    /// Multiplies bytes: `C[i, j] += Σ_p Σ_q A[i, 4p + q]·B[p, 4j + q]`, exactly modulo 2³². The
    /// bytes of A are unsigned, those of B signed, and C holds 32-bit integers (`tdpbusd`).
    fn dot_bytes<const C: u8, const A: u8, const B: u8>(self);
}

/// Stands for the unit where there is none. No value of it exists.
#[derive(Clone, Copy, Debug)]
pub enum Absent {}

impl Unit for Absent {
    fn configure(self, _: &Shapes) {
        match self {}
    }
    fn release(self) {
        match self {}
    }
    unsafe fn load<const T: u8>(self, _: *const u8, _: usize) {
        match self {}
    }
    unsafe fn store<const T: u8>(self, _: *mut u8, _: usize) {
        match self {}
    }
    fn dot_bytes<const C: u8, const A: u8, const B: u8>(self) {
        match self {}
    }
}
