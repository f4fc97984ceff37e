//! Barriers in shared memory, bulk copies, products of a warpgroup.

use super::arguments::{Argument, Arguments, Parts, Result};
use crate::instruction::{Element, Hopper, Op, Operand, Source, Space, Type, Wgmma};

pub(super) fn hopper(
    name: &str,
    parts: &mut Parts<'_>,
    arguments: &mut Arguments<'_>,
) -> Result<Op> {
    let op = match name {
        "mbarrier" => barrier(parts, arguments)?,
        "wgmma" => product(parts, arguments)?,
        "cp" => bulk(parts, arguments)?,
        "elect" => {
            need(parts, &["sync"])?;
            let (d, p) = arguments.pair()?;
            Hopper::Leader { d, p, mask: arguments.one()? }
        }
        _ => {
            parts.any(&["inc", "dec"]).ok_or("`inc` or `dec`?")?;
            need(parts, &["sync", "aligned", "u32"])?;
            let count = arguments.literal()?;
            if !(24..=256).contains(&count) || count % 8 != 0 {
                return Err(format!("{count} registers"));
            }
            Hopper::SetRegisters
        }
    };
    Ok(Op::Hopper(op))
}

fn need(parts: &mut Parts<'_>, names: &[&str]) -> Result<()> {
    match names.iter().find(|name| !parts.take(name)) {
        None => Ok(()),
        Some(name) => Err(format!("only with `.{name}`")),
    }
}

/// Removes the order and the scope of an operation on a barrier, which the emulator assumes anyway.
fn order(parts: &mut Parts<'_>, names: &[&str]) -> Result<()> {
    parts.any(names);
    parts.any(&["cta", "cluster"]);
    if parts.space() != Space::Shared {
        return Err("only in `.shared`".into());
    }
    need(parts, &["b64"])
}

fn barrier(parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Hopper> {
    let names = ["init", "inval", "arrive", "expect_tx", "complete_tx", "test_wait", "try_wait"];
    let name = *parts.0.first().filter(|name| names.contains(name)).ok_or("which operation?")?;
    parts.take(name);
    match name {
        "init" => {
            order(parts, &[])?;
            Ok(Hopper::BarrierInit { at: arguments.address()?, count: arguments.one()? })
        }
        "inval" => {
            order(parts, &[])?;
            Ok(Hopper::BarrierEnd { at: arguments.address()? })
        }
        "arrive" => {
            let (bytes, may_complete) = (parts.take("expect_tx"), !parts.take("noComplete"));
            order(parts, &["release"])?;
            let (d, at) = (arguments.one()?, arguments.address()?);
            let last = if arguments.left() { Some(arguments.one()?) } else { None };
            let (count, bytes) = if bytes { (None, last) } else { (last, None) };
            Ok(Hopper::BarrierArrive { d, at, count, bytes, may_complete })
        }
        "expect_tx" | "complete_tx" => {
            order(parts, &["relaxed"])?;
            let (at, bytes) = (arguments.address()?, arguments.one()?);
            Ok(Hopper::BarrierBytes { at, bytes, complete: name == "complete_tx" })
        }
        _ => {
            let parity = parts.take("parity");
            order(parts, &["acquire"])?;
            let (d, at, phase) = (arguments.one()?, arguments.address()?, arguments.one()?);
            let may_sleep = name == "try_wait";
            if may_sleep && arguments.left() {
                // The limit on how long it may sleep.
                arguments.one()?;
            }
            Ok(Hopper::BarrierWait { d, at, phase, parity, may_sleep })
        }
    }
}

fn bulk(parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Hopper> {
    need(parts, &["async", "bulk"])?;
    if parts.take("commit_group") {
        return Ok(Hopper::BulkCommit);
    }
    if parts.take("wait_group") {
        parts.take("read");
        return Ok(Hopper::BulkWait { pending: arguments.literal()? as usize });
    }
    let tensor = parts.take("tensor");
    let rank = parts.any(&["1d", "2d", "3d", "4d", "5d"]);
    if tensor != rank.is_some() {
        return Err("how many dimensions?".into());
    }
    parts.take("tile");
    let load = parts.take("mbarrier::complete_tx::bytes");
    if !load && !parts.take("bulk_group") {
        return Err("only with a barrier, or with `.bulk_group`".into());
    }
    let into = ["shared::cluster", "shared::cta"];
    let memory: Vec<_> =
        parts.0.iter().filter(|part| into.contains(part) || **part == "global").collect();
    let right = match memory[..] {
        [to, from] => load == (*from == "global") && load == (*to != "global"),
        _ => false,
    };
    if !right {
        return Err("only between global and shared memory".into());
    }
    parts.0.retain(|part| !into.contains(part) && *part != "global");
    let hint = parts.take("L2::cache_hint");
    let fits = |at: &[Operand]| match rank {
        Some(rank) if !rank.starts_with(&at.len().to_string()) => {
            Err(format!("{} coordinates", at.len()))
        }
        _ => Ok(()),
    };
    let op = match (load, tensor) {
        (true, true) => {
            let (to, (map, at)) = (arguments.address()?, arguments.tile()?);
            fits(&at)?;
            Hopper::TensorLoad { to, map, at, barrier: arguments.address()? }
        }
        (true, false) => Hopper::BulkLoad {
            to: arguments.address()?,
            from: arguments.address()?,
            bytes: arguments.one()?,
            barrier: arguments.address()?,
        },
        (false, true) => {
            let (map, at) = arguments.tile()?;
            fits(&at)?;
            Hopper::TensorStore { map, at, from: arguments.address()? }
        }
        (false, false) => Hopper::BulkStore {
            to: arguments.address()?,
            from: arguments.address()?,
            bytes: arguments.one()?,
        },
    };
    if hint {
        arguments.one()?;
    }
    Ok(op)
}

fn product(parts: &mut Parts<'_>, arguments: &mut Arguments<'_>) -> Result<Hopper> {
    let names = ["fence", "commit_group", "wait_group", "mma_async"];
    let name = parts.any(&names).ok_or("which operation?")?;
    need(parts, &["sync", "aligned"])?;
    match name {
        "fence" => return Ok(Hopper::ProductFence),
        "commit_group" => return Ok(Hopper::ProductCommit),
        "wait_group" => {
            return Ok(Hopper::ProductWait { pending: arguments.literal()? as usize });
        }
        _ => {}
    }
    let &[shape, to, a, b] = &parts.0[..] else {
        return Err("a shape and three types are needed".into());
    };
    let n = shape.strip_prefix("m64n").and_then(|rest| rest.strip_suffix("k16"));
    let n = n.and_then(|n| n.parse().ok()).filter(|n| n % 8 == 0 && (8..=256).contains(n));
    let n: usize = n.ok_or("only m64nNk16, N a multiple of 8 up to 256")?;
    let (element, to) = match (to, a, b) {
        ("f32", "f16", "f16") => (Element::F16, Type::F32),
        ("f16", "f16", "f16") => (Element::F16, Type::F16),
        ("f32", "bf16", "bf16") => (Element::BF16, Type::F32),
        _ => return Err("these types are not known".into()),
    };
    parts.0.clear();
    let d = arguments.vector()?;
    let a = match arguments.next()? {
        Argument::One(descriptor) => Source::Memory(*descriptor),
        Argument::Vector(registers) if registers.len() == 4 => Source::Registers(registers.clone()),
        other => return Err(format!("{other:?} where A belongs")),
    };
    if d.len() != if to == Type::F32 { n / 2 } else { n / 4 } {
        return Err(format!("{} registers for {n} columns", d.len()));
    }
    let (b, add) = (arguments.one()?, arguments.predicate()?);
    let mut sign = || match arguments.literal()? {
        1 => Ok(false),
        u64::MAX => Ok(true),
        other => Err(format!("a scale of {other}")),
    };
    let negate = [sign()?, sign()?];
    let mut turn = || match arguments.literal()? {
        bit @ 0..=1 => Ok(bit == 1),
        other => Err(format!("{other} where 0 or 1 belongs")),
    };
    let of_a = if let Source::Memory(_) = a { turn()? } else { false };
    let transposed = [of_a, turn()?];
    Ok(Hopper::Product(Box::new(Wgmma { element, n, to, d, a, b, add, negate, transposed })))
}
