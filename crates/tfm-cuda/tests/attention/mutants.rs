//! Mutants of the tile kernels, each with one changed instruction. The cases below must notice that
//! they are wrong. Each barrier, and each commit of or wait for a copy, is left out in turn; of the
//! other instructions a sample is changed.
//!
//! `TFM_MUTANTS` is the number of mutants that are sampled for each kernel.

use crate::case::{Case, Expected};
use crate::device::{Kernel, Run, text};
use crate::reference::expected;
use tfm_core::DType;
use tfm_ptx_emu::{Launch, Module};

/// The number of mutants that are sampled unless the environment says otherwise.
pub(crate) const SAMPLE: usize = 12;
/// The share of mutants that must be caught. The sample is small, so chance has its part in it.
const REQUIRED: f64 = 0.85;
const REQUIRED_OF_FEW: f64 = 0.75;

/// A changed text, and what was changed.
pub(crate) struct Mutant {
    /// The number of the line that was changed.
    pub(crate) at: usize,
    pub(crate) what: String,
    pub(crate) text: String,
}

/// A problem in the state before a kernel runs, and the expected results.
struct Prepared {
    case: Case,
    before: Run,
    how: Launch,
    expected: Option<Expected>,
}

/// The problems, cheapest first. Either all or none of them have biases.
fn prepared(kernel: Kernel, biased: bool) -> Vec<Prepared> {
    // As many buckets as a kernel takes. Were there fewer, mutants that change the unused ones
    // would compute the same.
    let with = |case: Case| if biased { case.biased(126, 100, true) } else { case };
    let new = |size, lengths: &[(usize, usize)]| Case::new(DType::F16, size, lengths);
    let mut cases = vec![
        Case {
            causal: true,
            rate: Some(0.3),
            heads: 2,
            ..new(56, &[(19, 13), (6, 14), (3, 0), (0, 9), (4, 20)])
        },
        new(64, &[(70, 150)]),
        Case { causal: true, ..new(64, &[(5, 193), (66, 70)]) },
        Case { causal: true, scale: 4.0, ..new(64, &[(130, 66)]) },
        Case {
            rate: Some(0.4),
            heads: 2,
            claimed_rows: Some(i32::MAX as usize - 2),
            ..new(64, &[(12, 64)])
        },
        Case { rate: Some(Case::tie()), ..new(64, &[(65, 131)]) },
    ];
    // Every edge of the visible keys at every place of a tile, with weights that all matter.
    cases.push(Case { causal: true, scale: 0.02, ..new(64, &[(64, 68), (64, 76), (9, 40)]) });
    cases.push(Case { scale: 8.0, ..new(64, &[(64, 128)]) });
    // Ranges that begin and end at every place of a warp's rows, with all of their keys visible.
    cases.push(new(64, &[(4, 13), (6, 14), (5, 20), (3, 9), (2, 1), (4, 42)]));
    cases[8].rows += 30;
    // Rows that no query sees, a sequence that shares keys with others, and more sequences than
    // threads.
    cases[2].rows += 80;
    cases[2].sequences.push((9, (150, 60)));
    let mut many = new(64, &[]);
    many.rows = 200;
    many.sequences = (0..140).map(|s| (usize::from(s % 45 == 40), (s, 30 + s % 7))).collect();
    cases.push(Case { causal: true, ..many });
    let mut all: Vec<Prepared> = Vec::new();
    for (n, case) in cases.into_iter().map(with).enumerate() {
        let (data, how) = (case.data(), schedule(n));
        let expected = Some(expected(&case, &data));
        all.push(Prepared { before: Run::new(&case, &data), case, how, expected });
    }
    for case in Case::wild(DType::F16, 64).map(with) {
        let (data, how) = (case.data(), schedule(all.len()));
        all.push(Prepared { before: Run::new(&case, &data), case, how, expected: None });
    }
    for prepared in &mut all {
        for earlier in Kernel::ALL.into_iter().take_while(|earlier| *earlier != kernel) {
            let launched = prepared.before.launch(earlier, None, prepared.how);
            launched.unwrap_or_else(|problem| panic!("{problem}: {:?}", prepared.case));
        }
    }
    all
}

fn schedule(n: usize) -> Launch {
    Launch { seed: n as u64, lazy: n.is_multiple_of(2), ..Launch::default() }
}

/// What the kernel does wrong in one of the problems; `None` where all results are right.
fn problem(kernel: Kernel, module: &Module, prepared: &[Prepared], again: bool) -> Option<String> {
    prepared.iter().find_map(|Prepared { case, before, how, expected }| {
        // The second run takes the other kind of asynchronous copies.
        [how.lazy, !how.lazy].into_iter().take(if again { 2 } else { 1 }).find_map(|lazy| {
            let mut run = before.clone();
            let right = run.launch(kernel, Some(module), Launch { lazy, ..*how }).and_then(|()| {
                let Some(expected) = expected else { return Ok(()) };
                let of_biases =
                    (kernel == Kernel::QueryGradient && case.bias.is_some()).then_some(5);
                let mut results = kernel.results().chain(of_biases);
                results.try_for_each(|i| case.compare_one(i, &run.result(i)?, expected))
            });
            right.err()
        })
    })
}

/// Numbers that look random.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// The text with line `at` replaced.
fn replaced(lines: &[&str], at: usize, new: &str) -> String {
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        text += if i == at { new } else { line };
        text.push('\n');
    }
    text
}

/// Whether a line is an instruction.
fn is_instruction(line: &str) -> bool {
    let line = line.trim().trim_start_matches('{').trim();
    line.contains(';') && line.starts_with(|c: char| c.is_ascii_lowercase() || c == '@')
}

/// Every way to leave out one instruction that synchronises.
pub(crate) fn synchronisation(lines: &[&str]) -> Vec<Mutant> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let dropped = ["bar.sync", "barrier.sync", "cp.async.commit_group", "cp.async.wait_group"];
        if !dropped.iter().any(|what| line.trim().starts_with(what)) {
            continue;
        }
        found.push(Mutant {
            at,
            what: format!("`{}` left out", line.trim()),
            text: replaced(lines, at, ""),
        });
        for (from, to) in [("wait_group 0", "wait_group 1"), ("wait_group 1", "wait_group 2")] {
            if line.contains(from) {
                let new = line.replace(from, to);
                let what = format!("`{}` → `{}`", line.trim(), new.trim());
                found.push(Mutant { at, what, text: replaced(lines, at, &new) });
            }
        }
    }
    found
}

const COMPARISONS: [(&str, &str); 8] = [
    (".lt.", ".le."),
    (".le.", ".lt."),
    (".gt.", ".ge."),
    (".ge.", ".gt."),
    (".eq.", ".ne."),
    (".ne.", ".eq."),
    (".ltu.", ".leu."),
    (".gtu.", ".geu."),
];
const OPERATIONS: [(&str, &str); 12] = [
    ("add.", "sub."),
    ("sub.", "add."),
    ("max.", "min."),
    ("min.", "max."),
    ("and.", "or."),
    ("or.", "and."),
    ("xor.", "and."),
    ("shl.b32", "shr.u32"),
    ("shr.u32", "shl.b32"),
    ("mul.f32", "add.f32"),
    ("mul.lo", "add"),
    ("fma.rn.f32", "mul.f32"),
];
/// The instructions whose operands have an order.
const ORDERED: [&str; 8] = ["sub.", "setp.", "selp.", "shl.", "shr.", "div.", "ldmatrix", "mma."];

/// Changes a line at random. `None` where that kind of change does not apply to the line.
fn change(line: &str, random: &mut Random) -> Option<String> {
    let start = line.find(|c: char| c.is_ascii_lowercase())?;
    let code = &line[start..];
    let name = code.split_whitespace().next()?;
    if name.starts_with("bar") {
        return None;
    }
    match random.below(5) {
        0 => Some(String::new()),
        1 => {
            // Exchange two registers.
            ORDERED.iter().find(|ordered| name.starts_with(**ordered))?;
            let mut registers: Vec<(usize, &str)> = Vec::new();
            let mut at = name.len() + start;
            while let Some(next) = line[at..].find('%') {
                let from = at + next;
                let rest = &line[from + 1..];
                let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                registers.push((from, &line[from..from + 1 + length]));
                at = from + 1 + length;
            }
            // Of `mma` take only the matrices that are multiplied, of other instructions what they
            // read.
            let range = match name {
                name if name.starts_with("mma") => 4..registers.len().min(10),
                name if name.starts_with("ldmatrix") => 0..registers.len().min(4),
                _ => 1..registers.len(),
            };
            if range.len() < 2 {
                return None;
            }
            let i = range.start + random.below(range.len() - 1);
            let ((a, first), (b, second)) = (registers[i], registers[i + 1]);
            let (between, after) = (&line[a + first.len()..b], &line[b + second.len()..]);
            (first != second).then(|| format!("{}{second}{between}{first}{after}", &line[..a]))
        }
        2 => {
            // Add one to a number that is not part of a name.
            let places: Vec<usize> = line
                .char_indices()
                .skip(name.len() + start)
                .filter(|(i, c)| {
                    let before = line[..*i].chars().next_back().unwrap_or(' ');
                    c.is_ascii_digit() && !before.is_ascii_alphanumeric() && !"%_$".contains(before)
                })
                .map(|(i, _)| i)
                .collect();
            let at = *places.get(random.below(places.len()))?;
            let digits: String =
                line[at..].chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
            let new = match digits.strip_prefix("0f") {
                Some(bits) => {
                    let x = f32::from_bits(u32::from_str_radix(bits, 16).ok()?);
                    format!("0f{:08X}", (if x == 0.0 { 1.0 } else { 1.5 * x }).to_bits())
                }
                None => (digits.parse::<i64>().ok()? + 1).to_string(),
            };
            Some(format!("{}{new}{}", &line[..at], &line[at + digits.len()..]))
        }
        3 => {
            let (from, to) = COMPARISONS.iter().find(|(from, _)| name.contains(from))?;
            Some(line.replacen(from, to, 1))
        }
        _ => {
            let (from, to) = OPERATIONS.iter().find(|(from, _)| name.starts_with(from))?;
            if *from == "fma.rn.f32" {
                // Leave out the addend.
                let end = line.rfind(',')?;
                return Some(format!("{};", line[..end].replacen(from, to, 1)));
            }
            Some(line.replacen(from, to, 1))
        }
    }
}

/// Mutants with `n` random changes.
pub(crate) fn sample(lines: &[&str], n: usize, random: &mut Random) -> Vec<Mutant> {
    let places: Vec<usize> = (0..lines.len()).filter(|at| is_instruction(lines[*at])).collect();
    let mut found: Vec<Mutant> = Vec::new();
    while found.len() < n {
        let at = places[random.below(places.len())];
        let line = lines[at];
        let Some(new) = change(line, random).filter(|new| new != line) else { continue };
        let text = replaced(lines, at, &new);
        // Some changes give a text that no assembler takes.
        if Module::parse(&text).is_ok() && found.iter().all(|other| other.text != text) {
            let new = if new.is_empty() { "nothing" } else { new.trim() };
            found.push(Mutant { at, what: format!("`{}` → `{new}`", line.trim()), text });
        }
    }
    found
}

/// Counts the mutants that are caught, and prints the others.
fn caught(kernel: Kernel, prepared: &[Prepared], mutants: &[Mutant], again: bool) -> usize {
    let name = kernel.name(&prepared[0].case);
    let left_out = text(&name).unwrap().1;
    let mut caught = 0;
    for mutant in mutants {
        let module = Module::parse(&mutant.text).unwrap_or_else(|error| panic!("{error}"));
        match problem(kernel, &module, prepared, again) {
            Some(_) => caught += 1,
            None => {
                let line = mutant.at + 1 + left_out;
                println!("survives: {name}, line {line} of the file: {}", mutant.what);
            }
        }
    }
    caught
}

fn assert_mutants_are_caught(kernel: Kernel, biased: bool) {
    let prepared = prepared(kernel, biased);
    let text = text(&kernel.name(&prepared[0].case)).unwrap().0;
    let module = Module::parse(&text).unwrap();
    assert_eq!(problem(kernel, &module, &prepared, true), None, "{kernel:?} as it is");
    let lines: Vec<&str> = text.lines().collect();
    let mutants = synchronisation(&lines);
    assert!(mutants.len() >= 8, "{} of synchronisation", mutants.len());
    let found = caught(kernel, &prepared, &mutants, true);
    println!("{kernel:?}: {found} of {} without synchronisation are caught", mutants.len());
    assert_eq!(found, mutants.len(), "{kernel:?}: synchronisation");
    let n = std::env::var("TFM_MUTANTS").ok().and_then(|n| n.parse().ok()).unwrap_or(SAMPLE);
    let mutants = sample(&lines, n, &mut Random(1));
    let found = caught(kernel, &prepared, &mutants, false);
    println!("{kernel:?}: {found} of {} changed instructions are caught", mutants.len());
    let required = if n < 100 { REQUIRED_OF_FEW } else { REQUIRED };
    assert!(found as f64 >= required * n as f64, "{kernel:?}: {found} of {n}");
}

#[test]
fn mutants_of_the_forward_pass_are_caught() {
    assert_mutants_are_caught(Kernel::Forward, false);
}

#[test]
fn mutants_of_the_gradient_of_queries_are_caught() {
    assert_mutants_are_caught(Kernel::QueryGradient, false);
}

#[test]
fn mutants_of_the_gradients_of_keys_are_caught() {
    assert_mutants_are_caught(Kernel::KeyGradient, false);
}

#[test]
fn mutants_of_the_kernels_with_biases_are_caught() {
    for kernel in [Kernel::Forward, Kernel::QueryGradient, Kernel::KeyGradient] {
        assert_mutants_are_caught(kernel, true);
    }
}
