//! Where results go.

use crate::failure::{Failure, Outcome};
use crate::standard_streams;
use std::path::Path;
use tfm_files::Output;

/// Opens an output that is none of the inputs; `-` is standard output.
pub(crate) fn create<'a>(
    path: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Outcome<Output> {
    if path == Path::new("-") && standard_streams::output_was_closed() {
        return Err(Failure::Work("standard output is closed: nowhere to write".into()));
    }
    Ok(Output::create(path, inputs)?)
}

/// Closes the output: completely, or as a partial file after a failure.
pub(crate) fn close(sink: Output, outcome: Outcome, path: &Path) -> Outcome {
    match outcome {
        Ok(()) => sink.finish().map_err(|error| Failure::writing(&error)),
        Err(Failure::Work(message)) => Err(Failure::Work(match sink.abandon() {
            Some(kept) => {
                let (kept, path) = (kept.display(), path.display());
                format!("{message}\n{path} is not written; what was done is in {kept}")
            }
            None => message,
        })),
        Err(failure) => {
            sink.abandon();
            Err(failure)
        }
    }
}
