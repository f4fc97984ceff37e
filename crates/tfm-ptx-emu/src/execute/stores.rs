//! Stores that a warp's lanes do with one instruction.

use super::access::place;
use super::{Machine, Result, first};
use crate::fault::Problem;
use crate::instruction::{Address, Operands, Space, Type};
use crate::warp::{LANES, Values, Warp, lanes};

impl Machine<'_> {
    pub(super) fn store(
        &mut self,
        warp: &mut Warp,
        active: u32,
        space: Space,
        ty: Type,
        to: Address,
        a: &Operands,
    ) -> Result<()> {
        match ty.bytes() * a.len() {
            ..=16 => self.store_up_to::<16>(warp, active, space, ty, to, a),
            _ => self.store_up_to::<64>(warp, active, space, ty, to, a),
        }
    }

    fn store_up_to<const MOST: usize>(
        &mut self,
        warp: &mut Warp,
        active: u32,
        space: Space,
        ty: Type,
        to: Address,
        a: &Operands,
    ) -> Result<()> {
        let size = ty.bytes();
        let bytes = size * a.len();
        let addresses = self.addresses(warp, to, active)?;
        let mut data = [[0; MOST]; LANES];
        for (i, a) in a.iter().enumerate() {
            let mut room = [0; LANES];
            let values = warp.fetch(*a, active, &mut room, self)?;
            match size {
                1 => put_parts::<1, MOST>(values, &mut data, i),
                2 => put_parts::<2, MOST>(values, &mut data, i),
                4 => put_parts::<4, MOST>(values, &mut data, i),
                _ => put_parts::<8, MOST>(values, &mut data, i),
            }
        }
        self.write_all(warp, space, &addresses, active, |lane| &data[lane][..bytes])?;
        self.traffic(active, space, &addresses, bytes);
        Ok(())
    }

    /// Writes memory for all lanes with one instruction. Each lane writes the same number of bytes,
    /// at a multiple of that number.
    #[inline]
    pub(super) fn write_all<'d>(
        &mut self,
        warp: &mut Warp,
        space: Space,
        addresses: &Values,
        active: u32,
        data: impl Fn(usize) -> &'d [u8],
    ) -> Result<()> {
        let (mut leaders, mut several) = (active, 0);
        let bytes = data(first(active)).len();
        if space != Space::Local && !distinct(addresses, active, bytes) {
            (leaders, several) = of_several(space, addresses, active, &data)?;
        }
        for lane in lanes(leaders) {
            let several = several >> lane & 1 != 0;
            self.write_for(warp, space, addresses[lane], data(lane), lane, several)?;
        }
        Ok(())
    }
}

fn put_parts<const SIZE: usize, const MOST: usize>(
    values: &Values,
    data: &mut [[u8; MOST]; LANES],
    i: usize,
) {
    for (data, value) in data.iter_mut().zip(values) {
        data[i * SIZE..][..SIZE].copy_from_slice(&value.to_le_bytes()[..SIZE]);
    }
}

/// Whether a quick look shows that the lanes' addresses are distinct: they rise, or their last bits
/// differ.
#[inline]
fn distinct(addresses: &Values, active: u32, bytes: usize) -> bool {
    if active == u32::MAX && addresses.is_sorted_by(|a, b| a < b) {
        return true;
    }
    let bit = |address: u64| 1u64 << (address >> bytes.trailing_zeros() & 63);
    let bits = lanes(active).fold(0, |bits, lane| bits | bit(addresses[lane]));
    bits.count_ones() == active.count_ones()
}

/// Of the lanes that store to the same place, the first, with the mask of the others that do so
/// too. All of them must store the same value.
#[cold]
fn of_several<'d>(
    space: Space,
    addresses: &Values,
    active: u32,
    data: impl Fn(usize) -> &'d [u8],
) -> Result<(u32, u32)> {
    let (mut left, mut leaders, mut several) = (active, 0, 0);
    while left != 0 {
        let lane = first(left);
        left &= left - 1;
        leaders |= 1 << lane;
        let (space, address) = place(space, addresses[lane]);
        for other in lanes(left) {
            // Each lane has local memory of its own.
            if addresses[other] != addresses[lane] || space == Space::Local {
                continue;
            }
            if data(other) != data(lane) {
                return Err((Problem::StoreConflict { address, lane: lane as u32 }, other));
            }
            several |= 1 << lane;
            left &= !(1 << other);
        }
    }
    Ok((leaders, several))
}
