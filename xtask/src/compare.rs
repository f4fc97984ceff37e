//! `cargo xtask compare BASE`: checks whether the command still gives byte for byte what it gave at
//! another commit.

mod build;
mod cases;
mod command;
mod difference;
mod sources;
mod timing;

use crate::project::{self, Outcome, root};
use cases::Case;
use clap::Args;
use command::Binary;
use difference::{Verdict, verdict};
use std::path::{Path, PathBuf};

/// The checkpoints in the large test data that are compared where they exist.
const SHARED: [&str; 2] = ["models/marian-tatoeba-en-fr", "models/annalog-smiles"];

/// What to compare.
#[derive(Args)]
pub(crate) struct Compare {
    /// The commit to compare with, as git names it
    #[arg(value_name = "BASE")]
    base: String,
    /// A model's folder; may be given several times. Without it, the bundled model and those of the
    /// large test data
    #[arg(long, value_name = "DIR")]
    model: Vec<PathBuf>,
    /// Only the cases whose name has this in it: "beam 4", "int8", "training"
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Measure time and memory of both instead, in turns
    #[arg(long)]
    timed: bool,
    /// With --timed, how often each of both runs
    #[arg(long, value_name = "N", default_value_t = 7, requires = "timed")]
    pairs: usize,
}

/// A checkpoint to compare on; `None` stands for the bundled one.
struct Subject {
    name: String,
    folder: Option<PathBuf>,
    /// The lines that the model reads.
    lines: Vec<String>,
}

/// Builds both commands and compares them.
pub(crate) fn run(arguments: &Compare) -> Outcome {
    let [old, new] = build::both(&arguments.base)?;
    let subjects = subjects(&arguments.model)?;
    if arguments.timed {
        return timing::run(&old, &new, &subjects, &arguments.only, arguments.pairs.max(1));
    }
    let mut different = 0;
    let mut compared = 0;
    for case in cases::all(&subjects).iter().filter(|case| case.name.contains(&arguments.only)) {
        let verdict = compare(case, &old, &new)?;
        println!("{}: {verdict}", case.name);
        compared += 1;
        different += usize::from(matches!(verdict, Verdict::Differs(_)));
    }
    match (compared, different) {
        (0, _) => Err(format!("--only: no case is called {:?}", arguments.only)),
        (_, 0) => Ok(()),
        _ => Err(format!("{different} of {compared} cases differ from {}", arguments.base)),
    }
}

/// Runs a case with both commands.
fn compare(case: &Case, old: &Binary, new: &Binary) -> Outcome<Verdict> {
    let [old, new] = [case.output(old)?, case.output(new)?];
    Ok(verdict(old, new))
}

/// The checkpoints that were asked for, or else all that exist.
fn subjects(chosen: &[PathBuf]) -> Outcome<Vec<Subject>> {
    let mut subjects = Vec::new();
    for folder in chosen {
        subjects.push(Subject::open(folder)?);
    }
    if chosen.is_empty() {
        subjects.push(Subject { name: "bundled".into(), folder: None, lines: sources::english()? });
        match project::test_data() {
            Ok(data) => {
                for folder in SHARED.map(|model| data.join(model)) {
                    if folder.is_dir() {
                        subjects.push(Subject::open(&folder)?);
                    } else {
                        println!("skipped: no {}", folder.display());
                    }
                }
            }
            Err(reason) => println!("skipped: {reason}"),
        }
    }
    Ok(subjects)
}

impl Subject {
    fn open(folder: &Path) -> Outcome<Subject> {
        let folder =
            folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lines = sources::of(&folder)?;
        Ok(Subject { name, folder: Some(folder), lines })
    }
}

/// The folder for everything that a comparison writes.
fn workplace() -> PathBuf {
    root().join("target/compare")
}
