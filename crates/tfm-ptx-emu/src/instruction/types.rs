//! Types of elements.

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Pred,
    /// Untyped bits.
    B(u8),
    /// Unsigned.
    U(u8),
    /// Signed.
    S(u8),
    F16,
    BF16,
    F16x2,
    BF16x2,
    F32,
    F64,
}

impl Type {
    pub(crate) fn parse(name: &str) -> Option<Type> {
        Some(match name {
            "pred" => Type::Pred,
            "f16" => Type::F16,
            "bf16" => Type::BF16,
            "f16x2" => Type::F16x2,
            "bf16x2" => Type::BF16x2,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => {
                let bits = match name.get(1..)? {
                    "8" => 8,
                    "16" => 16,
                    "32" => 32,
                    "64" => 64,
                    _ => return None,
                };
                match name.as_bytes()[0] {
                    b'b' => Type::B(bits),
                    b'u' => Type::U(bits),
                    b's' => Type::S(bits),
                    _ => return None,
                }
            }
        })
    }

    pub(crate) fn bits(self) -> u32 {
        match self {
            Type::Pred => 1,
            Type::B(bits) | Type::U(bits) | Type::S(bits) => bits.into(),
            Type::F16 | Type::BF16 => 16,
            Type::F16x2 | Type::BF16x2 | Type::F32 => 32,
            Type::F64 => 64,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        self.bits().div_ceil(8) as usize
    }

    pub(crate) fn is_float(self) -> bool {
        !matches!(self, Type::Pred | Type::B(_) | Type::U(_) | Type::S(_))
    }
}
