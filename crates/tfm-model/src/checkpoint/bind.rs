//! Which tensor of the files is which parameter of the model, and whether it fits.

use super::elements::{ElementType, to_f32};
use super::fault::{Fault, shortened};
use super::files::Tensors;
use super::header::Entry;
use super::scales;
use super::stored::StoredRows;
use crate::config::{Config, Positions};
use crate::names::{self, Parameter, parameters};
use crate::transformer::positions::sinusoids;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use tfm_core::Shape;

/// A parameter of the model and where its elements are.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// `None` for a parameter that the files leave out and that is zero.
    pub(super) place: Option<Place>,
}

#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The tensor's name in the file.
    pub(super) tensor: String,
    pub(super) file: usize,
    pub(super) element_type: ElementType,
    pub(super) bytes: Range<usize>,
    /// Of each row, where elements are integers; else none.
    pub(super) scales: Vec<f32>,
}

const SAME_MODEL: &str = "take config.json and the weights from the same model";

/// Finds every parameter of `config` among the tensors. Where files are broken, what they may hold is not
/// called missing.
pub(super) fn bind(config: &Config, tensors: &mut Tensors, faults: &mut Vec<Fault>) -> Vec<Bound> {
    let files_are_whole = faults.is_empty();
    let mut notes = std::mem::take(&mut tensors.notes);
    let mut binder = Binder {
        tensors,
        read: HashSet::new(),
        scales: HashMap::new(),
        faults,
        notes: &mut notes,
        files_are_whole,
    };
    let bound =
        parameters(config).into_iter().filter_map(|parameter| binder.bind(parameter)).collect();
    binder.note_unread(config);
    tensors.notes = notes;
    bound
}

struct Binder<'a> {
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
    fn bind(&mut self, parameter: Parameter) -> Option<Bound> {
        let Parameter { name, shape, stored, .. } = parameter;
        let found: Vec<&(usize, Entry)> =
            stored.names.iter().filter_map(|name| self.tensors.by_name.get(name)).collect();
        let Some(&(file, entry)) = found.first() else {
            if stored.optional {
                self.notes.push(format!(
                    "tensor `{}` is not in the files: zeros are used",
                    stored.names[0]
                ));
                return Some(Bound { name, shape, place: None });
            }
            self.missing(stored.names, stored.shape);
            return None;
        };
        // A tensor of several parameters is examined with the first of them.
        let mut fits = true;
        for &(file, entry) in &found {
            if self.read.insert(&entry.name) {
                fits &= self.examine(*file, entry, &stored.shape);
            } else {
                fits &= self.rows(*file, entry).is_some() && entry.shape == stored.shape;
            }
        }
        if !fits {
            return None;
        }
        for other in &found[1..] {
            self.compare(found[0], other);
        }
        let element_type = ElementType::from_dtype(entry.dtype)?;
        let row = entry.bytes.len() / stored.shape.first().copied().unwrap_or(1).max(1);
        let start = entry.bytes.start;
        let bytes = start + stored.rows.start * row..start + stored.rows.end * row;
        let scales = self.scales.get(entry.name.as_str());
        let scales = scales.map_or(Vec::new(), |scales| scales[stored.rows.clone()].to_vec());
        let place = Place { tensor: entry.name.clone(), file: *file, element_type, bytes, scales };
        Some(Bound { name, shape, place: Some(place) })
    }

    fn missing(&mut self, mut names: Vec<String>, expected: Shape) {
        let alternatives = names.split_off(1);
        let tensor = names.remove(0);
        let is_known = |fault: &Fault| matches!(fault, Fault::Missing { tensor: known, .. } if *known == tensor);
        if !self.files_are_whole || self.faults.iter().any(is_known) {
            return;
        }
        let remedy = match tensor.as_str() {
            "lm_head.weight" | "generator.weight" => {
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
    fn rows(&self, file: usize, entry: &Entry) -> Option<StoredRows<'_>> {
        let element_type = ElementType::from_dtype(entry.dtype)?;
        let scales = match element_type {
            ElementType::I8 => &self.scales.get(entry.name.as_str())?[..],
            _ => &[],
        };
        let file = &self.tensors.files[file];
        Some(StoredRows::new(file, element_type, entry.bytes.clone(), &entry.shape, scales))
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

    /// Notes the tensors that no parameter was read from.
    fn note_unread(&mut self, config: &Config) {
        let mut unread: Vec<_> = self
            .tensors
            .by_name
            .iter()
            .filter(|(name, _)| !self.read.contains(name.as_str()))
            .collect();
        unread.sort_unstable_by_key(|(name, _)| name.as_str());
        for (name, (file, entry)) in unread {
            if names::is_position_table(config, name) {
                let bytes = &self.tensors.files[*file][entry.bytes.clone()];
                self.notes.extend(compare_positions(config, entry, bytes));
            } else {
                let name = shortened(name);
                self.notes.push(format!(
                    "tensor `{name}` {} is not part of the model and is not read",
                    entry.shape
                ));
            }
        }
    }
}

/// A stored table of sinusoids should hold what is computed; it was computed once, in its own precision.
fn compare_positions(config: &Config, entry: &Entry, bytes: &[u8]) -> Option<String> {
    let (Positions::Sinusoidal(layout), Some(element_type)) =
        (config.positions, ElementType::from_dtype(entry.dtype))
    else {
        return None;
    };
    let name = &entry.name;
    let expected = Shape::from([config.max_positions, config.d_model]);
    if entry.shape != expected {
        let found = &entry.shape;
        return Some(format!(
            "tensor `{name}` is {found} but positions are {expected}; they are computed anyway"
        ));
    }
    let tolerance = match element_type {
        ElementType::F32 => 1e-3,
        ElementType::F16 => 2e-3,
        ElementType::BF16 => 8e-3,
        ElementType::I8 => return None,
    };
    let computed = sinusoids(config.max_positions, config.d_model, layout);
    let mut stored = vec![0.0; expected.elements()];
    to_f32(element_type, bytes, &mut stored);
    let differs = computed
        .iter()
        .zip(&stored)
        .any(|(computed, stored)| (computed - stored).abs() > tolerance);
    differs.then(|| {
        format!("tensor `{name}` differs from the sinusoids that are computed and used instead")
    })
}
