//! Our names of parameters. Three have aliases: a shared or tied table goes by several of
//! `source_embedding.weight`, `target_embedding.weight` and `output.weight`, and [`canonical`]
//! picks one.

use crate::config::{Config, OutputBias};
use crate::roles::{Leaf, OUTPUT, Role, SOURCE_EMBEDDING, TARGET_EMBEDDING, roles};
use tfm_core::Shape;

/// The name under which a parameter is stored once: the one it is tied to, or its own.
pub fn canonical<'a>(config: &Config, name: &'a str) -> &'a str {
    match name {
        OUTPUT if config.output.tied => canonical(config, TARGET_EMBEDDING),
        TARGET_EMBEDDING if config.shared_embeddings => SOURCE_EMBEDDING,
        own => own,
    }
}

/// The parameters that training can learn, by their canonical names, with their shapes, in the
/// order of computation. Position tables that are computed are not among them, nor a constant bias
/// of the logits.
pub fn learnable(config: &Config) -> Vec<(String, Shape)> {
    let is_constant =
        |role: Role| role == Role::Output(Leaf::Bias) && config.output.bias == OutputBias::Constant;
    let learnable = roles(config).into_iter().filter(|(role, _)| !is_constant(*role));
    learnable.map(|(role, shape)| (role.to_string(), shape)).collect()
}
