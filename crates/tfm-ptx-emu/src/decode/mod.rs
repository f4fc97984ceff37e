//! Decodes opcodes to instructions. Whatever is not understood is an error: an emulator that skips
//! unknown instructions proves nothing.

mod arguments;
mod arithmetic;
mod hopper;
mod matrices;

pub(crate) use arguments::Argument;

use arguments::{Arguments, Parts, Result};
use arithmetic::arithmetic;
use hopper::hopper;
use matrices::{copy, matrix, product};

use crate::instruction::{
    AtomicOp, Comparison, Hopper, Logic, Mode, Op, Operand, Operands, Rounding, Shuffle, Type, Vote,
};

/// Decodes an opcode with its operands.
pub(crate) fn decode(opcode: &[&str], arguments: &[Argument]) -> Result<Op> {
    let mut parts = Parts(opcode[1..].to_vec());
    let mut arguments = Arguments(arguments, 0);
    let op = instruction(opcode[0], &mut parts, &mut arguments)?;
    parts.done()?;
    if arguments.left() {
        return Err("too many operands".into());
    }
    Ok(op)
}

fn instruction(name: &str, parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Op> {
    match name {
        "mov" => moved(parts, arguments),
        "cvta" => {
            let to = parts.take("to");
            let space = parts.space();
            parts.ty()?;
            let (d, a) = (arguments.one()?, arguments.one()?);
            Ok(if to { Op::FromGeneric { space, d, a } } else { Op::ToGeneric { space, d, a } })
        }
        "ld" | "ldu" => {
            parts.hints();
            let space = parts.space();
            let count = count(parts);
            let ty = parts.ty()?;
            let d = arguments.vector()?;
            if d.len() != count {
                return Err(format!("{} registers for {count} elements", d.len()));
            }
            Ok(Op::Load { space, ty, d, from: arguments.address()? })
        }
        "st" => {
            parts.hints();
            let space = parts.space();
            let count = count(parts);
            let ty = parts.ty()?;
            let to = arguments.address()?;
            let a = arguments.vector()?;
            if a.len() != count {
                return Err(format!("{} registers for {count} elements", a.len()));
            }
            Ok(Op::Store { space, ty, to, a })
        }
        "atom" | "red" => atomic(name == "red", parts, arguments),
        "setp" => compare(parts, arguments),
        "selp" => {
            parts.ty()?;
            let (d, a, b) = (arguments.one()?, arguments.one()?, arguments.one()?);
            Ok(Op::Select { d, a, b, p: arguments.predicate()? })
        }
        "cvt" => convert(parts, arguments),
        "ret" | "exit" => {
            parts.take("uni");
            Ok(Op::Exit)
        }
        "trap" => Ok(Op::Trap),
        "bar" | "barrier" => barrier(parts, arguments),
        "shfl" => {
            let kind = match parts.any(&["up", "down", "bfly", "idx"]) {
                Some("up") => Shuffle::Up,
                Some("down") => Shuffle::Down,
                Some("bfly") => Shuffle::Butterfly,
                Some(_) => Shuffle::Index,
                None => return Err("which shuffle?".into()),
            };
            if !parts.take("sync") {
                return Err("only with `.sync`".into());
            }
            parts.ty()?;
            let (d, p) = arguments.pair()?;
            let (a, b, c) = (arguments.one()?, arguments.one()?, arguments.one()?);
            Ok(Op::Shuffle { kind, d, p, a, b, c, mask: arguments.one()? })
        }
        "vote" => {
            let kind = match parts.any(&["all", "any", "uni", "ballot"]) {
                Some("all") => Vote::All,
                Some("any") => Vote::Any,
                Some("uni") => Vote::Uniform,
                Some(_) => Vote::Ballot,
                None => return Err("which vote?".into()),
            };
            if !parts.take("sync") {
                return Err("only with `.sync`".into());
            }
            parts.ty()?;
            let d = arguments.one()?;
            Ok(Op::Vote { kind, d, p: arguments.predicate()?, mask: arguments.one()? })
        }
        "redux" => {
            parts.take("sync");
            let op = atomic_op(parts)?;
            let ty = parts.ty()?;
            let (d, a) = (arguments.one()?, arguments.one()?);
            Ok(Op::ReduceWarp { op, ty, d, a, mask: arguments.one()? })
        }
        "activemask" => {
            parts.ty()?;
            Ok(Op::ActiveMask { d: arguments.one()? })
        }
        "fence"
            if parts.0 == ["proxy", "async"]
                || parts.0.starts_with(&["proxy", "async", "shared::cta"])
                || parts.0.first() == Some(&"mbarrier_init") =>
        {
            parts.0.clear();
            Ok(Op::Hopper(Hopper::ProxyFence))
        }
        "mbarrier" | "wgmma" | "setmaxnreg" | "elect" => hopper(name, parts, arguments),
        "cp" if parts.0.get(1) == Some(&"bulk") => hopper(name, parts, arguments),
        "membar" | "fence" | "prefetch" | "prefetchu" => {
            parts.0.clear();
            arguments.1 = arguments.0.len();
            Ok(Op::Nothing)
        }
        "ldmatrix" | "stmatrix" => matrix(name == "ldmatrix", parts, arguments),
        "mma" => product(parts, arguments),
        "cp" => copy(parts, arguments),
        _ => arithmetic(name, parts, arguments),
    }
}

fn count(parts: &mut Parts<'_>) -> usize {
    match parts.any(&["v2", "v4", "v8"]) {
        Some("v2") => 2,
        Some("v4") => 4,
        Some(_) => 8,
        None => 1,
    }
}

fn moved(parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Op> {
    let ty = parts.ty()?;
    let to = arguments.next()?.clone();
    let from = arguments.next()?.clone();
    let each = |parts: &Operands| ty.bits() / parts.len().max(1) as u32;
    match (to, from) {
        (Argument::One(d), Argument::One(a)) => Ok(Op::Move { d, a }),
        (Argument::One(d), Argument::Vector(parts)) => {
            let bits = each(&parts);
            Ok(Op::Pack { d, parts, bits })
        }
        (Argument::Vector(parts), Argument::One(a)) => {
            let bits = each(&parts);
            Ok(Op::Unpack { parts, a, bits })
        }
        other => Err(format!("cannot move {other:?}")),
    }
}

fn atomic_op(parts: &mut Parts<'_>) -> Result<AtomicOp> {
    let names = ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"];
    Ok(match parts.any(&names) {
        Some("add") => AtomicOp::Add,
        Some("min") => AtomicOp::Min,
        Some("max") => AtomicOp::Max,
        Some("and") => AtomicOp::And,
        Some("or") => AtomicOp::Or,
        Some("xor") => AtomicOp::Xor,
        Some("exch") => AtomicOp::Exchange,
        Some("cas") => AtomicOp::CompareAndSwap,
        Some("inc") => AtomicOp::Increment,
        Some("dec") => AtomicOp::Decrement,
        _ => return Err("which operation?".into()),
    })
}

fn atomic(no_result: bool, parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Op> {
    parts.hints();
    let space = parts.space();
    let op = atomic_op(parts)?;
    let ty = parts.ty()?;
    let d = if no_result { Operand::Sink } else { arguments.one()? };
    let at = arguments.address()?;
    let a = arguments.one()?;
    let b = if op == AtomicOp::CompareAndSwap { arguments.one()? } else { Operand::Sink };
    Ok(Op::Atomic { space, op, ty, d, at, a, b })
}

fn comparison(parts: &mut Parts<'_>) -> Option<Comparison> {
    use Comparison::*;
    let names = [
        ("eq", Eq),
        ("ne", Ne),
        ("lt", Lt),
        ("le", Le),
        ("gt", Gt),
        ("ge", Ge),
        ("lo", Lt),
        ("ls", Le),
        ("hi", Gt),
        ("hs", Ge),
        ("equ", Equ),
        ("neu", Neu),
        ("ltu", Ltu),
        ("leu", Leu),
        ("gtu", Gtu),
        ("geu", Geu),
        ("num", Num),
        ("nan", Nan),
    ];
    names.into_iter().find_map(|(name, comparison)| parts.take(name).then_some(comparison))
}

fn compare(parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Op> {
    let comparison = comparison(parts).ok_or("which comparison?")?;
    let logic = match parts.any(&["and", "or", "xor"]) {
        Some("and") => Some(Logic::And),
        Some("or") => Some(Logic::Or),
        Some(_) => Some(Logic::Xor),
        None => None,
    };
    let flush = parts.take("ftz");
    let ty = parts.ty()?;
    let (d, other) = arguments.pair()?;
    let (a, b) = (arguments.one()?, arguments.one()?);
    let combine =
        logic.map(|logic| Ok::<_, String>((logic, arguments.predicate()?))).transpose()?;
    Ok(Op::Compare { comparison, ty, flush, d, other, a, b, combine })
}

fn convert(parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Op> {
    let to_integer = parts.0.iter().any(|p| ["rni", "rzi", "rmi", "rpi"].contains(p));
    let mode = parts.mode()?;
    // PTX writes the rounding of an f32 to tf32 as a conversion to `tf32`.
    if parts.take("tf32") {
        let (d, a) = (arguments.one()?, arguments.one()?);
        if parts.ty()? != Type::F32 {
            return Err("to tf32 only from f32".into());
        }
        let mode = Mode { rounding: Rounding::Away, ..mode };
        return Ok(Op::Convert { to: Type::B(32), from: Type::F32, mode, to_integer: false, d, a });
    }
    let (to, from) = (parts.ty()?, parts.ty()?);
    if matches!(to, Type::F16x2 | Type::BF16x2) {
        let (d, a, b) = (arguments.one()?, arguments.one()?, arguments.one()?);
        return if from == Type::F32 {
            Ok(Op::ConvertPair { to, mode, d, a, b })
        } else {
            Err("pairs only from f32".into())
        };
    }
    let (d, a) = (arguments.one()?, arguments.one()?);
    Ok(Op::Convert { to, from, mode, to_integer, d, a })
}

fn barrier(parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Op> {
    parts.take("cta");
    parts.take("aligned");
    if parts.take("warp") {
        parts.take("sync");
        return Ok(Op::WarpBarrier { mask: arguments.one()? });
    }
    let arrive = parts.take("arrive");
    if !arrive && !parts.take("sync") {
        return Err("only `sync` and `arrive`".into());
    }
    let id = arguments.one()?;
    let count = if arguments.left() { Some(arguments.one()?) } else { None };
    if arrive && count.is_none() {
        return Err("`arrive` needs the number of threads".into());
    }
    Ok(Op::Barrier { arrive, id, count })
}
