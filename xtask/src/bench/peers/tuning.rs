//! Finds a program's fastest setting for a piece of work: once, on a part of it. The setting is
//! kept.

use super::prepare::{Places, fingerprint, kept};
use super::program::{Job, Program, Setting, Unit};
use super::rows::{Against, Contestant, Mode, Row, THREADS};
use crate::project::{Outcome, read};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

const FILE: &str = "tuning.json";
/// How many times as fast as the best another setting must be to replace it. Less may be chance,
/// and the earlier settings are a program's default or use less memory.
const GAIN: f64 = 1.03;
/// A candidate that takes so many times as long as the best so far is given up.
const PATIENCE: f64 = 2.0;

/// The setting with which a contestant is measured.
pub(super) fn setting(
    row: &Row,
    contestant: &Contestant,
    places: &Places,
    quick: bool,
) -> Outcome<Setting> {
    let Contestant { program, threads } = *contestant;
    if threads < THREADS {
        // Tune with all threads, so that only the number of threads differs between contestants.
        let with = Contestant { program, threads: THREADS };
        let all = setting(row, &with, places, quick)?;
        return Ok(Setting { workers: 1, threads, ..all });
    }
    let mut first = first_candidates(program, row.mode);
    if quick {
        first.truncate(2);
    }
    if let [only] = first[..] {
        return Ok(only);
    }
    // The setting does not depend on the programs it is compared with.
    let work = Row { against: Against::Peers, ..*row }.name();
    let key = format!("{work}, {}, {}", program.name(), version(program, places)?);
    let mut known = load();
    if let Some(setting) = known.get(&key).filter(|_| !quick) {
        return Ok(*setting);
    }
    let mut best = Best { row, program, places, quick, found: None, seconds: f64::INFINITY };
    for candidate in first {
        best.attempt(candidate)?;
    }
    if !quick && let Some((_, start)) = best.found {
        for candidate in further_candidates(program, row.mode, start) {
            best.attempt(candidate)?;
        }
    }
    let (_, setting) = best.found.ok_or("no setting ran to its end")?;
    println!("{}: {}: the best setting is {setting}", row.name(), program.name());
    if !quick {
        known.insert(key, setting);
        store(&known)?;
    }
    Ok(setting)
}

/// The ways to divide the threads among workers, with batches of a middling size.
fn first_candidates(program: Program, mode: Mode) -> Vec<Setting> {
    let batch = match (program, mode) {
        (Program::Tfm, _) | (_, Mode::Latency) => None,
        _ => Some((32, Unit::Sentences)),
    };
    let with = |workers, threads| Setting { workers, threads, batch, mkl: false };
    let threads = match mode {
        Mode::Batch => vec![with(THREADS, 1), with(1, THREADS)],
        Mode::Latency => vec![with(1, THREADS), with(1, 1)],
    };
    match program {
        Program::Tfm => threads,
        Program::CTranslate2 => {
            let mkl = threads.clone().into_iter().map(|setting| Setting { mkl: true, ..setting });
            threads.iter().copied().chain(mkl).collect()
        }
        Program::Transformers => vec![with(1, THREADS)],
    }
}

/// Other batch sizes for the best of the first candidates.
fn further_candidates(program: Program, mode: Mode, best: Setting) -> Vec<Setting> {
    let sizes: &[(usize, Unit)] = match (mode, program) {
        (Mode::Latency, _) | (_, Program::Transformers) => &[],
        (_, Program::Tfm) => &[(64, Unit::Hypotheses), (256, Unit::Hypotheses)],
        (_, Program::CTranslate2) => &[
            (16, Unit::Sentences),
            (64, Unit::Sentences),
            (1024, Unit::Tokens),
            (2048, Unit::Tokens),
        ],
    };
    sizes.iter().map(|&batch| Setting { batch: Some(batch), ..best }).collect()
}

/// The best setting so far.
struct Best<'a> {
    row: &'a Row,
    program: Program,
    places: &'a Places,
    quick: bool,
    /// The best setting and its speed.
    found: Option<(f64, Setting)>,
    /// The time that its whole process took.
    seconds: f64,
}

impl Best<'_> {
    fn attempt(&mut self, setting: Setting) -> Outcome {
        let (row, program) = (self.row, self.program);
        let limit = Some(if self.quick { row.quick() } else { row.tuned_on() });
        let job = Job { row, program, setting, output: self.places.output("tuning"), limit };
        let most = self.found.map(|_| Duration::from_secs_f64(1.0 + PATIENCE * self.seconds));
        let Some(run) = job.run(self.places, most)? else {
            println!("{}: tuning {}: {setting}: too slow", row.name(), program.name());
            return Ok(());
        };
        println!("{}: tuning {}: {setting}: {}", row.name(), program.name(), run.summary(row));
        let speed = run.speed(row);
        if self.found.is_none_or(|(best, _)| speed > GAIN * best) {
            self.found = Some((speed, setting));
            self.seconds = run.process_seconds;
        }
        Ok(())
    }
}

/// The version that a setting was found for. Another version may have another best setting.
fn version(program: Program, places: &Places) -> Outcome<String> {
    Ok(match program {
        Program::Tfm => {
            let file = places.ours()?;
            let binary = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            fingerprint(&binary)
        }
        _ => fingerprint(read("xtask/python/requirements.txt")?.as_bytes()),
    })
}

/// The settings found so far, by what they were found for.
fn load() -> BTreeMap<String, Setting> {
    let text = fs::read_to_string(kept(FILE)).unwrap_or_default();
    // Settings that an older version of this program wrote are found again.
    serde_json::from_str(&text).unwrap_or_default()
}

fn store(known: &BTreeMap<String, Setting>) -> Outcome {
    let text = serde_json::to_string_pretty(known).map_err(|error| error.to_string())?;
    fs::write(kept(FILE), text + "\n").map_err(|error| format!("{FILE}: {error}"))
}
