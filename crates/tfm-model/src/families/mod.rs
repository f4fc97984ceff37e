//! The families of models, a file each: what their `config.json` says, what their files call the
//! weights, and which settings they have that are not supported. Nobody else asks which family a
//! model is of.

mod bart;
mod bart_fields;
mod bart_names;
mod blenderbot;
mod m2m_100;
mod marian;
mod mbart;
mod pegasus;
mod plbart;
mod t5;
mod t5_names;
mod tensor_slice;
mod torch;

pub(crate) use tensor_slice::TensorSlice;

use crate::config::{Activation, Config, OutputBias, SinusoidLayout};
use crate::fault::shortened;
use crate::generation::GenerationOptions;
use crate::json::{ConfigFiles, Fields};
use crate::roles::Role;
use serde_json::{Map, Value};
use std::fmt;
use tfm_core::Shape;

/// Every family.
pub static FAMILIES: &[&Family] = &[
    &marian::MARIAN,
    &bart::BART,
    &mbart::MBART,
    &m2m_100::M2M_100,
    &pegasus::PEGASUS,
    &plbart::PLBART,
    &blenderbot::BLENDERBOT,
    &t5::T5,
    &t5::MT5,
    &t5::UMT5,
    &torch::TRANSFORMER,
];

/// Who defined the fields of `config.json` and the names of the tensors.
pub struct Family {
    /// The `model_type` of `config.json`.
    model_type: &'static str,
    /// The `architectures` of `config.json`: the classes that files of the family are saved from.
    architectures: &'static [&'static str],
    /// What a new model of the family is like, unless it is told otherwise; none where training
    /// makes no new ones.
    template: Option<Template>,
    /// Settings of `config.json` that would change the result, each with the one value that is
    /// supported.
    only: &'static [(&'static str, bool)],
    /// The start of tensors' names that files lack which were saved from the model without its
    /// output.
    base_prefix: &'static str,
    /// What `config.json` says, and `generation_config.json` of special tokens. Faults are left
    /// with the files.
    read: fn(&mut ConfigFiles) -> Config,
    /// Writes the fields of `config.json`.
    write: fn(&Config, &GenerationOptions, &mut Map<String, Value>),
    /// Where files keep the parameter with this role and shape; `None` for what no model of the
    /// family has.
    slice: fn(&Config, Role, &Shape) -> Option<TensorSlice>,
}

/// What a new model of a family is like, unless it is told otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Template {
    /// Whether `config.json` can say otherwise of norms, positions and biases.
    pub is_open: bool,
    /// The feed-forward network's activation.
    pub activation: Activation,
    /// The layout of sinusoids.
    pub sinusoids: SinusoidLayout,
    /// What is added to the logits; where they may choose, untied models have a learnt bias.
    pub output_bias: OutputBias,
    /// Whether training leaves the padding token's row of the embeddings as it is.
    pub unlearnt_padding: bool,
}

impl Family {
    /// The family with this `model_type`.
    pub fn of_type(model_type: &str) -> Option<&'static Family> {
        FAMILIES.iter().copied().find(|family| family.model_type == model_type)
    }

    /// The family of a `config.json`: by its `model_type`, or where it has none, by its
    /// `architectures`.
    pub(crate) fn of(fields: &mut Fields) -> Option<&'static Family> {
        let names: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        let supported = names.join(", ");
        if fields.get("model_type").is_some() {
            let name = fields.text("model_type")?;
            let family = Family::of_type(&name);
            if family.is_none() {
                let name = shortened(&name);
                fields.fault("model_type", format!("is \"{name}\"; supported are: {supported}"));
            }
            return family;
        }
        let classes = fields.texts("architectures").unwrap_or_default();
        let is_of = |family: &&Family| {
            classes.iter().any(|class| family.architectures.contains(&class.as_str()))
        };
        let family = FAMILIES.iter().copied().find(is_of);
        if family.is_none() {
            let problem = format!(
                "is missing, and `architectures` names no known class; supported are: {supported}"
            );
            fields.fault("model_type", problem);
        }
        family
    }

    /// The `model_type` of `config.json`.
    pub fn model_type(&self) -> &'static str {
        self.model_type
    }

    /// What a new model of the family is like, unless it is told otherwise; none where training
    /// makes no new ones.
    pub fn template(&self) -> Option<&Template> {
        self.template.as_ref()
    }

    /// What the files say. Settings that would change the result and are not supported are faults.
    pub(crate) fn read(&self, files: &mut ConfigFiles) -> Config {
        let config = (self.read)(files);
        let fields = &mut files.config;
        for &(field, only) in self.only {
            if fields.flag(field).is_some_and(|value| value != only) {
                fields.fault(field, format!("is {}, but only {only} is supported", !only));
            }
        }
        let is_something = |value: &Value| match value {
            Value::Object(object) => !object.is_empty(),
            _ => true,
        };
        for (field, why) in [
            ("quantization_config", "weights that another library quantised are not read"),
            ("pruned_heads", "heads that are left out are not supported"),
        ] {
            if fields.get(field).is_some_and(is_something) {
                fields.fault(field, format!("is there, but {why}"));
            }
        }
        config
    }

    /// Writes the fields of `config.json`.
    pub(crate) fn write(
        &self,
        config: &Config,
        generation: &GenerationOptions,
        object: &mut Map<String, Value>,
    ) {
        object.insert("model_type".into(), self.model_type.into());
        (self.write)(config, generation, object);
    }

    /// Where files keep the parameter with this role and shape; `None` for what no model of the
    /// family has.
    pub(crate) fn slice(&self, config: &Config, role: Role, shape: &Shape) -> Option<TensorSlice> {
        (self.slice)(config, role, shape)
    }

    /// The name of a tensor in files that were saved from the model without its output, if it
    /// differs.
    pub(crate) fn base_name<'n>(&self, tensor: &'n str) -> Option<&'n str> {
        tensor.strip_prefix(self.base_prefix).filter(|_| !self.base_prefix.is_empty())
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type)
    }
}
