//! Installs the driver where the loader of another process finds it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that holds the driver. Dropping this removes the folder.
///
/// The loader looks for libraries only where the environment said when its process started. So only
/// a new process can find the driver.
#[derive(Debug)]
pub struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// Copies the library that cargo built beside this program.
    ///
    /// # Errors
    /// The library cannot be copied, or is not there; cargo builds it wherever this crate is a
    /// dependency.
    pub fn new() -> io::Result<Installed> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("tfm-fake-driver-{}-{number}", std::process::id());
        let installed = Installed { folder: std::env::temp_dir().join(name) };
        std::fs::create_dir_all(&installed.folder)?;
        installed.add("libtfm_fake_driver.so", "libcuda.so")?;
        Ok(installed)
    }

    /// Copies another library to the folder: from the name that cargo gave it to the name that
    /// programs look for.
    ///
    /// # Errors
    /// Those of [`Installed::new`].
    pub fn add(&self, built: &str, wanted: &str) -> io::Result<()> {
        std::fs::copy(find(built)?, self.folder.join(wanted))?;
        Ok(())
    }

    /// Lets a program find the driver.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_LIBRARY_PATH", &self.folder)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // If this fails, a copy stays behind in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Tests lie in the folder `deps`; the library and other programs lie one folder up.
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
