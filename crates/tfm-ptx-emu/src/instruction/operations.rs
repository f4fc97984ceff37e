//! The operations of arithmetic, comparisons and collective instructions, and their modifiers.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Rounding {
    /// To nearest, ties to even.
    #[default]
    Nearest,
    Zero,
    Down,
    Up,
    /// To nearest, ties away from zero.
    Away,
}

/// The modifiers of an opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mode {
    pub(crate) rounding: Rounding,
    /// Whether subnormal operands and results count as zero.
    pub(crate) flush: bool,
    /// Whether the result is clamped to [0, 1], or to the integer's range.
    pub(crate) saturate: bool,
    /// Whether `min` and `max` return NaN if an operand is NaN.
    pub(crate) nan: bool,
    /// Whether `fma` returns zero in place of a negative result.
    pub(crate) relu: bool,
    /// Whether a division by a number above 2^126 returns 0, as `div.approx` does.
    pub(crate) flat: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Not,
    Neg,
    Abs,
    Popc,
    Clz,
    Brev,
    Bfind { shift: bool },
    Cnot,
    Rcp,
    Sqrt,
    Rsqrt,
    Exp2,
    Log2,
    Sin,
    Cos,
    Tanh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    MulLow,
    MulHigh,
    MulWide,
    Mul,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    CopySign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ternary {
    MadLow,
    MadHigh,
    MadWide,
    Fma,
    /// The operation on three words that a table of 8 bits defines.
    Logic(u8),
    Permute,
    FunnelLeft {
        clamp: bool,
    },
    FunnelRight {
        clamp: bool,
    },
    ExtractBits,
    Dp4a {
        signed_a: bool,
        signed_b: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// From here to `Geu`, the float comparisons that also hold if an operand is NaN.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
    Increment,
    Decrement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}
