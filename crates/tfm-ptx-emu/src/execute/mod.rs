//! One instruction of one warp.

mod access;
mod collective;

use crate::device::Counters;
use crate::fault::Problem;
use crate::float;
use crate::instruction::{Logic, Mode, Op, Operand, Predicate, Ternary, Type, Unary};
use crate::integer;
use crate::memory::{Global, Region};
use crate::module::Kernel;
use crate::warp::{LANES, Place, Warp};

/// What of a block an instruction may touch.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) parameters: &'a [u8],
    pub(crate) variables: &'a [u64],
    pub(crate) place: Place,
    pub(crate) global: &'a mut Global,
    pub(crate) shared: &'a mut Region,
    pub(crate) counters: &'a mut Counters,
    /// The block's number over all launches, and that of the launch's first.
    pub(crate) block: u32,
    pub(crate) first_block: u32,
    pub(crate) lazy: bool,
}

/// What an instruction asks of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    None,
    /// To wait at a barrier (or only to arrive there), with how many threads.
    Barrier {
        id: u8,
        arrive: bool,
        threads: Option<u32>,
    },
}

/// A problem, and the lane that has it.
pub(crate) type Failure = (Problem, usize);
type Result<T, E = Failure> = std::result::Result<T, E>;

fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| mask >> lane & 1 != 0)
}

fn first(mask: u32) -> usize {
    (mask.trailing_zeros() as usize).min(LANES - 1)
}

impl Machine<'_> {
    /// Executes the next instruction of the warp.
    pub(crate) fn step(&mut self, warp: &mut Warp) -> Result<Request> {
        let (at, here) = warp.next();
        let kernel = self.kernel;
        let instruction = &kernel.instructions[at as usize];
        let active = match instruction.guard {
            None => here,
            Some(guard) => self.holds(warp, guard, here)?,
        };
        self.counters.instructions += 1;
        self.counters.thread_instructions += u64::from(active.count_ones());
        for lane in lanes(here) {
            warp.at[lane] = at + 1;
        }
        if active == 0 {
            return Ok(Request::None);
        }
        match &instruction.op {
            Op::Branch { target } => lanes(active).for_each(|lane| warp.at[lane] = *target),
            Op::Exit => {
                for lane in lanes(active) {
                    let copies = warp.copies[lane].count();
                    if copies > 0 {
                        return Err((Problem::NotWaitedFor { copies }, lane));
                    }
                }
                warp.live &= !active;
            }
            Op::Trap => return Err((Problem::Trap, first(active))),
            Op::Nothing => {}
            Op::Barrier { arrive, id, count } => {
                let operation = if *arrive { "bar.arrive" } else { "bar.sync" };
                self.together(operation, active, warp.live)?;
                let lane = first(active);
                let id = self.read(warp, *id, lane)?;
                let threads = count.map(|count| self.read(warp, count, lane)).transpose()?;
                let id = u8::try_from(id)
                    .ok()
                    .filter(|id| *id < 16)
                    .ok_or_else(|| (Problem::Launch(format!("there is no barrier {id}")), lane))?;
                return Ok(Request::Barrier {
                    id,
                    arrive: *arrive,
                    threads: threads.map(|n| n as u32),
                });
            }
            op => self.compute(warp, op, active)?,
        }
        Ok(Request::None)
    }

    #[inline]
    fn read(&self, warp: &Warp, operand: Operand, lane: usize) -> Result<u64> {
        warp.read(operand, lane, self.kernel, &self.place, self.variables)
            .map_err(|problem| (problem, lane))
    }

    /// The lanes of `among` where a predicate holds.
    fn holds(&self, warp: &Warp, (operand, negated): Predicate, among: u32) -> Result<u32> {
        let mut mask = 0;
        for lane in lanes(among) {
            mask |= u32::from((self.read(warp, operand, lane)? != 0) != negated) << lane;
        }
        Ok(mask)
    }

    fn together(&self, operation: &'static str, here: u32, expected: u32) -> Result<()> {
        if here == expected {
            return Ok(());
        }
        Err((Problem::Diverged { operation, here, expected }, first(here)))
    }

    /// Writes `d` of each active lane.
    fn each(
        &mut self,
        warp: &mut Warp,
        active: u32,
        d: Operand,
        f: impl Fn(&Self, &Warp, usize) -> Result<u64>,
    ) -> Result<()> {
        for lane in lanes(active) {
            let value = f(self, warp, lane)?;
            warp.write(d, lane, value, self.kernel);
        }
        Ok(())
    }

    fn compute(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Result<()> {
        match *op {
            Op::Move { d, a } => self.each(warp, active, d, |m, w, lane| m.read(w, a, lane)),
            Op::Pack { d, ref parts, bits } => self.each(warp, active, d, |m, w, lane| {
                let mut value = 0;
                for (i, part) in parts.iter().enumerate() {
                    value |= integer::low(bits, m.read(w, *part, lane)?) << (i as u32 * bits);
                }
                Ok(value)
            }),
            Op::Unpack { ref parts, a, bits } => {
                for lane in lanes(active) {
                    let value = self.read(warp, a, lane)?;
                    for (i, part) in parts.iter().enumerate() {
                        let value = integer::low(bits, value >> (i as u32 * bits));
                        warp.write(*part, lane, value, self.kernel);
                    }
                }
                Ok(())
            }
            Op::ToGeneric { space, d, a } => {
                let base = access::base(space);
                self.each(warp, active, d, |m, w, lane| Ok(m.read(w, a, lane)?.wrapping_add(base)))
            }
            Op::FromGeneric { space, d, a } => {
                let base = access::base(space);
                self.each(warp, active, d, |m, w, lane| Ok(m.read(w, a, lane)?.wrapping_sub(base)))
            }
            Op::Unary { op, ty, mode, d, a } => self.each(warp, active, d, |m, w, lane| {
                let a = m.read(w, a, lane)?;
                Ok(by_parts(ty, [a, 0, 0], |ty, [a, ..]| unary(op, ty, mode, a)))
            }),
            Op::Binary { op, ty, mode, d, a, b } => self.each(warp, active, d, |m, w, lane| {
                let operands = [m.read(w, a, lane)?, m.read(w, b, lane)?, 0];
                Ok(by_parts(ty, operands, |ty, [a, b, _]| match ty.is_float() {
                    true => float::binary(op, ty, mode, a, b),
                    false => integer::binary(op, ty, mode, a, b),
                }))
            }),
            Op::Ternary { op, ty, mode, d, a, b, c } => self.each(warp, active, d, |m, w, lane| {
                let operands = [m.read(w, a, lane)?, m.read(w, b, lane)?, m.read(w, c, lane)?];
                Ok(by_parts(ty, operands, |ty, [a, b, c]| match op {
                    Ternary::Fma => Some(float::fma(ty, mode, a, b, c)),
                    op => integer::ternary(op, ty, mode, a, b, c),
                }))
            }),
            Op::InsertBits { ty, d, a, b, position, length } => {
                self.each(warp, active, d, |m, w, lane| {
                    let (a, b) = (m.read(w, a, lane)?, m.read(w, b, lane)?);
                    let (position, length) = (m.read(w, position, lane)?, m.read(w, length, lane)?);
                    Ok(integer::insert_bits(ty, a, b, position, length))
                })
            }
            Op::Compare { comparison, ty, flush, d, other, a, b, combine } => {
                for lane in lanes(active) {
                    let (a, b) = (self.read(warp, a, lane)?, self.read(warp, b, lane)?);
                    let found = integer::compare(comparison, ty, flush, a, b);
                    let (yes, no) = match combine {
                        None => (found, !found),
                        Some((logic, (p, negated))) => {
                            let p = (self.read(warp, p, lane)? != 0) != negated;
                            let with = |x| match logic {
                                Logic::And => x && p,
                                Logic::Or => x || p,
                                Logic::Xor => x != p,
                            };
                            (with(found), with(!found))
                        }
                    };
                    warp.write(d, lane, yes.into(), self.kernel);
                    warp.write(other, lane, no.into(), self.kernel);
                }
                Ok(())
            }
            Op::Select { d, a, b, p: (p, negated) } => self.each(warp, active, d, |m, w, lane| {
                let p = (m.read(w, p, lane)? != 0) != negated;
                m.read(w, if p { a } else { b }, lane)
            }),
            Op::Convert { to, from, mode, to_integer, d, a } => {
                self.each(warp, active, d, |m, w, lane| {
                    let value = integer::convert(to, from, mode, to_integer, m.read(w, a, lane)?);
                    // A wider register holds the sign of a signed number.
                    Ok(match to {
                        Type::S(_) => integer::value(to, value) as u64,
                        _ => value,
                    })
                })
            }
            Op::ConvertPair { to, mode, d, a, b } => self.each(warp, active, d, |m, w, lane| {
                let half = if to == Type::F16x2 { Type::F16 } else { Type::BF16 };
                let (a, b) = (m.read(w, a, lane)?, m.read(w, b, lane)?);
                let [a, b] = [a, b].map(|x| integer::convert(half, Type::F32, mode, false, x));
                Ok(a << 16 | b)
            }),
            Op::Atomic { .. }
            | Op::Load { .. }
            | Op::Store { .. }
            | Op::CopyAsync { .. }
            | Op::CommitCopies
            | Op::WaitCopies { .. } => self.memory(warp, op, active),
            Op::WarpBarrier { .. }
            | Op::Shuffle { .. }
            | Op::Vote { .. }
            | Op::ReduceWarp { .. }
            | Op::ActiveMask { .. }
            | Op::LoadMatrix { .. }
            | Op::StoreMatrix { .. }
            | Op::Product { .. } => self.collective(warp, op, active),
            Op::Branch { .. } | Op::Exit | Op::Trap | Op::Nothing | Op::Barrier { .. } => {
                unreachable!("done in `step`")
            }
        }
    }
}

/// Applies an operation to the whole, or to both halves of a pair. Decoding lets through types that an operation
/// does not have; such a result is all ones, which is NaN.
fn by_parts(ty: Type, operands: [u64; 3], f: impl Fn(Type, [u64; 3]) -> Option<u64>) -> u64 {
    let half = match ty {
        Type::F16x2 => Type::F16,
        Type::BF16x2 => Type::BF16,
        _ => return f(ty, operands).unwrap_or(u64::MAX),
    };
    let part = |shift: u32| f(half, operands.map(|x| x >> shift & 0xFFFF)).unwrap_or(0xFFFF);
    part(0) | part(16) << 16
}

fn unary(op: Unary, ty: Type, mode: Mode, a: u64) -> Option<u64> {
    if ty.is_float() { float::unary(op, ty, mode, a) } else { integer::unary(op, ty, a) }
}
