//! The PTX modules. They are embedded in compressed form, and each is loaded when the first of its
//! kernels is launched.

use crate::device::{device_error, driver_error};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use tfm_core::backend::Outcome;

/// Name and compressed PTX of every module; each is a file in `kernels`.
const MODULES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// The modules that a device has loaded so far.
#[derive(Debug)]
pub(crate) struct Modules {
    context: Arc<CudaContext>,
    loaded: Mutex<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<String, CudaFunction>,
}

impl Modules {
    pub(crate) fn new(context: &Arc<CudaContext>) -> Modules {
        Modules { context: context.clone(), loaded: Mutex::default() }
    }

    /// Returns a kernel of a module.
    ///
    /// # Errors
    /// The driver rejects the PTX, or has no memory for it.
    pub(crate) fn function(&self, module: &'static str, name: &str) -> Outcome<CudaFunction> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(name) {
            return Ok(function.clone());
        }
        let code = match loaded.modules.get(module) {
            Some(code) => code.clone(),
            None => {
                let code = self.load(module)?;
                loaded.modules.insert(module, code.clone());
                code
            }
        };
        let missing = |error| driver_error(&format!("kernel {name} of {module}"), error);
        let function = code.load_function(name).map_err(missing)?;
        loaded.functions.insert(name.into(), function.clone());
        Ok(function)
    }

    fn load(&self, module: &str) -> Outcome<Arc<CudaModule>> {
        let ptx = text(module)
            .ok_or_else(|| device_error(format!("the build holds no kernels named {module}")))?;
        self.context.load_module(Ptx::from_src(ptx)).map_err(|error| {
            let doing = format!(
                "the driver does not take the kernels of {module}; it may be older than 11.0, or the device older than \
                 compute capability 8.0"
            );
            driver_error(&doing, error)
        })
    }
}

/// The PTX of a module.
fn text(module: &str) -> Option<String> {
    let (_, compressed) = MODULES.iter().find(|(name, _)| *name == module)?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(*compressed).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{MODULES, text};

    #[test]
    fn every_module_is_ptx() {
        assert!(!MODULES.is_empty());
        for (name, _) in MODULES {
            assert!(text(name).unwrap().contains(".visible .entry"), "{name}");
        }
    }
}
