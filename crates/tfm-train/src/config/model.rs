//! `[model]` and `[lora]`: the model to train.

use super::BaseFolders;
use super::table::Table;
use std::path::PathBuf;
use tfm_model::config::{
    Activation, Config, Embedding, FeedForward, Heads, Norm, NormKind, NormPlacement, Output,
    OutputBias, PositionKind, PositionTable, SpecialTokens, Stack,
};
use tfm_model::families::{FAMILIES, Family};

const ACTIVATIONS: [(&str, Activation); 5] = [
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("gelu_tanh", Activation::GeluTanh),
    ("swish", Activation::Swish),
    ("tanh", Activation::Tanh),
];
const NORMS: [(&str, NormPlacement); 2] =
    [("post", NormPlacement::Post), ("pre", NormPlacement::Pre)];

/// What a new model cannot choose where its family's files have no place for it.
const FIXED: [&str; 6] =
    ["norm", "final_norm", "norm_epsilon", "positions", "biases", "output_bias"];

/// The model to train.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its first weights.
    pub start: Start,
    /// The parameters that stay as they are: names, or their beginnings followed by `**`, as in
    /// `encoder.**`.
    pub freeze: Vec<String>,
}

/// The weights that a training begins with.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// New weights.
    Scratch(Architecture),
    /// The model in a folder, with its tokeniser.
    Pretrained(PathBuf),
}

/// The sizes of a stack's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// How many layers.
    pub layers: usize,
    /// Attention heads of a layer; they share `d_model` evenly.
    pub heads: usize,
    /// Inner features of the feed-forward network.
    pub ffn_dim: usize,
}

/// A model's shape: all of [`Config`] but the vocabulary, which comes with the tokeniser.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// How files name the weights.
    pub family: &'static Family,
    /// Features of a token's representation.
    pub d_model: usize,
    /// The encoder's layers.
    pub encoder: Layers,
    /// The decoder's layers.
    pub decoder: Layers,
    /// The feed-forward network's activation.
    pub activation: Activation,
    /// Where the layer norms stand.
    pub norm: NormPlacement,
    /// Whether a layer norm follows the last layer of each stack.
    pub final_norm: bool,
    /// What layer norms add to the variance.
    pub norm_epsilon: f64,
    /// Where the vectors of positions come from.
    pub positions: PositionKind,
    /// The longest sequence, in tokens.
    pub max_positions: usize,
    /// Whether token embeddings are multiplied by `√d_model`.
    pub scale_embeddings: bool,
    /// Whether linear layers have biases.
    pub biases: bool,
    /// Whether source and target share one embedding table.
    pub share_embeddings: bool,
    /// Whether the output projection is the target embedding table.
    pub tie_output: bool,
    /// What is added to the logits.
    pub output_bias: OutputBias,
    /// Whether training leaves the padding token's row of the embeddings as it is.
    pub unlearnt_padding: bool,
}

/// Low-rank adapters: `W + alpha / rank · B A` with `W` frozen (Hu et al., "LoRA", 2021).
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Rows of `A` and columns of `B`.
    pub rank: usize,
    /// The scale, before it is divided by the rank.
    pub alpha: f64,
    /// The linear layers that get one, by the last part of their names.
    pub targets: Vec<String>,
}

impl Model {
    pub(super) fn read(table: &mut Table<'_>, folders: &BaseFolders<'_>) -> Option<Self> {
        let freeze = table.texts("freeze").unwrap_or_default();
        for pattern in &freeze {
            let name = pattern.strip_suffix("**").unwrap_or(pattern);
            if name.contains('*') {
                table.fault(
                    "freeze",
                    format!("holds \"{pattern}\": `**` may stand at the end alone"),
                );
            }
        }
        if table.has("init_from") {
            let start = table.text("init_from").map(|folder| folders.path(&folder));
            let why = "comes with the model of init_from: take one of them away";
            table.refuse(&Architecture::KEYS, why);
            return Some(Model { start: Start::Pretrained(start?), freeze });
        }
        let architecture = Architecture::read(table);
        // It is listed among the known keys.
        table.text("init_from");
        Some(Model { start: Start::Scratch(architecture?), freeze })
    }
}

impl Architecture {
    const KEYS: [&'static str; 15] = [
        "family",
        "d_model",
        "encoder",
        "decoder",
        "activation",
        "norm",
        "final_norm",
        "norm_epsilon",
        "positions",
        "max_positions",
        "scale_embeddings",
        "biases",
        "share_embeddings",
        "tie_output",
        "output_bias",
    ];

    fn read(table: &mut Table<'_>) -> Option<Self> {
        // Of the others, training makes no new models.
        let families: Vec<(&str, &'static Family)> = FAMILIES
            .iter()
            .filter(|family| family.template().is_some())
            .map(|family| (family.model_type(), *family))
            .collect();
        let family = table.choice("family", &families);
        let family = table.required("family", family);
        let d_model = table.size("d_model", 1..=1 << 16);
        let d_model = table.required("d_model", d_model);
        let encoder = stack(&mut table.table("encoder"), d_model);
        let decoder = stack(&mut table.table("decoder"), d_model);
        // Where there is no family, the faults of one that has all choices are told with that.
        let is_open = |family: &&&Family| family.template().is_some_and(|them| them.is_open);
        let open = FAMILIES.iter().find(is_open).copied();
        let shown = family.or(open)?;
        let template = *shown.template()?;
        if let (false, Some(open)) = (template.is_open, open) {
            let (fixed, open) = (shown.model_type(), open.model_type());
            let why = format!(
                "is fixed in the files of the family \"{fixed}\"; family = \"{open}\" has the choice"
            );
            table.refuse(&FIXED, &why);
        }
        let activation = table.choice("activation", &ACTIVATIONS).unwrap_or(template.activation);
        let share_embeddings = table.flag("share_embeddings").unwrap_or(true);
        let tie_output = table.flag("tie_output").unwrap_or(true);
        let max_positions = table.size("max_positions", 1..=1 << 20).unwrap_or(512);
        let scale_embeddings = table.flag("scale_embeddings").unwrap_or(true);
        let fixed = Architecture {
            family: shown,
            d_model: d_model.unwrap_or(0),
            encoder: encoder.unwrap_or(Layers { layers: 0, heads: 0, ffn_dim: 0 }),
            decoder: decoder.unwrap_or(Layers { layers: 0, heads: 0, ffn_dim: 0 }),
            activation,
            norm: NormPlacement::Post,
            final_norm: false,
            norm_epsilon: 1e-5,
            positions: PositionKind::Sinusoidal(template.sinusoids),
            max_positions,
            scale_embeddings,
            biases: true,
            share_embeddings,
            tie_output,
            output_bias: template.output_bias,
            unlearnt_padding: template.unlearnt_padding,
        };
        let architecture = if template.is_open { fixed.with_choices(table) } else { fixed };
        (family.is_some() && d_model.is_some() && encoder.is_some() && decoder.is_some())
            .then_some(architecture)
    }

    /// What may be chosen where the files of the family have a place for it.
    fn with_choices(self, table: &mut Table<'_>) -> Self {
        let norm = table.choice("norm", &NORMS).unwrap_or(NormPlacement::Post);
        let positions =
            [("sinusoidal", self.positions), ("learned", PositionKind::Learned { offset: 0 })];
        let epsilon = table.number("norm_epsilon", "a number between 0 and 1", |epsilon| {
            epsilon > 0.0 && epsilon < 1.0
        });
        Architecture {
            norm,
            // Residual sums that no norm has seen grow with the number of layers.
            final_norm: table.flag("final_norm").unwrap_or(norm == NormPlacement::Pre),
            norm_epsilon: epsilon.unwrap_or(self.norm_epsilon),
            positions: table.choice("positions", &positions).unwrap_or(positions[0].1),
            biases: table.flag("biases").unwrap_or(true),
            output_bias: if table.flag("output_bias").unwrap_or(!self.tie_output) {
                OutputBias::Learnt
            } else {
                OutputBias::None
            },
            ..self
        }
    }

    /// The model's configuration, with the sizes of a tokeniser's vocabularies and its special
    /// tokens.
    pub fn config(&self, source: usize, target: usize, special: SpecialTokens) -> Config {
        let unlearnt = special.pad.filter(|_| self.unlearnt_padding);
        let scale = if self.scale_embeddings { (self.d_model as f64).sqrt() } else { 1.0 };
        let positions = PositionTable { rows: self.max_positions, kind: self.positions };
        let embedding =
            |vocabulary| Embedding { vocabulary, scale, positions: Some(positions), unlearnt };
        Config {
            d_model: self.d_model,
            encoder: self.stack(self.encoder),
            decoder: self.stack(self.decoder),
            cross_attention: self.heads(self.decoder),
            source: embedding(source),
            target: embedding(target),
            shared_embeddings: self.share_embeddings,
            output: Output { tied: self.tie_output, bias: self.output_bias, scale: 1.0 },
            special,
        }
    }

    fn stack(&self, sizes: Layers) -> Stack {
        Stack {
            layers: sizes.layers,
            attention: self.heads(sizes),
            feed_forward: FeedForward {
                inner: sizes.ffn_dim,
                activation: self.activation,
                gated: false,
                biases: self.biases,
            },
            norm: Norm {
                kind: NormKind::Layer,
                epsilon: self.norm_epsilon,
                placement: self.norm,
                after_embedding: false,
                after_last_layer: self.final_norm,
            },
        }
    }

    fn heads(&self, sizes: Layers) -> Heads {
        let size = self.d_model.checked_div(sizes.heads).unwrap_or(0);
        Heads { biases: self.biases, ..Heads::new(sizes.heads, size) }
    }
}

fn stack(table: &mut Table<'_>, d_model: Option<usize>) -> Option<Layers> {
    if !table.is_there() {
        table.fault("", "is missing, as in { layers = 6, heads = 8, ffn_dim = 2048 }");
    }
    let layers = table.size("layers", 1..=1 << 10);
    let heads = table.size("heads", 1..=1 << 16);
    let ffn_dim = table.size("ffn_dim", 1..=1 << 20);
    if table.is_there() {
        table.required("layers", layers);
        table.required("heads", heads);
        table.required("ffn_dim", ffn_dim);
    }
    let (heads, d_model) = (heads?, d_model?);
    if !d_model.is_multiple_of(heads) {
        table.fault("heads", format!("is {heads}, but must divide model.d_model = {d_model}"));
    }
    Some(Layers { layers: layers?, heads, ffn_dim: ffn_dim? })
}

impl Lora {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let rank = table.size("rank", 1..=1 << 16);
        let alpha = table.number("alpha", "a number above 0", |alpha| alpha > 0.0);
        let targets = table.texts("targets");
        if !table.is_there() {
            return None;
        }
        if targets.as_ref().is_some_and(Vec::is_empty) {
            table.fault("targets", "is empty, so that nothing would be trained");
        }
        let rank = table.required("rank", rank)?;
        let targets = targets.unwrap_or_else(|| vec!["query".into(), "value".into()]);
        Some(Lora { rank, alpha: alpha.unwrap_or(rank as f64), targets })
    }
}
