//! The cases: searches, alignments, scores and a shortlist on each model in each type of numbers,
//! and a training.
//!
//! They use only options that both commits have, and compare what both say: results got more fields
//! in time.

use super::command::Binary;
use super::{Subject, workplace};
use crate::project::Outcome;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

const DTYPES: [&str; 3] = ["f32", "bf16", "int8"];
const TRAINING: &str = include_str!("training.toml");

/// What one case runs.
enum Work<'s> {
    /// `tfm translate` with these options.
    Translate(&'s [&'s str]),
    /// `tfm score` of greedy translations.
    Score,
    /// `tfm shortlist` of greedy translations, and `tfm translate` with what it learnt.
    Shortlist,
    /// `tfm train`.
    Train,
}

/// One comparison.
pub(super) struct Case<'s> {
    pub(super) name: String,
    work: Work<'s>,
    subject: Option<&'s Subject>,
    dtype: &'static str,
}

/// The translations that are compared. Greedy search takes a faster path if nobody asks for scores.
const TRANSLATIONS: [(&str, &[&str]); 4] = [
    ("greedy", &["--beam", "1"]),
    ("greedy with scores", &["--beam", "1", "--format", "jsonl"]),
    ("beam 4, 3 best", &["--beam", "4", "--n-best", "3", "--format", "jsonl"]),
    ("alignments", &["--beam", "4", "--alignments", "--format", "jsonl"]),
];

/// Every case on these models.
pub(super) fn all(subjects: &[Subject]) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for subject in subjects {
        for dtype in DTYPES {
            let translations =
                TRANSLATIONS.iter().map(|(name, options)| (*name, Work::Translate(options)));
            let others = [("score", Work::Score), ("shortlist", Work::Shortlist)];
            for (name, work) in translations.chain(others) {
                let name = format!("{} {dtype} {name}", subject.name);
                cases.push(Case { name, work, subject: Some(subject), dtype });
            }
        }
    }
    cases.push(Case { name: "training".into(), work: Work::Train, subject: None, dtype: "f32" });
    cases
}

impl Case<'_> {
    /// Runs the command. Returns the lines to compare, or the reason why it gave none.
    pub(super) fn output(&self, binary: &Binary) -> Outcome<Result<String, String>> {
        let Some(subject) = self.subject else { return train(binary) };
        let sources = subject.sources()?;
        match self.work {
            Work::Translate(options) => {
                let mut options = options.to_vec();
                if options.contains(&"--alignments") && binary.knows("translate", "--subwords")? {
                    options.push("--subwords");
                }
                let arguments = subject.translate(&sources, self.dtype, &options);
                Ok(binary.run(&arguments)?.map(|run| common(&run.output)))
            }
            Work::Score => {
                let targets = match self.targets(binary, &sources)? {
                    Ok(targets) => targets,
                    Err(reason) => return Ok(Err(reason)),
                };
                let files = ["--source", text(&sources), "--target", text(&targets)];
                let options = ["score", "--quiet", "--dtype", self.dtype, "--format", "jsonl"];
                let arguments = subject.arguments(&[&options[..], &files[..]].concat());
                Ok(binary.run(&arguments)?.map(|run| common(&run.output)))
            }
            Work::Shortlist => {
                let targets = match self.targets(binary, &sources)? {
                    Ok(targets) => targets,
                    Err(reason) => return Ok(Err(reason)),
                };
                let shortlist = binary.folder()?.join("shortlist");
                let files = ["--source", text(&sources), "--target", text(&targets)];
                let options = ["shortlist", "--quiet", "--output", text(&shortlist)];
                let arguments = subject.arguments(&[&options[..], &files[..]].concat());
                if let Err(reason) = binary.run(&arguments)? {
                    return Ok(Err(reason));
                }
                let options = ["--beam", "4", "--shortlist", text(&shortlist), "--format", "jsonl"];
                let arguments = subject.translate(&sources, self.dtype, &options);
                let translated = binary.run(&arguments)?;
                let learnt = fingerprint(&shortlist)?;
                Ok(translated.map(|run| format!("shortlist {learnt}\n{}", common(&run.output))))
            }
            Work::Train => train(binary),
        }
    }

    /// Writes a file of the command's own greedy translations.
    fn targets(&self, binary: &Binary, sources: &Path) -> Outcome<Result<PathBuf, String>> {
        let (subject, path) = (self.subject.expect("asked of models"), binary.folder()?);
        let path = path.join("targets");
        let options = ["--beam", "1", "--output", text(&path)];
        let run = binary.run(&subject.translate(sources, self.dtype, &options))?;
        Ok(run.map(|_| path))
    }
}

impl Subject {
    /// Writes the file of the lines to read.
    pub(super) fn sources(&self) -> Outcome<PathBuf> {
        let path = workplace().join(format!("{}.sources", self.name));
        fs::write(&path, self.lines.join("\n") + "\n")
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// The arguments that translate a file.
    pub(super) fn translate(&self, file: &Path, dtype: &str, options: &[&str]) -> Vec<String> {
        let all = ["translate", "--quiet", "--dtype", dtype, "--input", text(file)];
        self.arguments(&[&all[..], options].concat())
    }

    /// These arguments, and those that choose the model.
    pub(super) fn arguments(&self, all: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = all.iter().map(|&argument| argument.to_owned()).collect();
        if let Some(folder) = &self.folder {
            arguments.extend(["--model".to_owned(), text(folder).to_owned()]);
        }
        arguments
    }
}

/// The arguments of the training, whose folders are made anew.
pub(super) fn training(binary: &Binary) -> Outcome<Vec<String>> {
    let folder = binary.folder()?;
    let output = folder.join("training");
    if output.exists() {
        fs::remove_dir_all(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    }
    let config = folder.join("training.toml");
    fs::write(&config, TRAINING).map_err(|error| format!("{}: {error}", config.display()))?;
    Ok(["train", "--quiet", text(&config)].map(str::to_owned).to_vec())
}

/// The curves of a training without their times, and a hash of what was learnt.
fn train(binary: &Binary) -> Outcome<Result<String, String>> {
    if let Err(reason) = binary.run(&training(binary)?)? {
        return Ok(Err(reason));
    }
    let folder = binary.folder()?.join("training");
    let path = folder.join("metrics.jsonl");
    let metrics =
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut lines = String::new();
    for line in metrics.lines() {
        let mut record: Value =
            serde_json::from_str(line).map_err(|error| format!("{}: {error}", path.display()))?;
        if let Some(fields) = record.as_object_mut() {
            fields.retain(|name, _| !name.contains("second"));
        }
        lines += &format!("{record}\n");
    }
    let model = fingerprint(&folder.join("model/model.safetensors"))?;
    Ok(Ok(format!("{lines}model {model}\n")))
}

/// Of JSON lines the fields that all commits have, to the last digit: texts, scores, those of
/// alternatives, the weights of alignments, log-probabilities. Other lines are as they are.
fn common(output: &str) -> String {
    let line = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(record) if record.is_object() => format!("{}\n", common_fields(&record)),
        _ => format!("{line}\n"),
    };
    output.lines().map(line).collect()
}

fn common_fields(record: &Value) -> Value {
    let mut fields = serde_json::Map::new();
    for name in ["text", "score", "log_probability"] {
        if let Some(value) = record.get(name) {
            fields.insert(name.into(), value.clone());
        }
    }
    if record.get("log_probability").is_some() {
        fields.insert("tokens".into(), record["tokens"].clone());
    }
    if let Some(others) = record["alternatives"].as_array() {
        fields.insert("alternatives".into(), others.iter().map(common_fields).collect());
    }
    match &record["alignment"] {
        Value::Object(alignment) => fields.insert("alignment".into(), alignment["weights"].clone()),
        Value::Array(weights) => fields.insert("alignment".into(), weights.clone().into()),
        _ => None,
    };
    fields.into()
}

/// The SHA-256 of a file.
fn fingerprint(path: &Path) -> Outcome<String> {
    let content = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the names of our own files are text")
}
