//! The columns of the vocabulary's weight that search computes with. They are kept from call to
//! call.
//!
//! A step of search needs few columns, mostly those of the step before. Gathering them takes as
//! long as the product. So the last selection is kept, and only what has changed is copied. It is a
//! cache: results do not depend on it.

use std::collections::TryReserveError;
use std::sync::{Mutex, PoisonError};

use crate::buffer::Buffer;
use crate::kernels::selection::{Identity, Selectable, select};
use crate::kernels::threads::Threads;

/// The last selection of a backend.
#[derive(Debug, Default)]
pub(crate) struct Selections(Mutex<Option<Selection>>);

#[derive(Debug)]
struct Selection {
    /// The identity of the weight that the columns are of.
    source: Identity,
    columns: Vec<i32>,
    weight: Buffer,
}

impl Selections {
    /// Calls `run` with the columns of `source`, a packed weight, and returns its result.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(crate) fn with<T>(
        &self,
        threads: &Threads,
        source: &Buffer,
        columns: &[i32],
        run: impl FnOnce(&Buffer) -> T,
    ) -> Result<T, TryReserveError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A selection that is not put back, after an error or a panic, is made anew.
        let old = kept.take();
        macro_rules! selection {
            ($kind:ident, $source:expr) => {{
                let identity = $source.identity();
                let old = old.filter(|old| old.source == identity);
                let (old, has) = old.map(|old| (old.weight, old.columns)).unzip();
                let old = match (old, &has) {
                    (Some(Buffer::$kind(weight)), Some(has)) => Some((weight, &has[..])),
                    _ => None,
                };
                let weight = Buffer::$kind(select(threads, $source, old, columns)?);
                Selection { source: identity, columns: columns.to_vec(), weight }
            }};
        }
        let selection = match source {
            Buffer::Packed(source) => selection!(Packed, source),
            Buffer::Pairs(source) => selection!(Pairs, source),
            Buffer::Quantized(source) => selection!(Quantized, source),
            _ => unreachable!("the weight is packed"),
        };
        let result = run(&selection.weight);
        *kept = Some(selection);
        Ok(result)
    }
}
