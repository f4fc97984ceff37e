//! All pairs of the corpora, encoded and in memory.

use super::arena::{Ids, Texts};
use super::corpus::{LONGEST_LINE, TextPair};
use super::counts::Counts;
use super::encoder::{Encoder, Side};
use crate::config::{Corpora, Filters};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many pairs all threads encode at once.
const PORTION: usize = 1 << 13;

/// Pairs of token ids, numbered from 0 through all corpora.
pub struct Pairs {
    /// Source and target of pair `i` are the sequences `2 i` and `2 i + 1`.
    pub(super) ids: Ids,
    texts: Option<Texts>,
    /// How to encode pairs again, and the most tokens of a side.
    sampling: Option<(Encoder, usize)>,
    pub(super) corpora: Vec<LoadedCorpus>,
    longest: usize,
    checksum: crc32fast::Hasher,
}

/// The numbers of a corpus's pairs.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadedCorpus {
    pub(super) first: usize,
    pub(super) weight: f64,
    pub(super) counts: Counts,
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs").field("corpora", &self.corpora).finish_non_exhaustive()
    }
}

impl Pairs {
    /// Reads, filters and encodes the training data. If `sampled`, the texts are kept and a
    /// [`Stream`](super::Stream) encodes them again in every epoch, each with its own seed.
    ///
    /// # Errors
    /// [`Error::Files`], [`Error::Encode`],
    /// and [`Error::NoPairs`] for a corpus of which no pair is left.
    pub fn training(
        corpora: &Corpora,
        filters: &Filters,
        encoder: &Encoder,
        sampled: bool,
    ) -> Result<Self> {
        let mut pairs = Pairs::new(sampled);
        pairs.sampling = sampled.then(|| (encoder.clone(), filters.maximum_tokens));
        pairs.read(corpora, Some(filters), encoder)?;
        Ok(pairs)
    }

    /// Reads and encodes all pairs, and keeps their texts: validation data is not filtered.
    ///
    /// # Errors
    /// As [`training`](Self::training), and [`Error::LongLine`].
    pub fn validation(corpora: &Corpora, encoder: &Encoder) -> Result<Self> {
        let mut pairs = Pairs::new(true);
        pairs.read(corpora, None, encoder)?;
        Ok(pairs)
    }

    fn new(with_texts: bool) -> Self {
        Pairs {
            ids: Ids::new(),
            texts: with_texts.then(Texts::default),
            sampling: None,
            corpora: Vec::new(),
            longest: 0,
            checksum: crc32fast::Hasher::new(),
        }
    }

    fn read(
        &mut self,
        corpora: &Corpora,
        filters: Option<&Filters>,
        encoder: &Encoder,
    ) -> Result<()> {
        for corpus in 0..corpora.count() {
            let place = corpora.name(corpus);
            let mut loading = Loading {
                pairs: self,
                filters,
                encoder,
                place: &place,
                counts: Counts::default(),
                seen: HashSet::new(),
                portion: Vec::new(),
            };
            let first = loading.pairs.len();
            loading.read(corpora, corpus)?;
            let counts = loading.counts;
            if counts.kept == 0 {
                return Err(Error::NoPairs { place, counts: counts.to_string() });
            }
            self.corpora.push(LoadedCorpus { first, weight: corpora.weight(corpus), counts });
        }
        Ok(())
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.ids.len() / 2
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For each corpus, how many pairs were read and left out.
    pub fn counts(&self) -> impl ExactSizeIterator<Item = Counts> + '_ {
        self.corpora.iter().map(|corpus| corpus.counts)
    }

    /// How many tokens a pair's source and target have.
    pub fn tokens(&self, pair: usize) -> [usize; 2] {
        [self.ids.tokens(2 * pair), self.ids.tokens(2 * pair + 1)]
    }

    /// The most tokens of a pair, source and target together.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// A checksum of all token ids. A checkpoint keeps it, so that no training resumes with other
    /// data or another tokeniser.
    pub fn fingerprint(&self) -> u32 {
        self.checksum.clone().finalize()
    }

    /// The texts of a pair, where they are kept: for validation, and where segmentations are
    /// sampled.
    pub fn texts(&self, pair: usize) -> Option<[&str; 2]> {
        let texts = self.texts.as_ref()?;
        Some([texts.get(2 * pair), texts.get(2 * pair + 1)])
    }

    /// Whether pairs are encoded again in every epoch.
    pub fn is_sampled(&self) -> bool {
        self.sampling.is_some()
    }

    /// A pair encoded with another segmentation; `None` where that has become too long.
    pub(super) fn sample(&self, pair: usize, seeds: [u64; 2]) -> Result<Option<[Vec<u32>; 2]>> {
        let (Some((encoder, maximum)), Some([source, target])) = (&self.sampling, self.texts(pair))
        else {
            return Ok(None);
        };
        let encode = |side, text, seed| {
            encoder(side, text, Some(seed)).map_err(|source| Error::Encode {
                place: format!("pair {pair} of the training data"),
                source,
            })
        };
        let source = encode(Side::Source, source, seeds[0])?;
        let target = encode(Side::Target, target, seeds[1])?;
        let fits = source.len().max(target.len()) <= *maximum;
        Ok(fits.then_some([source, target]))
    }

    fn push(&mut self, text: &TextPair, ids: &[Vec<u32>; 2]) {
        for (text, ids) in [&text.source, &text.target].into_iter().zip(ids) {
            self.ids.push(ids);
            if let Some(texts) = &mut self.texts {
                texts.push(text);
            }
            self.checksum.update(&(ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| self.checksum.update(&id.to_le_bytes()));
        }
        self.longest = self.longest.max(ids[0].len() + ids[1].len());
    }
}

/// A corpus being read.
struct Loading<'l> {
    pairs: &'l mut Pairs,
    filters: Option<&'l Filters>,
    encoder: &'l Encoder,
    place: &'l str,
    counts: Counts,
    /// Hashes of 128 bits: no two different pairs share one in practice.
    seen: HashSet<[u64; 2]>,
    /// Texts to encode, with the numbers of their lines.
    portion: Vec<(u64, TextPair)>,
}

impl Loading<'_> {
    fn read(&mut self, corpora: &Corpora, corpus: usize) -> Result<()> {
        let mut texts = corpora.open(corpus)?;
        while let Some(text) = texts.next().transpose()? {
            self.counts.read += 1;
            let line = texts.line();
            match text {
                Some(text) if self.passes(&text) => self.portion.push((line, text)),
                Some(_) => {}
                None if self.filters.is_some() => self.counts.long_lines += 1,
                None => {
                    let place = self.place.to_owned();
                    return Err(Error::LongLine { place, line, most: LONGEST_LINE });
                }
            }
            if self.portion.len() == PORTION {
                self.encode()?;
            }
        }
        self.encode()
    }

    /// Whether a pair passes the filters that need no tokens.
    fn passes(&mut self, text: &TextPair) -> bool {
        let Some(filters) = self.filters else { return true };
        if text.source.is_empty() || text.target.is_empty() {
            self.counts.empty += 1;
            return false;
        }
        if filters.drop_duplicates && !self.seen.insert(hash(text)) {
            self.counts.duplicates += 1;
            return false;
        }
        true
    }

    /// Encodes the collected texts. Their order does not depend on the threads.
    fn encode(&mut self) -> Result<()> {
        let (encoder, place) = (self.encoder, self.place);
        let encode = |(line, text): &(u64, TextPair)| {
            let failed = |source| Error::Encode { place: format!("{place}, line {line}"), source };
            Ok([
                encoder(Side::Source, &text.source, None).map_err(failed)?,
                encoder(Side::Target, &text.target, None).map_err(failed)?,
            ])
        };
        let encoded: Vec<Result<[Vec<u32>; 2]>> = self.portion.par_iter().map(encode).collect();
        for ((_, text), ids) in std::mem::take(&mut self.portion).iter().zip(encoded) {
            let ids = ids?;
            if self.fits(ids[0].len(), ids[1].len()) {
                self.counts.kept += 1;
                self.pairs.push(text, &ids);
            }
        }
        Ok(())
    }

    /// Whether a pair of these lengths passes the filters.
    fn fits(&mut self, source: usize, target: usize) -> bool {
        let Some(filters) = self.filters else { return true };
        let (short, long) = (source.min(target), source.max(target));
        let reason = if short < filters.minimum_tokens {
            &mut self.counts.too_short
        } else if long > filters.maximum_tokens {
            &mut self.counts.too_long
        } else if filters.maximum_ratio.is_some_and(|most| long as f64 > most * short as f64) {
            &mut self.counts.ratio
        } else {
            return true;
        };
        *reason += 1;
        false
    }
}

fn hash(text: &TextPair) -> [u64; 2] {
    [0u8, 1].map(|salt| {
        let mut hasher = DefaultHasher::new();
        (salt, &text.source, &text.target).hash(&mut hasher);
        hasher.finish()
    })
}
