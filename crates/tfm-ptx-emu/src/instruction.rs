//! Decoded instructions.

mod hopper;
mod operations;
mod types;

use smallvec::SmallVec;

pub(crate) use hopper::{Hopper, Source, Wgmma};
pub(crate) use operations::{
    AtomicOp, Binary, Comparison, Logic, Mode, Rounding, Shuffle, Ternary, Unary, Vote,
};
pub(crate) use types::Type;

/// The special registers, which hold their values when a thread begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Thread(u8),
    Threads(u8),
    Block(u8),
    Blocks(u8),
    Lane,
    Warp,
    Warps,
    LanesBelow,
    LanesUpTo,
    LanesAbove,
    LanesFrom,
    ThisLane,
    Clock,
    DynamicShared,
    SharedSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    Register(u32),
    Immediate(u64),
    Special(Special),
    /// The address of a variable of the module, by number.
    Variable(u32),
    /// `_`
    Sink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) base: Operand,
    pub(crate) offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Parameter,
    Constant,
}

/// The type of a matrix product's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    BF16,
    TF32,
    S8,
    U8,
}

pub(crate) type Operands = SmallVec<[Operand; 4]>;

/// A predicate; the `bool` says whether it is negated.
pub(crate) type Predicate = (Operand, bool);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    Move {
        d: Operand,
        a: Operand,
    },
    /// Packs a vector's elements into one register, or unpacks them; elements have `bits` bits.
    Pack {
        d: Operand,
        parts: Operands,
        bits: u32,
    },
    Unpack {
        parts: Operands,
        a: Operand,
        bits: u32,
    },
    /// Converts an address of a space to a generic one, or back.
    ToGeneric {
        space: Space,
        d: Operand,
        a: Operand,
    },
    FromGeneric {
        space: Space,
        d: Operand,
        a: Operand,
    },
    Unary {
        op: Unary,
        ty: Type,
        mode: Mode,
        d: Operand,
        a: Operand,
    },
    Binary {
        op: Binary,
        ty: Type,
        mode: Mode,
        d: Operand,
        a: Operand,
        b: Operand,
    },
    Ternary {
        op: Ternary,
        ty: Type,
        mode: Mode,
        d: Operand,
        a: Operand,
        b: Operand,
        c: Operand,
    },
    InsertBits {
        ty: Type,
        d: Operand,
        a: Operand,
        b: Operand,
        position: Operand,
        length: Operand,
    },
    Compare {
        comparison: Comparison,
        ty: Type,
        flush: bool,
        d: Operand,
        other: Operand,
        a: Operand,
        b: Operand,
        combine: Option<(Logic, Predicate)>,
    },
    Select {
        d: Operand,
        a: Operand,
        b: Operand,
        p: Predicate,
    },
    Convert {
        to: Type,
        from: Type,
        mode: Mode,
        to_integer: bool,
        d: Operand,
        a: Operand,
    },
    /// Converts two floats to a pair; the first becomes the upper half.
    ConvertPair {
        to: Type,
        mode: Mode,
        d: Operand,
        a: Operand,
        b: Operand,
    },
    Load {
        space: Space,
        ty: Type,
        d: Operands,
        from: Address,
    },
    Store {
        space: Space,
        ty: Type,
        to: Address,
        a: Operands,
    },
    Atomic {
        space: Space,
        op: AtomicOp,
        ty: Type,
        d: Operand,
        at: Address,
        a: Operand,
        b: Operand,
    },
    Branch {
        target: u32,
    },
    Exit,
    Trap,
    Barrier {
        arrive: bool,
        id: Operand,
        count: Option<Operand>,
    },
    WarpBarrier {
        mask: Operand,
    },
    Shuffle {
        kind: Shuffle,
        d: Operand,
        p: Operand,
        a: Operand,
        b: Operand,
        c: Operand,
        mask: Operand,
    },
    Vote {
        kind: Vote,
        d: Operand,
        p: Predicate,
        mask: Operand,
    },
    ReduceWarp {
        op: AtomicOp,
        ty: Type,
        d: Operand,
        a: Operand,
        mask: Operand,
    },
    ActiveMask {
        d: Operand,
    },
    LoadMatrix {
        transposed: bool,
        d: Operands,
        from: Address,
    },
    StoreMatrix {
        transposed: bool,
        to: Address,
        a: Operands,
    },
    /// `d = a·b + c`, with tiles of 16 × k, k × 8 and 16 × 8.
    Product {
        elements: [Element; 2],
        k: u32,
        to: Type,
        d: Operands,
        a: Operands,
        b: Operands,
        c: Operands,
    },
    CopyAsync {
        bytes: usize,
        to: Address,
        from: Address,
        size: Option<Operand>,
    },
    CommitCopies,
    WaitCopies {
        pending: usize,
        all: bool,
    },
    Hopper(Hopper),
    /// Instructions without an effect here: prefetches, and fences, since the checkers look only at
    /// the order that barriers give.
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instruction {
    pub(crate) line: u32,
    pub(crate) guard: Option<Predicate>,
    pub(crate) op: Op,
}
