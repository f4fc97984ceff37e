//! Faults of the general kernels that the tests must notice: arguments that are not what they
//! should be, and mutants with one changed instruction.

use super::properties::schedule;
use super::run::Fault;
use super::{Data, Lookup, Problem, Set};
use crate::device::text;
use crate::mutants::{Random, SAMPLE, sample, synchronisation};
use tfm_core::DType;
use tfm_ptx_emu::{Launch, Module};

/// The share of mutants that must be caught. The sample is small, so chance has its part in it. Of
/// the kernels of single queries some are equivalent: what lies beyond a head meets zeros.
const REQUIRED: f64 = 0.65;

/// Problems with two sets that have all attributes, for each kind of kernel.
fn problems(dtype: DType, single: bool) -> Vec<Problem> {
    let size = if dtype == DType::F32 { 60 } else { 64 };
    let lengths = [(5, 20), (66, 70), (3, 0), (0, 9), (20, 133)];
    let first = Set { causal: true, window: Some(23), ..Set::ranges(2, &lengths) };
    let first = first.biased(126, 100, true);
    let second = |of: &[(usize, usize)]| {
        Set { window: Some(40), ..Set::ranges(3, of) }.biased(20, 30, false)
    };
    let plain = Set::ranges(6, &lengths);
    // More sequences than a block or a warp looks at in one round.
    let many: Vec<(usize, usize)> =
        (0..300).map(|s| (usize::from(s % 45 == 40), 1 + s % 3)).collect();
    let many = Set::ranges(1, &many);
    if single {
        let lengths: Vec<usize> = (0..12).map(|i| i * 29 % 150).collect();
        let table =
            Set { window: Some(70), ..Set::table(2, &lengths, 150) }.biased(126, 100, false);
        let sets = vec![table, second(&[(4, 90), (1, 7), (7, 140)])];
        // Blocks that have several chunks with biases.
        let long = Set::table(3, &[700, 40, 577], 700).biased(9, 40, false);
        // Heads that end inside of a vector's lanes, a second set alone, rows that are not there.
        let mut gaps = Set { rows: 50, ..Set::table(1, &[70, 3, 64, 9], 70) };
        let Lookup::Table(_, table, _) = &mut gaps.lookup else { unreachable!("by a table") };
        table.iter_mut().step_by(5).for_each(|row| *row = -1);
        let other = Set::ranges(2, &[(1, 65), (2, 9), (1, 30)]).biased(30, 20, true);
        return vec![
            Problem { cap: Some(2.0), ..Problem::single(dtype, 6, size, sets) },
            Problem::single(dtype, 3, size, vec![long]),
            Problem { cap: Some(3.0), ..Problem::single(dtype, 2, 120, vec![gaps, other]) },
            Problem::single(dtype, 1, size, vec![many.clone(), many]),
        ];
    }
    let sets = vec![first, second(&[(40, 90), (1, 7), (53, 140)])];
    let both = Problem::by_ranges(dtype, 6, size, sets);
    let alone = Problem::by_ranges(dtype, 6, size, vec![plain]);
    // Columns of every part of a plain kernel's rows; other heads are padded.
    let wide = if dtype == DType::F32 { 251 } else { 40 };
    let tie = Some(crate::case::Case::tie());
    let wide = Problem::by_ranges(dtype, 1, wide, vec![Set::ranges(1, &[(33, 70), (1, 1)])]);
    vec![
        Problem { cap: Some(2.0), ..both.clone() },
        Problem { rate: Some(0.3), ..alone },
        Problem { scale: 2.0, ..both },
        Problem { cap: Some(3.0), rate: tie, ..wide },
        Problem::by_ranges(dtype, 1, size, vec![many.clone(), many]),
    ]
}

/// A problem with its data and what is expected.
type Prepared = (Problem, Data, [Vec<f64>; 2]);

fn prepared(dtype: DType, single: bool) -> Vec<Prepared> {
    let problems = problems(dtype, single).into_iter();
    let with_data = problems.map(|problem| {
        let data = problem.data();
        let expected = problem.expected(&data);
        (problem, data, expected)
    });
    with_data.collect()
}

/// What a kernel does wrong; `None` where all results are right.
fn wrong(
    prepared: &[Prepared],
    instead: Option<&Module>,
    fault: Option<Fault>,
    again: bool,
) -> Option<String> {
    prepared.iter().enumerate().find_map(|(n, (problem, data, expected))| {
        let how = schedule(n);
        // The second run takes the other kind of asynchronous copies.
        [how.lazy, !how.lazy].into_iter().take(if again { 2 } else { 1 }).find_map(|lazy| {
            let found = problem.run(data, Launch { lazy, ..how }, instead, fault);
            found.and_then(|(found, _)| problem.compare(&found, expected)).err()
        })
    })
}

/// The kernels and whether they go by single queries.
const ALL: [(DType, bool); 4] =
    [(DType::F16, false), (DType::F32, false), (DType::F16, true), (DType::F32, true)];

#[test]
fn wrong_arguments_are_noticed() {
    for (dtype, single) in ALL {
        let prepared = prepared(dtype, single);
        assert_eq!(wrong(&prepared, None, None, true), None, "{dtype}");
        // Each fault is one of the first problem, which has all attributes.
        let first = &prepared[..1];
        let mut faults = vec![Fault::NoCap, Fault::OneSet, Fault::FirstSetTwice];
        for n in 0..2 {
            faults.extend([Fault::WiderWindow(n), Fault::NarrowerWindow(n)]);
            faults.extend([Fault::OtherGroup(n), Fault::NoBias(n)]);
            // The query of a table stands at its last key, so none is later.
            if !(single && n == 0) {
                faults.push(Fault::OtherCausality(n));
            }
        }
        for fault in faults {
            assert!(wrong(first, None, Some(fault), false).is_some(), "{dtype} {fault:?}");
        }
    }
}

#[test]
fn mutants_of_the_general_kernels_are_caught() {
    let n = std::env::var("TFM_MUTANTS").ok().and_then(|n| n.parse().ok()).unwrap_or(SAMPLE);
    for (dtype, single) in ALL {
        let prepared = prepared(dtype, single);
        let name = prepared[0].0.kernel();
        let (text, left_out) = text(&name).unwrap();
        let module = Module::parse(&text).unwrap();
        let same = prepared.iter().all(|(problem, ..)| problem.kernel() == name);
        assert!(same && wrong(&prepared, Some(&module), None, false).is_none(), "{name} as it is");
        let lines: Vec<&str> = text.lines().collect();
        let barriers = synchronisation(&lines);
        let caught = |mutants: &[crate::mutants::Mutant], again: bool| {
            let survives = |mutant: &&crate::mutants::Mutant| {
                let module = Module::parse(&mutant.text).unwrap_or_else(|error| panic!("{error}"));
                let survives = wrong(&prepared, Some(&module), None, again).is_none();
                if survives {
                    let line = mutant.at + 1 + left_out;
                    println!("survives: {name}, line {line} of the file: {}", mutant.what);
                }
                survives
            };
            mutants.len() - mutants.iter().filter(survives).count()
        };
        let found = caught(&barriers, true);
        println!("{name}: {found} of {} without synchronisation are caught", barriers.len());
        assert_eq!(found, barriers.len(), "{name}: synchronisation");
        let mutants = sample(&lines, n, &mut Random(1));
        let found = caught(&mutants, false);
        println!("{name}: {found} of {} changed instructions are caught", mutants.len());
        assert!(found as f64 >= REQUIRED * n as f64, "{name}: {found} of {n}");
    }
}
