//! What came with compute capability 9.0: barriers in shared memory, bulk copies (TMA), products of
//! a warpgroup.

use super::{Address, Element, Operand, Operands, Predicate, Type};

/// One operand of a product of a warpgroup.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// A tile in shared memory, as a descriptor describes it.
    Memory(Operand),
    Registers(Operands),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wgmma {
    pub(crate) element: Element,
    pub(crate) n: usize,
    pub(crate) to: Type,
    pub(crate) d: Operands,
    pub(crate) a: Source,
    pub(crate) b: Operand,
    /// Whether the product is added to `d`; otherwise it overwrites `d`.
    pub(crate) add: Predicate,
    pub(crate) negate: [bool; 2],
    /// Whether the tile in memory has M or N as its contiguous dimension, instead of K.
    pub(crate) transposed: [bool; 2],
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Hopper {
    BarrierInit {
        at: Address,
        count: Operand,
    },
    BarrierEnd {
        at: Address,
    },
    /// Adds `bytes` to what the phase waits for, then arrives `count` times, if `count` is not 0.
    BarrierArrive {
        d: Operand,
        at: Address,
        count: Option<Operand>,
        bytes: Option<Operand>,
        may_complete: bool,
    },
    BarrierBytes {
        at: Address,
        bytes: Operand,
        complete: bool,
    },
    /// Asks whether a phase is complete: that of a token, or that of a parity.
    BarrierWait {
        d: Operand,
        at: Address,
        phase: Operand,
        parity: bool,
        may_sleep: bool,
    },
    /// Orders earlier loads and stores before what bulk copies and products do.
    ProxyFence,
    Leader {
        d: Operand,
        p: Operand,
        mask: Operand,
    },
    SetRegisters,
    BulkLoad {
        to: Address,
        from: Address,
        bytes: Operand,
        barrier: Address,
    },
    BulkStore {
        to: Address,
        from: Address,
        bytes: Operand,
    },
    TensorLoad {
        to: Address,
        map: Address,
        at: Operands,
        barrier: Address,
    },
    TensorStore {
        map: Address,
        at: Operands,
        from: Address,
    },
    BulkCommit,
    BulkWait {
        pending: usize,
    },
    ProductFence,
    ProductCommit,
    ProductWait {
        pending: usize,
    },
    Product(Box<Wgmma>),
}
