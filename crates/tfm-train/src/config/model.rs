//! `[model]` and `[lora]`: what is trained.

use super::Places;
use super::table::Table;
use std::path::PathBuf;
use tfm_model::config::{
    Activation, Config, Family, NormPlacement, Positions, SinusoidLayout, SpecialTokens, Stack,
};

const FAMILIES: [(&str, Family); 2] =
    [("marian", Family::Marian), ("transformer", Family::Transformer)];
const ACTIVATIONS: [(&str, Activation); 5] = [
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("gelu_tanh", Activation::GeluTanh),
    ("swish", Activation::Swish),
    ("tanh", Activation::Tanh),
];
const NORMS: [(&str, NormPlacement); 2] =
    [("post", NormPlacement::Post), ("pre", NormPlacement::Pre)];

/// What a new model of the family "marian" cannot choose, for its files have no place for it.
const FIXED_IN_MARIAN: [&str; 6] =
    ["norm", "final_norm", "norm_epsilon", "positions", "biases", "output_bias"];

/// The model to train.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What it begins as.
    pub start: Start,
    /// The parameters that stay as they are: names, or their beginnings followed by `**`, as in `encoder.**`.
    pub freeze: Vec<String>,
}

/// What a training begins with.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// New weights.
    Scratch(Architecture),
    /// The model in a folder, with its tokeniser.
    Pretrained(PathBuf),
}

/// A model's shape: all of [`Config`] but the vocabulary, which comes with the tokeniser.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// How files name the weights.
    pub family: Family,
    /// Features of a token's representation.
    pub d_model: usize,
    /// The encoder's layers.
    pub encoder: Stack,
    /// The decoder's layers.
    pub decoder: Stack,
    /// The feed-forward network's activation.
    pub activation: Activation,
    /// Where the layer norms stand.
    pub norm: NormPlacement,
    /// Whether a layer norm follows the last layer of each stack.
    pub final_norm: bool,
    /// What layer norms add to the variance.
    pub norm_epsilon: f64,
    /// How positions enter.
    pub positions: Positions,
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
    /// Whether the logits have a bias.
    pub output_bias: bool,
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
    pub(super) fn read(table: &mut Table<'_>, places: &Places<'_>) -> Option<Self> {
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
            let start = table.text("init_from").map(|folder| places.path(&folder));
            let why = "comes with the model of init_from: take one of them away";
            table.refuse(&Architecture::KEYS, why);
            return Some(Model { start: Start::Pretrained(start?), freeze });
        }
        let architecture = Architecture::read(table);
        // Named among the keys there are.
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
        let family = table.choice("family", &FAMILIES);
        let family = table.required("family", family);
        let d_model = table.size("d_model", 1..=1 << 16);
        let d_model = table.required("d_model", d_model);
        let encoder = stack(&mut table.table("encoder"), d_model);
        let decoder = stack(&mut table.table("decoder"), d_model);
        if family == Some(Family::Marian) {
            let why = "is fixed in the files of the family \"marian\"; family = \"transformer\" has the choice";
            table.refuse(&FIXED_IN_MARIAN, why);
        }
        let marian = family == Some(Family::Marian);
        let default = if marian { Activation::Swish } else { Activation::Relu };
        let activation = table.choice("activation", &ACTIVATIONS).unwrap_or(default);
        let share_embeddings = table.flag("share_embeddings").unwrap_or(true);
        let tie_output = table.flag("tie_output").unwrap_or(true);
        let max_positions = table.size("max_positions", 1..=1 << 20).unwrap_or(512);
        let scale_embeddings = table.flag("scale_embeddings").unwrap_or(true);
        let fixed = Architecture {
            family: family.unwrap_or(Family::Transformer),
            d_model: d_model.unwrap_or(0),
            encoder: encoder.unwrap_or(Stack { layers: 0, heads: 0, ffn_dim: 0 }),
            decoder: decoder.unwrap_or(Stack { layers: 0, heads: 0, ffn_dim: 0 }),
            activation,
            norm: NormPlacement::Post,
            final_norm: false,
            norm_epsilon: 1e-5,
            positions: Positions::Sinusoidal(SinusoidLayout::Halves),
            max_positions,
            scale_embeddings,
            biases: true,
            share_embeddings,
            tie_output,
            output_bias: true,
        };
        let architecture = if marian { fixed } else { fixed.with_choices(table) };
        (family.is_some() && d_model.is_some() && encoder.is_some() && decoder.is_some())
            .then_some(architecture)
    }

    /// What the family "transformer" may choose.
    fn with_choices(self, table: &mut Table<'_>) -> Self {
        let norm = table.choice("norm", &NORMS).unwrap_or(NormPlacement::Post);
        let positions = [
            ("sinusoidal", Positions::Sinusoidal(SinusoidLayout::Interleaved)),
            ("learned", Positions::Learned { offset: 0 }),
        ];
        let epsilon = table.number("norm_epsilon", "a number between 0 and 1", |epsilon| {
            epsilon > 0.0 && epsilon < 1.0
        });
        Architecture {
            norm,
            // Sums that no norm has seen grow with the number of layers.
            final_norm: table.flag("final_norm").unwrap_or(norm == NormPlacement::Pre),
            norm_epsilon: epsilon.unwrap_or(self.norm_epsilon),
            positions: table.choice("positions", &positions).unwrap_or(positions[0].1),
            biases: table.flag("biases").unwrap_or(true),
            output_bias: table.flag("output_bias").unwrap_or(!self.tie_output),
            ..self
        }
    }

    /// The model's description, with a tokeniser's vocabularies and tokens.
    pub fn config(&self, source: usize, target: usize, special: SpecialTokens) -> Config {
        Config {
            family: self.family,
            d_model: self.d_model,
            encoder: self.encoder,
            decoder: self.decoder,
            source_vocabulary: source,
            target_vocabulary: target,
            norm_placement: self.norm,
            final_norm: self.final_norm,
            norm_epsilon: self.norm_epsilon,
            positions: self.positions,
            max_positions: self.max_positions,
            embedding_scale: if self.scale_embeddings { (self.d_model as f64).sqrt() } else { 1.0 },
            activation: self.activation,
            linear_biases: self.biases,
            shared_embeddings: self.share_embeddings,
            tied_output: self.tie_output,
            output_bias: self.output_bias,
            special,
        }
    }
}

fn stack(table: &mut Table<'_>, d_model: Option<usize>) -> Option<Stack> {
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
    Some(Stack { layers: layers?, heads, ffn_dim: ffn_dim? })
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
