//! `cargo xtask parity`: the laws, on all backends that are there.

use crate::project::Outcome;
use clap::Args;
use tfm_core::reference::Reference;
use tfm_core::testing::{Candidate, Subject, laws};
use tfm_cpu::CpuBackend;
use tfm_cpu::kernels::simd::Isa;

/// How many cases, and which.
#[derive(Args)]
pub(crate) struct Parity {
    /// Multiplies the number of cases
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Run the case of this seed alone; a failure says it
    #[arg(long)]
    seed: Option<u64>,
    /// Check the backends alone whose name holds this
    #[arg(long, value_name = "NAME", default_value = "")]
    backend: String,
}

/// Checks every law on every backend: one line each.
pub(crate) fn run(arguments: &Parity) -> Outcome {
    let config = laws::Config { scale: arguments.scale, seed: arguments.seed };
    let mut subjects: Vec<Box<dyn Subject>> =
        vec![Box::new(Candidate::new(Reference::<f64>::new()))];
    for isa in Isa::available() {
        let backend = CpuBackend::with_isa(isa, 1).map_err(|error| error.to_string())?;
        subjects.push(Box::new(Candidate::new(backend)));
    }
    let mut broken = 0;
    for subject in subjects.iter().filter(|subject| subject.name().contains(&arguments.backend)) {
        for law in laws::all() {
            let head = format!("law {:>2}  {:<28}", law.number, subject.name());
            match law.check(&**subject, &config) {
                Ok(report) => {
                    let closeness = match report.tally.elements {
                        0 => "same bits".to_owned(),
                        _ => format!("{:.3} of bound", report.tally.worst),
                    };
                    println!("{head}  {:>6} cases  {closeness:<14}  {}", report.cases, law.claim);
                }
                Err(failure) => {
                    broken += 1;
                    println!("{head}  BROKEN: {failure}");
                }
            }
        }
    }
    if broken == 0 { Ok(()) } else { Err(format!("{broken} laws are broken")) }
}
