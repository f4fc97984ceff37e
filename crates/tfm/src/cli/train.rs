//! `tfm train`: a configuration in, a model out.

use super::args::Train;
use super::failure::{Failure, Outcome};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tfm::Device;
use tfm::training::{Ended, Reporter, TrainConfig, train};

/// Does what the arguments say.
pub(crate) fn run(arguments: &Train) -> Outcome {
    let config = TrainConfig::read(&arguments.config).map_err(failed)?;
    let named = config.run.device.as_deref().map(str::parse::<Device>).transpose()?;
    let mut device = super::chosen(arguments.device.or(named), arguments.quiet);
    let threads = config.run.threads.and_then(NonZeroUsize::new);
    if let Some(threads) = arguments.threads.or(threads) {
        device = device.with_threads(threads);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    // The second time it ends the process, as ever.
    let handler = move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler)
        .map_err(|error| Failure::Work(format!("cannot listen for Ctrl-C: {error}")))?;
    let mut reporter = Reporter::new(&config, arguments.quiet);
    let finished = train(&config, device, arguments.resume, &stop, &mut reporter)?;
    let resume = format!("tfm train --resume {}", arguments.config.display());
    match (finished.ended, &finished.model) {
        (Ended::Stopped, _) => reporter
            .note(&format!("stopped after update {}; go on with: {resume}", finished.updates)),
        (_, Some(model)) => reporter.note(&format!("the model is in {}", model.display())),
        _ => {}
    }
    Ok(())
}

fn failed(error: tfm_train::Error) -> Failure {
    tfm::Error::from(error).into()
}
