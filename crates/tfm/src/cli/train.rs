//! `tfm train`: a configuration in, a model out.

use super::args::Train;
use super::failure::{Failure, Outcome};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tfm::Device;
use tfm::training::{Ended, Measured, Observer, TrainConfig, Update, train};

/// Does what the arguments say.
pub(crate) fn run(arguments: &Train) -> Outcome {
    let config = TrainConfig::read(&arguments.config).map_err(failed)?;
    let named = config.run.device.as_deref().map(str::parse::<Device>).transpose()?;
    let mut device = arguments.device.or(named).unwrap_or_default();
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
    let mut watcher = Watcher { quiet: arguments.quiet };
    let finished = train(&config, device, arguments.resume, &stop, &mut watcher)?;
    let resume = format!("tfm train --resume {}", arguments.config.display());
    match (finished.ended, &finished.model) {
        (Ended::Stopped, _) => watcher.say(&format!(
            "stopped after update {}; go on with: {resume}",
            finished.updates
        )),
        (_, Some(model)) => watcher.say(&format!("the model is in {}", model.display())),
        _ => {}
    }
    Ok(())
}

fn failed(error: tfm_train::Error) -> Failure {
    tfm::Error::from(error).into()
}

struct Watcher {
    quiet: bool,
}

impl Watcher {
    fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

impl Observer for Watcher {
    fn note(&mut self, text: &str) {
        self.say(text);
    }
    fn updated(&mut self, update: &Update) -> tfm_train::Result<()> {
        if update.number % 50 == 0 || update.number < 4 {
            self.say(&format!(
                "update {} epoch {} loss {:.4} norm {:.3} rate {:.2e} {:.0} tokens/s",
                update.number,
                update.epoch,
                update.outcome.mean_loss(),
                update.outcome.gradient_norm,
                update.learning_rate,
                update.outcome.tokens as f64 / update.seconds,
            ));
        }
        Ok(())
    }
    fn measured(&mut self, update: u64, measured: &Measured) -> tfm_train::Result<()> {
        let scores: Vec<String> = measured
            .scores
            .iter()
            .map(|(metric, score)| format!("{} {score:.3}", metric.name()))
            .collect();
        self.say(&format!("update {update}: {}", scores.join(", ")));
        for [source, reference, translation] in &measured.samples {
            self.say(&format!("  {source}\n    {translation}\n    ({reference})"));
        }
        Ok(())
    }
    fn resumed(&mut self, _: u64) -> tfm_train::Result<()> {
        Ok(())
    }
}
