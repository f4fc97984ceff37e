//! Which tensor of the files is which parameter of the model, and whether it fits.

use super::elements::ElementType;
use super::file_rows::FileRows;
use super::files::Tensors;
use super::header::Entry;
use super::scales;
use crate::config::{Config, PositionKind};
use crate::description::{ComputedTable, Description, Parameter};
use crate::families::{Family, TensorSlice};
use crate::fault::{Fault, shortened};
use crate::roles::{OUTPUT, Side};
use crate::transformer::positions::computed;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use tfm_core::{RowSource, Shape};

/// A parameter of the model and where its elements are.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// `None` for a parameter that the files leave out and that is zero.
    pub(super) location: Option<Location>,
}

/// Where the elements of a parameter lie.
#[derive(Debug, Clone)]
pub(super) struct Location {
    /// The tensor's name in the file.
    pub(super) tensor: String,
    pub(super) file: usize,
    pub(super) element_type: ElementType,
    pub(super) bytes: Range<usize>,
    /// Of each row, where elements are integers; else none.
    pub(super) scales: Vec<f32>,
}

/// So many tensors that are not read are listed.
const MOST_NOTES: usize = 20;

const SAME_MODEL: &str = "take config.json and the weights from the same model";

/// Finds every parameter of the model among the tensors. Where files are broken, what they may hold
/// is not called missing.
///
/// Where a file holds other positions than the sinusoids that would be computed, the description is
/// changed to a model with this table, as `transformers` has it.
pub(super) fn bind(
    description: &mut Description,
    tensors: &mut Tensors,
    faults: &mut Vec<Fault>,
) -> Vec<Bound> {
    let files_are_whole = faults.is_empty();
    let mut notes = std::mem::take(&mut tensors.notes);
    let family = description.family;
    let has_prefix = tensors.by_name.keys().any(|name| family.base_name(name).is_some());
    let mut binder = Binder {
        base_of: (!has_prefix).then_some(family),
        tensors,
        read: HashSet::new(),
        scales: HashMap::new(),
        faults,
        notes: &mut notes,
        files_are_whole,
    };
    for table in description.computed_tables() {
        if binder.differs(&description.config, &table) {
            let Config { source, target, .. } = &mut description.config;
            let embedding = if table.side == Side::Encoder { source } else { target };
            let positions = embedding.positions.iter_mut();
            positions.for_each(|table| table.kind = PositionKind::Learned { offset: 0 });
        }
    }
    let parameters = description.parameters().into_iter();
    let bound = parameters.filter_map(|parameter| binder.bind(parameter)).collect();
    binder.note_unread();
    tensors.notes = notes;
    bound
}

struct Binder<'a> {
    /// The family, if the files were saved from the model without its output, which changes names.
    base_of: Option<&'static Family>,
    tensors: &'a Tensors,
    /// Tensors of the files that some parameter was read from.
    read: HashSet<&'a str>,
    /// The scales of those that hold integers.
    scales: HashMap<&'a str, Vec<f32>>,
    faults: &'a mut Vec<Fault>,
    notes: &'a mut Vec<String>,
    files_are_whole: bool,
}

impl<'a> Binder<'a> {
    /// The tensor of that name, with the number of its file.
    fn find(&self, name: &str) -> Option<&'a (usize, Entry)> {
        let base = self.base_of.and_then(|family| family.base_name(name));
        self.tensors.by_name.get(base.unwrap_or(name))
    }

    fn bind(&mut self, parameter: Parameter) -> Option<Bound> {
        let Parameter { name, shape, slice, .. } = parameter;
        let found: Vec<&(usize, Entry)> =
            slice.names.iter().filter_map(|name| self.find(name)).collect();
        let Some(&(file, entry)) = found.first() else {
            if slice.optional {
                self.notes.push(format!(
                    "tensor `{}` is not in the files: zeros are used",
                    slice.names[0]
                ));
                return Some(Bound { name, shape, location: None });
            }
            self.missing(&name, slice);
            return None;
        };
        // A tensor of several parameters is examined with the first of them.
        let mut fits = true;
        for &(file, entry) in &found {
            if self.read.insert(&entry.name) {
                fits &= self.examine(*file, entry, &slice.shape);
            } else {
                fits &= self.rows(*file, entry).is_some() && entry.shape == slice.shape;
            }
        }
        if !fits {
            return None;
        }
        for other in &found[1..] {
            self.compare(found[0], other);
        }
        let element_type = ElementType::from_dtype(entry.dtype)?;
        let row = entry.bytes.len() / slice.shape.first().copied().unwrap_or(1).max(1);
        let start = entry.bytes.start;
        let bytes = start + slice.rows.start * row..start + slice.rows.end * row;
        let scales = self.scales.get(entry.name.as_str());
        let scales = scales.map_or(Vec::new(), |scales| scales[slice.rows.clone()].to_vec());
        let location =
            Location { tensor: entry.name.clone(), file: *file, element_type, bytes, scales };
        Some(Bound { name, shape, location: Some(location) })
    }

    fn missing(&mut self, parameter: &str, slice: TensorSlice) {
        let TensorSlice { mut names, shape: expected, .. } = slice;
        let alternatives = names.split_off(1);
        let tensor = names.remove(0);
        let is_known = |fault: &Fault| matches!(fault, Fault::Missing { tensor: known, .. } if *known == tensor);
        if !self.files_are_whole || self.faults.iter().any(is_known) {
            return;
        }
        let remedy = match parameter {
            OUTPUT => {
                "if the model ties it to the embeddings, config.json should say `tie_word_embeddings`: true"
            }
            _ => SAME_MODEL,
        };
        self.faults.push(Fault::Missing { tensor, alternatives, expected, remedy });
    }

    /// Whether a tensor has the right type, shape, and numbers in it.
    fn examine(&mut self, file: usize, entry: &'a Entry, expected: &Shape) -> bool {
        let tensor = entry.name.clone();
        let mut fits = true;
        if entry.shape != *expected {
            let (expected, found) = (expected.clone(), entry.shape.clone());
            self.faults.push(Fault::Mismatch {
                tensor: tensor.clone(),
                expected,
                found,
                remedy: SAME_MODEL,
            });
            fits = false;
        }
        let element_type = ElementType::from_dtype(entry.dtype);
        if element_type.is_none() || element_type == Some(ElementType::I8) && entry.shape.len() != 2
        {
            self.faults.push(Fault::ElementType { tensor, found: entry.dtype.to_string() });
            return false;
        }
        if element_type == Some(ElementType::I8) {
            match scales::read(self.tensors, file, entry) {
                Ok((name, scales)) => {
                    self.read.insert(name);
                    self.scales.insert(&entry.name, scales);
                }
                Err(fault) => self.faults.push(fault),
            }
        }
        let found = self.rows(file, entry).map(|rows| rows.not_finite());
        let Some((nan, infinite)) = found else { return false };
        if nan + infinite > 0 {
            let remedy = "the file is damaged, or training had diverged; get it again";
            let elements = entry.shape.elements();
            self.faults.push(Fault::NotFinite { tensor, nan, infinite, elements, remedy });
        }
        fits
    }

    /// What a tensor holds, if that is known: of integers when their scales have been read.
    fn rows(&self, file: usize, entry: &Entry) -> Option<FileRows<'_>> {
        let element_type = ElementType::from_dtype(entry.dtype)?;
        let scales = match element_type {
            ElementType::I8 => &self.scales.get(entry.name.as_str())?[..],
            _ => &[],
        };
        let file = &self.tensors.files[file];
        Some(FileRows::new(file, element_type, entry.bytes.clone(), &entry.shape, scales))
    }

    /// Tied tensors must hold the same numbers.
    fn compare(&mut self, first: &(usize, Entry), second: &(usize, Entry)) {
        let [a, b] = [first, second].map(|(file, entry)| self.rows(*file, entry));
        if a.zip(b).is_none_or(|(a, b)| a.same(&b)) {
            return;
        }
        let remedy = "if the model does not tie them, config.json should say so in \
                      `tie_word_embeddings` or `share_encoder_decoder_embeddings`";
        let (first, second) = (first.1.name.clone(), second.1.name.clone());
        self.faults.push(Fault::Conflict { first, second, remedy });
    }

    /// Whether the files have another table than the one that would be computed.
    fn differs(&mut self, config: &Config, table: &ComputedTable) -> bool {
        let entry = table.file_names.iter().find_map(|name| self.find(name));
        let Some((file, entry)) = entry else { return false };
        self.read.insert(&entry.name);
        if !self.examine(*file, entry, &table.shape) {
            return false;
        }
        let Some(rows) = self.rows(*file, entry) else { return false };
        let Some(tensor) = computed(config, &table.name) else { return false };
        let computed = tensor.as_f32().unwrap_or_default();
        let mut found = vec![0.0; computed.len()];
        rows.read(0, &mut found);
        drop(rows);
        // It was computed once, in its own precision.
        let tolerance = match ElementType::from_dtype(entry.dtype) {
            Some(ElementType::F64 | ElementType::F32) => 1e-3,
            Some(ElementType::F16) => 2e-3,
            _ => 8e-3,
        };
        let differs = computed.iter().zip(&found).any(|(a, b)| (a - b).abs() > tolerance);
        if differs {
            self.notes.push(format!(
                "tensor `{}` holds other positions than the sinusoids of its family: they are used",
                entry.name
            ));
        }
        differs
    }

    /// Notes the tensors that no parameter was read from.
    fn note_unread(&mut self) {
        let mut unread: Vec<_> = self
            .tensors
            .by_name
            .iter()
            .filter(|(name, _)| !self.read.contains(name.as_str()))
            .collect();
        unread.sort_unstable_by_key(|(name, _)| name.as_str());
        if let Some(more) = unread.len().checked_sub(MOST_NOTES).filter(|&more| more > 0) {
            self.notes.push(format!(
                "{} tensors are not part of the model and are not read; {more} of them are not \
                 listed here",
                unread.len()
            ));
            unread.truncate(MOST_NOTES);
        }
        for (name, (_, entry)) in unread {
            let name = shortened(name);
            self.notes.push(format!(
                "tensor `{name}` {} is not part of the model and is not read",
                entry.shape
            ));
        }
    }
}
