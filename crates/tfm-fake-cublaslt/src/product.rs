//! The product D = f(α·op(A)·op(B) + β·C + bias), column-major, and what it requires of its
//! operands.

use crate::objects::{Answer, Description, Layout, Preference, Status, refuse};
use half::{bf16, f16};
use std::hash::{DefaultHasher, Hash, Hasher};

const COMPUTE_32F: u32 = 68;
const R_32F: u32 = 0;
const R_16F: u32 = 2;
const R_16BF: u32 = 14;
const RELU: u32 = 2;
const BIAS: u32 = 4;
const GELU: u32 = 32;
/// The bytes of scratch memory that an algorithm asks for if it splits sums.
const WORKSPACE: u64 = 4096;

/// A problem: the operation, and the layouts of A, B, C and D.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Problem {
    pub(crate) description: Description,
    pub(crate) layouts: [Layout; 4],
}

/// An algorithm (`cublasLtMatmulAlgo_t`): the problem it was chosen for, and the alignments it was
/// promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Algorithm {
    pub(crate) problem: u64,
    pub(crate) workspace: u64,
    pub(crate) alignments: [u32; 4],
    pub(crate) rest: [u64; 4],
}

/// A product in the form in which it is enqueued, as bytes. The fields leave no gaps between them.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Job {
    pub(crate) problem: Problem,
    pub(crate) factors: [f32; 2],
    /// The addresses of A, B, C and D.
    pub(crate) at: [u64; 4],
    pub(crate) workspace: u64,
    pub(crate) workspace_bytes: u64,
}

/// The device's memory.
pub(crate) trait Memory {
    fn read(&self, at: u64, bytes: usize) -> Answer<Vec<u8>>;
    fn write(&self, at: u64, bytes: &[u8]) -> Answer;
}

fn size(kind: u32) -> u64 {
    if kind == R_32F { 4 } else { 2 }
}

impl Problem {
    /// Checks the problem, and returns the numbers of rows, terms and columns.
    fn check(&self) -> Answer<[u64; 3]> {
        let Problem { description, layouts } = self;
        if description.compute != COMPUTE_32F || description.scale != R_32F {
            return refuse("sums must be strict f32");
        }
        let plain = description.epilogue & !BIAS;
        if !(plain == 0
            || plain == 1 && description.epilogue == 1
            || plain == RELU
            || plain == GELU)
        {
            return refuse(format!("epilogue {}", description.epilogue));
        }
        for layout in layouts {
            if ![R_32F, R_16F, R_16BF].contains(&layout.kind) || layout.kind != layouts[0].kind {
                return refuse(format!("types {:?}", layouts.map(|layout| layout.kind)));
            }
            if layout.rows == 0 || layout.columns == 0 || layout.leading < layout.rows as i64 {
                return refuse(format!("a matrix {layout:?}"));
            }
            if layout.batches < 1 || layout.batches != layouts[0].batches || layout.batch_stride < 0
            {
                return refuse(format!("a batch {layout:?}"));
            }
        }
        let shape = |layout: &Layout, turned| match turned {
            false => (layout.rows, layout.columns),
            true => (layout.columns, layout.rows),
        };
        let [a, b, c, d] = layouts;
        let (rows, terms) = shape(a, description.turned()[0]);
        let (other_terms, columns) = shape(b, description.turned()[1]);
        if terms != other_terms
            || shape(c, false) != (rows, columns)
            || shape(d, false) != (rows, columns)
        {
            return refuse(format!("the shapes of {self:?}"));
        }
        if d.batches > 1 && d.batch_stride < d.leading * (d.columns as i64 - 1) + d.rows as i64 {
            return refuse(format!("results that overlap: {d:?}"));
        }
        Ok([rows, terms, columns])
    }

    /// The hash of what an algorithm is chosen by, which is all but the address of the bias.
    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let description = Description { bias: 0, ..self.description };
        Problem { description, ..*self }.hash(&mut hasher);
        hasher.finish()
    }

    /// Chooses the algorithm for a problem.
    pub(crate) fn algorithm(&self, preference: &Preference) -> Answer<Algorithm> {
        let [_, terms, _] = self.check()?;
        // The value 2 stands for partial sums in the compute type.
        if preference.reductions & !2 != 0 {
            return refuse("partial sums of less than f32 are allowed");
        }
        let splits = terms > 64 && preference.workspace >= WORKSPACE && preference.reductions == 2;
        let workspace = if splits { WORKSPACE } else { 0 };
        Ok(Algorithm {
            problem: self.key(),
            workspace,
            alignments: preference.alignments,
            rest: [0; 4],
        })
    }
}

impl Job {
    /// Checks that the algorithm is for this problem, and that all addresses are aligned as
    /// promised.
    pub(crate) fn check(&self, algorithm: &Algorithm) -> Answer {
        self.problem.check()?;
        if algorithm.problem != self.problem.key() {
            return refuse("the algorithm is for another problem");
        }
        let size = size(self.problem.layouts[0].kind);
        for (at, alignment) in self.at.into_iter().zip(algorithm.alignments) {
            if at % u64::from(alignment) != 0 || at % size != 0 || at == 0 {
                return refuse(format!("an operand at {at:#x}, {alignment} bytes were promised"));
            }
        }
        let bias = self.problem.description.bias;
        let added = self.problem.description.epilogue & BIAS != 0;
        if added && (bias == 0 || !bias.is_multiple_of(algorithm.alignments[3].into())) {
            return refuse(format!("the bias at {bias:#x}"));
        }
        if self.workspace_bytes < algorithm.workspace || !self.workspace.is_multiple_of(256) {
            return refuse("the workspace is too small or not aligned to 256 bytes");
        }
        let [_, _, c, d] = self.problem.layouts;
        if self.at[2] == self.at[3] && c != d {
            return refuse("C is D in another layout");
        }
        Ok(())
    }

    /// Computes the product.
    pub(crate) fn run(&self, memory: &impl Memory) -> Answer {
        let [rows, terms, columns] = self.problem.check()?;
        let Problem { description, layouts } = self.problem;
        let [a, b, c, d] = layouts;
        let poison = vec![0xff; self.workspace_bytes as usize];
        if !poison.is_empty() {
            memory.write(self.workspace, &poison)?;
        }
        let bias = if description.epilogue & BIAS == 0 {
            vec![0.0; rows as usize]
        } else {
            decode(d.kind, &memory.read(description.bias, (rows * size(d.kind)) as usize)?)
        };
        let [alpha, beta] = self.factors.map(f64::from);
        for batch in 0..d.batches as u64 {
            let matrix = |layout: &Layout, at: u64| -> Answer<Vec<Vec<f64>>> {
                let place = |column| {
                    let elements =
                        batch * layout.batch_stride as u64 + column * layout.leading as u64;
                    at + elements * size(layout.kind)
                };
                let bytes = (layout.rows * size(layout.kind)) as usize;
                let column = |j| Ok(decode(layout.kind, &memory.read(place(j), bytes)?));
                (0..layout.columns).map(column).collect()
            };
            let (x, y) = (matrix(&a, self.at[0])?, matrix(&b, self.at[1])?);
            let added = if beta == 0.0 { Vec::new() } else { matrix(&c, self.at[2])? };
            let element = |matrix: &[Vec<f64>], turned: bool, i: usize, j: usize| match turned {
                false => matrix[j][i],
                true => matrix[i][j],
            };
            (0..columns as usize).try_for_each(|j| {
                let column: Vec<f64> = (0..rows as usize)
                    .map(|i| {
                        let [a_turned, b_turned] = description.turned();
                        let product = |p| element(&x, a_turned, i, p) * element(&y, b_turned, p, j);
                        let mut sum = alpha * (0..terms as usize).map(product).sum::<f64>();
                        if beta != 0.0 {
                            sum += beta * added[j][i];
                        }
                        activate(description.epilogue & !BIAS, sum + bias[i])
                    })
                    .collect();
                let elements = batch * d.batch_stride as u64 + j as u64 * d.leading as u64;
                memory.write(self.at[3] + elements * size(d.kind), &encode(d.kind, &column))
            })?;
        }
        Ok(())
    }
}

fn activate(epilogue: u32, x: f64) -> f64 {
    match epilogue {
        RELU => x.max(0.0),
        GELU => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        _ => x,
    }
}

fn decode(kind: u32, bytes: &[u8]) -> Vec<f64> {
    match kind {
        R_32F => bytes.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b).into()).collect(),
        R_16F => bytes.as_chunks().0.iter().map(|b| f16::from_ne_bytes(*b).to_f64()).collect(),
        _ => bytes.as_chunks().0.iter().map(|b| bf16::from_ne_bytes(*b).to_f64()).collect(),
    }
}

fn encode(kind: u32, x: &[f64]) -> Vec<u8> {
    match kind {
        R_32F => x.iter().flat_map(|x| (*x as f32).to_ne_bytes()).collect(),
        R_16F => x.iter().flat_map(|x| f16::from_f32(odd(*x)).to_ne_bytes()).collect(),
        _ => x.iter().flat_map(|x| bf16::from_f32(odd(*x)).to_ne_bytes()).collect(),
    }
}

/// Rounds to odd, so that rounding again to 16 bits gives the same as rounding once (Boldo and
/// Melquiond, 2008). `f16::from_f64` would look only at the upper half of the f64.
fn odd(x: f64) -> f32 {
    let nearest = x as f32;
    if !nearest.is_finite() || f64::from(nearest) == x {
        return nearest;
    }
    // The last bit tells whether anything was cut off.
    let toward_zero = nearest.to_bits() - u32::from(f64::from(nearest).abs() > x.abs());
    f32::from_bits(toward_zero | 1)
}

/// The error of work in the driver, which has printed what is wrong.
pub(crate) fn failed<T>() -> Answer<T> {
    Err(Status::ExecutionFailed)
}

#[cfg(test)]
mod tests {
    use super::{R_16BF, R_16F, decode, encode};

    #[test]
    fn rounds_once() {
        // Above the middle of two neighbours by less than an f32 can hold.
        let rounded = |kind, x| decode(kind, &encode(kind, &[x]))[0];
        let (f16, bf16) = (2f64.powi(-10), 2f64.powi(-7));
        for (kind, step) in [(R_16F, f16), (R_16BF, bf16)] {
            assert_eq!(rounded(kind, 1.0 + step / 2.0), 1.0);
            assert_eq!(rounded(kind, 1.0 + step / 2.0 + 1e-12), 1.0 + step);
            assert_eq!(rounded(kind, -1.0 - step / 2.0 - 1e-12), -1.0 - step);
            assert_eq!(rounded(kind, 1.0 + 1.5 * step - 1e-12), 1.0 + step);
        }
    }
}
