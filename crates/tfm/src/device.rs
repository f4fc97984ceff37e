//! Where a model runs. Only this file knows the backends.

use crate::options::ComputeType;
use crate::{Error, Result};
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use tfm_core::fused::Precision;
use tfm_core::{DType, ParameterSource, Session};
use tfm_model::Numerics;
use tfm_model::scheduler::Limits;

#[cfg(not(any(feature = "cpu", feature = "cuda")))]
compile_error!("choose at least one backend: the feature `cpu` or `cuda`");

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
    /// Whether [`Device::auto`] chose it.
    chosen: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    #[cfg(feature = "cpu")]
    Cpu,
    /// The device with this number.
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

/// The limits of a GPU, which needs many rows to be busy.
#[cfg(feature = "cuda")]
const CUDA_LIMITS: Limits =
    Limits { hypotheses: 1024, sentences: 1024, source_tokens: 16_384, memory: 8 << 30 };

/// A larger number of threads is a mistake.
const MOST_THREADS: usize = 1024;
/// More threads would only take turns.
const THREADS_OF_A_PROCESSOR: usize = 4;

/// The processors that this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl Device {
    fn new(backend: Backend) -> Self {
        Device { backend, threads: None, chosen: false }
    }

    /// The CPU.
    #[cfg(feature = "cpu")]
    pub fn cpu() -> Self {
        Self::new(Backend::Cpu)
    }

    /// The CUDA device with this number, counted from 0.
    ///
    /// # Errors
    /// There is no driver, the driver is too old, or there is no such device.
    #[cfg(feature = "cuda")]
    pub fn cuda(number: usize) -> Result<Self> {
        tfm_cuda::probe(number).map_err(tfm_core::Error::from).map_err(tfm_model::Error::from)?;
        Ok(Self::new(Backend::Cuda(number)))
    }

    /// The fastest device of this build on this machine: a CUDA device if there is one, else the
    /// CPU.
    pub fn auto() -> Self {
        #[cfg(all(feature = "cuda", feature = "cpu"))]
        let backend = tfm_cuda::probe(0).map_or(Backend::Cpu, |_| Backend::Cuda(0));
        #[cfg(all(feature = "cuda", not(feature = "cpu")))]
        let backend = Backend::Cuda(0);
        #[cfg(not(feature = "cuda"))]
        let backend = Backend::Cpu;
        Device { chosen: true, ..Self::new(backend) }
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        #[cfg(feature = "cpu")]
        let is_cpu = self.backend == Backend::Cpu;
        #[cfg(not(feature = "cpu"))]
        let is_cpu = false;
        is_cpu
    }

    /// Which device [`Device::auto`] chose and why, if this build has several backends.
    pub fn choice(&self) -> Option<String> {
        #[cfg(all(feature = "cuda", feature = "cpu"))]
        if self.chosen {
            return Some(match tfm_cuda::probe(0) {
                Ok(name) => format!("computing on {self} ({name})"),
                Err(problem) => format!("computing on the {self} ({problem})"),
            });
        }
        None
    }

    /// The same device with this many threads instead of one per processor; at most four a
    /// processor, for more only take turns. A CUDA device ignores it. More than 1,024 are an error
    /// of whoever computes with it.
    #[must_use]
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        Device { threads: Some(threads), ..self }
    }

    /// How many threads compute.
    pub fn threads(&self) -> usize {
        let processors = processors();
        let asked = self.threads.map_or(processors, NonZeroUsize::get);
        asked.min(processors.saturating_mul(THREADS_OF_A_PROCESSOR))
    }

    /// That fewer threads compute than were asked for, where that is so.
    pub fn threads_note(&self) -> Option<String> {
        let (asked, threads) = (self.threads?.get(), self.threads());
        let note = || {
            let processors = processors();
            format!("{threads} threads compute, not {asked}: there are {processors} processors")
        };
        (self.is_cpu() && threads < asked).then(note)
    }

    /// Checks that the number of threads is no mistake.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub(crate) fn check(&self) -> Result<()> {
        let asked = self.threads.map_or(0, NonZeroUsize::get);
        if self.is_cpu() && asked > MOST_THREADS {
            let problem = format!("{asked} are too many: give at most {MOST_THREADS}");
            return Err(Error::Option { option: "threads", problem });
        }
        Ok(())
    }

    /// How many workers share the device. On the CPU each thread is a worker, so that no sentence
    /// waits for another.
    pub(crate) fn workers(&self) -> usize {
        match self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu => self.threads(),
            #[cfg(feature = "cuda")]
            Backend::Cuda(_) => 1,
        }
    }

    /// The types in which the device computes this numeric type.
    ///
    /// # Errors
    /// [`Error::Option`]: the device does not support the type.
    pub(crate) fn numerics(&self, numbers: ComputeType) -> Result<Numerics> {
        #[cfg(feature = "cpu")]
        let on_cpu = |precision| {
            let key_dtype = tfm_cpu::key_dtype(precision);
            Numerics { dtype: DType::F32, precision, key_dtype }
        };
        #[cfg(feature = "cuda")]
        let of = |dtype, precision| Numerics { dtype, precision, key_dtype: dtype };
        match (self.backend, numbers) {
            #[cfg(feature = "cpu")]
            (Backend::Cpu, ComputeType::F32) => Ok(on_cpu(Precision::Full)),
            #[cfg(feature = "cpu")]
            (Backend::Cpu, ComputeType::Int8) => Ok(on_cpu(Precision::Int8)),
            #[cfg(feature = "cpu")]
            (Backend::Cpu, ComputeType::BF16) => Ok(on_cpu(Precision::BFloat16)),
            #[cfg(feature = "cpu")]
            (Backend::Cpu, ComputeType::F16) => Err(Error::Option {
                option: "dtype",
                problem: format!("{numbers}: the cpu computes in f32, bf16 and int8"),
            }),
            #[cfg(feature = "cuda")]
            (Backend::Cuda(_), ComputeType::F32) => Ok(of(DType::F32, Precision::Full)),
            #[cfg(feature = "cuda")]
            (Backend::Cuda(_), ComputeType::Int8) => Ok(of(DType::F32, Precision::Int8)),
            #[cfg(feature = "cuda")]
            (Backend::Cuda(_), ComputeType::F16) => Ok(of(DType::F16, Precision::Full)),
            #[cfg(feature = "cuda")]
            (Backend::Cuda(_), ComputeType::BF16) => Ok(of(DType::BF16, Precision::Full)),
        }
    }

    /// How much work a worker admits at a time.
    pub(crate) fn limits(&self) -> Limits {
        match self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu => Limits::default(),
            #[cfg(feature = "cuda")]
            Backend::Cuda(_) => CUDA_LIMITS,
        }
    }

    /// A session on this device.
    ///
    /// # Errors
    /// There is no such device, or it has no memory left.
    pub(crate) fn session(
        &self,
        parameters: Arc<dyn ParameterSource>,
    ) -> tfm_core::Result<Session> {
        match self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu => Ok(Session::new(tfm_cpu::CpuBackend::new(self.threads())?, parameters)),
            #[cfg(feature = "cuda")]
            Backend::Cuda(number) => {
                Ok(Session::new(tfm_cuda::CudaBackend::new(number)?, parameters))
            }
        }
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::auto()
    }
}

/// Parses `auto`, `cpu`, `cuda` or `cuda:N`, as far as this build has them. Whether there is such a
/// device shows when it is used.
impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::auto()),
            #[cfg(feature = "cpu")]
            "cpu" => Ok(Self::cpu()),
            #[cfg(feature = "cuda")]
            "cuda" => Ok(Self::new(Backend::Cuda(0))),
            _ => {
                #[cfg(feature = "cuda")]
                if let Some(number) = name.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
                    return Ok(Self::new(Backend::Cuda(number)));
                }
                Err(Error::UnknownDevice { name: name.into(), known: Self::NAMES })
            }
        }
    }
}

impl Device {
    /// The names that this build understands.
    const NAMES: &str = match (cfg!(feature = "cpu"), cfg!(feature = "cuda")) {
        (true, true) => "auto, cpu, cuda, cuda:N",
        (false, _) => "auto, cuda, cuda:N",
        (true, false) => "auto, cpu (built without the feature `cuda`)",
    };
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backend {
            #[cfg(feature = "cpu")]
            Backend::Cpu => f.write_str("cpu"),
            #[cfg(feature = "cuda")]
            Backend::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}
