//! Equations: values with operators, so that a formula of a graph reads like the formula.

use super::{Graph, Value};
use crate::op::ReduceOp;
use crate::{DType, Shape};
use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A graph to which equations add nodes. [`Graph::equations`] lends the graph; dropping this
/// returns it, with the nodes.
#[derive(Debug)]
pub struct Equations<'g> {
    graph: RefCell<Graph>,
    home: &'g mut Graph,
}

impl Graph {
    /// Lets values be written with operators: `let g = graph.equations(); let y = g.of(x) * 2.0;`.
    pub fn equations(&mut self) -> Equations<'_> {
        Equations { graph: RefCell::new(std::mem::take(self)), home: self }
    }
}

impl Drop for Equations<'_> {
    fn drop(&mut self) {
        *self.home = self.graph.take();
    }
}

impl Equations<'_> {
    /// A value of the graph.
    pub fn of(&self, value: Value) -> Expr<'_> {
        Expr { graph: &self.graph, value }
    }

    /// The value that one of the graph's own methods adds.
    pub fn add(&self, add: impl FnOnce(&mut Graph) -> Value) -> Expr<'_> {
        self.of(add(&mut self.graph.borrow_mut()))
    }

    /// A scalar.
    pub fn constant(&self, number: f64, dtype: DType) -> Expr<'_> {
        self.add(|graph| graph.constant(number, dtype))
    }

    /// `[0, 1, …, n−1]` in `I32`.
    pub fn iota(&self, n: usize) -> Expr<'_> {
        self.add(|graph| graph.iota(n))
    }
}

/// A value of a graph, which operators compute with. Each adds its nodes at once, so that nodes
/// come in the order in which Rust evaluates: operands from the left to the right, then the
/// operator.
#[derive(Debug, Clone, Copy)]
pub struct Expr<'g> {
    graph: &'g RefCell<Graph>,
    value: Value,
}

impl From<Expr<'_>> for Value {
    fn from(expr: Expr<'_>) -> Value {
        expr.value
    }
}

impl<'g> Expr<'g> {
    /// The value.
    pub fn value(self) -> Value {
        self.value
    }

    /// Its extents.
    pub fn shape(self) -> Shape {
        self.graph.borrow().shape(self.value).clone()
    }

    /// Its element type.
    pub fn dtype(self) -> DType {
        self.graph.borrow().dtype(self.value)
    }

    fn map(self, add: impl FnOnce(&mut Graph, Value) -> Value) -> Self {
        Expr { value: add(&mut self.graph.borrow_mut(), self.value), ..self }
    }

    /// A scalar of the type of this value.
    pub fn constant(self, number: f64) -> Self {
        self.map(|graph, x| graph.constant_like(number, x))
    }

    /// `self ≠ 0 ? a : b`, broadcast.
    pub fn select(self, a: Self, b: Self) -> Self {
        self.map(|graph, condition| graph.select(condition, a.value, b.value))
    }

    /// What takes the place of this value, which may be a state; see [`Graph::replace`].
    pub fn replace(self, new: Self) -> Self {
        self.map(|graph, old| graph.replace(old, new.value))
    }

    /// The value in another element type.
    pub fn cast(self, dtype: DType) -> Self {
        self.map(|graph, x| graph.cast(x, dtype))
    }

    /// The sum along an axis, whose extent becomes 1.
    pub fn sum(self, axis: usize) -> Self {
        self.map(|graph, x| graph.reduce(ReduceOp::Sum, x, axis))
    }

    /// The largest along an axis, whose extent becomes 1.
    pub fn largest(self, axis: usize) -> Self {
        self.map(|graph, x| graph.reduce(ReduceOp::Max, x, axis))
    }

    /// The mean along an axis, whose extent becomes 1.
    pub fn mean(self, axis: usize) -> Self {
        let extent = self.graph.borrow().shape(self.value)[axis].max(1);
        self.sum(axis) * (1.0 / extent as f64)
    }

    /// The sum over all axes that a broadcast from `shape` has repeated.
    pub fn sum_to(self, shape: &Shape) -> Self {
        let repeated = self.shape();
        let new_axes = repeated.len() - shape.len();
        let mut x = self;
        for (axis, &extent) in repeated.iter().enumerate() {
            let own = axis.checked_sub(new_axes).map_or(1, |axis| shape[axis]);
            if own == 1 && extent != 1 {
                x = x.sum(axis);
            }
        }
        x.reshape(shape.clone())
    }

    /// The product of matrices; see [`Graph::matmul`].
    pub fn matmul(self, other: Self) -> Self {
        self.map(|graph, x| graph.matmul(x, other.value))
    }

    /// The rows `ids` of this table.
    pub fn gather(self, ids: Self) -> Self {
        self.map(|graph, table| graph.gather(table, ids.value))
    }

    /// `rows` rows, each the sum of the rows of this value that `ids` sends there.
    pub fn scatter_add(self, ids: Self, rows: usize) -> Self {
        self.map(|graph, x| graph.scatter_add(x, ids.value, rows))
    }

    /// The logarithm of softmax over the last axis.
    pub fn log_softmax(self) -> Self {
        self.map(Graph::log_softmax)
    }

    /// The `k` largest of each row and their indices.
    pub fn top_k(self, k: usize) -> (Self, Self) {
        let (values, ids) = self.graph.borrow_mut().top_k(self.value, k);
        (Expr { value: values, ..self }, Expr { value: ids, ..self })
    }

    /// This value, then the others along `axis`.
    pub fn concat(self, axis: usize, others: &[Self]) -> Self {
        let others = others.iter().map(|other| other.value);
        self.map(|graph, x| graph.concat(axis, &[x].into_iter().chain(others).collect::<Vec<_>>()))
    }

    /// The same elements under another shape.
    pub fn reshape(self, shape: impl Into<Shape>) -> Self {
        self.map(|graph, x| graph.reshape(x, shape))
    }

    /// The axes reordered; see [`Graph::permute`].
    pub fn permute(self, order: &[usize]) -> Self {
        self.map(|graph, x| graph.permute(x, order))
    }

    /// The elements `start .. start + length` of an axis.
    pub fn slice(self, axis: usize, start: usize, length: usize) -> Self {
        self.map(|graph, x| graph.slice(x, axis, start, length))
    }

    /// Repeated to `shape`, aligned at the last axis.
    pub fn broadcast(self, shape: impl Into<Shape>) -> Self {
        self.map(|graph, x| graph.broadcast(x, shape))
    }
}

macro_rules! functions {
    ($($name:ident, $doc:literal;)*) => {
        impl Expr<'_> {
            $(#[doc = $doc]
            pub fn $name(self) -> Self {
                self.map(Graph::$name)
            })*
        }
    };
    (binary $($name:ident, $doc:literal;)*) => {
        impl Expr<'_> {
            $(#[doc = $doc]
            pub fn $name(self, other: Self) -> Self {
                self.map(|graph, x| graph.$name(x, other.value))
            })*
        }
    };
}

functions!(
    abs, "`|x|`.";
    exp, "`eˣ`.";
    log, "`ln x`.";
    sqrt, "`√x`.";
    reciprocal, "`1/x`.";
    sin, "`sin x`.";
    cos, "`cos x`.";
    tanh, "`tanh x`.";
    erf, "The error function of x.";
    round, "The nearest integer, of two the even one.";
);
functions!(binary
    max, "The larger, broadcast.";
    min, "The smaller, broadcast.";
    less, "1 where x is less than the other, else 0, broadcast.";
    equal, "1 where x is the other, else 0, broadcast.";
);

macro_rules! operators {
    ($($Operator:ident, $method:ident;)*) => {
        $(impl $Operator for Expr<'_> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                self.map(|graph, x| graph.$method(x, other.value))
            }
        })*
    };
}

operators!(Add, add; Sub, sub; Mul, mul; Div, div;);

impl Neg for Expr<'_> {
    type Output = Self;
    fn neg(self) -> Self {
        self.map(Graph::neg)
    }
}

impl Add<f64> for Expr<'_> {
    type Output = Self;
    fn add(self, amount: f64) -> Self {
        self.map(|graph, x| graph.shift(x, amount))
    }
}

impl Mul<f64> for Expr<'_> {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        self.map(|graph, x| graph.scale(x, factor))
    }
}

impl<'g> Sub<Expr<'g>> for f64 {
    type Output = Expr<'g>;
    fn sub(self, x: Expr<'g>) -> Expr<'g> {
        x.constant(self) - x
    }
}
