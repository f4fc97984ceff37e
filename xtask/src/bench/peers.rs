//! The command beside PyTorch `transformers` and CTranslate2: whole processes on the same text, taking turns.

use super::median;
use crate::project::{self, Outcome, root};
use crate::python;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = "xtask/python/peers.py";
const PAGE: &str = "docs/benchmarks/cpu.md";
const MARKS: [&str; 2] = ["<!-- peers: begin -->\n", "<!-- peers: end -->"];
const MODEL: &str = "models/marian-tatoeba-en-fr";

/// A program that is measured.
struct Peer {
    name: &'static str,
    command: Vec<String>,
    runs: Vec<Run>,
}

/// One run of a program, from its start to its end.
struct Run {
    seconds: f64,
    peak_bytes: u64,
}

/// Measures all programs and writes the table.
pub(super) fn run(rounds: usize, python: Option<&Path>) -> Outcome {
    let data = match project::test_data() {
        Ok(data) => data.join(MODEL),
        Err(why) => {
            println!("skipped: {why}");
            return Ok(());
        }
    };
    let python = python.map_or_else(python::environment, |path| Ok(path.to_owned()))?;
    project::run(project::cargo().args(["build", "--release", "--locked", "--package", "tfm"]))?;
    let work = root().join("target/peers");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let mut prepare = Command::new(&python);
    prepare.current_dir(root()).args([SCRIPT, "prepare", "--model"]).arg(&data);
    project::run(prepare.arg("--out").arg(work.join("ct2")))?;

    let mut peers = peers(&python, &data, &work)?;
    for round in 1..=rounds {
        for peer in &mut peers {
            let run = measure(&peer.command)?;
            println!("round {round}: {}: {:.3} s", peer.name, run.seconds);
            peer.runs.push(run);
        }
    }
    let sentences = project::read(data.join("reference/source.en"))?.lines().count();
    let table = table(&peers, sentences, rounds, &data, &work)?;
    println!("{table}");
    write(&table)
}

/// The programs, we first.
fn peers(python: &Path, data: &Path, work: &Path) -> Outcome<Vec<Peer>> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let tfm = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("tfm");
    let input = text(data.join("reference/source.en"));
    let model = text(data.to_owned());
    let (python, converted) = (text(python.to_owned()), text(work.join("ct2")));
    let peer = |name: &'static str, output: &str, command: &[&str]| {
        let output = text(work.join(output));
        let files = ["--model", &model, "--input", &input, "--output", &output];
        let command = command.iter().chain(&files).map(|word| word.to_string()).collect();
        Peer { name, command, runs: Vec::new() }
    };
    let ct2 = [&python, SCRIPT, "ct2", "--converted", &converted, "--batch-tokens", "2048"];
    let tfm = [&text(tfm), "translate", "--quiet", "--beam", "4", "--threads", "2"];
    Ok(vec![
        peer("tfm", "tfm.fr", &tfm),
        peer("CTranslate2, f32", "ct2.fr", &ct2),
        peer("CTranslate2, f32, CT2_USE_MKL=1", "ct2-mkl.fr", &[&ct2[..], &["--use-mkl"]].concat()),
        peer(
            "transformers on PyTorch, f32",
            "torch.fr",
            &[&python, SCRIPT, "torch", "--threads", "2"],
        ),
    ])
}

/// Runs a command to its end, watching its memory.
fn measure(command: &[String]) -> Outcome<Run> {
    let fault = |problem: String| format!("{}: {problem}", command.join(" "));
    let start = Instant::now();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .current_dir(root())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| fault(error.to_string()))?;
    let mut peak_bytes = 0;
    let status = loop {
        // The kernel keeps the highest mark, so looking often is not needed, but once near the end is.
        peak_bytes = peak_bytes.max(peak(child.id()));
        match child.try_wait().map_err(|error| fault(error.to_string()))? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    if status.success() { Ok(Run { seconds, peak_bytes }) } else { Err(fault(status.to_string())) }
}

/// The most memory that a process has held so far, as Linux tells it.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kibibytes = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

fn table(
    peers: &[Peer],
    sentences: usize,
    rounds: usize,
    data: &Path,
    work: &Path,
) -> Outcome<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let mut page = format!(
        "{sentences} sentences of the Tatoeba test split, `{MODEL}`, f32, beam 4, two threads.\n\
         Whole processes, from start to end: load, tokenise, translate, detokenise, write. {rounds} rounds, \
         the programs taking turns;\n\
         medians, and the median of each round's ratio. CPU: {}.\n\n\
         | program | s | sentences/s | tfm is so many times as fast | peak MB | BLEU |\n\
         |---|---|---|---|---|---|\n",
        cpu.trim_start_matches([' ', '\t', ':'])
    );
    let reference = data.join("reference/target.fr");
    for (peer, output) in peers.iter().zip(["tfm.fr", "ct2.fr", "ct2-mkl.fr", "torch.fr"]) {
        let seconds = median(peer.runs.iter().map(|run| run.seconds).collect());
        let ratios =
            peer.runs.iter().zip(&peers[0].runs).map(|(peer, tfm)| peer.seconds / tfm.seconds);
        let bytes = peer.runs.iter().map(|run| run.peak_bytes).max().unwrap_or(0);
        page += &format!(
            "| {} | {seconds:.2} | {:.0} | {:.2} | {:.0} | {:.2} |\n",
            peer.name,
            sentences as f64 / seconds,
            median(ratios.collect()),
            bytes as f64 / 1e6,
            bleu(&work.join(output), &reference)?
        );
    }
    page +=
        "\nMade by `cargo xtask bench --peers`, which runs, for each line of the table:\n\n```sh\n";
    for peer in peers {
        page += &shown(&peer.command, data);
        page.push('\n');
    }
    page += "```\n";
    Ok(page)
}

/// A command as it is written on the page: without the places of this machine.
fn shown(command: &[String], data: &Path) -> String {
    let (data, root) = (data.to_string_lossy(), root().to_string_lossy());
    let mut words: Vec<String> = command
        .iter()
        .map(|word| word.replace(&*data, &format!("$TFM_TEST_DATA/{MODEL}")).replace(&*root, "."))
        .collect();
    words[0] = if words.len() > 1 && words[1] == SCRIPT { "python" } else { "tfm" }.into();
    words.join(" ")
}

fn bleu(hypothesis: &Path, reference: &Path) -> Outcome<f64> {
    let tfm = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("tfm");
    let mut evaluate = Command::new(tfm);
    evaluate.args(["evaluate", "--metrics", "bleu", "--format", "jsonl", "--hypothesis"]);
    let line = project::output(evaluate.arg(hypothesis).arg("--reference").arg(reference))?;
    let score = serde_json::from_str(&line).map(|record: Value| record["score"].as_f64());
    score.ok().flatten().ok_or_else(|| format!("tfm evaluate printed {line}"))
}

/// Puts the table between the page's marks.
fn write(table: &str) -> Outcome {
    let page = project::read(PAGE)?;
    let fault = || format!("{PAGE}: no line {}", MARKS[0].trim());
    let (before, rest) = page.split_once(MARKS[0]).ok_or_else(fault)?;
    let (_, after) = rest.split_once(MARKS[1]).ok_or_else(fault)?;
    let page = format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]);
    fs::write(root().join(PAGE), page).map_err(|error| format!("{PAGE}: {error}"))
}
