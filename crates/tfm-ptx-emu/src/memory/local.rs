//! Local memory. Each thread has its own, so nothing can race.

use crate::fault::Problem;
use crate::warp::LANES;

/// The local memory of a warp's threads, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Local {
    /// Bytes of one thread.
    size: usize,
    bytes: Vec<u8>,
    /// For each byte, the `time` at which it was last written. Only bytes of the present `time`
    /// count as written.
    written: Vec<u8>,
    time: u8,
}

impl Local {
    pub(crate) fn new(size: usize) -> Local {
        Local { size, time: 1, ..Local::default() }
    }

    /// Marks all bytes as never written.
    pub(crate) fn clear(&mut self) {
        self.time = self.time.checked_add(1).unwrap_or_else(|| {
            self.written.fill(0);
            1
        });
    }

    fn offset(&mut self, lane: usize, address: u64, bytes: usize) -> Result<usize, Problem> {
        let size = self.size as u64;
        if address > size || bytes as u64 > size - address {
            return Err(Problem::OutOfBounds { space: "local", address, bytes });
        }
        if address & (bytes as u64 - 1) != 0 {
            return Err(Problem::Misaligned { space: "local", address, bytes });
        }
        if self.bytes.is_empty() {
            self.bytes.resize(self.size * LANES, 0);
            self.written.resize(self.size * LANES, 0);
        }
        Ok(lane * self.size + address as usize)
    }

    fn is_written(&self, offset: usize, address: u64, bytes: usize) -> Result<(), Problem> {
        let written = &self.written[offset..offset + bytes];
        match written.iter().position(|time| *time != self.time) {
            None => Ok(()),
            Some(at) => {
                let address = (address + at as u64) & !3;
                Err(Problem::Uninitialised { space: "local", address })
            }
        }
    }

    /// Reads a number of bytes that is a power of 2.
    #[inline]
    pub(crate) fn read(
        &mut self,
        lane: usize,
        address: u64,
        out: &mut [u8],
    ) -> Result<(), Problem> {
        let offset = self.offset(lane, address, out.len())?;
        self.is_written(offset, address, out.len())?;
        out.copy_from_slice(&self.bytes[offset..offset + out.len()]);
        Ok(())
    }

    /// Writes a number of bytes that is a power of 2.
    #[inline]
    pub(crate) fn write(&mut self, lane: usize, address: u64, data: &[u8]) -> Result<(), Problem> {
        let offset = self.offset(lane, address, data.len())?;
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
        self.written[offset..offset + data.len()].fill(self.time);
        Ok(())
    }

    /// Replaces a value by what `change` makes of it, and returns the old value.
    pub(crate) fn update(
        &mut self,
        lane: usize,
        address: u64,
        bytes: usize,
        change: impl FnOnce(u64) -> u64,
    ) -> Result<u64, Problem> {
        let mut value = [0; 8];
        self.read(lane, address, &mut value[..bytes])?;
        let old = u64::from_le_bytes(value);
        self.write(lane, address, &change(old).to_le_bytes()[..bytes])?;
        Ok(old)
    }
}
