//! `model.safetensors.index.json`: which file of a sharded model holds which tensor.

use super::header::{MOST_FAULTS, MOST_TENSORS, shorten};
use crate::fault::{Fault, shortened};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// The largest index that is read. Those of models with ten thousands of tensors have a few MB.
pub(super) const LARGEST_INDEX: u64 = 1 << 26;
const MOST_SHARDS: usize = 1 << 12;

/// The shards of a model, by file name, each with the tensors that the index places in it.
#[derive(Debug, Default)]
pub struct Index {
    /// The tensors of each shard, by the shard's file name.
    pub shards: BTreeMap<String, Vec<String>>,
}

impl Index {
    /// Parses an index.
    ///
    /// # Errors
    /// All faults, with `file` as the index's name: broken JSON, tensors named twice, shards that
    /// are not plain names of files beside it.
    pub fn read(file: &str, json: &[u8]) -> Result<Index, Vec<Fault>> {
        let mut reader =
            Reader { file, index: Index::default(), names: HashSet::new(), faults: Vec::new() };
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let mut has_map = false;
        let parsed = (&mut deserializer)
            .deserialize_map(Whole { reader: &mut reader, has_map: &mut has_map })
            .and_then(|()| deserializer.end());
        match parsed {
            Err(error) => {
                reader.faults.push(Fault::file(file, format!("is not a valid index: {error}")))
            }
            Ok(()) if !has_map => reader.faults.push(Fault::file(file, "has no `weight_map`")),
            Ok(()) => {}
        }
        let Reader { index, mut faults, .. } = reader;
        for shard in index.shards.keys() {
            if let Some(problem) = unfit_name(shard) {
                let shard = shortened(shard);
                faults
                    .push(Fault::file(file, format!("names the shard `{shard}`, which {problem}")));
            }
        }
        shorten(file, &mut faults);
        if faults.is_empty() { Ok(index) } else { Err(faults) }
    }
}

/// Why a shard's name is refused: only a file beside the index may be read, on any system.
fn unfit_name(name: &str) -> Option<&'static str> {
    if name.contains(['/', '\\', ':', '\0']) || name == ".." {
        Some("leaves the model's folder; shards must lie beside their index")
    } else if !name.ends_with(".safetensors") {
        Some("is no .safetensors file")
    } else {
        None
    }
}

struct Reader<'f> {
    file: &'f str,
    index: Index,
    /// The tensors so far, to find those named twice.
    names: HashSet<String>,
    faults: Vec<Fault>,
}

/// The index as a whole.
struct Whole<'r, 'f> {
    reader: &'r mut Reader<'f>,
    has_map: &'r mut bool,
}

impl<'de> Visitor<'de> for Whole<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a `weight_map`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "weight_map" {
                *self.has_map = true;
                map.next_value_seed(&mut *self.reader)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors and their files")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((tensor, shard)) = map.next_entry::<String, &RawValue>()? {
            if self.names.len() >= MOST_TENSORS || self.faults.len() > MOST_FAULTS {
                return Err(serde::de::Error::custom("it names too many tensors"));
            }
            match serde_json::from_str::<String>(shard.get()) {
                Ok(shard) => self.place(tensor, shard)?,
                Err(_) => self.faults.push(Fault::entry(self.file, &tensor, "has no file's name")),
            }
        }
        Ok(())
    }
}

impl Reader<'_> {
    fn place<E: serde::de::Error>(&mut self, tensor: String, shard: String) -> Result<(), E> {
        if !self.names.insert(tensor.clone()) {
            self.faults.push(Fault::entry(self.file, &tensor, "is named more than once"));
        }
        if self.index.shards.len() >= MOST_SHARDS && !self.index.shards.contains_key(&shard) {
            return Err(E::custom("it names too many shards"));
        }
        self.index.shards.entry(shard).or_default().push(tensor);
        Ok(())
    }
}
