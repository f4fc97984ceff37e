//! Tensor maps, which describe tensors to bulk copies.

use crate::fault::Problem;

/// How a tile's pieces of 16 bytes are permuted in shared memory, so that columns lie in different
/// banks. The variants say within how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Swizzle {
    /// No permutation.
    #[default]
    None,
    /// Within 32 bytes.
    Bytes32,
    /// Within 64 bytes.
    Bytes64,
    /// Within 128 bytes.
    Bytes128,
}

impl Swizzle {
    /// The number of bytes within which pieces are permuted, as a number of pieces.
    pub(crate) fn span(self) -> u64 {
        match self {
            Swizzle::None => 1,
            Swizzle::Bytes32 => 2,
            Swizzle::Bytes64 => 4,
            Swizzle::Bytes128 => 8,
        }
    }

    /// The address to which the permutation moves an address.
    pub(crate) fn turn(self, address: u64) -> u64 {
        address ^ (address >> 7 & (self.span() - 1)) << 4
    }
}

/// A tensor in global memory and the tiles that are copied from it: what `cuTensorMapEncodeTiled`
/// takes, without interleaved layouts and element strides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMap {
    /// The address of the first element.
    pub address: u64,
    /// Bytes of an element: 1, 2, 4 or 8.
    pub element: usize,
    /// The extents of 1 to 5 dimensions; the elements of the first are contiguous.
    pub extents: Vec<u64>,
    /// Bytes from one element to the next, for each dimension but the first.
    pub strides: Vec<u64>,
    /// Elements of a tile in each dimension.
    pub tile: Vec<u32>,
    /// The permutation in shared memory.
    pub swizzle: Swizzle,
    /// Whether tile elements outside of the tensor are NaN (for floats of 16 to 64 bits) instead of
    /// zero.
    pub nan: bool,
}

/// The first bytes of an encoded map.
const SIGN: &[u8; 8] = b"tfm-tmap";

impl TensorMap {
    /// The map in the 128 bytes of a `CUtensorMap`, as a kernel takes it. Only this interpreter
    /// understands these bytes.
    ///
    /// # Errors
    /// What the driver would reject.
    pub fn encode(&self) -> Result<[u8; 128], String> {
        self.check()?;
        let mut bytes = SIGN.to_vec();
        bytes.extend(self.address.to_le_bytes());
        for i in 0..5 {
            bytes.extend(self.extents.get(i).copied().unwrap_or(1).to_le_bytes());
            bytes.extend(self.strides.get(i).copied().unwrap_or(0).to_le_bytes());
            bytes.extend((self.tile.get(i).copied().unwrap_or(1) as u16).to_le_bytes());
        }
        let swizzle = self.swizzle.span() as u8;
        bytes.extend([self.extents.len() as u8, self.element as u8, swizzle, self.nan.into()]);
        bytes.resize(128, 0);
        bytes.try_into().map_err(|_| "too many bytes".into())
    }

    fn check(&self) -> Result<(), String> {
        let rank = self.extents.len();
        if !(1..=5).contains(&rank) || self.strides.len() + 1 != rank || self.tile.len() != rank {
            return Err(format!(
                "{rank} extents, {} strides, a tile of {}",
                self.strides.len(),
                self.tile.len()
            ));
        }
        if ![1, 2, 4, 8].contains(&self.element) {
            return Err(format!("elements of {} bytes", self.element));
        }
        if !self.address.is_multiple_of(16) {
            return Err(format!("an address of {:#x}, which is no multiple of 16", self.address));
        }
        if let Some(stride) = self.strides.iter().find(|s| !s.is_multiple_of(16) || **s >= 1 << 40)
        {
            return Err(format!("a stride of {stride} bytes"));
        }
        if let Some(extent) = self.extents.iter().find(|n| !(1..=1 << 32).contains(*n)) {
            return Err(format!("an extent of {extent}"));
        }
        if let Some(tile) = self.tile.iter().find(|n| !(1..=256).contains(*n)) {
            return Err(format!("{tile} elements of a tile"));
        }
        let row = self.tile[0] as usize * self.element;
        if !row.is_multiple_of(16) {
            return Err(format!("rows of {row} bytes, which is no multiple of 16"));
        }
        let most = 16 * self.swizzle.span() as usize;
        // The driver takes shorter rows too, but this interpreter does not know how they would lie.
        if self.swizzle != Swizzle::None && row != most {
            return Err(format!("rows of {row} bytes turned within {most}"));
        }
        Ok(())
    }

    /// Decodes the bytes of a map.
    pub(crate) fn decode(bytes: &[u8; 128]) -> Result<TensorMap, Problem> {
        let wrong = || Problem::Launch("the tensor map is none that was encoded".into());
        let rest = bytes.strip_prefix(SIGN).ok_or_else(wrong)?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&rest[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let rank = usize::from(rest[98]).clamp(1, 5);
        let dimensions = || (0..rank).map(|i| 8 + 18 * i);
        let map = TensorMap {
            address: word(0),
            element: rest[99].into(),
            extents: dimensions().map(word).collect(),
            strides: dimensions().take(rank - 1).map(|at| word(at + 8)).collect(),
            tile: dimensions()
                .map(|at| u16::from_le_bytes([rest[at + 16], rest[at + 17]]).into())
                .collect(),
            swizzle: match rest[100] {
                2 => Swizzle::Bytes32,
                4 => Swizzle::Bytes64,
                8 => Swizzle::Bytes128,
                _ => Swizzle::None,
            },
            nan: rest[101] != 0,
        };
        map.check().map_err(|_| wrong())?;
        Ok(map)
    }

    /// Bytes of a tile.
    pub(crate) fn bytes(&self) -> usize {
        self.tile.iter().map(|n| *n as usize).product::<usize>() * self.element
    }

    /// The rows of the tile at `at` that lie at least partly in the tensor. For each: its place in
    /// the tile, its address, and its number of bytes.
    pub(crate) fn rows(&self, at: &[i64]) -> Vec<(usize, u64, usize)> {
        let row = i64::from(self.tile[0]);
        let from = at[0].clamp(0, self.extents[0] as i64);
        let to = (at[0] + row).clamp(from, self.extents[0] as i64);
        let count: usize = self.tile[1..].iter().map(|n| *n as usize).product();
        let mut rows = Vec::new();
        for index in 0..count {
            let (mut rest, mut address, mut inside) = (index, self.address, to > from);
            for (d, extent) in self.tile.iter().enumerate().skip(1) {
                let place = at[d] + (rest % *extent as usize) as i64;
                rest /= *extent as usize;
                inside &= (0..self.extents[d] as i64).contains(&place);
                address = address.wrapping_add((place as u64).wrapping_mul(self.strides[d - 1]));
            }
            if inside {
                let skipped = (from - at[0]) as usize;
                let start = (index * row as usize + skipped) * self.element;
                let address = address.wrapping_add(from as u64 * self.element as u64);
                rows.push((start, address, (to - from) as usize * self.element));
            }
        }
        rows
    }

    /// The bytes of a tile that lies entirely outside of the tensor.
    pub(crate) fn outside(&self) -> Vec<u8> {
        let element: &[u8] = match (self.nan, self.element) {
            (true, 2) => &[0xFF, 0x7F],
            (true, 4) => &[0xFF, 0xFF, 0xFF, 0x7F],
            (true, 8) => &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
            _ => &[0],
        };
        element.iter().copied().cycle().take(self.bytes()).collect()
    }

    /// Permutes the pieces of a tile, as they lie in shared memory from `start` on. A second
    /// permutation undoes the first.
    pub(crate) fn turned(&self, start: u64, tile: &[u8]) -> Vec<u8> {
        let mut turned = vec![0; tile.len()];
        for (i, piece) in tile.chunks_exact(16).enumerate() {
            let at = start + 16 * i as u64;
            let to = (self.swizzle.turn(at) - start) as usize;
            turned[to..to + 16].copy_from_slice(piece);
        }
        turned
    }
}
