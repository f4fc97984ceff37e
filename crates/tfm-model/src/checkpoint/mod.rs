//! Checkpoints: a model's files in Hugging Face's layout, read with every fault listed, and
//! written.

mod bind;
mod elements;
mod export;
mod file_rows;
mod files;
mod header;
mod index;
mod mean;
mod mmap;
mod scales;
mod weights;

pub use elements::ElementType;
pub use export::export;
pub use files::FileBytes;
pub use header::{Entry, Header};
pub use index::Index;
pub use mean::Mean;

use crate::config::Config;
use crate::description::Description;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::generation::GenerationOptions;
use crate::names::canonical;
use bind::{Bound, Location};
use file_rows::FileRows;
use files::Tensors;
use std::collections::HashMap;
use std::path::Path;
use tfm_core::{ParameterSource, RowSource, Shape, Tensor};

/// A model's description and its weights, which stay in the files and are converted when asked for.
#[derive(Debug)]
pub struct Checkpoint {
    description: Description,
    parameters: Vec<Bound>,
    by_name: HashMap<String, usize>,
    tensors: Tensors,
}

/// A parameter of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct ParameterInfo<'a> {
    /// Its name, as graphs use it.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a Shape,
    /// The tensor of the files that it is, or is a part of, and its element type; `None` if the
    /// files leave it out and it is zero.
    pub stored: Option<(&'a str, ElementType)>,
}

impl Checkpoint {
    /// Opens the model in a folder: `config.json`, `generation_config.json` if there is one, and
    /// `model.safetensors` or `model.safetensors.index.json` with its shards, memory-mapped.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with every fault of every file.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let place = folder.display().to_string();
        let mut faults = Vec::new();
        match std::fs::metadata(folder) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let problem = "is a file; give the folder that holds config.json and the weights";
                return Err(Error::Checkpoint {
                    faults: vec![Fault::file(&place, problem)],
                    place,
                });
            }
            Err(error) => {
                let problem = format!("cannot be opened: {error}");
                return Err(Error::Checkpoint {
                    faults: vec![Fault::file(&place, problem)],
                    place,
                });
            }
        }
        let (config, generation) = files::read_config(folder, &mut faults);
        let tensors = Tensors::open(folder, &mut faults);
        Checkpoint::assemble(place, config.as_deref(), generation.as_deref(), tensors, faults)
    }

    /// The model in these bytes: `config.json`, `generation_config.json`, and `model.safetensors`.
    /// `place` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with every fault.
    pub fn from_files(
        place: &str,
        config: &[u8],
        generation: Option<&[u8]>,
        weights: impl Into<FileBytes>,
    ) -> Result<Self> {
        let (mut tensors, mut faults) = (Tensors::default(), Vec::new());
        tensors.add(files::WEIGHTS, weights.into(), None, &mut faults);
        Checkpoint::assemble(place.into(), Some(config), generation, tensors, faults)
    }

    fn assemble(
        place: String,
        config: Option<&[u8]>,
        generation: Option<&[u8]>,
        mut tensors: Tensors,
        mut faults: Vec<Fault>,
    ) -> Result<Self> {
        let read = config.map(|config| Description::from_json(config, generation));
        if let Some(Ok(mut description)) = read {
            let parameters = bind::bind(&mut description, &mut tensors, &mut faults);
            if faults.is_empty() {
                let names = parameters.iter().enumerate();
                let by_name = names.map(|(number, bound)| (bound.name.clone(), number)).collect();
                return Ok(Checkpoint { description, parameters, by_name, tensors });
            }
        } else if let Some(Err(found)) = read {
            faults.splice(0..0, found);
        }
        Err(Error::Checkpoint { place, faults })
    }

    /// What the files say of the model.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.description.config
    }

    /// How the model's makers generate with it.
    pub fn generation(&self) -> &GenerationOptions {
        &self.description.generation
    }

    /// What is odd about the files but does no harm: tensors that are not read, biases that are
    /// left out.
    pub fn notes(&self) -> &[String] {
        &self.tensors.notes
    }

    /// The parameters, in the order of computation; tied ones once.
    pub fn parameters(&self) -> impl Iterator<Item = ParameterInfo<'_>> {
        self.parameters.iter().map(|bound| ParameterInfo {
            name: &bound.name,
            shape: &bound.shape,
            stored: bound.location.as_ref().map(|at| (at.tensor.as_str(), at.element_type)),
        })
    }

    /// The shape of a parameter; tied ones are known by each of their names.
    pub fn shape(&self, name: &str) -> Option<&Shape> {
        self.find(name).map(|bound| &bound.shape)
    }

    /// A parameter in f32, converted at each call; tied ones are known by each of their names.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`].
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let bound = self.find(name).ok_or_else(|| Error::UnknownParameter { name: name.into() })?;
        let mut elements = vec![0.0; bound.shape.elements()];
        if let Some(rows) = self.rows_of(bound) {
            rows.read(0, &mut elements);
        }
        Ok(Tensor::from_f32(bound.shape.clone(), elements)?)
    }

    /// What the files hold of a parameter.
    fn rows_of<'a>(&'a self, bound: &'a Bound) -> Option<FileRows<'a>> {
        let Location { file, element_type, bytes, scales, .. } = bound.location.as_ref()?;
        let file = &self.tensors.files[*file];
        Some(FileRows::new(file, *element_type, bytes.clone(), &bound.shape, scales))
    }

    fn find(&self, name: &str) -> Option<&Bound> {
        let number = self.by_name.get(canonical(&self.description.config, name))?;
        Some(&self.parameters[*number])
    }
}

impl ParameterSource for Checkpoint {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        self.tensor(name).map_err(|error| error.to_string())
    }

    fn rows<'a>(&'a self, name: &str) -> Result<Option<Box<dyn RowSource + 'a>>, String> {
        let unknown = || Error::UnknownParameter { name: name.into() }.to_string();
        let bound = self.find(name).ok_or_else(unknown)?;
        let rows = self.rows_of(bound).filter(|_| bound.shape.len() == 2);
        Ok(rows.map(|rows| Box::new(rows) as Box<dyn RowSource>))
    }
}
