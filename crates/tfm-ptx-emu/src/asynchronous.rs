//! What runs beside the warps: barriers in shared memory, the bulk loads that they count, and the
//! products and bulk stores of each warp.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use crate::fault::Problem;
use crate::memory::{AGENTS, LOADS, MOST_BARRIERS, Shared, Stamp};
use crate::warp::Warp;

/// What an agent that arrives or waits knows. `clocks` has for each agent the clock up to which its
/// accesses are ordered before; `fenced` has for each warp the clock up to which its writes are
/// ordered before what asynchronous agents do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    pub(crate) clocks: Vec<u32>,
    pub(crate) fenced: Vec<u32>,
}

impl Knowledge {
    /// Adds what a warp knows and what it has done.
    pub(crate) fn join(&mut self, warp: &Warp) {
        join(&mut self.clocks, &warp.clocks);
        // A waiter knows all that the warp has done, even where the warp's lanes do not know it of
        // one another.
        self.clocks[warp.number as usize] = warp.clock;
        if let Some(begun) = &warp.begun {
            join(&mut self.fenced, &begun.fenced);
        }
    }
}

pub(crate) fn join(known: &mut Vec<u32>, others: &[u32]) {
    if known.len() < others.len() {
        known.resize(others.len(), 0);
    }
    known.iter_mut().zip(others).for_each(|(clock, other)| *clock = (*clock).max(*other));
}

/// A bulk load that has not landed.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) to: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A barrier in shared memory.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    /// Its number among the barriers of the block.
    number: usize,
    /// The phase that is not yet complete.
    pub(crate) phase: u32,
    expected: u32,
    pending: u32,
    /// Bytes that are expected and have not arrived.
    bytes: i64,
    arrived: Knowledge,
    /// What was known when the previous phase was completed.
    pub(crate) released: Knowledge,
    pub(crate) loads: Vec<Load>,
    /// The warp that made it, and when.
    pub(crate) made: Stamp,
    /// The last phase in which a load has landed.
    landed: u32,
    /// Changes with every event that may let a waiter continue.
    pub(crate) version: u64,
}

/// The most bytes that a phase may wait for.
const MOST_PENDING: i64 = (1 << 20) - 1;

impl Barrier {
    pub(crate) fn new(number: usize, expected: u32, made: Stamp) -> Barrier {
        Barrier { number, expected, pending: expected, made, ..Barrier::default() }
    }

    /// The number of the agent that performs the loads which this barrier counts.
    pub(crate) fn agent(&self) -> u32 {
        LOADS + self.number as u32
    }

    pub(crate) fn arrive(
        &mut self,
        count: u32,
        may_complete: bool,
        warp: &Warp,
    ) -> Result<(), String> {
        if count == 0 || count > self.pending {
            return Err(format!("{count} arrivals where {} are missing", self.pending));
        }
        if count == self.pending && !may_complete {
            return Err("this arrival completes the phase, which `noComplete` denies".into());
        }
        self.pending -= count;
        self.arrived.join(warp);
        self.turn();
        Ok(())
    }

    /// Counts bytes that are expected or, if negative, that have arrived.
    pub(crate) fn expect(&mut self, bytes: i64) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes.abs() > MOST_PENDING {
            return Err(format!("{} bytes expected", self.bytes));
        }
        self.turn();
        Ok(())
    }

    /// Whether all arrivals have come, so that only bytes are missing.
    fn waits_for_bytes(&self) -> bool {
        self.pending == 0
    }

    /// Begins the next phase if this one is complete.
    fn turn(&mut self) {
        self.version += 1;
        if self.pending == 0 && self.bytes == 0 {
            self.phase += 1;
            self.pending = self.expected;
            self.arrived.clocks.resize(AGENTS, 0);
            let agent = self.agent() as usize;
            self.arrived.clocks[agent] = self.phase;
            self.released = self.arrived.clone();
        }
    }

    /// Lets the loads land: at once, or, if `lazy`, when the phase waits for nothing else.
    pub(crate) fn land(
        &mut self,
        shared: &mut Shared,
        block: u32,
        lazy: bool,
    ) -> Result<(), Problem> {
        if lazy && !self.waits_for_bytes() {
            return Ok(());
        }
        for load in std::mem::take(&mut self.loads) {
            let by = Stamp { block, warp: self.agent(), clock: self.phase + 1 };
            shared.land(load.to, &load.bytes, by)?;
            self.landed = self.phase + 1;
            self.expect(-(load.bytes.len() as i64))
                .map_err(|problem| Problem::Barrier { address: load.to, problem })?;
        }
        Ok(())
    }

    /// The number of loads that no warp has waited for.
    pub(crate) fn left<'a>(&self, mut warps: impl Iterator<Item = &'a [u32]>) -> usize {
        let agent = self.agent() as usize;
        let seen = warps.any(|clocks| clocks.get(agent).is_some_and(|at| *at >= self.landed));
        self.loads.len() + usize::from(self.landed > 0 && !seen)
    }
}

/// The barriers of a block, by address.
#[derive(Debug, Default)]
pub(crate) struct Barriers {
    pub(crate) all: BTreeMap<u64, Barrier>,
    made: usize,
}

impl Barriers {
    pub(crate) fn add(&mut self, address: u64, expected: u32, made: Stamp) -> Result<(), String> {
        if self.made == MOST_BARRIERS {
            return Err(format!("more than {MOST_BARRIERS} barriers in one block"));
        }
        if self.all.contains_key(&address) {
            return Err("it is made twice".into());
        }
        self.all.insert(address, Barrier::new(self.made, expected, made));
        self.made += 1;
        Ok(())
    }
}

/// A bulk store: its number, and the bytes that it writes by address in global memory.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) number: u32,
    pub(crate) rows: Vec<(u64, Vec<u8>)>,
}

/// The bulk stores of one lane.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    pub(crate) open: Vec<Store>,
    pub(crate) groups: VecDeque<Vec<Store>>,
}

impl Stores {
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.groups.is_empty()
    }
}

/// What a warp has begun and not yet waited for.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// For each warp, the clock up to which a fence orders its writes before what asynchronous
    /// agents do.
    pub(crate) fenced: Vec<u32>,
    /// The numbers of products and of bulk stores begun so far.
    pub(crate) products: u32,
    pub(crate) stores: u32,
    /// The registers of products that nobody has waited for: those that are in no group yet, and
    /// the groups.
    pub(crate) open: Vec<SmallVec<[u32; 36]>>,
    pub(crate) groups: VecDeque<Vec<SmallVec<[u32; 36]>>>,
    /// For each register, how many such products use it, and whether one of them writes it.
    pub(crate) busy: Vec<u8>,
    /// For each register, the number of `wgmma.fence` before its last write by another instruction.
    pub(crate) written: Vec<u32>,
    pub(crate) fences: u32,
    /// A register that was written while a product used it.
    pub(crate) touched: Option<u32>,
    pub(crate) lanes: BTreeMap<usize, Stores>,
}

/// In [`Begun::busy`]: a product writes the register.
pub(crate) const WRITES: u8 = 0x80;

impl Begun {
    pub(crate) fn new(registers: usize, warps: usize) -> Begun {
        Begun {
            fenced: vec![0; warps],
            busy: vec![0; registers],
            written: vec![0; registers],
            ..Begun::default()
        }
    }

    /// The number of products and bulk stores that nobody has waited for.
    pub(crate) fn left(&self) -> usize {
        let products = self.open.len() + self.groups.iter().map(Vec::len).sum::<usize>();
        let of =
            |stores: &Stores| stores.open.len() + stores.groups.iter().map(Vec::len).sum::<usize>();
        products + self.lanes.values().map(of).sum::<usize>()
    }
}
