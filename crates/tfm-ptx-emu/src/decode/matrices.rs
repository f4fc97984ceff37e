//! Matrix instructions of a warp, and asynchronous copies.

use super::arguments::{Arguments, Parts, Result};
use crate::instruction::{Element, Op, Operand, Space, Type};

pub(super) fn matrix(
    load: bool,
    parts: &mut Parts<'_>,
    arguments: &mut Arguments<'_>,
) -> Result<Op> {
    for part in ["sync", "aligned", "m8n8"] {
        if !parts.take(part) {
            return Err(format!("only with `.{part}`"));
        }
    }
    let count = match parts.any(&["x1", "x2", "x4"]) {
        Some("x1") => 1,
        Some("x2") => 2,
        Some(_) => 4,
        None => return Err("how many matrices?".into()),
    };
    let transposed = parts.take("trans");
    if parts.space() != Space::Shared || parts.ty()? != Type::B(16) {
        return Err("only `.shared.b16`".into());
    }
    let (registers, address);
    if load {
        registers = arguments.vector()?;
        address = arguments.address()?;
    } else {
        address = arguments.address()?;
        registers = arguments.vector()?;
    }
    if registers.len() != count {
        return Err(format!("{} registers for {count} matrices", registers.len()));
    }
    Ok(if load {
        Op::LoadMatrix { transposed, d: registers, from: address }
    } else {
        Op::StoreMatrix { transposed, to: address, a: registers }
    })
}

pub(super) fn product(parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Op> {
    for part in ["sync", "aligned", "row", "col"] {
        if !parts.take(part) {
            return Err(format!("only with `.{part}`"));
        }
    }
    parts.take("satfinite");
    let shape = parts.any(&["m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32"]).ok_or("which shape?")?;
    let k: u32 = shape[6..].parse().expect("one of the shapes above");
    let element = |name: &str| {
        Some(match name {
            "f16" => (Element::F16, 16),
            "bf16" => (Element::BF16, 16),
            "tf32" => (Element::TF32, 32),
            "s8" => (Element::S8, 8),
            "u8" => (Element::U8, 8),
            _ => return None,
        })
    };
    let &[to, a, b, from] = &parts.0[..] else { return Err("four types are needed".into()) };
    let (to, from) = (Type::parse(to), Type::parse(from));
    let (Some((a, bits)), Some((b, other_bits))) = (element(a), element(b)) else {
        return Err("elements of this type are not known".into());
    };
    let integer = bits == 8;
    let fits = match to {
        Some(Type::F32) => !integer,
        Some(Type::F16) => a == Element::F16,
        Some(Type::S(32)) => integer,
        _ => false,
    };
    let shapes = match bits {
        8 => [16, 32],
        16 => [8, 16],
        _ => [4, 8],
    };
    if !fits || to != from || bits != other_bits || (!integer && a != b) || !shapes.contains(&k) {
        return Err("these types and this shape do not go together".into());
    }
    parts.0.clear();
    let to = to.expect("checked above");
    let (d, av) = (arguments.vector()?, arguments.vector()?);
    let (bv, c) = (arguments.vector()?, arguments.vector()?);
    let sums = if to == Type::F16 { 2 } else { 4 };
    let of_a = (16 * k * bits / 1024) as usize;
    if [d.len(), av.len(), bv.len(), c.len()] != [sums, of_a, of_a / 2, sums] {
        return Err("the wrong number of registers".into());
    }
    Ok(Op::Product { elements: [a, b], k, to, d, a: av, b: bv, c })
}

pub(super) fn copy(parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Op> {
    if !parts.take("async") {
        return Err("only `cp.async`".into());
    }
    if parts.take("commit_group") {
        return Ok(Op::CommitCopies);
    }
    if parts.take("wait_all") {
        return Ok(Op::WaitCopies { pending: 0, all: true });
    }
    if parts.take("wait_group") {
        let Operand::Immediate(pending) = arguments.one()? else {
            return Err("the number of groups must be a literal".into());
        };
        return Ok(Op::WaitCopies { pending: pending as usize, all: false });
    }
    parts.hints();
    if [parts.space(), parts.space()] != [Space::Global, Space::Shared] {
        return Err("only from global to shared memory".into());
    }
    let (to, from) = (arguments.address()?, arguments.address()?);
    let Operand::Immediate(bytes @ (4 | 8 | 16)) = arguments.one()? else {
        return Err("4, 8 or 16 bytes".into());
    };
    let size = if arguments.left() { Some(arguments.one()?) } else { None };
    Ok(Op::CopyAsync { bytes: bytes as usize, to, from, size })
}
