//! `[tokenizer]`, `[data]` and `[batch]`: the training data and how it is batched.

use super::table::Table;
use super::{BaseFolders, Model, Start};
use std::path::{Path, PathBuf};

/// Where the tokeniser comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizerSource {
    /// Its origin.
    pub origin: TokenizerOrigin,
    /// How much segmentations vary while training: the `alpha` of subword regularisation (Kudo
    /// 2018), or the dropout of merges (Provilkov et al. 2020). `None` for the best segmentation
    /// always.
    pub sampling: Option<f64>,
}

/// The origin of a tokeniser.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerOrigin {
    /// The tokeniser in a folder.
    Directory(PathBuf),
    /// A tokeniser learned from the training data.
    Trained(TokenizerRecipe),
}

/// How to learn a tokeniser.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizerRecipe {
    /// The model of segmentation.
    pub kind: TokenizerKind,
    /// Pieces of a vocabulary, special ones included.
    pub vocabulary: usize,
    /// Whether source and target share one vocabulary.
    pub joint: bool,
    /// The share of the text's characters that get a piece; rarer ones become the unknown.
    pub character_coverage: f64,
}

/// A model of segmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerKind {
    /// Pieces with probabilities (Kudo 2018).
    Unigram,
    /// Merges of pairs (Sennrich et al. 2016).
    Bpe,
}

/// The data for training and for validation.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// The training data.
    pub train: Corpora,
    /// The validation data.
    pub validation: Option<Corpora>,
    /// Which training pairs are left out.
    pub filters: Filters,
}

/// Where pairs come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Corpora {
    /// Files.
    Files(Vec<Corpus>),
    /// A synthetic task.
    Synthetic(Synthetic),
}

/// Pairs in files.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    /// The files.
    pub files: CorpusFiles,
    /// How often an epoch has each pair, on average.
    pub weight: f64,
}

/// The files of a corpus: plain text, gzip or Zstandard. The first bytes tell which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorpusFiles {
    /// Two files, line by line.
    Pair {
        /// The sources.
        source: PathBuf,
        /// The targets.
        target: PathBuf,
    },
    /// One file with columns between tabulators.
    Table {
        /// The file.
        path: PathBuf,
        /// The columns of source and target, counted from 0.
        columns: [usize; 2],
    },
}

/// A task with letters that needs no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synthetic {
    /// What the target is of the source.
    pub task: Task,
    /// How many letters of the alphabet there are, at most 26.
    pub symbols: usize,
    /// The fewest letters of a source.
    pub minimum_length: usize,
    /// The most letters of a source.
    pub maximum_length: usize,
    /// How many pairs.
    pub pairs: usize,
    /// The seed that the pairs follow from.
    pub seed: u64,
}

/// A synthetic task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The target is the source.
    Copy,
    /// The target is the source from its end.
    Reverse,
    /// The target is the source in the order of the alphabet.
    Sort,
}

/// Which training pairs are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Filters {
    /// Pairs with a side of fewer tokens, the end token included.
    pub minimum_tokens: usize,
    /// Pairs with a side of more tokens, the end token included.
    pub maximum_tokens: usize,
    /// Pairs with a side that has more than so many times the tokens of the other.
    pub maximum_ratio: Option<f64>,
    /// Whether to leave out pairs that occurred before in the same corpus.
    pub drop_duplicates: bool,
}

impl Default for Filters {
    fn default() -> Self {
        Filters {
            minimum_tokens: 1,
            maximum_tokens: 256,
            maximum_ratio: None,
            drop_duplicates: false,
        }
    }
}

/// How batches are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// The most tokens of a batch that is computed at once, source and target together.
    pub tokens: usize,
    /// Batches that make one update.
    pub accumulate: usize,
    /// How many pairs are sorted by length together. They are all in memory at once only where
    /// segmentations vary.
    pub window: usize,
    /// Lengths that differ by less than this many tokens count as equal.
    pub bucket: usize,
}

impl TokenizerSource {
    pub(super) fn read(
        table: &mut Table<'_>,
        model: Option<&Model>,
        folders: &BaseFolders<'_>,
    ) -> Option<Self> {
        let mut sampling = table.table("sampling");
        let alpha = sampling
            .number("alpha", "a number above 0, at most 1", |alpha| alpha > 0.0 && alpha <= 1.0);
        if sampling.is_there() {
            sampling.required("alpha", alpha);
        }
        drop(sampling);
        let recipe_keys = ["kind", "vocabulary", "joint", "character_coverage"];
        let pretrained = match model.map(|model| &model.start) {
            Some(Start::Pretrained(folder)) => Some(folder),
            _ => None,
        };
        if let Some(folder) = pretrained {
            let why = "comes with the model of model.init_from: take it away";
            table.refuse(&["directory", "kind", "vocabulary", "joint", "character_coverage"], why);
            let origin = TokenizerOrigin::Directory(folder.clone());
            return Some(TokenizerSource { origin, sampling: alpha });
        }
        if table.has("directory") {
            let folder = table.text("directory").map(|folder| folders.path(&folder));
            let why = "belongs to a tokeniser that is made, but `directory` names one: take one of them away";
            table.refuse(&recipe_keys, why);
            let origin = TokenizerOrigin::Directory(folder?);
            return Some(TokenizerSource { origin, sampling: alpha });
        }
        table.text("directory");
        let kinds = [("unigram", TokenizerKind::Unigram), ("bpe", TokenizerKind::Bpe)];
        let kind = table.choice("kind", &kinds);
        let vocabulary = table.size("vocabulary", 8..=1 << 20);
        let joint = table.flag("joint").unwrap_or(true);
        if !joint && shares_embeddings(model) {
            table.fault("joint", "is false, but model.share_embeddings needs one vocabulary");
        }
        let coverage =
            table.number("character_coverage", "a number above 0.5, at most 1", |share| {
                share > 0.5 && share <= 1.0
            });
        let recipe = TokenizerRecipe {
            kind: kind.unwrap_or(TokenizerKind::Unigram),
            vocabulary: vocabulary.unwrap_or(8000),
            joint,
            character_coverage: coverage.unwrap_or(0.9995),
        };
        Some(TokenizerSource { origin: TokenizerOrigin::Trained(recipe), sampling: alpha })
    }
}

fn shares_embeddings(model: Option<&Model>) -> bool {
    matches!(model, Some(Model { start: Start::Scratch(shape), .. }) if shape.share_embeddings)
}

impl Data {
    pub(super) fn read(table: &mut Table<'_>, folders: &BaseFolders<'_>) -> Option<Self> {
        let written = table.text("root").map(|root| folders.path(&root));
        let root = folders.data_root.map(Path::to_path_buf).or(written);
        let root = root.unwrap_or_else(|| folders.folder.to_path_buf());
        let synthetic = Synthetic::read(&mut table.table("synthetic"));
        let files = corpora(table, "train", &root);
        let train = match (table.has("train"), table.has("synthetic")) {
            (true, true) => {
                table.fault("synthetic", "stands beside `train`: take one of them away");
                None
            }
            (false, false) => {
                table.fault(
                    "train",
                    "is missing, as in [{ source = \"train.en\", target = \"train.fr\" }]",
                );
                None
            }
            (true, false) => files.map(Corpora::Files),
            (false, true) => synthetic.map(Corpora::Synthetic),
        };
        let synthetic = Synthetic::read(&mut table.table("synthetic_validation"));
        let files = corpora(table, "validation", &root);
        let validation = match synthetic {
            Some(_) if table.has("validation") => {
                let problem = "stands beside `validation`: take one of them away";
                table.fault("synthetic_validation", problem);
                None
            }
            Some(task) => Some(Corpora::Synthetic(task)),
            None => files.map(Corpora::Files),
        };
        let filters = Filters::read(table);
        Some(Data { train: train?, validation, filters })
    }
}

/// The corpora of a list; `None` if there is none or one has faults.
fn corpora(table: &mut Table<'_>, key: &'static str, root: &Path) -> Option<Vec<Corpus>> {
    let tables = table.tables(key);
    if !table.has(key) {
        return None;
    }
    if tables.is_empty() {
        table.fault(key, "names no corpus");
    }
    let corpora: Vec<_> =
        tables.into_iter().map(|mut table| Corpus::read(&mut table, root)).collect();
    corpora.into_iter().collect()
}

impl Corpus {
    fn read(table: &mut Table<'_>, root: &Path) -> Option<Self> {
        let path = |text: Option<String>| text.map(|path| root.join(path));
        let source = path(table.text("source"));
        let target = path(table.text("target"));
        let tsv = path(table.text("tsv"));
        let columns = table.pair("columns", "two columns counted from 0, as in [0, 1]", |column| {
            (0.0..1e4).contains(&column) && column.fract() == 0.0
        });
        let weight = table.number("weight", "a number above 0, at most 1000", |weight| {
            weight > 0.0 && weight <= 1000.0
        });
        let is_pair = table.has("source") || table.has("target");
        let files = match (is_pair, table.has("tsv")) {
            (true, false) => {
                let source = table.required("source", source);
                let target = table.required("target", target);
                if table.has("columns") {
                    table.fault("columns", "belongs to a `tsv`");
                }
                CorpusFiles::Pair { source: source?, target: target? }
            }
            (false, true) => {
                let columns = columns.unwrap_or([0.0, 1.0]).map(|column| column as usize);
                CorpusFiles::Table { path: tsv?, columns }
            }
            _ => {
                table.fault("", "needs either `source` and `target`, or `tsv`");
                return None;
            }
        };
        Some(Corpus { files, weight: weight.unwrap_or(1.0) })
    }
}

impl Synthetic {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let tasks = [("copy", Task::Copy), ("reverse", Task::Reverse), ("sort", Task::Sort)];
        let task = table.choice("task", &tasks);
        let symbols = table.size("symbols", 2..=26).unwrap_or(26);
        let minimum_length = table.size("minimum_length", 1..=10_000).unwrap_or(1);
        let maximum_length = table.size("maximum_length", 1..=10_000).unwrap_or(20);
        let pairs = table.size("pairs", 1..=1 << 27);
        let seed = table.count("seed", 0..=u64::MAX).unwrap_or(0);
        if !table.is_there() {
            return None;
        }
        if minimum_length > maximum_length {
            let problem = format!("is {minimum_length}, above maximum_length = {maximum_length}");
            table.fault("minimum_length", problem);
        }
        let (task, pairs) = (table.required("task", task), table.required("pairs", pairs));
        Some(Synthetic {
            task: task?,
            symbols,
            minimum_length,
            maximum_length,
            pairs: pairs?,
            seed,
        })
    }
}

impl Filters {
    fn read(table: &mut Table<'_>) -> Self {
        let default = Filters::default();
        let ratio = table.number("maximum_ratio", "a number, 1 or more", |ratio| ratio >= 1.0);
        let filters = Filters {
            minimum_tokens: table
                .size("minimum_tokens", 1..=1 << 20)
                .unwrap_or(default.minimum_tokens),
            maximum_tokens: table
                .size("maximum_tokens", 2..=1 << 20)
                .unwrap_or(default.maximum_tokens),
            maximum_ratio: ratio,
            drop_duplicates: table.flag("drop_duplicates").unwrap_or(default.drop_duplicates),
        };
        if filters.minimum_tokens > filters.maximum_tokens {
            let (least, most) = (filters.minimum_tokens, filters.maximum_tokens);
            table.fault("minimum_tokens", format!("is {least}, above maximum_tokens = {most}"));
        }
        filters
    }
}

impl Batching {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Batching {
            tokens: table.size("tokens", 2..=1 << 24).unwrap_or(4096),
            accumulate: table.size("accumulate", 1..=256).unwrap_or(1),
            window: table.size("window", 1..=1 << 27).unwrap_or(1 << 16),
            bucket: table.size("bucket", 1..=1 << 20).unwrap_or(4),
        }
    }
}
