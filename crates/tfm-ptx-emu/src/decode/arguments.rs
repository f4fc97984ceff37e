//! An instruction's operands and the parts of its opcode. Decoding removes each as it is
//! understood.

use crate::instruction::{Address, Mode, Operand, Operands, Predicate, Rounding, Space, Type};

/// An operand as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Argument {
    One(Operand),
    Negated(Operand),
    /// `p|q`
    Pair(Operand, Operand),
    Vector(Operands),
    Address(Address),
    /// `[map, {x, y}]`
    Tile(Address, Operands),
}

pub(super) type Result<T, E = String> = std::result::Result<T, E>;

/// The operands of an instruction, which decoding takes in turn.
pub(super) struct Arguments<'a>(pub(super) &'a [Argument], pub(super) usize);

impl Arguments<'_> {
    pub(super) fn next(&mut self) -> Result<&Argument> {
        self.1 += 1;
        self.0.get(self.1 - 1).ok_or_else(|| "too few operands".into())
    }

    pub(super) fn one(&mut self) -> Result<Operand> {
        match self.next()? {
            Argument::One(operand) => Ok(*operand),
            other => Err(format!("{other:?} where one operand belongs")),
        }
    }

    pub(super) fn predicate(&mut self) -> Result<Predicate> {
        match self.next()? {
            Argument::One(operand) => Ok((*operand, false)),
            Argument::Negated(operand) => Ok((*operand, true)),
            other => Err(format!("{other:?} where a predicate belongs")),
        }
    }

    /// `d` or `d|q`.
    pub(super) fn pair(&mut self) -> Result<(Operand, Operand)> {
        match self.next()? {
            Argument::One(operand) => Ok((*operand, Operand::Sink)),
            Argument::Pair(a, b) => Ok((*a, *b)),
            other => Err(format!("{other:?} where one or two registers belong")),
        }
    }

    pub(super) fn vector(&mut self) -> Result<Operands> {
        match self.next()? {
            Argument::One(operand) => Ok(Operands::from_slice(&[*operand])),
            Argument::Vector(parts) => Ok(parts.clone()),
            other => Err(format!("{other:?} where registers belong")),
        }
    }

    pub(super) fn address(&mut self) -> Result<Address> {
        match self.next()? {
            Argument::Address(address) => Ok(*address),
            other => Err(format!("{other:?} where an address belongs")),
        }
    }

    pub(super) fn tile(&mut self) -> Result<(Address, Operands)> {
        match self.next()? {
            Argument::Tile(address, at) => Ok((*address, at.clone())),
            other => Err(format!("{other:?} where a tensor map and coordinates belong")),
        }
    }

    /// A literal.
    pub(super) fn literal(&mut self) -> Result<u64> {
        match self.one()? {
            Operand::Immediate(value) => Ok(value),
            other => Err(format!("{other:?} where a literal belongs")),
        }
    }

    pub(super) fn left(&self) -> bool {
        self.1 < self.0.len()
    }
}

/// The parts of an opcode after the first. Decoding removes each as it is understood.
pub(super) struct Parts<'a>(pub(super) Vec<&'a str>);

impl<'a> Parts<'a> {
    pub(super) fn take(&mut self, part: &str) -> bool {
        let found = self.0.iter().position(|p| *p == part);
        found.map(|i| self.0.remove(i)).is_some()
    }

    pub(super) fn any(&mut self, parts: &[&str]) -> Option<&'a str> {
        let found = self.0.iter().position(|p| parts.contains(p))?;
        Some(self.0.remove(found))
    }

    /// The first type.
    pub(super) fn ty(&mut self) -> Result<Type> {
        let found = self.0.iter().position(|p| Type::parse(p).is_some());
        let found = found.ok_or("the opcode has no type")?;
        Ok(Type::parse(self.0.remove(found)).expect("it was found as one"))
    }

    pub(super) fn space(&mut self) -> Space {
        for (name, space) in [
            ("global", Space::Global),
            ("shared", Space::Shared),
            ("shared::cta", Space::Shared),
            // Only the block's own memory, since clusters are not supported.
            ("shared::cluster", Space::Shared),
            ("local", Space::Local),
            ("param", Space::Parameter),
            ("const", Space::Constant),
        ] {
            if self.take(name) {
                return space;
            }
        }
        Space::Generic
    }

    pub(super) fn mode(&mut self) -> Result<Mode> {
        let rounding = match self.any(&["rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi"])
        {
            Some("rz" | "rzi") => Rounding::Zero,
            Some("rm" | "rmi") => Rounding::Down,
            Some("rp" | "rpi") => Rounding::Up,
            Some("rna") => Rounding::Away,
            _ => Rounding::Nearest,
        };
        Ok(Mode {
            rounding,
            flush: self.take("ftz"),
            saturate: self.take("sat") || self.take("satfinite"),
            nan: self.take("NaN"),
            relu: self.take("relu"),
            flat: false,
        })
    }

    /// Removes hints to caches, and memory orders that the checkers assume anyway.
    pub(super) fn hints(&mut self) {
        self.0.retain(|part| {
            !matches!(
                *part,
                "nc" | "ca"
                    | "cg"
                    | "cs"
                    | "lu"
                    | "cv"
                    | "wb"
                    | "wt"
                    | "volatile"
                    | "relaxed"
                    | "weak"
                    | "acquire"
                    | "release"
                    | "acq_rel"
                    | "cta"
                    | "gpu"
                    | "sys"
                    | "noftz"
            ) && !part.starts_with("L1::")
                && !part.starts_with("L2::")
        });
    }

    pub(super) fn done(&self) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(part) => Err(format!("`.{part}` is not understood")),
        }
    }
}
