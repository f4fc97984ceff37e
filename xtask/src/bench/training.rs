//! Measures training beside PyTorch. Both programs train on the same batches, in turns.

mod batches;

use super::{median, page};
use crate::project::{self, Outcome, root};
use crate::python;
use batches::Workload;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = "xtask/python/peers_training.py";
/// Our program. It takes the script's options, reads the same files and prints the same line.
const OURS: &str = "training_speed";
const PAGE: &str = "docs/benchmarks/training.md";
const THREADS: &str = "2";

/// A program, its workload and its runs.
struct Entry {
    program: &'static str,
    command: Vec<String>,
    runs: Vec<Run>,
}

/// The line that a program printed.
struct Run {
    tokens_per_second: f64,
    seconds_per_step: f64,
    tokens: f64,
    peak_bytes: f64,
    losses: [f64; 2],
    versions: Option<String>,
}

/// Measures all workloads and writes the table.
pub(super) fn run(rounds: usize, python: Option<&Path>) -> Outcome {
    let data = match project::test_data() {
        Ok(data) => data,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(());
        }
    };
    let python = python.map_or_else(python::environment, |path| Ok(path.to_owned()))?;
    let ours = ours()?;
    let work = root().join("target/training");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;

    let mut measured = Vec::new();
    for workload in batches::workloads(&data)? {
        let files = workload.write(&work)?;
        let entries = entries(&ours, &python, &workload, &files);
        measured.push((workload, entries));
    }
    for round in 1..=rounds {
        for (workload, entries) in &mut measured {
            for entry in entries {
                let run = measure(&entry.command)?;
                let (program, speed) = (entry.program, run.tokens_per_second);
                println!("round {round}: {}: {program}: {speed:.0} tokens/s", workload.name);
                entry.runs.push(run);
            }
        }
    }
    let table = table(&measured, rounds);
    println!("{table}");
    page::write(PAGE, "training", &table)
}

/// Builds our program and returns the command that runs it.
fn ours() -> Outcome<Vec<String>> {
    let package = ["build", "--release", "--locked", "--package", "tfm-benches", "--bin", OURS];
    project::run(project::cargo().args(package))?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name(OURS);
    Ok(vec![text(&program)])
}

/// The programs for a workload, ours first.
fn entries(
    ours: &[String],
    python: &Path,
    workload: &Workload,
    [config, batches]: &[PathBuf; 2],
) -> Vec<Entry> {
    let [warmup, steps] = [workload.warmup, workload.steps].map(|count| count.to_string());
    let options = ["--threads", THREADS, "--warmup", &warmup, "--steps", &steps].map(String::from);
    let files = ["--config".into(), text(config), "--batches".into(), text(batches)];
    let entry = |program, command: &[String]| {
        let command = [command, &options, &files].concat();
        Entry { program, command, runs: Vec::new() }
    };
    let torch = [text(python), SCRIPT.into()];
    vec![entry("tfm", ours), entry("transformers on PyTorch", &torch)]
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs a program to its end and reads the line that it prints.
fn measure(command: &[String]) -> Outcome<Run> {
    let mut process = Command::new(&command[0]);
    let printed = project::output(process.args(&command[1..]).current_dir(root()))?;
    let fault = |what: &str| format!("{}: {what} in {printed}", command.join(" "));
    let line = printed.lines().last().unwrap_or_default();
    let report: Value = serde_json::from_str(line).map_err(|error| fault(&error.to_string()))?;
    let number =
        |key: &str| report[key].as_f64().ok_or_else(|| fault(&format!("no number \"{key}\"")));
    let versions = report["versions"].as_object().map(|versions| {
        let named = versions
            .iter()
            .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()));
        named.collect::<Vec<_>>().join(", ")
    });
    Ok(Run {
        tokens_per_second: number("tokens_per_second")?,
        seconds_per_step: number("seconds_per_step")?,
        tokens: number("source_tokens")? + number("target_tokens")?,
        peak_bytes: number("peak_rss_bytes")?,
        losses: [number("first_loss")?, number("last_loss")?],
        versions,
    })
}

fn table(measured: &[(Workload, Vec<Entry>)], rounds: usize) -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let all = || measured.iter().flat_map(|(_, entries)| entries);
    let versions = all().flat_map(|entry| &entry.runs).find_map(|run| run.versions.clone());
    let mut page = format!(
        "Training in f32 on {THREADS} threads; tokens are real ones, source and target, eos included. {rounds} \
         rounds, the programs taking turns, each a process\nof its own; medians. Only steps are timed: padding \
         where a program pads, forward, loss, backward, clipping, Adam; dropout 0.1. CPU: {}.\n{}.\n\n\
         | workload | program | tokens/s | s a step | tfm is so many times as fast | peak MB | first and last loss |\n\
         |---|---|---|---|---|---|---|\n",
        cpu.trim_start_matches([' ', '\t', ':']),
        versions.unwrap_or_default()
    );
    for (workload, entries) in measured {
        let speeds = entries.iter().map(|entry| middle(entry, |run| run.tokens_per_second));
        let speeds: Vec<f64> = speeds.collect();
        for (entry, speed) in entries.iter().zip(&speeds) {
            let peak = entry.runs.iter().map(|run| run.peak_bytes).fold(0.0, f64::max);
            let [first, last] = [0, 1].map(|which| middle(entry, |run| run.losses[which]));
            page += &format!(
                "| {} | {} | {speed:.0} | {:.3} | {:.2} | {:.0} | {first:.3}, {last:.3} |\n",
                workload.name,
                entry.program,
                middle(entry, |run| run.seconds_per_step),
                speeds[0] / speed,
                peak / 1e6,
            );
        }
    }
    page += "\n";
    for (workload, entries) in measured {
        page += &format!(
            "- {}: {} {} timed steps, {:.0} tokens in all; padded to the longest, {:.0}% of a batch is real.\n",
            workload.name,
            workload.description,
            workload.steps,
            middle(&entries[0], |run| run.tokens),
            workload.real_share() * 100.0
        );
    }
    page += "\nMade by `cargo xtask bench --training`, which runs, for each line of the table:\n\n```sh\n";
    for entry in all() {
        page += &shown(&entry.command);
        page.push('\n');
    }
    page + "```\n"
}

/// The median of a number over an entry's runs.
fn middle(entry: &Entry, number: impl Fn(&Run) -> f64) -> f64 {
    median(entry.runs.iter().map(number).collect())
}

/// A command as the page shows it, without the folders of this machine.
fn shown(command: &[String]) -> String {
    let root = root().to_string_lossy();
    let mut words: Vec<String> = command.iter().map(|word| word.replace(&*root, ".")).collect();
    words[0] = if words[1] == SCRIPT { "python" } else { OURS }.into();
    words.join(" ")
}
