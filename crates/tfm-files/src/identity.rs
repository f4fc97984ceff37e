//! Whether two names stand for one file.

use crate::error::{Error, Result};
use same_file::Handle;
use std::fs;
use std::path::Path;

/// Refuses an output that is one of the inputs, under whatever name: another path, a link, or a
/// hard link. An input may be a folder; then the output is neither that folder nor a file in it.
/// `-` is standard input or output, which may be a file, too.
///
/// # Errors
/// [`Error::OutputIsInput`].
pub fn refuse_inputs<'a>(output: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let inputs: Vec<&Path> = inputs.into_iter().collect();
    for &input in &inputs {
        if is_same_pipe(output, input) {
            return Err(Error::OutputIsInput { output: output.into(), input: input.into() });
        }
    }
    let handle = if output == Path::new("-") { Handle::stdout() } else { file(output) };
    // What is not there yet is no input.
    let Some(handle) = handle.ok().filter(can_be_lost) else { return Ok(()) };
    let is_output = |path: &Path| file(path).is_ok_and(|input| input == handle);
    for input in inputs {
        let is_same = match input == Path::new("-") {
            true => Handle::stdin().is_ok_and(|input| input == handle),
            false => {
                let files = fs::read_dir(input).into_iter().flatten().flatten();
                is_output(input) || files.map(|found| found.path()).any(|path| is_output(&path))
            }
        };
        if is_same {
            return Err(Error::OutputIsInput { output: output.into(), input: input.into() });
        }
    }
    Ok(())
}

/// Whether both are one named pipe, which would wait for itself.
#[cfg(unix)]
fn is_same_pipe(output: &Path, input: &Path) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let pipe = |path: &Path| {
        let found = fs::metadata(path).ok().filter(|found| found.file_type().is_fifo());
        found.map(|found| (found.dev(), found.ino()))
    };
    pipe(output).is_some_and(|output| pipe(input) == Some(output))
}

#[cfg(not(unix))]
fn is_same_pipe(_: &Path, _: &Path) -> bool {
    false
}

/// The file at a path. A pipe or a device is not opened: that could wait for its other end.
fn file(path: &Path) -> std::io::Result<Handle> {
    let kind = fs::metadata(path)?;
    if kind.is_file() || kind.is_dir() {
        return Handle::from_path(path);
    }
    Err(std::io::Error::other("neither a file nor a folder"))
}

/// Whether writing to it takes away what was there: not so for terminals, pipes and devices.
fn can_be_lost(handle: &Handle) -> bool {
    handle.as_file().metadata().is_ok_and(|kind| kind.is_file() || kind.is_dir())
}

#[cfg(all(test, unix))]
mod tests {
    use super::refuse_inputs;
    use proptest::prelude::*;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Other names of the file `a` in a folder.
    fn names(folder: &Path) -> Vec<PathBuf> {
        let path = |name: &str| folder.join(name);
        fs::create_dir(path("d")).unwrap();
        fs::write(path("a"), "text").unwrap();
        fs::hard_link(path("a"), path("hard")).unwrap();
        std::os::unix::fs::symlink("a", path("soft")).unwrap();
        std::os::unix::fs::symlink("../soft", path("d/link")).unwrap();
        std::os::unix::fs::symlink(".", path("here")).unwrap();
        ["a", "hard", "soft", "d/link", "here/a", "d/../a", "./here/./hard"].map(path).into()
    }

    proptest! {
        #[test]
        fn a_file_is_refused_under_every_name(output in 0..7usize, input in 0..7usize) {
            let folder = tempfile::tempdir().unwrap();
            let names = names(folder.path());
            let other = folder.path().join("other");
            fs::write(&other, "text").unwrap();
            let inputs = [&*other, &names[input]];
            prop_assert!(refuse_inputs(&names[output], inputs).is_err());
            prop_assert!(refuse_inputs(&names[output], [&*other]).is_ok());
            prop_assert!(refuse_inputs(&folder.path().join("new"), inputs).is_ok());
            prop_assert!(refuse_inputs(&names[output], [folder.path()]).is_err());
            prop_assert!(refuse_inputs(Path::new("/dev/null"), [Path::new("/dev/null")]).is_ok());
        }
    }

    #[test]
    fn a_folder_is_refused_as_itself() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        fs::create_dir(folder.path().join("model")).unwrap();
        std::os::unix::fs::symlink("model", &link).unwrap();
        assert!(refuse_inputs(&link, [&*folder.path().join("model/../model")]).is_err());
        assert!(refuse_inputs(&folder.path().join("other"), [&*link]).is_ok());
    }
}
