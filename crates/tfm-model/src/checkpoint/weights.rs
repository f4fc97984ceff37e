//! The tensors of a model written to a file, some rows at a time.

use super::elements::{ElementType, from_f32, not_finite};
use super::scales;
use crate::description::{Description, Parameter};
use crate::families::TensorSlice;
use crate::fault::Fault;
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use tfm_core::fused::quantized;
use tfm_core::{MemoryRows, ParameterSource, RowSource, Shape, TensorData};

/// Elements that are converted at a time, at least a row of them.
const AT_ONCE: usize = 1 << 16;

/// Writes all tensors; gives back what is wrong with them. Weights are stored as `element_type`;
/// where those are integers, what is no weight of a product or an embedding is F32.
pub(super) fn write(
    file: &File,
    description: &Description,
    source: &dyn ParameterSource,
    element_type: ElementType,
) -> io::Result<Vec<Fault>> {
    let (tensors, faults) = tensors(description, source, element_type);
    let (header, starts, length) = header(&tensors);
    // Rows that are no parameter's are zero, as a file is where nothing is written.
    file.set_len((header.len() + length) as u64)?;
    let mut out = BufWriter::new(file);
    out.write_all(&header)?;
    let mut writer = Writer { out, source, faults };
    for (name, tensor) in &tensors {
        let scales = writer.tensor(name, tensor, header.len() + starts[name])?;
        if tensor.element_type == ElementType::I8 {
            writer.seek(header.len() + starts[&scales::name_of(name)])?;
            writer.floats(ElementType::F32, &scales)?;
        }
    }
    writer.out.flush()?;
    Ok(writer.faults)
}

/// A tensor to write: its type and shape, and the parameters that lie in it one upon another.
struct Tensor {
    element_type: ElementType,
    shape: Shape,
    parts: Vec<(String, Range<usize>)>,
}

/// The tensors of the file, by name. What files may leave out is left out where it is zero.
fn tensors(
    description: &Description,
    source: &dyn ParameterSource,
    element_type: ElementType,
) -> (BTreeMap<String, Tensor>, Vec<Fault>) {
    let (mut tensors, mut faults) = (BTreeMap::<String, Tensor>::new(), Vec::new());
    for Parameter { name: parameter, shape, slice, is_weight } in description.parameters() {
        let TensorSlice { names, written, shape: whole, rows, optional } = slice;
        if optional {
            match load(source, &parameter, shape.elements()) {
                Ok(values) if values.iter().all(|&value| value == 0.0) => continue,
                Ok(_) => {}
                // Said once, here; the tensor is not written.
                Err(problem) => {
                    faults.push(Fault::Parameter { name: parameter, problem });
                    continue;
                }
            }
        }
        let element_type = match element_type {
            ElementType::I8 if !is_weight => ElementType::F32,
            other => other,
        };
        for name in &names[..written] {
            let new = || Tensor { element_type, shape: whole.clone(), parts: Vec::new() };
            let tensor = tensors.entry(name.clone()).or_insert_with(new);
            tensor.parts.push((parameter.clone(), rows.clone()));
        }
    }
    for tensor in tensors.values_mut() {
        tensor.parts.sort_by_key(|(_, rows)| rows.start);
    }
    (tensors, faults)
}

/// A parameter's elements, or what is wrong with it.
fn load(source: &dyn ParameterSource, name: &str, elements: usize) -> Result<Vec<f32>, String> {
    let tensor = source.load(name)?;
    let (shape, dtype) = (tensor.shape().clone(), tensor.dtype());
    match tensor.into_data() {
        TensorData::F32(values) if values.len() == elements => Ok(values),
        TensorData::F32(_) => Err(unfit(&shape, elements)),
        _ => Err(format!("is {dtype}, not f32")),
    }
}

/// Hands the rows of a parameter `[n, k]` to `take`, or says what is wrong with it.
fn rows_of<R>(
    source: &dyn ParameterSource,
    name: &str,
    [n, k]: [usize; 2],
    take: impl FnOnce(&dyn RowSource) -> R,
) -> Result<R, String> {
    match source.rows(name)? {
        Some(rows) if rows.extents() == [n, k] => Ok(take(&*rows)),
        Some(rows) => Err(unfit(&rows.extents().into(), n * k)),
        None => Ok(take(&MemoryRows { values: &load(source, name, n * k)?, columns: k })),
    }
}

fn unfit(shape: &Shape, elements: usize) -> String {
    format!("has the shape {shape}, but {elements} elements are expected")
}

/// The length and the JSON that say where each tensor lies, filled up so that data starts at 8
/// bytes, and where in the data each starts, and the data's length. Those with larger elements come
/// first, so that each lies at a multiple of them.
fn header(tensors: &BTreeMap<String, Tensor>) -> (Vec<u8>, BTreeMap<String, usize>, usize) {
    let mut entries: Vec<(String, ElementType, Shape)> = Vec::new();
    for (name, Tensor { element_type, shape, .. }) in tensors {
        entries.push((name.clone(), *element_type, shape.clone()));
        if *element_type == ElementType::I8 {
            entries.push((scales::name_of(name), ElementType::F32, scales::shape_of(shape)));
        }
    }
    entries.sort_by_key(|(_, element_type, _)| Reverse(element_type.size()));
    let (mut object, mut starts) = (Map::new(), BTreeMap::new());
    // `transformers` asks for it.
    object.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut start = 0;
    for (name, element_type, shape) in entries {
        let end = start + shape.elements() * element_type.size();
        let dtype = element_type.dtype().to_string();
        object.insert(
            name.clone(),
            json!({ "dtype": dtype, "shape": shape[..], "data_offsets": [start, end] }),
        );
        starts.insert(name, start);
        start = end;
    }
    let mut json = Value::Object(object).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    ([&(json.len() as u64).to_le_bytes(), &json[..]].concat(), starts, start)
}

/// Writes tensors at their places and collects what is wrong with them.
struct Writer<'a> {
    out: BufWriter<&'a File>,
    source: &'a dyn ParameterSource,
    faults: Vec<Fault>,
}

/// What is not finite among elements.
#[derive(Default)]
struct Found {
    nan: usize,
    infinite: usize,
}

impl Writer<'_> {
    fn seek(&mut self, place: usize) -> io::Result<u64> {
        self.out.seek(SeekFrom::Start(place as u64))
    }

    /// Writes a tensor at a place; its scales, if it holds integers, are returned.
    fn tensor(&mut self, name: &str, tensor: &Tensor, place: usize) -> io::Result<Vec<f32>> {
        let Tensor { element_type, shape, parts } = tensor;
        let n = shape.first().copied().unwrap_or(1);
        let k = shape.elements().checked_div(n).unwrap_or(0);
        let (mut scales, mut found) = (vec![0.0; n], Found::default());
        for (parameter, rows) in parts {
            self.seek(place + rows.start * k * element_type.size())?;
            let (source, scales) = (self.source, &mut scales[rows.clone()]);
            let written = rows_of(source, parameter, [rows.len(), k], |rows| {
                self.rows(*element_type, rows, scales, &mut found)
            });
            match written {
                Ok(written) => written?,
                Err(problem) => {
                    self.faults.push(Fault::Parameter { name: parameter.clone(), problem });
                }
            }
        }
        if found.nan + found.infinite > 0 {
            let remedy = match element_type {
                ElementType::F16 => "f16 ends at 65504: store bf16 or f32",
                _ => "training had diverged: go back to an earlier checkpoint",
            };
            let Found { nan, infinite } = found;
            let (tensor, elements) = (name.into(), shape.elements());
            self.faults.push(Fault::NotFinite { tensor, nan, infinite, elements, remedy });
        }
        Ok(scales)
    }

    /// Writes rows; where they are integers, their scales go to `scales`.
    fn rows(
        &mut self,
        element_type: ElementType,
        source: &dyn RowSource,
        scales: &mut [f32],
        found: &mut Found,
    ) -> io::Result<()> {
        let [n, k] = source.extents();
        let at_once = (AT_ONCE / k.max(1)).clamp(1, n.max(1));
        let (mut values, mut bytes) = (vec![0.0; at_once * k], Vec::new());
        let mut integers = vec![0; if element_type == ElementType::I8 { at_once * k } else { 0 }];
        for first in (0..n).step_by(at_once) {
            let rows = at_once.min(n - first);
            let values = &mut values[..rows * k];
            if element_type != ElementType::I8 {
                source.read(first, values);
                bytes.clear();
                from_f32(element_type, values, &mut bytes);
                let (nan, infinite) = not_finite(element_type, &bytes);
                found.add(nan, infinite);
                self.out.write_all(&bytes)?;
                continue;
            }
            let (integers, scales) = (&mut integers[..rows * k], &mut scales[first..first + rows]);
            if source.is_quantized() {
                source.read_quantized(first, integers, scales);
            } else {
                source.read(first, values);
                for (i, scale) in scales.iter_mut().enumerate() {
                    let (row, integers) = (&values[i * k..][..k], &mut integers[i * k..][..k]);
                    *scale = quantized::quantize(row, integers);
                    let nan = row.iter().filter(|value| value.is_nan()).count();
                    let infinite = row.iter().filter(|value| value.is_infinite()).count();
                    // Two neighbours may also sum to more than there are numbers for.
                    let too_large = nan + infinite == 0 && !scales::is_scale(*scale);
                    found.add(nan, infinite + usize::from(too_large));
                }
            }
            bytes.clear();
            bytes.extend(integers.iter().map(|&integer| integer as u8));
            self.out.write_all(&bytes)?;
        }
        Ok(())
    }

    fn floats(&mut self, element_type: ElementType, values: &[f32]) -> io::Result<()> {
        let mut bytes = Vec::new();
        from_f32(element_type, values, &mut bytes);
        self.out.write_all(&bytes)
    }
}

impl Found {
    fn add(&mut self, nan: usize, infinite: usize) {
        self.nan += nan;
        self.infinite += infinite;
    }
}
