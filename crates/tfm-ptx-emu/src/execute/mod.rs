//! Executes one instruction of one warp. The instruction is dispatched once, for all lanes
//! together.

mod access;
mod bulk;
mod collective;
mod copies;
mod hopper;
mod stores;
mod traffic;
mod vector;
mod wgmma;

use crate::asynchronous::Barriers;
use crate::device::Counters;
use crate::fault::Problem;
use crate::float;
use crate::instruction::{Logic, Mode, Op, Operand, Predicate, Type, Unary};
use crate::integer;
use crate::memory::{Global, Shared};
use crate::module::Kernel;
use crate::warp::{GridPosition, LANES, Warp, lanes};

/// The part of a block's state that an instruction may touch.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) parameters: &'a [u8],
    pub(crate) variables: &'a [u64],
    pub(crate) position: GridPosition,
    pub(crate) global: &'a mut Global,
    pub(crate) shared: &'a mut Shared,
    pub(crate) barriers: &'a mut Barriers,
    pub(crate) counters: &'a mut Counters,
    /// The number of the block, counted over all launches, and the number of this launch's first
    /// block.
    pub(crate) block: u32,
    pub(crate) first_block: u32,
    pub(crate) lazy: bool,
}

/// What an instruction asks of the block after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    None,
    /// To wait at a barrier, or only to arrive there, with this number of threads.
    Barrier {
        id: u8,
        arrive: bool,
        threads: Option<u32>,
    },
    /// To sleep until the barrier in shared memory at this address has another version than this.
    Sleep(u64, u64),
}

/// A problem, and the lane that caused it.
pub(crate) type Failure = (Problem, usize);
type Result<T, E = Failure> = std::result::Result<T, E>;

fn first(mask: u32) -> usize {
    (mask.trailing_zeros() as usize).min(LANES - 1)
}

impl Machine<'_> {
    /// Executes the warp's next instruction, at `at`, for the lanes of `here`.
    pub(crate) fn step(&mut self, warp: &mut Warp, at: u32, here: u32) -> Result<Request> {
        let kernel = self.kernel;
        let instruction = &kernel.instructions[at as usize];
        let active = match instruction.guard {
            None => here,
            Some(guard) => self.holds(warp, guard, here)?,
        };
        self.counters.instructions += 1;
        self.counters.thread_instructions += u64::from(active.count_ones());
        warp.jump(here, at + 1);
        if active == 0 {
            return Ok(Request::None);
        }
        match &instruction.op {
            Op::Branch { target } => warp.jump(active, *target),
            Op::Exit => {
                for lane in lanes(if warp.has_copies() { active } else { 0 }) {
                    let copies = warp.copies(lane).count();
                    if copies > 0 {
                        return Err((Problem::NotWaitedFor { copies }, lane));
                    }
                }
                let last = active == warp.live;
                if let Some(begun) = &warp.begun {
                    let of_lane = |lane| begun.lanes.get(&lane).is_some_and(|s| !s.is_empty());
                    let lane = lanes(active).find(|lane| of_lane(*lane));
                    let copies = begun.left();
                    if copies > 0 && (last || lane.is_some()) {
                        return Err((
                            Problem::NotWaitedFor { copies },
                            lane.unwrap_or(first(active)),
                        ));
                    }
                }
                warp.end(active);
            }
            Op::Trap => return Err((Problem::Trap, first(active))),
            Op::Nothing => {}
            Op::Barrier { arrive, id, count } => {
                let operation = if *arrive { "bar.arrive" } else { "bar.sync" };
                self.together(operation, active, warp.live)?;
                let lane = first(active);
                let id = self.of_lane(warp, *id, lane)?;
                let threads = count.map(|count| self.of_lane(warp, count, lane)).transpose()?;
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
            Op::Hopper(op) => return self.hopper(warp, op, active),
            op => self.compute(warp, op, active)?,
        }
        if let Some(begun) = &warp.begun
            && let Some(register) = begun.touched
        {
            let register = self.kernel.registers[register as usize].name.clone();
            return Err((Problem::RegisterInFlight { register }, first(active)));
        }
        Ok(Request::None)
    }

    /// The value of an operand in one lane.
    fn of_lane(&self, warp: &Warp, operand: Operand, lane: usize) -> Result<u64> {
        Ok(warp.fetch(operand, 1 << lane, &mut [0; LANES], self)?[lane])
    }

    /// The lanes of `among` where a predicate holds.
    fn holds(&self, warp: &Warp, (operand, negated): Predicate, among: u32) -> Result<u32> {
        let mask = warp.holds(operand, among, self)?;
        Ok(among & if negated { !mask } else { mask })
    }

    fn together(&self, operation: &'static str, here: u32, expected: u32) -> Result<()> {
        if here == expected {
            return Ok(());
        }
        Err((Problem::Diverged { operation, here, expected }, first(here)))
    }

    fn compute(&mut self, warp: &mut Warp, op: &Op, active: u32) -> Result<()> {
        let mut out = [0; LANES];
        let mut rooms = [[0; LANES]; 3];
        let [room, other_room, third_room] = &mut rooms;
        let kernel = self.kernel;
        match *op {
            Op::Move { d, a } => {
                let a = *warp.fetch(a, active, room, self)?;
                warp.put(d, active, &a, kernel);
            }
            Op::Pack { d, ref parts, bits } => {
                for (i, part) in parts.iter().enumerate() {
                    let part = warp.fetch(*part, active, room, self)?;
                    for (out, part) in out.iter_mut().zip(part) {
                        *out |= integer::low(bits, *part) << (i as u32 * bits);
                    }
                }
                warp.put(d, active, &out, kernel);
            }
            Op::Unpack { ref parts, a, bits } => {
                let a = *warp.fetch(a, active, room, self)?;
                for (i, part) in parts.iter().enumerate() {
                    out = a.map(|a| integer::low(bits, a >> (i as u32 * bits)));
                    warp.put(*part, active, &out, kernel);
                }
            }
            Op::ToGeneric { space, d, a } | Op::FromGeneric { space, d, a } => {
                let base = match op {
                    Op::ToGeneric { .. } => access::base(space),
                    _ => access::base(space).wrapping_neg(),
                };
                out = warp.fetch(a, active, room, self)?.map(|a| a.wrapping_add(base));
                warp.put(d, active, &out, kernel);
            }
            Op::Unary { op, ty, mode, d, a } => {
                let a = warp.fetch(a, active, room, self)?;
                vector::unary(op, ty, mode, active, a, &mut out);
                warp.put(d, active, &out, kernel);
            }
            Op::Binary { op, ty, mode, d, a, b } => {
                let a = warp.fetch(a, active, room, self)?;
                let b = warp.fetch(b, active, other_room, self)?;
                vector::binary(op, ty, mode, active, [a, b], &mut out);
                warp.put(d, active, &out, kernel);
            }
            Op::Ternary { op, ty, mode, d, a, b, c } => {
                let a = warp.fetch(a, active, room, self)?;
                let b = warp.fetch(b, active, other_room, self)?;
                let c = warp.fetch(c, active, third_room, self)?;
                vector::ternary(op, ty, mode, active, [a, b, c], &mut out);
                warp.put(d, active, &out, kernel);
            }
            Op::InsertBits { ty, d, a, b, position, length } => {
                let a = warp.fetch(a, active, room, self)?;
                let b = warp.fetch(b, active, other_room, self)?;
                let position = warp.fetch(position, active, third_room, self)?;
                let mut room = [0; LANES];
                let length = warp.fetch(length, active, &mut room, self)?;
                for l in lanes(active) {
                    out[l] = integer::insert_bits(ty, a[l], b[l], position[l], length[l]);
                }
                warp.put(d, active, &out, kernel);
            }
            Op::Compare { comparison, ty, flush, d, other, a, b, combine } => {
                let a = warp.fetch(a, active, room, self)?;
                let b = warp.fetch(b, active, other_room, self)?;
                let found = vector::compare(comparison, ty, flush, active, a, b);
                let (yes, no) = match combine {
                    None => (found, !found),
                    Some((logic, p)) => {
                        let p = self.holds(warp, p, active)?;
                        match logic {
                            Logic::And => (found & p, !found & p),
                            Logic::Or => (found | p, !found | p),
                            Logic::Xor => (found ^ p, !found ^ p),
                        }
                    }
                };
                warp.put_mask(d, active, yes, kernel);
                warp.put_mask(other, active, no, kernel);
            }
            Op::Select { d, a, b, p } => {
                let p = self.holds(warp, p, active)?;
                let a = warp.fetch(a, active & p, room, self)?;
                let b = warp.fetch(b, active & !p, other_room, self)?;
                for (lane, out) in out.iter_mut().enumerate() {
                    *out = if p >> lane & 1 != 0 { a[lane] } else { b[lane] };
                }
                warp.put(d, active, &out, kernel);
            }
            Op::Convert { to, from, mode, to_integer, d, a } => {
                let a = warp.fetch(a, active, room, self)?;
                vector::convert(to, from, mode, to_integer, active, a, &mut out);
                warp.put(d, active, &out, kernel);
            }
            Op::ConvertPair { to, mode, d, a, b } => {
                let half = if to == Type::F16x2 { Type::F16 } else { Type::BF16 };
                let a = warp.fetch(a, active, room, self)?;
                vector::convert(half, Type::F32, mode, false, active, a, &mut out);
                let b = warp.fetch(b, active, other_room, self)?;
                let mut low = [0; LANES];
                vector::convert(half, Type::F32, mode, false, active, b, &mut low);
                out.iter_mut().zip(low).for_each(|(out, low)| *out = *out << 16 | low);
                warp.put(d, active, &out, kernel);
            }
            Op::Atomic { .. }
            | Op::Load { .. }
            | Op::Store { .. }
            | Op::CopyAsync { .. }
            | Op::CommitCopies
            | Op::WaitCopies { .. } => self.memory(warp, op, active)?,
            Op::WarpBarrier { .. }
            | Op::Shuffle { .. }
            | Op::Vote { .. }
            | Op::ReduceWarp { .. }
            | Op::ActiveMask { .. }
            | Op::LoadMatrix { .. }
            | Op::StoreMatrix { .. }
            | Op::Product { .. } => self.collective(warp, op, active)?,
            Op::Branch { .. }
            | Op::Exit
            | Op::Trap
            | Op::Nothing
            | Op::Barrier { .. }
            | Op::Hopper(_) => {
                unreachable!("done in `step`")
            }
        }
        Ok(())
    }
}

/// Applies an operation to the whole value, or to both halves of a pair. Decoding accepts types
/// that some operations do not have. Their result is all ones, which is NaN.
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
