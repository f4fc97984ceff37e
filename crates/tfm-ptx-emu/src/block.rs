//! Runs a block of a launch: its warps in turn, until all have ended or none can continue.

use crate::asynchronous::{Knowledge, join};
use crate::device::Random;
use crate::execute::{Machine, Request};
use crate::fault::{Fault, Problem};
use crate::warp::{LANES, State, Warp};

const BARRIERS: usize = 16;
/// The most barriers that a warp may pass in a launch, since the record of past accesses has so
/// many bits for the clock.
const MOST_CLOCK: u32 = (1 << 28) - 1;

/// The warps that have arrived at a barrier.
#[derive(Default)]
struct Barrier {
    threads: u32,
    expected: u32,
    known: Knowledge,
    members: Vec<usize>,
}

/// Runs one block.
pub(crate) fn block(
    mut machine: Machine<'_>,
    warps: &mut [Warp],
    threads: u32,
    steps: u64,
    random: &mut Random,
) -> Result<(), Fault> {
    let count = warps.len();
    let mut barriers: [Barrier; BARRIERS] = Default::default();
    let mut ready = Vec::with_capacity(count);
    loop {
        ready.clear();
        ready.extend((0..count).filter(|i| match warps[*i].state {
            State::Ready => true,
            State::Sleeps(address, version) => {
                machine.barriers.all.get(&address).is_none_or(|b| b.version != version)
            }
            State::Waits(_) | State::Done => false,
        }));
        if ready.is_empty() {
            return finished(&machine, warps);
        }
        let index = ready[random.below(ready.len())];
        warps[index].state = State::Ready;
        for _ in 0..1 + random.below(64) {
            let warp = &mut warps[index];
            let (at, here) = warp.next();
            if machine.counters.instructions >= steps || warp.clock >= MOST_CLOCK {
                return Err(fault(&machine, Problem::OutOfSteps { steps }, at, index, 0));
            }
            let request = match machine.step(warp, at, here) {
                Ok(request) => request,
                Err((problem, lane)) => return Err(fault(&machine, problem, at, index, lane)),
            };
            if warp.live == 0 {
                warp.state = State::Done;
            }
            match request {
                Request::None => {}
                Request::Sleep(address, version) => warp.state = State::Sleeps(address, version),
                Request::Barrier { id, arrive, threads: asked } => {
                    let expected = asked.unwrap_or(threads);
                    let barrier = &mut barriers[id as usize];
                    if barrier.threads == 0 {
                        barrier.expected = expected;
                    }
                    if barrier.expected != expected
                        || expected == 0
                        || expected % 32 != 0 && asked.is_some()
                    {
                        let problem = format!(
                            "barrier {id} for {expected} threads and for {}",
                            barrier.expected
                        );
                        return Err(fault(&machine, Problem::Launch(problem), at, index, 0));
                    }
                    barrier.threads += (threads - index as u32 * 32).min(32);
                    barrier.known.join(warp);
                    if arrive {
                        // The barrier does not order what the warp does from here on.
                        warp.clock += 1;
                    } else {
                        warp.state = State::Waits(id);
                        barrier.members.push(index);
                    }
                    if barrier.threads >= barrier.expected {
                        let Barrier { known, members, .. } = std::mem::take(barrier);
                        for member in members {
                            let warp = &mut warps[member];
                            warp.state = State::Ready;
                            join(&mut warp.clocks, &known.clocks);
                            if let Some(begun) = &mut warp.begun {
                                join(&mut begun.fenced, &known.fenced);
                            }
                            warp.clock += 1;
                        }
                    }
                }
            }
            if warps[index].state != State::Ready {
                break;
            }
        }
    }
}

fn fault(machine: &Machine<'_>, problem: Problem, at: u32, warp: usize, lane: usize) -> Fault {
    Fault {
        problem,
        kernel: machine.kernel.name.clone(),
        line: machine.kernel.instructions[at as usize].line,
        block: machine.position.block,
        thread: machine.position.thread((warp * LANES + lane) as u32),
    }
}

/// Reports what is wrong when no warp can continue: some may wait for ever.
fn finished(machine: &Machine<'_>, warps: &[Warp]) -> Result<(), Fault> {
    let waiting: Vec<String> = warps
        .iter()
        .filter_map(|warp| match warp.state {
            State::Waits(id) => Some(format!("warp {} at barrier {id}", warp.number)),
            State::Sleeps(address, _) => Some(format!(
                "warp {} at the barrier in shared memory at {address:#x}",
                warp.number
            )),
            State::Ready | State::Done => None,
        })
        .collect();
    let Some(warp) = warps.iter().find(|warp| warp.state != State::Done) else {
        let known = || warps.iter().map(|warp| &warp.clocks[..]);
        let copies: usize = machine.barriers.all.values().map(|b| b.left(known())).sum();
        if copies > 0 {
            let last = machine.kernel.instructions.len() as u32 - 1;
            return Err(fault(machine, Problem::NotWaitedFor { copies }, last, 0, 0));
        }
        // The four warps of a warpgroup must take part in the same number of products.
        let products = |warp: &Warp| warp.begun.as_ref().map_or(0, |begun| begun.products);
        for group in warps.chunks(4) {
            let counts: Vec<u32> = group.iter().map(products).collect();
            let uneven =
                counts.iter().any(|n| *n != counts[0]) || counts[0] > 0 && counts.len() < 4;
            if uneven {
                let problem = format!("the warps of a warpgroup did {counts:?} products");
                let (last, first) = (machine.kernel.instructions.len() as u32 - 1, group[0].number);
                return Err(fault(machine, Problem::Launch(problem), last, first as usize, 0));
            }
        }
        return Ok(());
    };
    let at = warp.next().0.saturating_sub(1);
    let problem = Problem::Deadlock { waiting: waiting.join(", ") };
    Err(fault(machine, problem, at, warp.number as usize, 0))
}
