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

    /// Whether a row's bits are the same whatever other rows a call has. Otherwise they may differ
    /// by rounding: a library of matrix products may choose its order of summation by the number of
    /// rows.
    fn keeps_bits(&self) -> bool;

    /// A new session of `threads` threads, in whose memory every destination holds NaN before it is
    /// written; see [`Poisoned`].
    fn poisoned_session(&self, source: Arc<dyn ParameterSource>, threads: usize) -> Session;

    /// A new session without poison.
    fn session(&self, source: Arc<dyn ParameterSource>, threads: usize) -> Session;
}

/// A backend as a [`Subject`].
#[derive(Debug)]
pub struct Candidate<B> {
    backend: B,
    dtypes: Vec<DType>,
    keeps_bits: bool,
}

impl<B: Backend> Candidate<B> {
    /// This backend, with all float types.
    pub fn new(backend: B) -> Self {
        let dtypes = vec![DType::F32, DType::F16, DType::BF16];
        Candidate { backend, dtypes, keeps_bits: true }
    }

    /// For a backend whose bits of a row may depend on the number of rows: see
    /// [`Subject::keeps_bits`].
    #[must_use]
    pub fn with_bits_by_company(self) -> Self {
        Candidate { keeps_bits: false, ..self }
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

    fn keeps_bits(&self) -> bool {
        self.keeps_bits
    }

    fn poisoned_session(&self, source: Arc<dyn ParameterSource>, threads: usize) -> Session {
        Session::new(Poisoned::new(self.fork(threads)), source)
    }

    fn session(&self, source: Arc<dyn ParameterSource>, threads: usize) -> Session {
        Session::new(self.fork(threads), source)
    }
}
