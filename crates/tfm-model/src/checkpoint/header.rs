//! The header of a safetensors file: 8 bytes of length, then JSON that says where each tensor lies.
//!
//! Read here and not by the `safetensors` crate because that stops at the first fault. A property
//! test holds both to the same verdict.

use crate::fault::{Fault, shortened};
use safetensors::Dtype;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use tfm_core::Shape;
use tfm_files::lfs_pointer;

/// The format's own limit.
const LONGEST_HEADER: u64 = 100_000_000;
/// The longest JSON of one tensor's entry. Real ones are shorter than 200 bytes.
const LONGEST_ENTRY: usize = 4096;
/// The most tensors; large models have some ten thousands.
pub(super) const MOST_TENSORS: usize = 1 << 20;
/// The most faults that are listed of one file.
pub(super) const MOST_FAULTS: usize = 10_000;
/// The most extents of a shape.
const MOST_AXES: usize = 16;

/// The tensors of a safetensors file, in the order of their bytes.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// The tensors.
    pub tensors: Vec<Entry>,
}

/// Where a tensor lies in a safetensors file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its extents.
    pub shape: Shape,
    /// Its bytes, counted from the start of the file.
    pub bytes: Range<usize>,
}

impl Header {
    /// Reads the header of the file with these bytes and checks that every tensor lies in the file,
    /// that its size fits its shape, and that tensors neither overlap nor leave gaps. Memory stays
    /// in proportion to the header's true length.
    ///
    /// # Errors
    /// All faults, with `file` as the file's name. After a fault of the JSON's syntax no more is
    /// known.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Header, Vec<Fault>> {
        let json = header_json(bytes).map_err(|problem| vec![Fault::file(file, problem)])?;
        let data = 8 + json.len()..bytes.len();
        let mut reader = Reader {
            file,
            data: data.clone(),
            names: HashSet::new(),
            tensors: Vec::new(),
            promised: 0,
            faults: Vec::new(),
        };
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let parsed = deserializer.deserialize_map(&mut reader).and_then(|()| deserializer.end());
        if let Err(error) = parsed {
            reader.faults.push(Fault::file(file, format!("the header is not valid JSON: {error}")));
        }
        let Reader { mut tensors, promised, mut faults, .. } = reader;
        if promised > data.len() {
            let (have, promised) = (bytes.len(), promised.saturating_add(data.start));
            let problem = format!(
                "is incomplete: it has {have} bytes, and its header promises {promised}; get it again"
            );
            faults.insert(0, Fault::file(file, problem));
        }
        tensors.sort_by_key(|tensor| (tensor.bytes.start, tensor.bytes.end));
        if faults.is_empty() {
            check_layout(file, &tensors, data, &mut faults);
        } else {
            check_overlaps(file, &tensors, &mut faults);
        }
        shorten(file, &mut faults);
        if faults.is_empty() { Ok(Header { tensors }) } else { Err(faults) }
    }
}

/// The JSON between the length and the data.
fn header_json(bytes: &[u8]) -> Result<&[u8], String> {
    if let Some(problem) = lfs_pointer(bytes) {
        return Err(problem.into());
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!(
            "has {} bytes, which is too short for a safetensors file",
            bytes.len()
        ));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER {
        return Err(format!(
            "claims a header of {length} bytes; {LONGEST_HEADER} is the most. Is it a safetensors file?"
        ));
    }
    let json =
        usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or_else(|| {
            format!(
                "claims a header of {length} bytes, but only {} follow: it is incomplete, get it again",
                rest.len()
            )
        })?;
    if json.first() != Some(&b'{') {
        return Err("the header is not a JSON object. Is it a safetensors file?".into());
    }
    Ok(json)
}

/// Collects entries and faults as the JSON goes by.
struct Reader<'f> {
    file: &'f str,
    data: Range<usize>,
    names: HashSet<String>,
    tensors: Vec<Entry>,
    /// How many bytes of data the entries speak of.
    promised: usize,
    faults: Vec<Fault>,
}

impl<'de> Visitor<'de> for &mut Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                self.metadata(map.next_value()?);
            } else if self.faults.len() > MOST_FAULTS || self.tensors.len() >= MOST_TENSORS {
                map.next_value::<IgnoredAny>()?;
                self.too_many();
            } else {
                self.tensor(name, map.next_value()?);
            }
        }
        Ok(())
    }
}

impl Reader<'_> {
    /// The format wants texts here; nothing else in this crate reads them.
    fn metadata(&mut self, value: &RawValue) {
        let texts = |mut value: serde_json::Deserializer<_>| value.deserialize_map(Texts);
        if !self.names.insert("__metadata__".into()) {
            self.faults.push(Fault::file(self.file, "`__metadata__` occurs more than once"));
        }
        if texts(serde_json::Deserializer::from_str(value.get())).is_err() {
            self.faults.push(Fault::file(self.file, "`__metadata__` is not an object of texts"));
        }
    }

    fn too_many(&mut self) {
        if self.tensors.len() >= MOST_TENSORS && self.faults.is_empty() {
            self.faults
                .push(Fault::file(self.file, format!("has more than {MOST_TENSORS} tensors")));
        }
    }

    fn tensor(&mut self, name: String, value: &RawValue) {
        let problems = match entry(value.get()) {
            Ok((dtype, shape, offsets)) => {
                self.promised = self.promised.max(offsets.end);
                if offsets.end <= self.data.len() {
                    let start = self.data.start;
                    let bytes = start + offsets.start..start + offsets.end;
                    self.tensors.push(Entry { name: name.clone(), dtype, shape, bytes });
                }
                Vec::new()
            }
            Err(problems) => problems,
        };
        self.faults
            .extend(problems.into_iter().map(|problem| Fault::entry(self.file, &name, problem)));
        if self.names.contains(&name) {
            self.faults.push(Fault::entry(self.file, &name, "occurs more than once"));
        } else {
            self.names.insert(name);
        }
    }
}

/// An object of texts, of which nothing is kept.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, String>()?.is_some() {}
        Ok(())
    }
}

/// The fields of an entry, and which of them are there twice: readers would differ in which one
/// they take.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = (Map<String, Value>, Vec<String>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut fields, mut problems) = (Map::new(), Vec::new());
        while let Some((field, value)) = map.next_entry::<String, Value>()? {
            if fields.contains_key(&field) {
                problems.push(format!("has the field `{}` more than once", shortened(&field)));
            }
            fields.insert(field, value);
        }
        Ok((fields, problems))
    }
}

/// One tensor's element type, shape, and bytes counted from the end of the header.
fn entry(json: &str) -> Result<(Dtype, Shape, Range<usize>), Vec<String>> {
    if json.len() > LONGEST_ENTRY {
        return Err(vec![format!(
            "has an entry of {} bytes; {LONGEST_ENTRY} is the most",
            json.len()
        )]);
    }
    let Ok((object, mut problems)) =
        serde_json::Deserializer::from_str(json).deserialize_map(Fields)
    else {
        return Err(vec!["has an entry that is not a JSON object".into()]);
    };
    let dtype = dtype(&object).map_err(|problem| problems.push(problem)).ok();
    let shape = shape(&object).map_err(|problem| problems.push(problem)).ok();
    let offsets = offsets(&object).map_err(|problem| problems.push(problem)).ok();
    if let (Some(dtype), Some(shape)) = (dtype, &shape) {
        match (byte_size(dtype, shape), &offsets) {
            (None, _) => problems.push(format!("has shape {shape}, whose size overflows")),
            (Some(size), Some(offsets)) if size != offsets.len() => problems.push(format!(
                "needs {size} bytes for {} {shape}, but its offsets span {}",
                dtype_name(dtype),
                offsets.len()
            )),
            _ => {}
        }
    }
    match (dtype, shape, offsets) {
        (Some(dtype), Some(shape), Some(offsets)) if problems.is_empty() => {
            Ok((dtype, shape, offsets))
        }
        _ => Err(problems),
    }
}

/// An element type's name in files.
pub(super) fn dtype_name(dtype: Dtype) -> String {
    dtype.to_string()
}

fn dtype(object: &Map<String, Value>) -> Result<Dtype, String> {
    let value = object.get("dtype").ok_or("has no `dtype`")?;
    serde_json::from_value(value.clone()).map_err(|_| format!("has the unknown dtype {value}"))
}

fn shape(object: &Map<String, Value>) -> Result<Shape, String> {
    let value = object.get("shape").ok_or("has no `shape`")?;
    let extents =
        value.as_array().and_then(|list| list.iter().map(whole).collect::<Option<Vec<_>>>());
    let extents =
        extents.ok_or_else(|| format!("has the shape {value}, which is not a list of sizes"))?;
    if extents.len() > MOST_AXES {
        return Err(format!("has a shape of {} axes; {MOST_AXES} is the most", extents.len()));
    }
    Ok(Shape::new(&extents))
}

fn offsets(object: &Map<String, Value>) -> Result<Range<usize>, String> {
    let value = object.get("data_offsets").ok_or("has no `data_offsets`")?;
    let pair = value.as_array().map(|list| list.iter().map(whole).collect::<Vec<_>>());
    let Some(&[Some(start), Some(end)]) = pair.as_deref() else {
        return Err(format!("has the data_offsets {value}, which are not a start and an end"));
    };
    if start > end {
        return Err(format!("has data_offsets that end before they start: [{start}, {end}]"));
    }
    Ok(start..end)
}

fn whole(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

/// The bytes of a tensor, if they are whole and can be counted.
fn byte_size(dtype: Dtype, shape: &Shape) -> Option<usize> {
    // Extents beside a zero are multiplied too: whoever reads the shape may do the same.
    let nonzero: Shape = shape.iter().map(|&extent| extent.max(1)).collect();
    nonzero.checked_elements()?.checked_mul(dtype.bitsize())?;
    let bits = shape.elements() * dtype.bitsize();
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// Tensors, sorted by where they start, must fill the data from its start to its end.
fn check_layout(file: &str, tensors: &[Entry], data: Range<usize>, faults: &mut Vec<Fault>) {
    check_overlaps(file, tensors, faults);
    let mut filled = data.start;
    for tensor in tensors {
        if tensor.bytes.start > filled {
            let gap = tensor.bytes.start - filled;
            faults.push(Fault::entry(
                file,
                &tensor.name,
                format!("leaves a gap of {gap} bytes before it"),
            ));
        }
        filled = filled.max(tensor.bytes.end);
    }
    if filled < data.end {
        let extra = data.end - filled;
        faults.push(Fault::file(
            file,
            format!("has {extra} bytes after the last tensor that belong to none"),
        ));
    }
}

fn check_overlaps(file: &str, tensors: &[Entry], faults: &mut Vec<Fault>) {
    let mut last: Option<&Entry> = None;
    for tensor in tensors {
        if let Some(last) = last.filter(|last| last.bytes.end > tensor.bytes.start) {
            let shared = last.bytes.end.min(tensor.bytes.end) - tensor.bytes.start;
            let other = shortened(&last.name);
            let problem = match shared {
                0 => format!("is empty but lies inside `{other}`"),
                _ => format!("shares {shared} bytes with `{other}`"),
            };
            faults.push(Fault::entry(file, &tensor.name, problem));
        }
        if last.is_none_or(|last| tensor.bytes.end > last.bytes.end) {
            last = Some(tensor);
        }
    }
}

/// Cuts a list of faults that nobody could read.
pub(super) fn shorten(file: &str, faults: &mut Vec<Fault>) {
    if faults.len() > MOST_FAULTS {
        faults.truncate(MOST_FAULTS);
        faults.push(Fault::file(file, "has more faults, which are not listed"));
    }
}
