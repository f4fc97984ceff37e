//! Measures tfm beside CTranslate2 and `transformers` on PyTorch. All do the same work, in turns.

mod page;
mod prepare;
mod program;
mod quality;
mod results;
mod rows;
mod tuning;

use crate::project::{self, Outcome, root};
use prepare::Places;
pub(super) use prepare::{BASE_SHAPE, TRAINED};
use program::{Job, Program};
use results::{Entry, Measured, Results};
use rows::Row;
use std::path::Path;

/// What to measure, and how thoroughly.
pub(super) struct Choice<'a> {
    /// How often each program runs.
    pub(super) rounds: usize,
    /// Only the rows whose name contains this.
    pub(super) only: Option<&'a str>,
    /// Whether to do only a small piece of the work, to see that everything runs. The numbers are
    /// printed but not kept.
    pub(super) quick: bool,
    pub(super) python: Option<&'a Path>,
}

/// Measures the chosen rows. Writes the page with all rows that were ever measured on this machine.
pub(super) fn run(choice: &Choice) -> Outcome {
    let mut chosen = rows::all();
    chosen.retain(|row| choice.only.is_none_or(|only| row.name().contains(only)));
    if chosen.is_empty() {
        let names: Vec<String> = rows::all().iter().map(Row::name).collect();
        return Err(format!("--only: no row is called so; there are {}", names.join(", ")));
    }
    let places = Places::prepare(choice.python)?;
    let mut results = if choice.quick { Results::default() } else { Results::load() };
    let mut faults = Vec::new();
    for row in &chosen {
        if places.model(row.model).is_none() {
            println!("{}: skipped: {}", row.name(), places.missing());
            continue;
        }
        match measure(row, &places, choice) {
            Ok(measured) => {
                faults
                    .extend(measured.faults.iter().map(|fault| format!("{}: {fault}", row.name())));
                results.insert(measured);
                if !choice.quick {
                    // Store after every row: all of them take long, and somebody may stop the run.
                    results.store()?;
                }
            }
            Err(fault) => {
                println!("{}: {fault}", row.name());
                faults.push(format!("{}: {fault}", row.name()));
            }
        }
    }
    let tables = page::tables(&results);
    println!("{tables}");
    if !choice.quick {
        page::write(&tables)?;
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Measures all rounds of a row.
fn measure(row: &Row, places: &Places, choice: &Choice) -> Outcome<Measured> {
    let mut jobs = Vec::new();
    for (number, contestant) in row.contestants().iter().enumerate() {
        let setting = tuning::setting(row, contestant, places, choice.quick)?;
        let output = places.output(&format!("{}-{number}", row.name().replace(' ', "-")));
        let limit = if choice.quick { Some(row.quick()) } else { row.limit() };
        jobs.push(Job { row, program: contestant.program, setting, output, limit });
    }
    let mut entries: Vec<Entry> = jobs.iter().map(|job| Entry::new(job, places)).collect();
    for round in 1..=choice.rounds {
        let mut turns: Vec<usize> = (0..jobs.len()).collect();
        if round % 2 == 0 {
            turns.reverse(); // so that a machine that gets slower favours nobody
        }
        for turn in turns {
            let (job, entry) = (&jobs[turn], &mut entries[turn]);
            // This program is so slow that a few rounds settle the ratio.
            if job.program == Program::Transformers && round > choice.rounds.div_ceil(3) {
                continue;
            }
            let run = job.run(places, None)?.ok_or("it was stopped")?;
            println!("{}: round {round}: {}: {}", row.name(), entry.program, run.summary(row));
            entry.runs.push(run);
        }
    }
    let outputs = jobs.iter().map(|job| project::read(&job.output)).collect::<Outcome<Vec<_>>>()?;
    quality::check(row, &outputs, places, entries)
}

/// A path as the page shows it, without the folders of this machine.
fn shown(text: &str, places: &Places) -> String {
    let text = places.without_data(text);
    text.replace(&*root().to_string_lossy(), ".")
}
