//! The biases of attention, as its kernels take them.

use cudarc::driver::DeviceRepr;
use tfm_core::fused::RelativeBias;

/// The buckets of more than one distance in a direction that a kernel takes; `BEGINNINGS` of the
/// kernels.
const BEGINNINGS: usize = 31;
/// The longest reach: blocks have the biases of all distances up to it in shared memory.
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
    /// `None` where they are more or reach further than the kernels take.
    pub(crate) fn of(bias: RelativeBias) -> Option<Buckets> {
        let (reach, found) = (bias.reach(), bias.beginnings());
        if reach > REACH || found.len() > BEGINNINGS {
            return None;
        }
        // What is not there is never reached.
        let mut beginnings = [i32::MAX; BEGINNINGS];
        for (place, begin) in beginnings.iter_mut().zip(found) {
            *place = begin as i32;
        }
        let [exact, after, reach] = [bias.exact(), bias.after(), reach].map(|x| x as i32);
        Some(Buckets { exact, after, reach, beginnings })
    }

    /// The distances with a bias of their own in a block's memory.
    pub(crate) fn distances(&self) -> usize {
        2 * self.reach as usize + 1
    }
}
