//! The batches of a range of an epoch: pairs of similar length together, in random order.

use super::arena::Ids;
use super::pairs::Pairs;
use super::stream::{Batch, Position, Sequences};
use crate::config::Batching;
use crate::error::Result;
use crate::random::{Draws, Purpose};
use rayon::prelude::*;

/// The batches of a window.
pub(super) struct Window {
    /// The pairs, sorted by length.
    pairs: Vec<Member>,
    /// Where each batch begins and ends among the pairs.
    batches: Vec<std::ops::Range<usize>>,
    /// The pairs that were encoded again.
    sampled: Option<Ids>,
}

/// A pair in a window.
struct Member {
    pair: usize,
    /// Its number among the pairs that were encoded again, if it was.
    sampled: Option<usize>,
    /// Tokens of source and target.
    tokens: [usize; 2],
}

impl Window {
    /// Cuts a range of an epoch into batches. `first` is the number of its first pair in the epoch.
    pub(super) fn new(
        pairs: &Pairs,
        stretch: &[usize],
        batching: Batching,
        seed: u64,
        at: Position,
        first: usize,
    ) -> Result<Self> {
        let (mut members, sampled) = members(pairs, stretch, batching, seed, at.epoch, first)?;
        // The sort is stable: pairs of equal length keep the epoch's order.
        members.sort_by_key(|member| {
            let [source, target] = member.tokens;
            (target / batching.bucket, source / batching.bucket)
        });
        let mut batches = cut(members.iter().map(|member| member.tokens), batching.tokens);
        Draws::new(seed, Purpose::Window, [at.epoch, at.window]).shuffle(&mut batches);
        Ok(Window { pairs: members, batches, sampled })
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    /// A batch with the positions before and after it.
    pub(super) fn batch(
        &self,
        pairs: &Pairs,
        number: usize,
        at: Position,
        next: Position,
    ) -> Batch {
        let members = &self.pairs[self.batches[number].clone()];
        let (mut sources, mut targets) = (Sequences::new(), Sequences::new());
        for member in members {
            let (ids, index) = match (&self.sampled, member.sampled) {
                (Some(sampled), Some(index)) => (sampled, index),
                _ => (&pairs.ids, member.pair),
            };
            sources.push(|tokens| ids.append(2 * index, tokens));
            targets.push(|tokens| ids.append(2 * index + 1, tokens));
        }
        let pairs = members.iter().map(|member| member.pair).collect();
        Batch { sources, targets, pairs, at, next }
    }
}

/// The pairs of a range with their lengths, encoded again where segmentations vary.
fn members(
    pairs: &Pairs,
    stretch: &[usize],
    batching: Batching,
    seed: u64,
    epoch: u64,
    first: usize,
) -> Result<(Vec<Member>, Option<Ids>)> {
    let plain = |&pair: &usize| Member { pair, sampled: None, tokens: pairs.tokens(pair) };
    let mut members: Vec<Member> = stretch.iter().map(plain).collect();
    if !pairs.is_sampled() {
        return Ok((members, None));
    }
    let sample = |(index, &pair): (usize, &usize)| {
        let mut draws = Draws::new(seed, Purpose::Segmentation, [epoch, (first + index) as u64]);
        pairs.sample(pair, [draws.word(), draws.word()])
    };
    let drawn: Vec<_> = stretch.par_iter().enumerate().map(sample).collect();
    let mut ids = Ids::new();
    for (member, drawn) in members.iter_mut().zip(drawn) {
        let Some([source, target]) = drawn? else { continue };
        if source.len() + target.len() <= batching.tokens {
            member.sampled = Some(ids.len() / 2);
            member.tokens = [source.len(), target.len()];
            ids.push(&source);
            ids.push(&target);
        }
    }
    Ok((members, Some(ids)))
}

/// Cuts pairs of these lengths into batches of at most `limit` tokens, as few as the order allows.
pub(super) fn cut(
    tokens: impl Iterator<Item = [usize; 2]>,
    limit: usize,
) -> Vec<std::ops::Range<usize>> {
    let (mut batches, mut start, mut end, mut filled) = (Vec::new(), 0, 0, 0);
    for [source, target] in tokens {
        if filled + source + target > limit && end > start {
            batches.push(start..end);
            (start, filled) = (end, 0);
        }
        filled += source + target;
        end += 1;
    }
    if end > start {
        batches.push(start..end);
    }
    batches
}
