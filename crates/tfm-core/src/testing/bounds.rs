//! Interval arithmetic that bounds every rounding error: what a correct backend may answer.
//!
//! The reference backend runs a graph on [`Interval`]s instead of numbers. Each primitive op yields
//! all that a backend within the error model may yield; `docs/numerics.md` derives the model. A
//! fused op is bounded by its decomposition, which rounds at least as often.

use crate::op::{BinaryOp, UnaryOp};
use crate::reference::{Scalar, binary_f64, tensor_from_f64, unary_f64};
use crate::{DType, Shape, Tensor, TensorData};

/// The unit roundoff of the accumulators, which are `f32` or better.
const U32: f64 = 1.0 / (1u64 << 24) as f64;

/// Transcendental functions may err by this many `U32` relatively …
const FUNCTION_RELATIVE: f64 = 8.0;
/// … and those with zeros, where the relative error is not bounded, by this many absolutely.
const FUNCTION_ABSOLUTE: f64 = 4.0;

/// A number with the least and the greatest value that rounding may have given it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    low: f64,
    value: f64,
    high: f64,
}

/// The absolute error of results near 0: the type's smallest normal number, which may be flushed,
/// or for half precision, which is never flushed, its spacing there.
fn underflow(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-24),
        _ => 2f64.powi(-126),
    }
}

fn is_representable(value: f64, dtype: DType) -> bool {
    let rounded = tensor_from_f64([value].into_iter(), dtype, &Shape::default()).to_f64()[0];
    rounded == value
}

impl Interval {
    const UNKNOWN: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

    fn point(value: f64) -> Self {
        Interval { low: value, value, high: value }
    }

    fn is_point(self) -> bool {
        self.low == self.high
    }

    fn magnitude(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    /// From bounds of the exact result: NaN means that nothing is known.
    fn new(low: f64, value: f64, high: f64) -> Self {
        let (low, high) = if low.is_nan() || high.is_nan() || value.is_nan() {
            Interval::UNKNOWN
        } else {
            (low.min(value), high.max(value))
        };
        Interval { low, value, high }
    }

    /// Wider by an error on each side.
    fn widen(self, error: impl Fn(f64) -> f64) -> Self {
        // An infinity stays as it is: rounding does not produce it.
        let step = |bound: f64| if bound.is_infinite() { 0.0 } else { error(bound) };
        Interval { low: self.low - step(self.low), high: self.high + step(self.high), ..self }
    }

    /// Rounded to `dtype`.
    fn rounded(self, dtype: DType) -> Self {
        if self.is_point() && is_representable(self.value, dtype) {
            return self;
        }
        let u = dtype.unit_roundoff();
        let wide = self.widen(|bound| u * bound.abs() + underflow(dtype));
        let largest = -dtype.lowest();
        Interval {
            low: if wide.low < -largest { f64::NEG_INFINITY } else { wide.low },
            high: if wide.high > largest { f64::INFINITY } else { wide.high },
            ..wide
        }
    }

    /// The least and the greatest of `op` over the corners of two intervals; `op` is monotone in
    /// each.
    fn corners(self, other: Self, op: impl Fn(f64, f64) -> f64) -> (f64, f64) {
        let corners = [
            op(self.low, other.low),
            op(self.low, other.high),
            op(self.high, other.low),
            op(self.high, other.high),
        ];
        if corners.iter().any(|corner| corner.is_nan()) {
            return (f64::NAN, f64::NAN);
        }
        (
            corners.into_iter().fold(f64::INFINITY, f64::min),
            corners.into_iter().fold(f64::NEG_INFINITY, f64::max),
        )
    }

    fn quotient(self, other: Self) -> (f64, f64) {
        let divides_by_zero = other.low <= 0.0 && other.high >= 0.0;
        if divides_by_zero && !(self.is_point() && other.is_point()) {
            return (f64::NAN, f64::NAN);
        }
        self.corners(other, |a, b| a / b)
    }

    /// Σ of intervals whose midpoints sum to `value`, radii to `radius` and magnitudes to
    /// `magnitude`, in any order, with `f32` accumulators.
    fn accumulated(
        value: f64,
        middle: f64,
        radius: f64,
        magnitude: f64,
        n: usize,
        dtype: DType,
    ) -> Self {
        if magnitude == 0.0 {
            return Interval::point(0.0);
        }
        let n = n as f64;
        let error = radius + magnitude * n * U32 / (1.0 - n * U32) + n * underflow(DType::F32);
        Interval::new(middle - error, value, middle + error).rounded(dtype)
    }

    fn middle_radius(self) -> (f64, f64) {
        if self.is_point() {
            return (self.value, 0.0);
        }
        (0.5 * (self.low + self.high), 0.5 * (self.high - self.low))
    }
}

impl Scalar for Interval {
    const NAME: &'static str = "reference (error bounds)";

    fn exact(value: f64) -> Self {
        Interval::new(value, value, value)
    }

    fn value(self) -> f64 {
        self.value
    }

    fn unary(self, op: UnaryOp, dtype: DType) -> Self {
        let Interval { low, value, high } = self;
        let f = |x: f64| unary_f64(op, x);
        let increasing = Interval::new(f(low), f(value), f(high));
        let function = |result: Interval, has_zeros: bool| {
            let scale =
                if has_zeros { FUNCTION_ABSOLUTE * U32 * self.magnitude().max(1.0) } else { 0.0 };
            result.widen(|bound| FUNCTION_RELATIVE * U32 * bound.abs() + scale + underflow(dtype))
        };
        match op {
            UnaryOp::Neg => Interval::new(-high, -value, -low),
            UnaryOp::Abs if low <= 0.0 && high >= 0.0 => {
                Interval::new(0.0, value.abs(), self.magnitude())
            }
            UnaryOp::Abs => Interval::new(low.abs().min(high.abs()), value.abs(), self.magnitude()),
            UnaryOp::Sqrt => increasing.rounded(dtype),
            UnaryOp::Reciprocal => Interval::exact(1.0).binary(BinaryOp::Div, self, dtype),
            UnaryOp::Exp => {
                let result = function(increasing, false).rounded(dtype);
                Interval { low: result.low.max(0.0), ..result }
            }
            UnaryOp::Log => function(increasing, true).rounded(dtype),
            UnaryOp::Round => increasing.rounded(dtype),
            UnaryOp::Tanh | UnaryOp::Erf => {
                let result = increasing
                    .widen(|bound| U32 * (FUNCTION_RELATIVE * bound.abs() + FUNCTION_ABSOLUTE));
                result.rounded(dtype)
            }
            UnaryOp::Sin | UnaryOp::Cos => {
                let (_, radius) = self.middle_radius();
                let around = Interval::new(f(value) - radius, f(value), f(value) + radius);
                function(around, true).rounded(dtype)
            }
        }
    }

    fn binary(self, op: BinaryOp, other: Self, dtype: DType) -> Self {
        let value = binary_f64(op, self.value, other.value);
        let is_certain = self.is_point() && other.is_point();
        let disjoint = self.high < other.low || other.high < self.low;
        let (low, high) = match op {
            BinaryOp::Add => (self.low + other.low, self.high + other.high),
            BinaryOp::Sub => (self.low - other.high, self.high - other.low),
            BinaryOp::Mul => self.corners(other, |a, b| a * b),
            BinaryOp::Div => self.quotient(other),
            BinaryOp::Max | BinaryOp::Min => {
                let of = |a, b| binary_f64(op, a, b);
                return Interval::new(of(self.low, other.low), value, of(self.high, other.high));
            }
            BinaryOp::Less if disjoint || self.low >= other.high => (value, value),
            BinaryOp::Equal if disjoint || is_certain => (value, value),
            BinaryOp::Less | BinaryOp::Equal => (0.0, 1.0),
        };
        Interval::new(low, value, high).rounded(dtype)
    }

    fn round(self, dtype: DType) -> Self {
        self.rounded(dtype)
    }

    fn choose(self, a: Self, b: Self) -> Self {
        let chosen = if self.value != 0.0 { a } else { b };
        if self.is_point() || self.low > 0.0 || self.high < 0.0 {
            return chosen;
        }
        Interval { low: a.low.min(b.low), value: chosen.value, high: a.high.max(b.high) }
    }

    fn sum(terms: &[Self], dtype: DType) -> Self {
        let (mut value, mut middle, mut radius, mut magnitude) = (0.0, 0.0, 0.0, 0.0);
        for term in terms {
            let (term_middle, term_radius) = term.middle_radius();
            value += term.value;
            middle += term_middle;
            radius += term_radius;
            magnitude += term.magnitude();
        }
        if magnitude == f64::INFINITY {
            let (low, high) = terms.iter().fold((0.0, 0.0), |(l, h), t| (l + t.low, h + t.high));
            return Interval::new(low, value, high);
        }
        Interval::accumulated(value, middle, radius, magnitude, terms.len(), dtype)
    }

    fn dot(a: &[Self], b: &[Self], dtype: DType) -> Self {
        let (mut value, mut middle, mut radius, mut magnitude) = (0.0, 0.0, 0.0, 0.0);
        for (a, b) in a.iter().zip(b) {
            let ((a_middle, a_radius), (b_middle, b_radius)) =
                (a.middle_radius(), b.middle_radius());
            value += a.value * b.value;
            middle += a_middle * b_middle;
            radius += a_middle.abs() * b_radius + b_middle.abs() * a_radius + a_radius * b_radius;
            magnitude += (a_middle.abs() + a_radius) * (b_middle.abs() + b_radius);
        }
        Interval::accumulated(value, middle, radius, magnitude, a.len() + 1, dtype)
    }

    fn max(terms: &[Self]) -> Self {
        let largest =
            |part: fn(&Interval) -> f64| terms.iter().map(part).fold(f64::NEG_INFINITY, f64::max);
        Interval { low: largest(|t| t.low), value: largest(|t| t.value), high: largest(|t| t.high) }
    }

    fn descending(terms: &[Self]) -> Vec<Self> {
        // The i-th largest grows with each element, so bounds of the elements, sorted, bound it.
        let sorted = |part: fn(&Interval) -> f64| {
            let mut parts: Vec<f64> = terms.iter().map(part).collect();
            parts.sort_by(|a, b| b.total_cmp(a));
            parts
        };
        let (lows, values, highs) = (sorted(|t| t.low), sorted(|t| t.value), sorted(|t| t.high));
        (0..terms.len())
            .map(|i| Interval { low: lows[i], value: values[i], high: highs[i] })
            .collect()
    }

    /// Least, value and greatest, in `f32`, one after the other along a new first axis.
    fn export(values: &[Self], _: DType, shape: &Shape) -> Tensor {
        let down = |x: f64| if f64::from(x as f32) > x { (x as f32).next_down() } else { x as f32 };
        let up = |x: f64| if f64::from(x as f32) < x { (x as f32).next_up() } else { x as f32 };
        let lows = values.iter().map(|interval| down(interval.low));
        let middles = values.iter().map(|interval| interval.value as f32);
        let highs = values.iter().map(|interval| up(interval.high));
        let shape: Shape = [3].into_iter().chain(shape.iter().copied()).collect();
        Tensor::from_f32(shape, lows.chain(middles).chain(highs).collect())
            .expect("three an element")
    }
}

/// How close the answers came to their bounds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Elements compared.
    pub elements: usize,
    /// Elements without finite bounds, since rounding alone may bring them to any value.
    pub unknown: usize,
    /// The largest share of its bound that any error used.
    pub worst: f64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Tally) -> Tally {
        Tally {
            elements: self.elements + other.elements,
            unknown: self.unknown + other.unknown,
            worst: self.worst.max(other.worst),
        }
    }
}

/// What a backend may answer for one output, as [`Interval`]'s download gives it.
#[derive(Debug, Clone)]
pub struct Bounds {
    shape: Shape,
    parts: Expected,
}

#[derive(Debug, Clone)]
enum Expected {
    Integers(Vec<i32>),
    Floats(Vec<f64>),
}

impl Bounds {
    /// From an output of a session on `Reference<Interval>`.
    pub fn new(output: Tensor) -> Self {
        let shape = output.shape().clone();
        match output.into_data() {
            TensorData::I32(data) => Bounds { shape, parts: Expected::Integers(data) },
            data => {
                let shape: Shape = shape[1..].into();
                let tensor = Tensor::new([3 * shape.elements()], data).expect("three an element");
                Bounds { shape, parts: Expected::Floats(tensor.to_f64()) }
            }
        }
    }

    /// Least, value and greatest of element `index`.
    fn at(&self, index: usize) -> (f64, f64, f64) {
        let n = self.shape.elements();
        match &self.parts {
            Expected::Integers(data) => [f64::from(data[index]); 3].into(),
            Expected::Floats(data) => (data[index], data[n + index], data[2 * n + index]),
        }
    }

    /// Whether the exact answer is a number everywhere.
    pub fn is_defined(&self) -> bool {
        (0..self.shape.elements()).all(|index| !self.at(index).1.is_nan())
    }

    /// Checks an answer; the bounds are taken `slack` times as wide.
    ///
    /// # Errors
    /// The first element outside its bounds. Or the reference's own answer is NaN: then the problem
    /// is ill-defined.
    pub fn check(&self, found: &Tensor, slack: f64) -> Result<Tally, String> {
        if *found.shape() != self.shape {
            return Err(format!("the shape is {}, expected {}", found.shape(), self.shape));
        }
        let mut tally = Tally { elements: self.shape.elements(), ..Tally::default() };
        for (index, found) in found.to_f64().into_iter().enumerate() {
            let (low, value, high) = self.at(index);
            if value.is_nan() {
                return Err(format!("element {index} of {} is NaN in the reference", self.shape));
            }
            if low == f64::NEG_INFINITY && high == f64::INFINITY {
                tally.unknown += 1;
                continue;
            }
            let error = found - value;
            let bound = if error < 0.0 { value - low } else { high - value };
            let is_within = found == value || error.abs() <= slack * bound; // false for NaN
            if !is_within {
                return Err(format!(
                    "element {index} of {} is {found:e}, expected {value:e} within [{low:e}, {high:e}]",
                    self.shape
                ));
            }
            if found != value && bound.is_finite() {
                tally.worst = tally.worst.max(error.abs() / bound);
            }
        }
        Ok(tally)
    }

    /// Checks that two answers differ by no more than both may err.
    ///
    /// # Errors
    /// The first pair of elements that differs by more.
    pub fn check_pair(&self, a: &Tensor, b: &Tensor, slack: f64) -> Result<Tally, String> {
        let mut tally = Tally { elements: self.shape.elements(), ..Tally::default() };
        for (index, (a, b)) in a.to_f64().into_iter().zip(b.to_f64()).enumerate() {
            let (low, _, high) = self.at(index);
            let is_unknown = low == f64::NEG_INFINITY && high == f64::INFINITY;
            let agree = a == b || (a - b).abs() <= slack * (high - low);
            if is_unknown {
                tally.unknown += 1;
            } else if !agree {
                return Err(format!("element {index} of {}: {a:e} and {b:e}", self.shape));
            } else if a != b && high - low < f64::INFINITY {
                tally.worst = tally.worst.max((a - b).abs() / (high - low));
            }
        }
        Ok(tally)
    }
}
