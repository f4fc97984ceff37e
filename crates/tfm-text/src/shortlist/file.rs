//! The file of a shortlist.
//!
//! | bytes | what, little-endian |
//! |---|---|
//! | 8 | `tfmshort` |
//! | 4 | the version, 1 |
//! | 4 × 4 | source tokens s, target tokens, frequent tokens f, tokens of all lists t |
//! | 32 | SHA-256 of the vocabularies |
//! | 4 f | the frequent tokens, ascending |
//! | 4 s | how many tokens each source token's list has |
//! | 4 t | the lists, each ascending |
//! | 32 | SHA-256 of all that stands before |

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Shortlist, Vocabularies};
use crate::Error;

const MAGIC: &[u8; 8] = b"tfmshort";
const VERSION: u32 = 1;
const HEADER: usize = 8 + 5 * 4 + HASH;
const HASH: usize = 32;
const REMEDY: &str = "write it again with `tfm shortlist`";

impl Shortlist {
    /// Reads the file that [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Malformed`], naming the file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let io = |source| Error::Io { file: name.clone(), source };
        let file = File::open(path).map_err(io)?;
        parse(BufReader::new(file), &name)
    }

    /// Reads a shortlist from memory; messages call it `name`.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self, Error> {
        parse(bytes, name)
    }

    /// The bytes of its file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Vocabularies { source, target, fingerprint } = self.vocabularies;
        let mut bytes = MAGIC.to_vec();
        let (frequent, targets) = (self.frequent.len() as u32, self.targets.len() as u32);
        put(&mut bytes, [VERSION, source, target, frequent, targets]);
        bytes.extend(fingerprint);
        put(&mut bytes, self.frequent.iter().copied());
        let starts = std::iter::once(&0).chain(&self.ends);
        put(&mut bytes, starts.zip(&self.ends).map(|(start, end)| end - start));
        put(&mut bytes, self.targets.iter().copied());
        let hash = Sha256::digest(&bytes);
        bytes.extend(hash);
        bytes
    }

    /// Writes the file, completely or not at all.
    ///
    /// # Errors
    /// [`Error::Files`], naming the file.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        Ok(tfm_files::write_whole(path, &self.to_bytes())?)
    }
}

fn put(bytes: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>) {
    numbers.into_iter().for_each(|number| bytes.extend(number.to_le_bytes()));
}

/// Takes numbers off the start of `bytes`.
fn take(bytes: &mut &[u8], count: usize) -> Vec<u32> {
    let (numbers, rest) = bytes.split_at(4 * count);
    *bytes = rest;
    numbers.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number)).collect()
}

/// Reads at most as much as the header says, and allocates only for bytes that were read.
fn parse(mut reader: impl Read, name: &str) -> Result<Shortlist, Error> {
    let malformed = |fault: String| Error::Malformed {
        file: name.into(),
        format: "shortlist",
        fault: format!("{fault}; {REMEDY}"),
    };
    let io = |source| Error::Io { file: name.into(), source };
    let mut bytes = Vec::new();
    reader.by_ref().take(HEADER as u64).read_to_end(&mut bytes).map_err(io)?;
    if !bytes.starts_with(MAGIC) {
        return Err(malformed("it does not begin as one".into()));
    }
    if bytes.len() < HEADER {
        return Err(malformed(format!("it ends after {} bytes", bytes.len())));
    }
    let [version, source, target, frequent, targets] =
        take(&mut &bytes[MAGIC.len()..], 5).try_into().expect("five were asked for");
    if version != VERSION {
        return Err(malformed(format!("its version is {version}, this program reads {VERSION}")));
    }
    let fingerprint = bytes[HEADER - HASH..].try_into().expect("the header ends with the hash");
    let numbers = [frequent, source, targets].map(u64::from).iter().sum::<u64>();
    let expected = HEADER as u64 + 4 * numbers + HASH as u64;
    reader.take(expected + 1 - HEADER as u64).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 != expected {
        let what = if (bytes.len() as u64) < expected { "shorter" } else { "longer" };
        return Err(malformed(format!("it is {what} than the {expected} bytes that it announces")));
    }
    let (content, hash) = bytes.split_at(bytes.len() - HASH);
    if *Sha256::digest(content) != *hash {
        return Err(malformed("it is damaged: its hash does not fit its content".into()));
    }
    let mut rest = &content[HEADER..];
    let frequent = take(&mut rest, frequent as usize);
    let lengths = take(&mut rest, source as usize);
    let targets = take(&mut rest, targets as usize);
    let mut end = 0;
    let mut lists = vec![&frequent[..]];
    let mut ends = Vec::with_capacity(lengths.len());
    for (token, length) in lengths.iter().enumerate() {
        let start = end;
        end += u64::from(*length);
        let list = targets.get(start as usize..end as usize).ok_or_else(|| {
            malformed(format!("the list of source token {token} ends after the lists"))
        })?;
        lists.push(list);
        ends.push(end as u32); // no more than there are targets
    }
    if end != targets.len() as u64 {
        return Err(malformed(format!("{} tokens are in no list", targets.len() as u64 - end)));
    }
    for list in lists {
        if !list.is_sorted_by(|a, b| a < b) {
            return Err(malformed("a list is not in ascending order".into()));
        }
        if let Some(token) = list.last().filter(|token| **token >= target) {
            return Err(malformed(format!("token {token} of {target} target tokens")));
        }
    }
    let vocabularies = Vocabularies { source, target, fingerprint };
    Ok(Shortlist { name: name.into(), vocabularies, frequent, ends, targets })
}
