//! `tfm train`: trains a model as a configuration says.

use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::options::{self, positive};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tfm::Device;
use tfm::training::{Ended, Observer, Status, TrainConfig, train};

/// Where standard error is no terminal, a line of progress comes this often.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// Train a model as a configuration file says.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The configuration; docs/training.md lists its keys
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,
    /// Resume from the last complete checkpoint in the output folder
    #[arg(long)]
    resume: bool,
    /// Where to compute: auto, cpu, or in a build with the feature `cuda` also cuda or cuda:N.
    /// Overrides the configuration
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// How many threads compute. Overrides the configuration, whose default is one per processor
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<NonZeroUsize>,
    /// Neither progress nor notes on standard error
    #[arg(short, long)]
    quiet: bool,
}

/// Does what the arguments say.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let config = TrainConfig::read(&arguments.config).map_err(failed)?;
    let named = config.run.device.as_deref().map(str::parse::<Device>).transpose()?;
    let threads = arguments.threads.or(config.run.threads.and_then(NonZeroUsize::new));
    let device = options::chosen(arguments.device.or(named), threads, arguments.quiet);
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    // A second Ctrl-C, or SIGTERM, ends the process at once.
    let handler = move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    interrupt::on_request(handler)
        .map_err(|error| Failure::Work(format!("cannot listen for Ctrl-C: {error}")))?;
    let mut progress = Progress::new(config.run.updates, arguments.quiet);
    let finished = train(&config, device, arguments.resume, &stop, &mut progress);
    progress.bar.finish_and_clear();
    let finished = finished?;
    let resume = format!("tfm train --resume {}", arguments.config.display());
    match (finished.ended, &finished.model) {
        (Ended::Stopped, _) => {
            let updates = finished.updates;
            let message = format!("stopped after update {updates}; go on with: {resume}");
            return Err(Failure::Interrupted(message));
        }
        (_, Some(model)) => progress.note(&format!("the model is in {}", model.display())),
        _ => {}
    }
    Ok(())
}

/// Shows a bar on a terminal, else a line from time to time; and notes.
struct Progress {
    bar: ProgressBar,
    quiet: bool,
    /// When the last line was printed.
    printed: Option<Instant>,
}

impl Progress {
    /// For a training of `updates` updates, if that is known.
    fn new(updates: Option<u64>, quiet: bool) -> Self {
        let shows_bar = !quiet && io::stderr().is_terminal();
        let target =
            if shows_bar { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = if updates.is_some() { "{bar:20} {msg}" } else { "{spinner} {msg}" };
        let bar = ProgressBar::with_draw_target(updates, target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        Progress { bar, quiet, printed: None }
    }
}

impl Observer for Progress {
    fn updated(&mut self, status: &Status) {
        if !self.bar.is_hidden() {
            self.bar.set_position(status.step);
            self.bar.set_message(status.to_string());
        } else if self.printed.is_none_or(|printed| printed.elapsed() >= LINE_EVERY) {
            self.printed = Some(Instant::now());
            self.note(&status.to_string());
        }
    }

    fn note(&mut self, message: &str) {
        if !self.quiet {
            // If standard error is closed, there is nowhere to report it.
            self.bar.suspend(|| drop(writeln!(io::stderr(), "{message}")));
        }
    }
}

fn failed(error: tfm::training::Error) -> Failure {
    tfm::Error::from(error).into()
}
