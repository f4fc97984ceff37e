//! Laws 1 to 3, on problems of one op each.

use super::harness::Check;
use super::{Config, Failure, Report};
use crate::testing::recipes::{self, Range, Sameness};
use crate::testing::{OperandLayout, Problem, Recipe, Subject, Tally, Weights};
use crate::{CompileOptions, Tensor};

/// How many times its derived bound an error may be. The bounds are those of the decompositions,
/// and a fused kernel may round at other places.
pub(super) const SLACK: f64 = 2.0;

/// Runs a problem in a new session whose memory is poisoned.
pub(super) fn run(
    subject: &dyn Subject,
    problem: &Problem,
    options: &CompileOptions,
) -> Result<Vec<Tensor>, String> {
    problem.run(&mut subject.poisoned_session(problem.parameters.clone(), 1), options)
}

/// Equal bits, NaN being equal to NaN.
pub(super) fn same_bits(a: &[Tensor], b: &[Tensor]) -> Result<Tally, String> {
    for (number, (a, b)) in a.iter().zip(b).enumerate() {
        if a.shape() != b.shape() {
            return Err(format!("output {number}: {} and {}", a.shape(), b.shape()));
        }
        let pairs = a.to_f64().into_iter().zip(b.to_f64()).enumerate();
        for (index, (a, b)) in pairs {
            if a != b && !(a.is_nan() && b.is_nan()) {
                return Err(format!("output {number}, element {index}: {a:e} and {b:e}"));
            }
        }
    }
    Ok(Tally::default())
}

/// Checks that pairs of answers to a problem differ by no more than rounding explains.
pub(super) fn compare<'a>(
    problem: &Problem,
    pairs: impl Iterator<Item = (&'a Tensor, &'a Tensor)>,
) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for (bounds, (a, b)) in problem.bounds()?.iter().zip(pairs) {
        tally = tally.and(bounds.check_pair(a, b, SLACK)?);
    }
    Ok(tally)
}

/// Law 1.
pub(super) fn reference(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let range = Range::new(subject.dtypes());
    let primitives = recipes::primitives(&range);
    let fused = recipes::fused_of_any_types(&range);
    let mut report = Report::default();
    for family in primitives.iter().chain(&fused) {
        let check = Check { law: 1, name: family.name, subject, config };
        report = report.and(check.run(80, &family.recipes, |recipe: &Recipe| {
            let mut tally = Tally::default();
            for weights in [Weights::Parameters, Weights::Inputs] {
                let problem = recipe.problem(OperandLayout::Contiguous, weights);
                let outputs = run(subject, &problem, &CompileOptions::default())?;
                for (bounds, output) in problem.bounds()?.iter().zip(&outputs) {
                    tally = tally.and(bounds.check(output, SLACK)?);
                }
            }
            Ok(tally)
        })?);
    }
    Ok(report)
}

/// Law 2.
pub(super) fn fused(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let range = Range::new(subject.dtypes());
    let mut report = Report::default();
    for family in recipes::fused_of_any_types(&range) {
        let check = Check { law: 2, name: family.name, subject, config };
        report = report.and(check.run(60, &family.recipes, |recipe: &Recipe| {
            let problem = recipe.problem(OperandLayout::Contiguous, Weights::Parameters);
            let fused = run(subject, &problem, &CompileOptions::default())?;
            let decomposed = CompileOptions { decompose_all: true, ..CompileOptions::default() };
            let decomposed = run(subject, &problem, &decomposed)?;
            compare(&problem, fused.iter().zip(&decomposed))
        })?);
    }
    Ok(report)
}

/// Law 3.
pub(super) fn layouts(subject: &dyn Subject, config: &Config) -> Result<Report, Failure> {
    let range = Range::new(subject.dtypes());
    let primitives = recipes::primitives(&range);
    let fused = recipes::fused_of_any_types(&range);
    let mut report = Report::default();
    for family in primitives.iter().chain(&fused) {
        let check = Check { law: 3, name: family.name, subject, config };
        report = report.and(check.run(60, &family.recipes, |recipe: &Recipe| {
            let plain = recipe.problem(OperandLayout::Contiguous, Weights::Parameters);
            let strided = recipe.problem(OperandLayout::Strided, Weights::Parameters);
            let contiguous = run(subject, &plain, &CompileOptions::default())?;
            let strided = run(subject, &strided, &CompileOptions::default())?;
            match family.layouts {
                Sameness::Bits => same_bits(&contiguous, &strided),
                Sameness::Bounds => compare(&plain, contiguous.iter().zip(&strided)),
            }
        })?);
    }
    Ok(report)
}
