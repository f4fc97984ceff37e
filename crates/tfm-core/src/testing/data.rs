//! Random operands, from a counter: the same for the same seed, whatever else is drawn.

use crate::philox::philox4x32;
use crate::reference::tensor_from_f64;
use crate::{DType, Shape, Tensor};

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Data {
    key: [u32; 2],
    counter: u32,
}

impl Data {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Data { key: [seed as u32, (seed >> 32) as u32], counter: 0 }
    }

    /// The stream of part `number` of this one.
    pub fn part(&self, number: u32) -> Self {
        let [a, b, ..] = philox4x32([number, 0, 0, 1], self.key);
        Data { key: [a, b], counter: 0 }
    }

    fn word(&mut self) -> u32 {
        self.counter += 1;
        philox4x32([self.counter, 0, 0, 0], self.key)[0]
    }

    /// A uniform integer below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.word()) * bound as u64) >> 32) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A number around 0, mostly below `scale`: zeros, small integers and equal values occur, and a
    /// few that are ten times as large.
    pub fn number(&mut self, scale: f64) -> f64 {
        let uniform = f64::from(self.word()) / 2f64.powi(31) - 1.0;
        match self.below(32) {
            0 => 0.0,
            1 => (uniform * 4.0).round() / 4.0 * scale,
            2 => uniform * 10.0 * scale,
            _ => uniform * scale,
        }
    }

    /// A tensor of such numbers, rounded to a float type.
    pub fn tensor(&mut self, dtype: DType, shape: &Shape, scale: f64) -> Tensor {
        let values: Vec<f64> = (0..shape.elements()).map(|_| self.number(scale)).collect();
        tensor_from_f64(values.into_iter(), dtype, shape)
    }

    /// `n` distinct integers below `bound`, in any order.
    pub fn distinct(&mut self, n: usize, bound: usize) -> Vec<i32> {
        let mut all: Vec<i32> = (0..bound as i32).collect();
        for i in 0..n {
            let j = i + self.below(bound - i);
            all.swap(i, j);
        }
        all.truncate(n);
        all
    }
}
