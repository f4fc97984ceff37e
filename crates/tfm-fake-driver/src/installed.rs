//! Putting the driver where the loader of another process finds it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder with the driver in it, which goes when this does.
///
/// The loader looks for libraries where the environment said when a process started: what is to
/// have the driver is a new process.
#[derive(Debug)]
pub struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// Copies the library that was built beside this program.
    ///
    /// # Errors
    /// It is not there, which cargo sees to where this crate is a dependency, or cannot be copied.
    pub fn new() -> io::Result<Installed> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("tfm-fake-driver-{}-{number}", std::process::id());
        let installed = Installed { folder: std::env::temp_dir().join(name) };
        std::fs::create_dir_all(&installed.folder)?;
        installed.add("libtfm_fake_driver.so", "libcuda.so")?;
        Ok(installed)
    }

    /// Puts another library beside it: the name that cargo gave it, and that under which programs
    /// look for it.
    ///
    /// # Errors
    /// As of [`Installed::new`].
    pub fn add(&self, built: &str, wanted: &str) -> io::Result<()> {
        std::fs::copy(find(built)?, self.folder.join(wanted))?;
        Ok(())
    }

    /// Has a program find the driver.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_LIBRARY_PATH", &self.folder)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // What stays behind is a copy in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Tests lie in `deps`, programs one folder up.
fn find(library: &str) -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let beside = this.parent().unwrap_or(Path::new("."));
    let folders = [beside.join("deps"), beside.into(), beside.join("..")];
    let found = folders.iter().map(|folder| folder.join(library)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let problem = format!("{library}: not beside {}", this.display());
        io::Error::new(io::ErrorKind::NotFound, problem)
    })
}
