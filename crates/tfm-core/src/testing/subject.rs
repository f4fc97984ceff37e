//! The backend that is put through the laws, without its type.

use super::Poisoned;
use crate::{Backend, DType, ParameterSource, Session};
use std::sync::Arc;

/// A backend under test: it makes sessions.
pub trait Subject: Sync {
    /// The backend's name.
    fn name(&self) -> String;

    /// The float types to test.
    fn dtypes(&self) -> &[DType];

    /// A new session of `threads` threads, in whose memory every destination holds NaN before it is
    /// written; see [`Poisoned`].
    fn poisoned_session(&self, source: Arc<dyn ParameterSource>, threads: usize) -> Session;

    /// A new session as users have it.
    fn session(&self, source: Arc<dyn ParameterSource>, threads: usize) -> Session;
}

/// A backend as a [`Subject`].
#[derive(Debug)]
pub struct Candidate<B> {
    backend: B,
    dtypes: Vec<DType>,
}

impl<B: Backend> Candidate<B> {
    /// This backend, with all float types.
    pub fn new(backend: B) -> Self {
        Candidate { backend, dtypes: vec![DType::F32, DType::F16, DType::BF16] }
    }

    /// Only these float types.
    #[must_use]
    pub fn with_dtypes(self, dtypes: &[DType]) -> Self {
        Candidate { dtypes: dtypes.to_vec(), ..self }
    }

    fn fork(&self, threads: usize) -> B {
        self.backend.fork(threads).expect("the backend under test can be forked")
    }
}

impl<B: Backend> Subject for Candidate<B> {
    fn name(&self) -> String {
        self.backend.name()
    }

    fn dtypes(&self) -> &[DType] {
        &self.dtypes
    }

    fn poisoned_session(&self, source: Arc<dyn ParameterSource>, threads: usize) -> Session {
        Session::new(Poisoned::new(self.fork(threads)), source)
    }

    fn session(&self, source: Arc<dyn ParameterSource>, threads: usize) -> Session {
        Session::new(self.fork(threads), source)
    }
}
