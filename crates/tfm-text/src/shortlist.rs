//! Vocabulary shortlists: which target tokens a translation of given source tokens may need.
//!
//! A translation of a sentence uses a few hundred of the vocabulary's tokens at most, and the
//! source tells which: the frequent translations of its tokens, and tokens that are frequent
//! anyway. A decoder that computes only these saves most of its output projection, which is much of
//! the work where the layers are small.
//!
//! Source: L'Hostis et al., "Vocabulary Selection Strategies for NMT" (2016), section 2, for the
//! choice by word translations; P. F. Brown et al., "The Mathematics of Statistical Machine
//! Translation: Parameter Estimation" (1993), section 4.2 (Model 1), for the translations
//! ([`ShortlistLearner`]).

mod file;
mod learner;
mod model1;

use sha2::{Digest, Sha256};

use crate::{Error, Tokenizer};

pub use learner::{ShortlistLearner, ShortlistOptions};

/// For each source token the target tokens that translate it, and the target tokens that every
/// translation may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortlist {
    /// Its name in messages: the file, if it was read from one.
    name: String,
    vocabularies: Vocabularies,
    /// Tokens of every list, ascending.
    frequent: Vec<u32>,
    /// For each source token the end of its part of `targets`.
    ends: Vec<u32>,
    /// Each source token's target tokens, ascending.
    targets: Vec<u32>,
}

/// The vocabularies that the token ids belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vocabularies {
    source: u32,
    target: u32,
    /// SHA-256 of all tokens.
    fingerprint: [u8; 32],
}

impl Vocabularies {
    fn of(tokenizer: &Tokenizer) -> Self {
        let (source, target) = (tokenizer.source_vocab_size(), tokenizer.target_vocab_size());
        let mut hash = Sha256::new();
        let mut add = |token: Option<std::borrow::Cow<'_, str>>| {
            // An absent token differs from an empty one.
            let token = token.as_deref();
            hash.update(token.map_or(u64::MAX, |token| token.len() as u64).to_le_bytes());
            hash.update(token.unwrap_or_default());
        };
        (0..source as u32).for_each(|id| add(tokenizer.source_token(id)));
        (0..target as u32).for_each(|id| add(tokenizer.target_token(id)));
        let (source, target) = (source as u32, target as u32);
        Vocabularies { source, target, fingerprint: hash.finalize().into() }
    }
}

impl Shortlist {
    /// A shortlist of given lists: one for each source token of `tokenizer`, in the order of ids,
    /// and the tokens that every list has.
    ///
    /// # Errors
    /// [`Error::Option`] for another number of lists than there are source tokens, or more than 2³²
    /// tokens in all; [`Error::UnknownId`] for a token that the target vocabulary lacks.
    pub fn new(
        tokenizer: &Tokenizer,
        mut frequent: Vec<u32>,
        lists: Vec<Vec<u32>>,
    ) -> Result<Self, Error> {
        let vocabularies = Vocabularies::of(tokenizer);
        if lists.len() != vocabularies.source as usize {
            let (found, wanted) = (lists.len(), vocabularies.source);
            let problem = format!("{found} lists for {wanted} source tokens: give each token one");
            return Err(Error::Option { option: "shortlist", problem });
        }
        let size = tokenizer.target_vocab_size();
        let known = |&id: &u32| if (id as usize) < size { Ok(()) } else { Err(id) };
        let all = lists.iter().flatten().chain(&frequent);
        all.into_iter().try_for_each(known).map_err(|id| Error::UnknownId { id, size })?;
        sort(&mut frequent);
        let (mut ends, mut targets) = (Vec::with_capacity(lists.len()), Vec::new());
        for mut list in lists {
            sort(&mut list);
            targets.append(&mut list);
            ends.push(u32::try_from(targets.len()).map_err(|_| Error::Option {
                option: "shortlist",
                problem: "more than 4 billion tokens: keep fewer for each source token".into(),
            })?);
        }
        Ok(Shortlist { name: "the shortlist".into(), vocabularies, frequent, ends, targets })
    }

    /// Checks that the token ids belong to this tokeniser.
    ///
    /// # Errors
    /// [`Error::ForeignShortlist`].
    pub fn check(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        let model = Vocabularies::of(tokenizer);
        if model == self.vocabularies {
            return Ok(());
        }
        let counts =
            |v: &Vocabularies| format!("{} source and {} target tokens", v.source, v.target);
        let (listed, known) = (counts(&self.vocabularies), counts(&model));
        let fault = if listed == known {
            format!("both have {known}, but not the same ones")
        } else {
            format!("it is for {listed}, the model has {known}")
        };
        Err(Error::ForeignShortlist { file: self.name.clone(), fault })
    }

    /// The target tokens for a sentence of these source tokens, ascending: theirs, the frequent
    /// ones, and those of `always`. Source tokens that the vocabulary lacks have none.
    #[must_use]
    pub fn tokens(&self, source: &[u32], always: &[u32]) -> Vec<u32> {
        let mut tokens = [&self.frequent[..], always].concat();
        let mut source = source.to_vec();
        sort(&mut source);
        source.iter().for_each(|&token| tokens.extend_from_slice(self.of(token)));
        sort(&mut tokens);
        tokens
    }

    /// The translations of one source token, ascending.
    #[must_use]
    pub fn of(&self, source: u32) -> &[u32] {
        let source = source as usize;
        let Some(&end) = self.ends.get(source) else { return &[] };
        let start = source.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.targets[start as usize..end as usize]
    }

    /// The tokens of every list, ascending.
    #[must_use]
    pub fn frequent(&self) -> &[u32] {
        &self.frequent
    }

    /// Its name in messages: the file, if it was read from one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Sorts tokens and leaves each once.
fn sort(tokens: &mut Vec<u32>) {
    tokens.sort_unstable();
    tokens.dedup();
}
