//! Prepares the biases of attention for the kernels.

use cudarc::driver::DeviceRepr;
use tfm_core::fused::RelativeBias;

/// The most buckets in one direction that hold more than one distance; `BEGINNINGS` of the kernels.
const BEGINNINGS: usize = 31;
/// The greatest distance with a bias of its own. Blocks hold the biases of all distances up to it
/// in shared memory.
const REACH: usize = 512;

/// The buckets of distances; `Buckets` of kernels/relative_bias.cuh.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Buckets {
    exact: i32,
    after: i32,
    reach: i32,
    beginnings: [i32; BEGINNINGS],
}

// SAFETY: `Buckets` of the kernels has the same fields, types and order, and C's layout.
unsafe impl DeviceRepr for Buckets {}

impl Buckets {
    /// Stands where there are no biases.
    pub(crate) const NONE: Buckets =
        Buckets { exact: 0, after: 0, reach: 0, beginnings: [i32::MAX; BEGINNINGS] };

    /// `None` where there are more buckets, or greater distances, than the kernels take.
    pub(crate) fn of(bias: RelativeBias) -> Option<Buckets> {
        let (reach, found) = (bias.reach(), bias.beginnings());
        if reach > REACH || found.len() > BEGINNINGS {
            return None;
        }
        // No distance reaches the beginning of a bucket that is not there.
        let mut beginnings = [i32::MAX; BEGINNINGS];
        for (place, begin) in beginnings.iter_mut().zip(found) {
            *place = begin as i32;
        }
        let [exact, after, reach] = [bias.exact(), bias.after(), reach].map(|x| x as i32);
        Some(Buckets { exact, after, reach, beginnings })
    }

    /// The number of distances whose biases a block holds in its memory.
    pub(crate) fn distances(&self) -> usize {
        2 * self.reach as usize + 1
    }
}
