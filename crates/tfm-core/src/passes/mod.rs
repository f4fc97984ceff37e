//! The passes: graph in, graph out, each in its own file.
//!
//! Differentiation ([`Graph::gradients`](crate::Graph::gradients)) comes first, where a graph wants
//! it. [`join_linears`] joins products that share their operand; [`fuse_linears`] moves activations
//! and residuals into the product before them; [`lower()`] leaves only what the backend computes.
//! Folding of what depends on parameters alone happens in the session, by `is_static`.

mod differentiate;
mod fuse_linears;
mod join_linears;
mod lower;
mod rewriting;
mod vjp;

pub use fuse_linears::fuse_linears;
pub use join_linears::join_linears;
pub use lower::{Lowered, LoweringPolicy, lower};

use crate::op::Op;

/// Whether a node's results are the same at every run: it is a parameter, a constant, or a pure
/// function of these. Sessions compute static values once, at load.
pub(crate) fn is_static(op: &Op, mut inputs_static: impl Iterator<Item = bool>) -> bool {
    match op {
        Op::Parameter { .. } | Op::Constant(_) => true,
        Op::Input { .. } | Op::State { .. } | Op::Iota | Op::Random { .. } | Op::WriteRows => false,
        _ => inputs_static.all(|is_static| is_static),
    }
}
