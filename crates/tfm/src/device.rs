//! Where a model runs. The backends are known here and nowhere else.

use crate::{Error, Result};
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use tfm_core::{ParameterSource, Session};

#[cfg(not(feature = "cpu"))]
compile_error!("choose at least one backend: the feature `cpu`");

/// A device to compute on.
///
/// ```
/// # fn main() -> Result<(), tfm::Error> {
/// let device: tfm::Device = "cpu".parse()?;
/// assert_eq!(device, tfm::Device::cpu());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    backend: Backend,
    threads: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    #[cfg(feature = "cpu")]
    Cpu,
}

impl Device {
    /// The processor.
    #[cfg(feature = "cpu")]
    pub fn cpu() -> Self {
        Device { backend: Backend::Cpu, threads: None }
    }

    /// The fastest device there is in this build and on this machine.
    pub fn auto() -> Self {
        Self::cpu()
    }

    /// The same device, computing with this many threads instead of one a processor.
    #[must_use]
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        Device { threads: Some(threads), ..self }
    }

    /// How many threads compute.
    pub fn threads(&self) -> usize {
        let available = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(available).get()
    }

    /// A session on this device.
    ///
    /// # Errors
    /// The device is not there, or has no memory left.
    pub(crate) fn session(
        &self,
        parameters: Arc<dyn ParameterSource>,
    ) -> tfm_core::Result<Session> {
        match self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu => Ok(Session::new(tfm_cpu::CpuBackend::new(self.threads())?, parameters)),
        }
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::auto()
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::auto()),
            #[cfg(feature = "cpu")]
            "cpu" => Ok(Self::cpu()),
            _ => Err(Error::UnknownDevice { name: name.into() }),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu => f.write_str("cpu"),
        }
    }
}
