//! The tables of docs/roofline.md.

use super::Shape;
use super::count::{self, Work};
use super::peaks::{Floor, Peaks, Precision};
use crate::bench::cpu;

/// The number of hypotheses decoded together, and of beams of a sentence among them.
const STEPS: [(f64, f64); 4] = [(1.0, 1.0), (4.0, 4.0), (32.0, 4.0), (128.0, 4.0)];
/// The number of source tokens encoded together.
const ENCODED: f64 = 1024.0;
/// One sentence at a time: the numbers of source and output tokens, as in the benchmark.
const SINGLE: (f64, usize) = (20.0, 24);
/// Many sentences: the number of beams, and of sentences decoded together in the benchmark.
const TOGETHER: [(f64, f64); 2] = [(4.0, 32.0), (1.0, 128.0)];

/// All tables.
pub(super) fn tables(peaks: &Peaks, shapes: &[Shape]) -> String {
    let mut text = format!("CPU: {}.\n", cpu::describe());
    text += &measured(peaks);
    text += &products(peaks);
    for shape in shapes {
        text += &floors(peaks, shape);
    }
    text
}

fn measured(peaks: &Peaks) -> String {
    let heads =
        peaks.threads.iter().map(|n| format!(" {n} thread{} |", if *n == 1 { "" } else { "s" }));
    let mut text = format!(
        "\n### Peaks\n\n| what | unit |{}\n|---|---|{}\n",
        heads.collect::<String>(),
        "---|".repeat(peaks.threads.len())
    );
    let all = [("10⁹ operations/s", &peaks.giga_operations), ("GB/s", &peaks.gigabytes)];
    for (unit, list) in all {
        for peak in list {
            let figures = peak.best.iter().map(|best| format!(" {best:.1} |")).collect::<String>();
            text += &format!("| {} | {unit} |{figures}\n", peak.name);
        }
    }
    text + "\n"
}

/// The linear layer's rates, as shares of the peaks.
fn products(peaks: &Peaks) -> String {
    let mut text = String::from(
        "### Products with weights\n\nBeside each rate (10⁹ operations/s, the best of 0.25 s) its share of the peak, on one thread and on two.\n\n\
         | precision | inputs × outputs | rows | 1 thread | 2 threads |\n|---|---|---|---|---|\n",
    );
    for product in &peaks.products {
        let cells: String = (product.best.iter().zip(peaks.shares(product)))
            .map(|(best, share)| format!(" {best:.0} ({:.0}%) |", share * 100.0))
            .collect();
        let (inputs, outputs) = (product.inputs, product.outputs);
        text += &format!("| {} | {inputs} × {outputs} | {} |{cells}\n", product.kind, product.rows);
    }
    text + "\n"
}

/// A floor in milliseconds, and whether operations or memory set it.
fn cell(floor: Floor) -> String {
    format!("{:.3} {}", floor.seconds * 1e3, if floor.memory { "m" } else { "o" })
}

fn floors(peaks: &Peaks, shape: &Shape) -> String {
    let Shape { name, config, source, target } = shape;
    let past = *target as f64 / 2.0;
    let mut text = format!(
        "### {name}\n\nd {}, {} + {} layers, feed-forward {}, {} tokens; sources of {source} tokens, outputs of {target}.\n\n\
         | work | 10⁶ operations | 10⁶ weights | MB of keys and values | floor f32, ms | bf16, ms | int8, ms |\n\
         |---|---|---|---|---|---|---|\n",
        config.d_model,
        config.encoder.layers,
        config.decoder.layers,
        config.decoder.feed_forward.inner,
        config.target.vocabulary,
    );
    let mut add = |what: String, work: Work| {
        let floors = Precision::ALL.map(|precision| cell(peaks.floor(work, precision)));
        text += &format!(
            "| {what} | {:.0} | {:.1} | {:.2} | {} |\n",
            (work.operations + work.attention) / 1e6,
            work.weights / 1e6,
            work.keys / 1e6,
            floors.join(" | ")
        );
    };
    for (hypotheses, beams) in STEPS {
        let what = match hypotheses {
            1.0 => "a decoding step, 1 hypothesis".into(),
            _ if hypotheses == beams => {
                format!("a decoding step, {hypotheses} hypotheses of one sentence")
            }
            _ => format!(
                "a decoding step, {hypotheses} hypotheses of {} sentences",
                hypotheses / beams
            ),
        };
        add(what, count::step(config, hypotheses, hypotheses / beams, *source, past));
    }
    let encoded = count::encoding(config, ENCODED / source, *source);
    add(format!("the encoder, {ENCODED} tokens"), encoded);
    let one = count::encoding(config, 1.0, SINGLE.0);
    add(format!("the encoder, one sentence of {} tokens", SINGLE.0), one);
    text +=
        "\nWhole translations at that floor:\n\n| work | f32 | bf16 | int8 |\n|---|---|---|---|\n";
    for (beams, sentences) in TOGETHER {
        let work = count::translation(config, sentences, beams, *source, *target);
        let speeds = Precision::ALL.map(|precision| {
            let floor = peaks.floor_of_all(&work, precision);
            let speed = sentences * *target as f64 / floor.seconds;
            format!("{speed:.0} tokens/s {}", if floor.memory { "m" } else { "o" })
        });
        text += &format!(
            "| {sentences} sentences together, {} | {} |\n",
            search(beams),
            speeds.join(" | ")
        );
    }
    for beams in [1.0, 4.0] {
        let work = count::translation(config, 1.0, beams, SINGLE.0, SINGLE.1);
        let times = Precision::ALL.map(|precision| {
            let floor = peaks.floor_of_all(&work, precision);
            format!("{:.1} ms {}", floor.seconds * 1e3, if floor.memory { "m" } else { "o" })
        });
        let what =
            format!("one sentence, {} tokens in, {} out, {}", SINGLE.0, SINGLE.1, search(beams));
        text += &format!("| {what} | {} |\n", times.join(" | "));
    }
    text + "\n"
}

fn search(beams: f64) -> String {
    if beams == 1.0 { "greedy".into() } else { format!("beam {beams}") }
}
