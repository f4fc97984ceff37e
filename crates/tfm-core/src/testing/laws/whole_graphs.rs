//! Laws 9 to 11: on values without elements, on replays, and on random whole graphs.

use super::harness::Check;
use super::single_ops::{SLACK, compare, run, same_bits};
use super::{Config, Failure, Report};
use crate::testing::recipes::{self, Family, Range};
use crate::testing::{OperandLayout, Parameters, Problem, Recipe, Subject, Tally, Weights};
use crate::{CompileOptions, Program, Session, Tensor};
use proptest::prelude::*;
use std::sync::Arc;

/// Law 9: sequences of no and of one token, no rows and one row. There is no fault, no NaN, and 0
/// where a query has no key (whose error bound is 0).
pub(super) fn tiny(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let range = Range::tiny(subject.dtypes());
    let mut report = Report::default();
    for family in recipes::primitives(&range).into_iter().chain(recipes::fused(&range)) {
        let check = Check { law: 9, name: family.name, subject, config };
        report = report.and(check.run(40, &family.recipes, |recipe: &Recipe| {
            let problem = recipe.problem(OperandLayout::Contiguous, Weights::Parameters);
            let outputs = run(subject, &problem, &CompileOptions::default())?;
            let mut tally = Tally::default();
            for (bounds, output) in problem.bounds()?.iter().zip(&outputs) {
                tally = tally.and(bounds.check(output, SLACK)?);
            }
            Ok(tally)
        })?);
    }
    Ok(report)
}

/// Law 10: programs that share a session's memory, run again and again in any order, give the bits
/// that each gives in a new session.
pub(super) fn replay(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let range = Range::new(subject.dtypes());
    let mut sources = vec![recipes::graphs(&range), recipes::graphs(&range)];
    let families = recipes::primitives(&range).into_iter().chain(recipes::fused(&range));
    sources.extend(families.map(|Family { recipes, .. }| recipes));
    let recipe = proptest::strategy::Union::new(sources);
    let several = (proptest::collection::vec(recipe, 1..=4), any::<[u8; 6]>());
    let check = Check { law: 10, name: "replay", subject, config };
    check.run(60, &several, |(recipes, order)| {
        let problems: Vec<Problem> = recipes
            .iter()
            .map(|r| r.problem(OperandLayout::Contiguous, Weights::Parameters))
            .collect();
        let mut session = subject.session(Arc::new(Parameters::of(&problems)), 1);
        let mut programs: Vec<Option<Program>> = vec![None; problems.len()];
        for &number in order {
            let number = usize::from(number) % problems.len();
            let problem = &problems[number];
            let program = match &programs[number] {
                Some(program) => program.clone(),
                None => session
                    .compile(&problem.graph, &CompileOptions::default())
                    .map_err(|error| error.to_string())?,
            };
            let replayed = problem.run_program(&mut session, &program)?;
            programs[number] = Some(program);
            let fresh = run(subject, problem, &CompileOptions::default())?;
            same_bits(&fresh, &replayed).map_err(|fault| format!("problem {number}: {fault}"))?;
        }
        // A fork runs all programs at the same time as the session itself.
        let mut fork = session.fork(1).map_err(|error| error.to_string())?;
        let run_all = |session: &mut Session| -> Result<Vec<Vec<Tensor>>, String> {
            let compiled = problems.iter().zip(&programs);
            compiled
                .filter_map(|(problem, program)| Some((problem, program.as_ref()?)))
                .map(|(problem, program)| problem.run_program(session, program))
                .collect()
        };
        let (own, forked) = std::thread::scope(|scope| {
            let forked = scope.spawn(|| run_all(&mut fork));
            (run_all(&mut session), forked.join())
        });
        let forked = forked.map_err(|_| "the fork panicked")?;
        for (own, forked) in own?.iter().zip(&forked?) {
            same_bits(own, forked).map_err(|fault| format!("forked: {fault}"))?;
        }
        Ok(Tally::default())
    })
}

/// Law 11: random whole graphs agree with the reference: as they are, with all fused ops
/// decomposed, and on strided operands. Memory that values share changes no bit.
pub(super) fn random(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let check = Check { law: 11, name: "random graphs", subject, config };
    let graphs = recipes::graphs(&Range::new(subject.dtypes()));
    check.run(300, &graphs, |recipe: &Recipe| {
        let plain = recipe.problem(OperandLayout::Contiguous, Weights::Parameters);
        let outputs = run(subject, &plain, &CompileOptions::default())?;
        let mut tally = Tally::default();
        for (bounds, output) in plain.bounds()?.iter().zip(&outputs) {
            tally = tally.and(bounds.check(output, SLACK)?);
        }
        let separate = CompileOptions { separate_slots: true, ..CompileOptions::default() };
        let separate = run(subject, &plain, &separate)?;
        same_bits(&outputs, &separate).map_err(|fault| format!("separate slots: {fault}"))?;
        let decompose_all = CompileOptions { decompose_all: true, ..CompileOptions::default() };
        let decomposed = run(subject, &plain, &decompose_all)?;
        compare(&plain, outputs.iter().zip(&decomposed))
            .map_err(|fault| format!("decomposed: {fault}"))?;
        let strided = recipe.problem(OperandLayout::Strided, Weights::Inputs);
        let strided = run(subject, &strided, &CompileOptions::default())?;
        compare(&plain, outputs.iter().zip(&strided))
            .map_err(|fault| format!("strided: {fault}"))?;
        Ok(tally)
    })
}
