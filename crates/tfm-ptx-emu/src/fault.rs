//! What can be wrong with the text, and with what a kernel does.

/// Text that is not PTX, or not the part of PTX that this crate supports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong with it.
    pub problem: String,
}

impl ParseError {
    pub(crate) fn new(line: u32, problem: impl Into<String>) -> Self {
        ParseError { line, problem: problem.into() }
    }
}

/// What a thread did that it must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// An address outside all memory that is allocated.
    #[error("{bytes} bytes of {space} memory at {address:#x} are not allocated")]
    OutOfBounds {
        /// The state space.
        space: &'static str,
        /// The first byte.
        address: u64,
        /// How many.
        bytes: usize,
    },
    /// An address that is not a multiple of the access's size.
    #[error("{bytes} bytes of {space} memory at {address:#x} are not aligned")]
    Misaligned {
        /// The state space.
        space: &'static str,
        /// The first byte.
        address: u64,
        /// How many.
        bytes: usize,
    },
    /// A read of memory that nothing has written.
    #[error("{space} memory at {address:#x} is read before it is written")]
    Uninitialised {
        /// The state space.
        space: &'static str,
        /// The first byte.
        address: u64,
    },
    /// A read of a register that the thread has not written.
    #[error("register {register} is read before it is written")]
    Undefined {
        /// The register's name.
        register: String,
    },
    /// Two accesses, at least one of them a write, that nothing orders.
    #[error(
        "{space} memory at {address:#x}: this {access} races with a {other} by warp {warp} of block {block}"
    )]
    Race {
        /// The state space.
        space: &'static str,
        /// The address.
        address: u64,
        /// The access: `read`, `write` or `atomic`.
        access: &'static str,
        /// The access before it.
        other: &'static str,
        /// The warp that did the other access.
        warp: u32,
        /// The block of that warp, counted in the order of execution.
        block: u32,
    },
    /// The same between two lanes of one warp, which need not run in step.
    #[error(
        "{space} memory at {address:#x}: a race within the warp: no synchronisation orders this {access} after a {other} by {}",
        lane.map_or("several other lanes".into(), |lane| format!("lane {lane}"))
    )]
    RaceInWarp {
        /// The state space.
        space: &'static str,
        /// The address.
        address: u64,
        /// The access: `read`, `write` or `atomic`.
        access: &'static str,
        /// The access before it.
        other: &'static str,
        /// The lane that did the other access; `None` if it was several.
        lane: Option<u32>,
    },
    /// Lanes of a warp store different values to one place with one instruction. It is undefined
    /// which value stays.
    #[error(
        "memory at {address:#x}: lane {lane} stores another value there with the same instruction"
    )]
    StoreConflict {
        /// The address.
        address: u64,
        /// The other lane.
        lane: u32,
    },
    /// An access to memory that an asynchronous copy writes.
    #[error(
        "shared memory at {address:#x} is accessed while an asynchronous copy to it is not waited for"
    )]
    InFlight {
        /// The address.
        address: u64,
    },
    /// An access to shared memory that nothing orders after an asynchronous operation on it.
    #[error(
        "shared memory at {address:#x}: this {access} is not ordered after a {other} by {by}, which is not waited for"
    )]
    Asynchronous {
        /// The address.
        address: u64,
        /// The access: `read`, `write` or `atomic`.
        access: &'static str,
        /// What the asynchronous operation does: `read` or `write`.
        other: &'static str,
        /// The operation.
        by: &'static str,
    },
    /// A bulk copy or a product of a warpgroup accesses what loads and stores wrote, without the
    /// fence that makes it visible.
    #[error(
        "shared memory at {address:#x} was written by a store, and no fence.proxy.async orders this asynchronous access after it"
    )]
    Unfenced {
        /// The address.
        address: u64,
    },
    /// An access to a register that an unfinished product of a warpgroup reads or writes.
    #[error("register {register} is touched while a wgmma that has it is not waited for")]
    RegisterInFlight {
        /// The register's name.
        register: String,
    },
    /// A product of a warpgroup uses a register that was written without a fence between the two.
    #[error("no wgmma.fence between the write of register {register} and the wgmma that has it")]
    ProductUnfenced {
        /// The register's name.
        register: String,
    },
    /// A use of a barrier in shared memory that its rules forbid.
    #[error("the barrier in shared memory at {address:#x}: {problem}")]
    Barrier {
        /// The address.
        address: u64,
        /// What is wrong.
        problem: String,
    },
    /// A thread ends before it has waited for its asynchronous copies.
    #[error("the thread exits with {copies} asynchronous copies not waited for")]
    NotWaitedFor {
        /// How many.
        copies: usize,
    },
    /// Some threads of a warp are at a barrier or a collective operation, but others that must take
    /// part are not.
    #[error("{operation}: threads {here:#010x} of the warp are here and not {expected:#010x}")]
    Diverged {
        /// The instruction.
        operation: &'static str,
        /// The lanes that execute it.
        here: u32,
        /// The lanes that must execute it.
        expected: u32,
    },
    /// A shuffle takes its value from a lane that does not take part.
    #[error("the shuffle reads from lane {lane}, which does not take part")]
    ShuffleSource {
        /// The lane.
        lane: u32,
    },
    /// All threads that have not ended wait.
    #[error("deadlock: the threads that have not ended wait at barriers: {waiting}")]
    Deadlock {
        /// Which warps, at which barriers.
        waiting: String,
    },
    /// The launch executed more instructions than it allows.
    #[error("the launch took more than {steps} instructions")]
    OutOfSteps {
        /// The limit.
        steps: u64,
    },
    /// `trap`.
    #[error("the kernel trapped")]
    Trap,
    /// The launch itself is wrong.
    #[error("{0}")]
    Launch(String),
}

/// A [`Problem`] and where it happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kernel}, PTX line {line}, block {block:?}, thread {thread:?}: {problem}")]
pub struct Fault {
    /// What happened.
    pub problem: Problem,
    /// The kernel.
    pub kernel: String,
    /// The line of the PTX text, from 1; 0 where there is no instruction.
    pub line: u32,
    /// The block's index.
    pub block: [u32; 3],
    /// The thread's index in the block.
    pub thread: [u32; 3],
}
