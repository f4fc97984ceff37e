//! Checks that programs are compared at the same work: their outputs have the length that was asked
//! for, and their translations are equally good.

use super::prepare::Places;
use super::results::{Entry, Measured};
use super::rows::{Model, Row};
use crate::bench::cpu;
use crate::project::{Outcome, read};
use tfm::metrics::Bleu;

/// How far our BLEU may fall below that of `transformers` in f32.
const LOSS: f64 = 0.2;

/// Checks every program's last output, and makes the row's results.
pub(super) fn check(
    row: &Row,
    outputs: &[String],
    places: &Places,
    mut entries: Vec<Entry>,
) -> Outcome<Measured> {
    let mut faults = Vec::new();
    for (entry, output) in entries.iter_mut().zip(outputs) {
        if let Some(length) = row.length() {
            let other = output.lines().find(|line| line.split_whitespace().count() != length);
            if let Some(line) = other {
                let fault = format!("{}: an output is not {length} tokens: {line}", entry.program);
                faults.push(fault);
            }
            entry.same = Some(same(&outputs[0], output));
        }
    }
    if let Some(folder) = places.model(row.model).filter(|_| row.model == Model::Trained) {
        let reference = read(folder.join("reference/target.fr"))?;
        let exact = bleu(&read(folder.join("reference/beam4.fr"))?, &reference)?;
        for (number, (entry, output)) in entries.iter_mut().zip(outputs).enumerate() {
            let score = bleu(output, &reference)?;
            entry.bleu = Some(score);
            // A part of the text has another score. What other programs lose is for the table to
            // tell.
            let whole = output.lines().count() == reference.lines().count();
            if number == 0 && whole && score < exact - LOSS {
                let fault = format!("{}: BLEU is {score:.2}, in f32 {exact:.2}", entry.program);
                faults.push(fault);
            }
        }
    }
    Ok(Measured { row: row.name(), cpu: cpu::describe(), entries, faults })
}

/// The share of lines that are equal.
fn same(ours: &str, theirs: &str) -> f64 {
    let lines = ours.lines().count().max(1);
    let equal = ours.lines().zip(theirs.lines()).filter(|(a, b)| a == b).count();
    equal as f64 / lines as f64
}

/// The BLEU of as many lines as there are.
fn bleu(hypothesis: &str, reference: &str) -> Outcome<f64> {
    let hypotheses: Vec<&str> = hypothesis.lines().collect();
    let references: Vec<&str> = reference.lines().take(hypotheses.len()).collect();
    let score = Bleu::default().corpus(&hypotheses, &[references]);
    score.map(|found| found.score).map_err(|error| error.to_string())
}
