//! Prepares a training from its configuration: tokeniser, model, data, first weights.

mod memory;
mod tokenizer;

use crate::config::{Optimizer, Rule as RuleName, Start, TrainConfig};
use crate::data::{self, Pairs};
use crate::error::{Error, Result};
use crate::initial::{Initial, Overlay, Weights};
use crate::learner::{Method, Rule, adapter_shapes};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tfm_core::fused::Adam;
use tfm_core::{ParameterSource, Tensor};
use tfm_model::config::SpecialTokens;
use tfm_model::transformer::{Adapters, DropoutRates, Learning};
use tfm_model::{
    Checkpoint, Config, Description, Family, GenerationOptions, Parameters, computed, learnable,
};
use tfm_text::Tokenizer;

/// Everything that a training works with.
pub struct Prepared {
    /// Whose names its files have.
    pub family: &'static Family,
    /// What the model computes.
    pub config: Arc<Config>,
    /// Its generation settings.
    pub generation: GenerationOptions,
    /// The tokeniser.
    pub tokenizer: Arc<Tokenizer>,
    /// The folder of its files.
    pub tokenizer_folder: PathBuf,
    /// The training data.
    pub training: Arc<Pairs>,
    /// The validation data.
    pub validation: Option<Pairs>,
    /// Which parameters are trained, and dropout.
    pub learning: Learning,
    /// The optimiser and its settings.
    pub method: Method,
    /// The trained parameters before the first update.
    pub weights: Weights,
    /// All other parameters.
    pub fixed: Arc<dyn ParameterSource>,
}

impl Prepared {
    /// What the files of the trained model say.
    pub fn description(&self) -> Description {
        let (config, generation) = (Config::clone(&self.config), self.generation.clone());
        Description { family: self.family, config, generation }
    }

    /// Makes or opens what `config` names. `say` is told of work that takes long.
    ///
    /// # Errors
    /// Anything that cannot be read, made or used.
    pub fn new(config: &TrainConfig, say: &mut dyn FnMut(String)) -> Result<Self> {
        let tokenizer_folder = tokenizer::folder(config, say)?;
        let tokenizer = Tokenizer::from_dir(&tokenizer_folder)?;
        let (description, fixed) = match &config.model.start {
            Start::Pretrained(folder) => {
                let checkpoint = Arc::new(Checkpoint::open(folder)?);
                let description = checkpoint.description().clone();
                let fixed: Arc<dyn ParameterSource> = Arc::new(Parameters::new(checkpoint));
                (description, fixed)
            }
            Start::Scratch(architecture) => {
                let special = tokenizer::special_tokens(&tokenizer)?;
                let [source, target] =
                    [tokenizer.source_vocab_size(), tokenizer.target_vocab_size()];
                let generation = generation(&special, architecture.max_positions);
                let config = architecture.config(source, target, special);
                config.check().map_err(|faults| Error::Senseless { faults })?;
                memory::check(&config)?;
                let fixed: Arc<dyn ParameterSource> = Arc::new(Computed(config.clone()));
                (Description { family: architecture.family, config, generation }, fixed)
            }
        };
        let Description { family, config: model, generation } = description;
        let tokenizer = Arc::new(tokenizer.with_decoder_start(model.special.decoder_start));
        for (side, tokens, rows) in [
            ("source", tokenizer.source_vocab_size(), model.source.vocabulary),
            ("target", tokenizer.target_vocab_size(), model.target.vocabulary),
        ] {
            if tokens > rows {
                return Err(Error::Vocabulary { side, tokens, rows });
            }
        }
        let positions = longest_pair(&model);
        if config.data.filters.maximum_tokens > positions {
            let tokens = config.data.filters.maximum_tokens;
            return Err(Error::Positions { tokens, positions });
        }
        let sampled = config.tokenizer.sampling.is_some();
        let encoder = tokenizer::encoder(tokenizer.clone(), config.tokenizer.sampling);
        say("reading the training data".into());
        let training =
            Pairs::training(&config.data.train, &config.data.filters, &encoder, sampled)?;
        for (number, counts) in training.counts().enumerate() {
            say(format!("{}: {counts}", config.data.train.name(number)));
        }
        let validation = match &config.data.validation {
            Some(corpora) => Some(Pairs::validation(corpora, &data::plain(tokenizer.clone()))?),
            None => None,
        };
        check_scopes(config, &model)?;
        let learning = learning(config, &model)?;
        let weights = first_weights(config, &model, &learning, &*fixed)?;
        if let Some(validation) = &validation {
            check_fits(validation, &model, config.batch.tokens)?;
        }
        // New weights that are not trained are read like all other frozen ones.
        let fixed: Arc<dyn ParameterSource> =
            Arc::new(Overlay { config: model.clone(), weights: weights.clone(), rest: fixed });
        let method = method(config, &model);
        Ok(Prepared {
            family,
            config: Arc::new(model),
            generation,
            tokenizer,
            tokenizer_folder,
            training: Arc::new(training),
            validation,
            learning,
            method,
            weights,
            fixed,
        })
    }
}

/// The parameters of a new model that are not trained: position tables, and a zero bias.
struct Computed(Config);

impl ParameterSource for Computed {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        match computed(&self.0, name) {
            Some(table) => Ok(table),
            None if name == "output.bias" => {
                let zeros = vec![0.0; self.0.target.vocabulary];
                Tensor::from_f32([zeros.len()], zeros).map_err(|error| error.to_string())
            }
            None => Err("is neither learnt nor computed".into()),
        }
    }
}

/// The generation settings of a new model: beam 4, padding banned.
fn generation(special: &SpecialTokens, max_positions: usize) -> GenerationOptions {
    GenerationOptions {
        num_beams: 4,
        max_length: Some(max_positions),
        bad_words_ids: special.pad.into_iter().map(|pad| vec![pad]).collect(),
        forced_eos_token_id: special.eos.clone(),
        ..GenerationOptions::new(special.decoder_start, special.eos.clone())
    }
}

fn learning(config: &TrainConfig, model: &Config) -> Result<Learning> {
    let [residual, attention, activation] =
        [config.dropout.residual, config.dropout.attention, config.dropout.activation]
            .map(|rate| rate as f32);
    let dropout = DropoutRates { residual, attention, activation };
    let adapters = config.lora.as_ref().map(|lora| Adapters {
        rank: lora.rank,
        alpha: lora.alpha,
        targets: lora.targets.iter().cloned().collect(),
    });
    let mut learning = Learning { learnt: BTreeSet::new(), dropout, adapters };
    if learning.adapters.is_some() && !config.model.freeze.is_empty() {
        return Err(Error::FreezeBesideAdapters);
    }
    for target in learning.adapters.iter().flat_map(|adapters| &adapters.targets) {
        let one = Adapters { targets: [target.clone()].into(), rank: 1, alpha: 1.0 };
        let one = Learning { adapters: Some(one), ..learning.clone() };
        if adapter_shapes(model, &one).is_empty() {
            return Err(Error::NoSuchLinear { target: target.clone() });
        }
    }
    let names: Vec<String> = learnable(model).into_iter().map(|(name, _)| name).collect();
    let matches = |pattern: &str, name: &str| match pattern.strip_suffix("**") {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    for pattern in &config.model.freeze {
        if !names.iter().any(|name| matches(pattern, name)) {
            let nearest = names
                .iter()
                .max_by(|a, b| {
                    let near = |name: &str| strsim::jaro(name, pattern);
                    near(a).total_cmp(&near(b))
                })
                .cloned()
                .unwrap_or_default();
            return Err(Error::NothingFrozen { pattern: pattern.clone(), nearest });
        }
    }
    learning.learnt = if learning.adapters.is_some() {
        adapter_shapes(model, &learning).into_iter().map(|(name, _)| name).collect()
    } else {
        let frozen =
            |name: &String| config.model.freeze.iter().any(|pattern| matches(pattern, name));
        names.into_iter().filter(|name| !frozen(name)).collect()
    };
    if learning.learnt.is_empty() {
        return Err(Error::NothingLearnt);
    }
    Ok(learning)
}

fn first_weights(
    config: &TrainConfig,
    model: &Config,
    learning: &Learning,
    fixed: &dyn ParameterSource,
) -> Result<Weights> {
    let initial = Initial { config: model, seed: config.run.seed };
    let is_new = matches!(config.model.start, Start::Scratch(_));
    let mut weights = Weights::default();
    let adapters = adapter_shapes(model, learning);
    for (name, shape) in adapters {
        weights.0.insert(name.clone(), initial.tensor(&name, &shape));
    }
    for (name, shape) in learnable(model) {
        if !learning.learnt.contains(&name) && !is_new {
            continue;
        }
        let tensor = if is_new {
            initial.tensor(&name, &shape)
        } else {
            let loaded = fixed.load(&name);
            loaded.map_err(|problem| tfm_core::Error::Parameter { name: name.clone(), problem })?
        };
        weights.0.insert(name, tensor);
    }
    Ok(weights)
}

fn method(config: &TrainConfig, model: &Config) -> Method {
    let Optimizer { rule, betas: [beta1, beta2], epsilon, weight_decay, clip_norm, ema } =
        config.optimizer.clone();
    let (rule, decay) = match rule {
        RuleName::Adam => {
            (Rule::Adam(Adam { beta1, beta2, epsilon, weight_decay: 0.0 }), weight_decay)
        }
        RuleName::AdamW => (Rule::Adam(Adam { beta1, beta2, epsilon, weight_decay }), 0.0),
        RuleName::Adafactor => (Rule::Adafactor { epsilon: 1e-30, clip: 1.0, weight_decay }, 0.0),
    };
    Method {
        rule,
        smoothing: config.loss.label_smoothing,
        gradient_decay: decay,
        clip_norm,
        average_decay: ema,
        recompute: scopes(&config.run.recompute, model),
        seed: config.run.seed,
    }
}

/// The most tokens that either side of a pair may have.
fn longest_pair(model: &Config) -> usize {
    model.source.longest_sequence().min(model.target.longest_sequence())
}

/// Checks that validation pairs fit the positions of the model and a batch.
fn check_fits(pairs: &Pairs, model: &Config, batch_tokens: usize) -> Result<()> {
    for pair in 0..pairs.len() {
        let [source, target] = pairs.tokens(pair);
        let limit = longest_pair(model);
        if source > limit || target > limit {
            let tokens = source.max(target);
            return Err(Error::ValidationPair { pair: pair + 1, tokens, limit, what: "positions" });
        }
        if source + target > batch_tokens {
            let tokens = source + target;
            let what = "tokens a batch (batch.tokens)";
            return Err(Error::ValidationPair {
                pair: pair + 1,
                tokens,
                limit: batch_tokens,
                what,
            });
        }
    }
    Ok(())
}

/// Checks that every pattern of scopes names some parameters.
fn check_scopes(config: &TrainConfig, model: &Config) -> Result<()> {
    let names: Vec<String> = learnable(model).into_iter().map(|(name, _)| name).collect();
    for pattern in &config.run.recompute {
        let scopes = scopes(std::slice::from_ref(pattern), model);
        let within =
            |name: &String| scopes.iter().any(|scope| name.starts_with(&format!("{scope}.")));
        if !names.iter().any(within) {
            return Err(Error::NoSuchScope { pattern: pattern.clone() });
        }
    }
    Ok(())
}

/// Expands `*` in scopes, which stands for each layer of a stack.
fn scopes(patterns: &[String], model: &Config) -> Vec<String> {
    let layers = |pattern: &String| match pattern.split_once('*') {
        Some((before, after)) => {
            let stack = if before.starts_with("encoder") { model.encoder } else { model.decoder };
            (0..stack.layers).map(|layer| format!("{before}{layer}{after}")).collect()
        }
        None => vec![pattern.clone()],
    };
    patterns.iter().flat_map(layers).collect()
}
