//! Times the same work on every backend: the bundled model translates a few sentences.

use super::median;
use crate::project::{self, Outcome};
use std::sync::Arc;
use std::time::Instant;
use tfm::Model;
use tfm_core::Session;
use tfm_core::reference::Reference;
use tfm_cpu::CpuBackend;
use tfm_cpu::kernels::simd::Isa;
use tfm_model::scheduler::{Scheduler, Settings};
use tfm_model::{Numerics, Parameters};

const TEXT: &str = "crates/tfm/tests/fixtures/bundled.en";
/// Few sentences, since the reference backend is slow.
const SENTENCES: usize = 4;
const ROUNDS: usize = 5;

/// Prints the table.
pub(super) fn run() -> Outcome {
    let model = Model::bundled().map_err(|error| error.to_string())?;
    let text = project::read(TEXT)?;
    let sources: Vec<Vec<u32>> = text
        .lines()
        .take(SENTENCES)
        .map(|line| model.tokenizer().encode_source(line).map_err(|error| error.to_string()))
        .collect::<Outcome<_>>()?;
    let parameters = || Arc::new(Parameters::new(model.checkpoint().clone()));
    let mut sessions = vec![Session::new(Reference::<f64>::new(), parameters())];
    for isa in Isa::available() {
        let backend = CpuBackend::with_isa(isa, 1).map_err(|error| error.to_string())?;
        sessions.push(Session::new(backend, parameters()));
    }
    println!("{SENTENCES} sentences, beam 4, one thread, median of {ROUNDS}:");
    println!("| backend | ms | tokens/s | times the reference |\n|---|---|---|---|");
    let mut reference = None;
    for session in &sessions {
        let (seconds, tokens) =
            measure(&model, session, &sources).map_err(|error| error.to_string())?;
        let reference = *reference.get_or_insert(seconds);
        println!(
            "| {} | {:.2} | {:.0} | {:.0} |",
            session.name(),
            seconds * 1e3,
            tokens as f64 / seconds,
            reference / seconds
        );
    }
    Ok(())
}

/// The seconds and the number of generated tokens.
fn measure(
    model: &Model,
    session: &Session,
    sources: &[Vec<u32>],
) -> tfm_model::Result<(f64, usize)> {
    let config = Arc::new(model.config().clone());
    let options = Arc::new(model.generation().clone());
    let scheduler = Scheduler::new(session, &config, Numerics::default(), &Settings::default())?;
    let mut tokens = 0;
    let mut seconds = Vec::new();
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let results = scheduler.generate(&options, sources)?;
        // The first round is not timed: it reads the weights and compiles.
        if round > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
        tokens =
            results.iter().filter_map(|found| found.first()).map(|best| best.tokens.len()).sum();
    }
    Ok((median(seconds), tokens))
}
