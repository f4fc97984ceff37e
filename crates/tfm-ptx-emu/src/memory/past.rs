//! What is known of a word's past: its last writer, and the agents that have read it since.
//!
//! An access that is not ordered after those it conflicts with is a race. The method is that of
//! FastTrack's epochs (Flanagan and Freund, PLDI 2009), with warps as the threads. Of its own warp,
//! an agent knows what all lanes know; [`Lanes`](super::lanes::Lanes) say what single lanes know
//! beyond that. Masks have one bit for each byte.

mod block;
mod grid;

use super::{Access, Agent, Stamp};
pub(crate) use block::BlockPast;
pub(crate) use grid::GridPast;

/// Why an access is forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// An asynchronous copy will write here.
    InFlight,
    /// Nothing orders it after another access.
    Race { other: Access, by: Stamp },
    /// Nothing orders it after an access of another lane, or of several lanes, of its warp.
    InWarp { other: Access, lane: Option<u32> },
    /// The asynchronous proxy does the access, and no fence orders it after a write of the generic
    /// proxy.
    Unfenced,
}

/// The past of a region's words.
pub(crate) trait Past: Clone {
    /// Checks an access and records it.
    fn note(
        &mut self,
        word: usize,
        mask: u8,
        access: Access,
        agent: &Agent<'_>,
    ) -> Result<(), Conflict>;
}
