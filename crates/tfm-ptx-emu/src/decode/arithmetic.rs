//! Opcodes that compute one lane's value.

use super::arguments::{Arguments, Parts, Result};
use crate::instruction::{Binary, Mode, Op, Operand, Ternary, Type, Unary};

pub(super) fn arithmetic(
    name: &str,
    parts: &mut Parts<'_>,
    arguments: &mut Arguments<'_>,
) -> Result<Op> {
    let mode = parts.mode()?;
    // The emulator computes approximate operations exactly, within their range.
    let approximate = parts.any(&["approx", "full"]) == Some("approx");
    let mode = Mode { flat: approximate && name == "div", ..mode };
    let half = parts.any(&["lo", "hi", "wide"]);
    let wrap = parts.any(&["wrap", "clamp"]);
    let direction = if matches!(name, "shf") { parts.any(&["l", "r"]) } else { None };
    let shift = parts.take("shiftamt");
    if name == "dp4a" {
        let (ta, tb) = (parts.ty()?, parts.ty()?);
        let op = Ternary::Dp4a {
            signed_a: matches!(ta, Type::S(_)),
            signed_b: matches!(tb, Type::S(_)),
        };
        let (d, a, b, c) = (arguments.one()?, arguments.one()?, arguments.one()?, arguments.one()?);
        return Ok(Op::Ternary { op, ty: ta, mode, d, a, b, c });
    }
    let ty = parts.ty()?;
    let float = ty.is_float();
    let unary = match name {
        "not" => Some(Unary::Not),
        "neg" => Some(Unary::Neg),
        "abs" => Some(Unary::Abs),
        "popc" => Some(Unary::Popc),
        "clz" => Some(Unary::Clz),
        "brev" => Some(Unary::Brev),
        "bfind" => Some(Unary::Bfind { shift }),
        "cnot" => Some(Unary::Cnot),
        "rcp" => Some(Unary::Rcp),
        "sqrt" => Some(Unary::Sqrt),
        "rsqrt" => Some(Unary::Rsqrt),
        "ex2" => Some(Unary::Exp2),
        "lg2" => Some(Unary::Log2),
        "sin" => Some(Unary::Sin),
        "cos" => Some(Unary::Cos),
        "tanh" => Some(Unary::Tanh),
        _ => None,
    };
    if let Some(op) = unary {
        let (d, a) = (arguments.one()?, arguments.one()?);
        return Ok(Op::Unary { op, ty, mode, d, a });
    }
    let binary = match (name, half) {
        ("add", None) => Some(Binary::Add),
        ("sub", None) => Some(Binary::Sub),
        ("mul", None) if float => Some(Binary::Mul),
        ("mul", Some("lo")) => Some(Binary::MulLow),
        ("mul", Some("hi")) => Some(Binary::MulHigh),
        ("mul", Some(_)) => Some(Binary::MulWide),
        ("div", None) => Some(Binary::Div),
        ("rem", None) => Some(Binary::Rem),
        ("min", None) => Some(Binary::Min),
        ("max", None) => Some(Binary::Max),
        ("and", None) => Some(Binary::And),
        ("or", None) => Some(Binary::Or),
        ("xor", None) => Some(Binary::Xor),
        ("shl", None) => Some(Binary::Shl),
        ("shr", None) => Some(Binary::Shr),
        ("copysign", None) => Some(Binary::CopySign),
        _ => None,
    };
    if let Some(op) = binary {
        let (d, a, b) = (arguments.one()?, arguments.one()?, arguments.one()?);
        return Ok(Op::Binary { op, ty, mode, d, a, b });
    }
    if name == "bfi" {
        let (d, a, b) = (arguments.one()?, arguments.one()?, arguments.one()?);
        let (position, length) = (arguments.one()?, arguments.one()?);
        return Ok(Op::InsertBits { ty, d, a, b, position, length });
    }
    let clamp = wrap == Some("clamp");
    let ternary = match (name, half) {
        ("mad", Some("lo")) => Ternary::MadLow,
        ("mad", Some("hi")) => Ternary::MadHigh,
        ("mad", Some(_)) => Ternary::MadWide,
        ("fma" | "mad", None) if float => Ternary::Fma,
        ("lop3", None) => Ternary::Logic(0),
        ("prmt", None) => Ternary::Permute,
        ("bfe", None) => Ternary::ExtractBits,
        ("shf", None) => match direction {
            Some("l") => Ternary::FunnelLeft { clamp },
            Some(_) => Ternary::FunnelRight { clamp },
            None => return Err("to the left or to the right?".into()),
        },
        _ => return Err("this opcode is not known".into()),
    };
    let (d, a, b, c) = (arguments.one()?, arguments.one()?, arguments.one()?, arguments.one()?);
    let op = match ternary {
        Ternary::Logic(_) => match arguments.one()? {
            Operand::Immediate(table @ 0..=255) => Ternary::Logic(table as u8),
            _ => return Err("the table must be a literal".into()),
        },
        other => other,
    };
    Ok(Op::Ternary { op, ty, mode, d, a, b, c })
}
