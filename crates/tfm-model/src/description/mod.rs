//! What `config.json` and `generation_config.json` say together.

mod generation;
pub mod settings;

use crate::config::{Config, SpecialTokens};
use crate::families::{Family, TensorSlice};
use crate::fault::Fault;
use crate::generation::GenerationOptions;
use crate::json::{CONFIG, ConfigFiles, Fields, GENERATION, one_or_list};
use crate::roles::{Role, Side, roles};
use crate::transformer::positions::computed_shape;
use serde_json::{Map, Value, json};
use tfm_core::Shape;

/// What a model is, and how its files and its makers put it.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Whose names the files use.
    pub family: &'static Family,
    /// What the model computes.
    pub config: Config,
    /// How its makers generate with it.
    pub generation: GenerationOptions,
}

/// A parameter of a model, and where files keep it.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    /// Our name.
    pub(crate) name: String,
    /// Its shape.
    pub(crate) shape: Shape,
    /// Where files keep it.
    pub(crate) slice: TensorSlice,
    /// Whether it is a matrix that a linear layer or an embedding reads, which may be in 8 bits.
    pub(crate) is_weight: bool,
}

/// A table of sinusoids, which is computed, though files may hold it or another one.
pub(crate) struct ComputedTable {
    pub(crate) side: Side,
    /// Our name.
    pub(crate) name: String,
    pub(crate) shape: Shape,
    /// The names of tensors of files which hold it.
    pub(crate) file_names: Vec<String>,
}

impl Description {
    /// Reads `config.json`, and `generation_config.json` where a model has one.
    ///
    /// # Errors
    /// All faults: fields that are missing, of the wrong type, senseless or not supported.
    pub fn from_json(config: &[u8], generation: Option<&[u8]>) -> Result<Self, Vec<Fault>> {
        let mut files = ConfigFiles {
            config: Fields::parse(CONFIG, config),
            generation: generation.map(|json| Fields::parse(GENERATION, json)),
        };
        let family = if files.config.is_object() { Family::of(&mut files.config) } else { None };
        let description = family.map(|family| {
            let config = family.read(&mut files);
            let from = files.generation.as_mut().unwrap_or(&mut files.config);
            let generation =
                GenerationOptions::read(from, &config.special, config.target.vocabulary);
            Description { family, config, generation }
        });
        let checked = description.as_ref().map(|read| read.config.check());
        let mut found = checked.and_then(Result::err).unwrap_or_default();
        for fault in &mut found {
            if let Fault::Field { file, field, .. } = fault {
                *file = files.file_of(field).into();
            }
        }
        let mut faults = files.config.faults;
        // A missing field reads as 0, and that it is missing has been said.
        let said: Vec<_> = faults.iter().filter_map(field_of).map(String::from).collect();
        let is_new = |fault: &Fault| {
            field_of(fault).is_none_or(|field| !said.iter().any(|said| said == field))
        };
        faults.extend(found.into_iter().filter(is_new));
        faults.extend(files.generation.into_iter().flat_map(|fields| fields.faults));
        description.filter(|_| faults.is_empty()).ok_or(faults)
    }

    /// The two files: `config.json` and `generation_config.json`.
    pub fn to_json(&self) -> [String; 2] {
        let mut config = Map::new();
        self.family.write(&self.config, &self.generation, &mut config);
        write_special(&self.config.special, &mut config);
        let mut settings = Map::new();
        write_special(&self.config.special, &mut settings);
        self.generation.write(&mut settings);
        [config, settings].map(|object| format!("{:#}\n", Value::Object(object)))
    }

    /// The tables of sinusoids.
    pub(crate) fn computed_tables(&self) -> Vec<ComputedTable> {
        let table = |side: Side| {
            let role = Role::Positions(side);
            let name = role.to_string();
            let shape = computed_shape(&self.config, &name)?;
            let slice = self.family.slice(&self.config, role, &shape)?;
            Some(ComputedTable { side, name, shape, file_names: slice.names })
        };
        [Side::Encoder, Side::Decoder].into_iter().filter_map(table).collect()
    }

    /// All parameters, in the order of computation, tied ones once.
    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        let parameter = |(role, shape): (Role, Shape)| {
            let slice = self.family.slice(&self.config, role, &shape)?;
            let (name, is_weight) = (role.to_string(), role.is_weight());
            Some(Parameter { name, shape, slice, is_weight })
        };
        roles(&self.config).into_iter().filter_map(parameter).collect()
    }
}

fn field_of(fault: &Fault) -> Option<&str> {
    match fault {
        Fault::Field { field, .. } => Some(field),
        _ => None,
    }
}

fn write_special(special: &SpecialTokens, object: &mut Map<String, Value>) {
    object.insert("bos_token_id".into(), json!(special.bos));
    object.insert("eos_token_id".into(), one_or_list(&special.eos));
    object.insert("pad_token_id".into(), json!(special.pad));
    object.insert("decoder_start_token_id".into(), json!(special.decoder_start));
}
