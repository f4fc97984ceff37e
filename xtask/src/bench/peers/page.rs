//! The tables of docs/benchmarks/cpu.md.

use super::results::{Entry, Measured, Results};
use super::rows::{self, Against, Mode, Model, Row};
use crate::bench::{cpu, page};
use crate::project::Outcome;

const PAGE: &str = "docs/benchmarks/cpu.md";

/// Writes the tables between the page's marks.
pub(super) fn write(tables: &str) -> Outcome {
    page::write(PAGE, "peers", tables)
}

/// A row and its measurements.
type Found<'a> = (&'a Row, &'a Measured);

/// All tables.
pub(super) fn tables(results: &Results) -> String {
    let all = rows::all();
    let found: Vec<Found> = all.iter().filter_map(|row| Some((row, results.get(row)?))).collect();
    let of = |against, model, mode| {
        let wanted = move |row: &Row| (row.against, row.model, row.mode) == (against, model, mode);
        found.iter().copied().filter(|(row, _)| wanted(row)).collect::<Vec<Found>>()
    };
    let mut text = format!(
        "CPU: {}. {} threads on both sides.\n{}\n\n\
         The programs took turns, each run a process of its own, model loaded and warm before the clock starts. \
         A ratio is how many times as fast tfm\nwas: the median over the pairs of runs, the least and the most in \
         brackets. MB: the most memory that a process held. Both sides run with the\nsetting that was fastest on a \
         part of the work.\n",
        cpu::describe(),
        rows::THREADS,
        versions(&found),
    );
    text += &many(&of(Against::Peers, Model::Base, Mode::Batch));
    text += &trained(&of(Against::Peers, Model::Trained, Mode::Batch));
    text += &single(&of(Against::Peers, Model::Base, Mode::Latency));
    let threads =
        [Mode::Batch, Mode::Latency].map(|mode| of(Against::OneThread, Model::Base, mode));
    text += &scaling(&threads.concat());
    text += &commands(&found);
    text
}

/// The versions of all programs.
fn versions(found: &[Found]) -> String {
    let runs = found.iter().flat_map(|(_, measured)| &measured.entries).flat_map(|e| &e.runs);
    let all: std::collections::BTreeSet<String> = runs
        .flat_map(|run| &run.versions)
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    format!("{}.", all.into_iter().collect::<Vec<_>>().join(", "))
}

fn ratio(row: &Row, measured: &Measured, entry: &Entry) -> String {
    let [median, least, most] = measured.ratio(row, entry);
    format!("**{median:.2}** ({least:.2}–{most:.2})")
}

/// The columns that tables share: the memory of both programs, and the ratio of ours to theirs.
fn memory(ours: &Entry, theirs: &Entry) -> String {
    let (ours, theirs) = (ours.peak(), theirs.peak());
    format!("{:.0} | {:.0} | {:.2}", ours / 1e6, theirs / 1e6, ours / theirs)
}

fn same(entry: &Entry) -> String {
    entry.same.map_or_else(|| "–".into(), |share| format!("{:.0}%", share * 100.0))
}

/// The settings of a table's rows.
fn settings(found: &[Found]) -> String {
    let mut text = String::new();
    for (row, measured) in found {
        let all = measured.entries.iter();
        let all = all.map(|entry| format!("{} {}", entry.program, entry.setting));
        text += &format!(
            "- {}: {}; {} rounds\n",
            row.title(),
            all.collect::<Vec<_>>().join("; "),
            measured.entries[0].runs.len()
        );
    }
    text
}

fn many(found: &[Found]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n### Many sentences, the base shape\n\n\
         OPUS-MT's shape (d 512, 6 + 6 layers, 8 heads, feed-forward 2048, 54,688 tokens) with random weights; 512 \
         sources of 8 to 40 tokens,\neach output 32 tokens long. Same: outputs that both have, token by token.\n\n\
         | work | tfm, tokens/s | CTranslate2, tokens/s | ratio | asked for | tfm, MB | CTranslate2, MB | MB ratio | same |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (row, measured) in found {
        let [ours, theirs] = [&measured.entries[0], &measured.entries[1]];
        let speed = |entry: &Entry| entry.median(|run| run.tokens as f64 / run.seconds);
        text += &format!(
            "| {} | {:.0} | {:.0} | {} | {} | {} | {} |\n",
            row.title(),
            speed(ours),
            speed(theirs),
            ratio(row, measured, theirs),
            row.asked,
            memory(ours, theirs),
            same(theirs)
        );
    }
    text + "\n" + &settings(found)
}

fn trained(found: &[Found]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let sentences = found[0].1.entries[0].runs.first().map_or(0, |run| run.sentences);
    let mut text = format!(
        "\n### A trained model, the Tatoeba test split\n\n\
         The reference checkpoint, `{}` of the test data (the bundled model has its name and half its\n\
         vocabulary): d 256, 3 + 3 layers, 4 heads, feed-forward 512, 8,001 tokens; {sentences} sentences\n\
         from text to text.\n\
         Whole process: with its start, loading and warming up.\n\n\
         | work | program | sentences/s | ratio | asked for | BLEU | peak MB | MB ratio | whole process, s |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        super::prepare::TRAINED
    );
    for (row, measured) in found {
        let ours = &measured.entries[0];
        for (number, entry) in measured.entries.iter().enumerate() {
            let asked = if number == 1 { row.asked.to_string() } else { String::new() };
            let (beside, bytes) = match number {
                0 => Default::default(),
                _ => (ratio(row, measured, entry), format!("{:.2}", ours.peak() / entry.peak())),
            };
            text += &format!(
                "| {} | {} | {:.0} | {beside} | {asked} | {} | {:.0} | {bytes} | {:.2} |\n",
                row.title(),
                entry.program,
                entry.median(|run| run.sentences as f64 / run.seconds),
                entry.bleu.map_or_else(|| "–".into(), |bleu| format!("{bleu:.2}")),
                entry.peak() / 1e6,
                entry.median(|run| run.process_seconds),
            );
        }
    }
    text += "\n";
    text += &settings(found);
    text + "- candle: not run; its Marian has no beam search, and takes no sentences of different lengths together.\n"
}

fn single(found: &[Found]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n### One sentence at a time, the base shape\n\n\
         20 tokens in, 24 out; 60 sentences one after the other in each run. The ratio is that of the medians.\n\n\
         | work | tfm, median ms | CTranslate2, median ms | ratio | asked for | tfm, 99% ms | CTranslate2, 99% ms | ratio of 99% | tfm, MB | CTranslate2, MB | MB ratio | same |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (row, measured) in found {
        let [ours, theirs] = [&measured.entries[0], &measured.entries[1]];
        let [slow, slower] = [ours, theirs].map(|entry| entry.percentile(0.99));
        text += &format!(
            "| {} | {:.1} | {:.1} | {} | {} | {slow:.1} | {slower:.1} | {:.2} | {} | {} |\n",
            row.title(),
            ours.percentile(0.5),
            theirs.percentile(0.5),
            ratio(row, measured, theirs),
            row.asked,
            slower / slow,
            memory(ours, theirs),
            same(theirs)
        );
    }
    text + "\n" + &settings(found)
}

fn scaling(found: &[Found]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n### From one thread to two\n\n\
         tfm beside itself, the base shape.\n\n\
         | work | two threads | one thread | ratio | asked for | same |\n|---|---|---|---|---|---|\n",
    );
    for (row, measured) in found {
        let [two, one] = [&measured.entries[0], &measured.entries[1]];
        let speed = |entry: &Entry| match row.mode {
            Mode::Batch => {
                format!("{:.0} tokens/s", entry.median(|run| run.tokens as f64 / run.seconds))
            }
            Mode::Latency => format!("{:.1} ms", entry.percentile(0.5)),
        };
        text += &format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            row.title(),
            speed(two),
            speed(one),
            ratio(row, measured, one),
            row.asked,
            same(one)
        );
    }
    text + "\n" + &settings(found)
}

/// The commands that made the measurements.
fn commands(found: &[Found]) -> String {
    let mut text = String::from(
        "\n<details><summary>Made by <code>cargo xtask bench --peers</code>, which runs</summary>\n\n```sh\n",
    );
    for (_, measured) in found {
        for entry in &measured.entries {
            text += &entry.command;
            text.push('\n');
        }
    }
    text + "```\n\n</details>\n"
}
