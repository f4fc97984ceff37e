//! `cargo xtask parity`: checks the laws on all backends that are available.

use crate::project::{self, Outcome};
use clap::{Args, ValueEnum};
use std::process::Command;
use tfm_core::reference::Reference;
use tfm_core::testing::{Candidate, Subject, laws};
use tfm_cpu::CpuBackend;
use tfm_cpu::kernels::simd::Isa;
use tfm_cuda::CudaBackend;
use tfm_fake_driver::Installed;

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
    /// Further backends: cuda, over an interpreter of its kernels, and on the device if there is
    /// one
    #[arg(long, value_enum, value_delimiter = ',')]
    features: Vec<Feature>,
}

/// A backend that is not always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Feature {
    /// What every build has; for completeness.
    Cpu,
    /// `tfm-cuda`.
    Cuda,
}

/// Set in the process that has the fake driver.
const EMULATED: &str = "TFM_PARITY_EMULATED";
/// An interpreted kernel takes a thousand times as long as a kernel on the CPU.
const EMULATED_SCALE: f64 = 0.1;

/// Checks every law on every backend, and prints one line for each.
pub(crate) fn run(arguments: &Parity) -> Outcome {
    let config = laws::Config { scale: arguments.scale, seed: arguments.seed };
    if std::env::var_os(EMULATED).is_some() {
        let backend = CudaBackend::new(0).map_err(|error| error.to_string())?;
        let scale = EMULATED_SCALE * config.scale;
        return check(&Candidate::new(backend), &laws::Config { scale, ..config });
    }
    let mut subjects: Vec<Box<dyn Subject>> =
        vec![Box::new(Candidate::new(Reference::<f64>::new()))];
    for isa in Isa::available() {
        let backend = CpuBackend::with_isa(isa, 1).map_err(|error| error.to_string())?;
        subjects.push(Box::new(Candidate::new(backend)));
    }
    let with_cuda = arguments.features.contains(&Feature::Cuda);
    if with_cuda {
        match CudaBackend::new(0) {
            Ok(backend) => subjects.push(Box::new(Candidate::new(backend))),
            Err(problem) => println!("skipped: {problem}"),
        }
    }
    let mut broken = Vec::new();
    for subject in subjects.iter().filter(|subject| subject.name().contains(&arguments.backend)) {
        broken.extend(check(&**subject, &config).err());
    }
    if with_cuda && EMULATED_NAME.contains(&arguments.backend) {
        broken.extend(emulated().err());
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
}

/// The name of the fake driver's device.
const EMULATED_NAME: &str = "cuda (PTX interpreter)";

/// Checks the laws on CUDA over the fake driver, in another process that finds the driver.
fn emulated() -> Outcome {
    let driver = Installed::new().map_err(|error| error.to_string())?;
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(this);
    command.args(std::env::args_os().skip(1)).env(EMULATED, "1");
    project::run(driver.apply(&mut command)).map_err(|_| format!("{EMULATED_NAME}: see above"))
}

/// Checks every law on one backend, and prints one line for each.
fn check(subject: &dyn Subject, config: &laws::Config) -> Outcome {
    let mut broken = 0;
    for law in laws::all() {
        let head = format!("law {:>2}  {:<28}", law.number, subject.name());
        match law.check(subject, config) {
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
    if broken == 0 { Ok(()) } else { Err(format!("{}: {broken} laws are broken", subject.name())) }
}
