//! Matrices that are read row by row, so that a weight can be packed without ever being in memory
//! as a whole.

use crate::fused::quantized;

/// A matrix `[n, k]` whose rows can be read in any order, by several threads at a time.
pub trait RowSource: Sync {
    /// The numbers of rows and columns.
    fn extents(&self) -> [usize; 2];

    /// Reads rows, as many as fit, from `first` on: `out [m, k]`. May panic where there are no such
    /// rows.
    fn read(&self, first: usize, out: &mut [f32]);

    /// Whether the source holds rows as [`RowSource::read_quantized`] gives them, so that
    /// quantising loses nothing.
    fn is_quantized(&self) -> bool {
        false
    }

    /// Reads rows from `first` on as products of 8-bit integers have a weight's: `integers [m, k]`,
    /// of which a row keeps what [`Precision::Int8`](crate::fused::Precision::Int8) says of
    /// weights, and its scale in `scales [m]`. May panic where there are no such rows.
    fn read_quantized(&self, first: usize, integers: &mut [i8], scales: &mut [f32]) {
        let [_, k] = self.extents();
        let mut row = vec![0.0; k];
        for (i, scale) in scales.iter_mut().enumerate() {
            self.read(first + i, &mut row);
            *scale = quantized::quantize(&row, &mut integers[i * k..][..k]);
        }
    }
}

/// Rows in memory, one after another.
#[derive(Debug, Clone, Copy)]
pub struct MemoryRows<'a> {
    /// The elements, `[n, k]`.
    pub values: &'a [f32],
    /// k.
    pub columns: usize,
}

impl RowSource for MemoryRows<'_> {
    fn extents(&self) -> [usize; 2] {
        [self.values.len().checked_div(self.columns).unwrap_or(0), self.columns]
    }

    fn read(&self, first: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.values[first * self.columns..][..out.len()]);
    }
}

/// Matrices of one width, stacked along their rows.
pub(crate) struct Stacked<'a>(pub(crate) Vec<Box<dyn RowSource + 'a>>);

impl Stacked<'_> {
    /// Calls `read` for each part that has some of the `count` rows from `first` on: the part, its
    /// first row, where that is among those asked for, and how many there are.
    fn parts(
        &self,
        mut first: usize,
        count: usize,
        mut read: impl FnMut(&dyn RowSource, usize, usize, usize),
    ) {
        let mut done = 0;
        for part in &self.0 {
            let [n, _] = part.extents();
            if first < n && done < count {
                let here = (n - first).min(count - done);
                read(&**part, first, done, here);
                done += here;
            }
            first = first.saturating_sub(n);
        }
    }
}

impl RowSource for Stacked<'_> {
    fn extents(&self) -> [usize; 2] {
        let rows = self.0.iter().map(|part| part.extents()[0]).sum();
        [rows, self.0.first().map_or(0, |part| part.extents()[1])]
    }

    fn read(&self, first: usize, out: &mut [f32]) {
        let [_, k] = self.extents();
        let count = out.len().checked_div(k).unwrap_or(0);
        self.parts(first, count, |part, first, done, here| {
            part.read(first, &mut out[done * k..][..here * k]);
        });
    }

    fn is_quantized(&self) -> bool {
        self.0.iter().any(|part| part.is_quantized())
    }

    fn read_quantized(&self, first: usize, integers: &mut [i8], scales: &mut [f32]) {
        let [_, k] = self.extents();
        self.parts(first, scales.len(), |part, first, done, here| {
            let integers = &mut integers[done * k..][..here * k];
            part.read_quantized(first, integers, &mut scales[done..][..here]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacked_matrices_read_as_one() {
        let values: Vec<f32> = (0..21).map(|i| ((i * 5) as f32).sin()).collect();
        let whole = MemoryRows { values: &values, columns: 3 };
        let part = |rows: std::ops::Range<usize>| -> Box<dyn RowSource + '_> {
            Box::new(MemoryRows { values: &values[rows.start * 3..rows.end * 3], columns: 3 })
        };
        let stacked = Stacked(vec![part(0..2), part(2..2), part(2..3), part(3..7)]);
        assert_eq!(stacked.extents(), [7, 3]);
        for (first, count) in [(0, 7), (0, 1), (1, 3), (2, 0), (2, 5), (6, 1), (7, 0)] {
            let (mut got, mut want) = (vec![f32::NAN; count * 3], vec![f32::NAN; count * 3]);
            stacked.read(first, &mut got);
            whole.read(first, &mut want);
            assert_eq!(got, want, "{first}, {count}");
            let quantized = |source: &dyn RowSource| {
                let (mut integers, mut scales) = (vec![1; count * 3], vec![f32::NAN; count]);
                source.read_quantized(first, &mut integers, &mut scales);
                (integers, scales)
            };
            assert_eq!(quantized(&stacked), quantized(&whole), "{first}, {count}");
        }
    }
}
