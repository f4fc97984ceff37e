//! Elements where they lie in files, read some rows at a time: what has been read is given back to
//! the system.

use super::elements::{ElementType, not_finite, to_f32};
use super::files::FileBytes;
use std::ops::Range;
use tfm_core::fused::quantized;
use tfm_core::{RowSource, Shape};

/// Bytes of a file that are read before they are given back, and about as many as are read at a
/// time.
const WINDOW: usize = 1 << 20;

/// Elements below which no other thread is worth starting.
const WORTH_A_THREAD: usize = 1 << 19;

/// A matrix in a file.
#[derive(Debug)]
pub(super) struct FileRows<'a> {
    file: &'a FileBytes,
    element_type: ElementType,
    /// Its bytes in the file.
    bytes: Range<usize>,
    extents: [usize; 2],
    /// What the integers of each row are to be multiplied with; none for floats.
    scales: &'a [f32],
}

impl<'a> FileRows<'a> {
    /// The bytes of a tensor of this shape, as a matrix of what lies along its first axis.
    pub(super) fn new(
        file: &'a FileBytes,
        element_type: ElementType,
        bytes: Range<usize>,
        shape: &Shape,
        scales: &'a [f32],
    ) -> Self {
        let n = shape.first().copied().unwrap_or(1);
        let extents = [n, shape.elements().checked_div(n).unwrap_or(0)];
        FileRows { file, element_type, bytes, extents, scales }
    }

    /// The bytes of `count` rows.
    fn place(&self, first: usize, count: usize) -> Range<usize> {
        let row = self.extents[1] * self.element_type.size();
        let start = self.bytes.start + first * row;
        start..start + count * row
    }

    /// Rows that are read at a time.
    fn at_once(&self) -> usize {
        (WINDOW / (self.extents[1] * self.element_type.size()).max(1)).max(1)
    }

    /// Gives back the windows that end in what has just been read, and the one before them, where
    /// other threads may have been a little later.
    fn passed(&self, read: Range<usize>) {
        let (first, last) = (read.start / WINDOW, read.end / WINDOW);
        if first < last {
            let start = (first.saturating_sub(1) * WINDOW).max(self.bytes.start);
            self.file.release(start..last * WINDOW);
        }
    }

    /// How many elements are NaN, and how many infinite.
    pub(super) fn not_finite(&self) -> (usize, usize) {
        let [n, k] = self.extents;
        if self.is_quantized() {
            return (0, 0);
        }
        let threads = (n * k / WORTH_A_THREAD).min(n).max(1);
        let threads = match threads {
            1 => 1,
            // To ask takes reading some files.
            _ => std::thread::available_parallelism().map_or(1, |all| threads.min(all.get())),
        };
        let count = |part: usize| {
            let rows = part * n / threads..(part + 1) * n / threads;
            let (mut nan, mut infinite) = (0, 0);
            for first in rows.clone().step_by(self.at_once()) {
                let place = self.place(first, self.at_once().min(rows.end - first));
                let found = not_finite(self.element_type, &self.file[place.clone()]);
                (nan, infinite) = (nan + found.0, infinite + found.1);
                self.passed(place);
            }
            (nan, infinite)
        };
        if threads == 1 {
            return count(0);
        }
        std::thread::scope(|scope| {
            let count = &count;
            let start = |part| {
                let thread = std::thread::Builder::new();
                (part, thread.spawn_scoped(scope, move || count(part)))
            };
            let others: Vec<_> = (1..threads).map(start).collect();
            let mine = count(0);
            others.into_iter().fold(mine, |(nan, infinite), (part, other)| {
                // Where the system has no thread for it, this one counts.
                let found = match other.map(|thread| thread.join()) {
                    Ok(Ok(found)) => found,
                    Ok(Err(panic)) => std::panic::resume_unwind(panic),
                    Err(_) => count(part),
                };
                (nan + found.0, infinite + found.1)
            })
        })
    }

    /// Whether another matrix holds the same numbers.
    pub(super) fn same(&self, other: &FileRows<'_>) -> bool {
        let [n, k] = self.extents;
        if other.extents != [n, k] {
            return false;
        }
        let alike = self.element_type == other.element_type && self.scales == other.scales;
        let rows = self.at_once().min(other.at_once());
        (0..n).step_by(rows).all(|first| {
            let rows = rows.min(n - first);
            if alike {
                let (here, there) = (self.place(first, rows), other.place(first, rows));
                let same = self.file[here.clone()] == other.file[there.clone()];
                self.passed(here);
                other.passed(there);
                return same;
            }
            let (mut here, mut there) = (vec![0.0; rows * k], vec![0.0; rows * k]);
            self.read(first, &mut here);
            other.read(first, &mut there);
            here == there
        })
    }
}

impl RowSource for FileRows<'_> {
    fn extents(&self) -> [usize; 2] {
        self.extents
    }

    fn read(&self, first: usize, out: &mut [f32]) {
        let k = self.extents[1].max(1);
        let firsts = (first..).step_by(self.at_once());
        for (first, out) in firsts.zip(out.chunks_mut(self.at_once() * k)) {
            let place = self.place(first, out.len() / k);
            to_f32(self.element_type, &self.file[place.clone()], out);
            if self.is_quantized() {
                let scales = &self.scales[first..];
                for (row, scale) in out.chunks_exact_mut(k).zip(scales) {
                    row.iter_mut().for_each(|x| *x *= scale);
                }
            }
            self.passed(place);
        }
    }

    fn is_quantized(&self) -> bool {
        self.element_type == ElementType::I8
    }

    fn read_quantized(&self, first: usize, integers: &mut [i8], scales: &mut [f32]) {
        let [_, k] = self.extents;
        let mut floats = vec![0.0; k];
        for (i, scale) in scales.iter_mut().enumerate() {
            let row = &mut integers[i * k..][..k];
            if self.is_quantized() {
                let place = self.place(first + i, 1);
                let stored = &self.file[place.clone()];
                row.iter_mut().zip(stored).for_each(|(integer, &byte)| *integer = byte as i8);
                self.passed(place);
                *scale = self.scales[first + i];
                if quantized::is_row(row) {
                    continue;
                }
                // Of another quantiser, with integers that not all products may take.
            }
            self.read(first + i, &mut floats);
            *scale = quantized::quantize(&floats, row);
        }
    }
}

impl Drop for FileRows<'_> {
    fn drop(&mut self) {
        self.file.release(self.bytes.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::elements::from_f32;
    use super::super::files::Tensors;
    use super::*;
    use safetensors::tensor::{TensorView, serialize_to_file};

    const COLUMNS: usize = 700;
    const ROWS: usize = 3001;

    /// A mapped file with one matrix, some windows long.
    fn mapped(element_type: ElementType, values: &[f32]) -> (tempfile::TempDir, Tensors) {
        let mut bytes = Vec::new();
        from_f32(element_type, values, &mut bytes);
        let view = TensorView::new(element_type.dtype(), vec![ROWS, COLUMNS], &bytes).unwrap();
        let folder = tempfile::tempdir().unwrap();
        serialize_to_file([("w", view)], None, &folder.path().join("model.safetensors")).unwrap();
        let mut faults = Vec::new();
        let tensors = Tensors::open(folder.path(), &mut faults);
        assert_eq!(faults, []);
        (folder, tensors)
    }

    fn rows<'a>(tensors: &'a Tensors, scales: &'a [f32]) -> FileRows<'a> {
        let (file, entry) = &tensors.by_name["w"];
        let element_type = ElementType::from_dtype(entry.dtype).unwrap();
        let file = &tensors.files[*file];
        FileRows::new(file, element_type, entry.bytes.clone(), &entry.shape, scales)
    }

    /// Integers, which every type holds exactly.
    fn numbers() -> Vec<f32> {
        (0..ROWS * COLUMNS).map(|i| (i * 31 % 201) as f32 - 100.0).collect()
    }

    #[test]
    fn rows_are_the_same_in_any_order_and_by_any_thread() {
        let values = numbers();
        for element_type in ElementType::ALL {
            let (_folder, tensors) = mapped(element_type, &values);
            let scales: Vec<f32> = match element_type {
                ElementType::I8 => (0..ROWS).map(|row| (row % 5) as f32 / 4.0).collect(),
                _ => Vec::new(),
            };
            let scale = |row: usize| scales.get(row).copied().unwrap_or(1.0);
            let stored = rows(&tensors, &scales);
            let check = |first: usize, count: usize| {
                let mut read = vec![f32::NAN; count * COLUMNS];
                stored.read(first, &mut read);
                let want = &values[first * COLUMNS..][..count * COLUMNS];
                let mut want = want.iter().enumerate();
                let is_scaled = |(i, x): (usize, &f32)| read[i] == x * scale(first + i / COLUMNS);
                assert!(want.all(is_scaled), "{element_type:?}: {count} from {first}");
            };
            check(0, ROWS);
            check(ROWS, 0);
            std::thread::scope(|scope| {
                for part in 0..3 {
                    let check = &check;
                    scope.spawn(move || {
                        (part..ROWS / 8).step_by(3).for_each(|block| check(block * 8, 8));
                    });
                }
            });
        }
    }

    #[test]
    fn what_is_not_finite_is_counted_wherever_it_is() {
        let mut values = numbers();
        for place in [0, 1, 1023, 1024, ROWS * COLUMNS / 2, ROWS * COLUMNS - 1] {
            values[place] = f32::NAN;
        }
        values[5] = f32::INFINITY;
        values[ROWS * COLUMNS - 2] = f32::NEG_INFINITY;
        for element_type in [ElementType::F32, ElementType::F16, ElementType::BF16] {
            let (_folder, tensors) = mapped(element_type, &values);
            assert_eq!(rows(&tensors, &[]).not_finite(), (6, 2), "{element_type:?}");
        }
    }

    #[test]
    fn matrices_are_compared_by_their_numbers() {
        let mut values = numbers();
        let all: Vec<_> = ElementType::ALL.iter().map(|&stored| mapped(stored, &values)).collect();
        values[ROWS * COLUMNS - 1] += 1.0;
        let (_folder, other) = mapped(ElementType::F32, &values);
        let ones = vec![1.0; ROWS];
        let twos = vec![2.0; ROWS];
        for (_, a) in &all {
            for (_, b) in &all {
                assert!(rows(a, &ones).same(&rows(b, &ones)));
            }
            assert!(!rows(a, &ones).same(&rows(&other, &ones)));
        }
        let (_, integers) = all.last().unwrap();
        assert!(!rows(integers, &ones).same(&rows(integers, &twos)));
    }

    #[test]
    fn integers_are_given_as_they_are_unless_products_would_saturate() {
        let mut values = numbers();
        // The first two rows hold neighbours that sum to more than 129; the third is as this
        // quantiser makes them.
        values[2 * COLUMNS..3 * COLUMNS].fill(0.0);
        values[2 * COLUMNS] = 127.0;
        let (_folder, tensors) = mapped(ElementType::I8, &values);
        let scales = vec![0.5; ROWS];
        let stored = rows(&tensors, &scales);
        assert!(stored.is_quantized());
        let (mut integers, mut found) = (vec![0; 3 * COLUMNS], vec![0.0; 3]);
        stored.read_quantized(0, &mut integers, &mut found);
        for row in 0..3 {
            let integers = &integers[row * COLUMNS..][..COLUMNS];
            let values = &values[row * COLUMNS..][..COLUMNS];
            assert!(quantized::is_row(integers));
            for (&integer, value) in integers.iter().zip(values) {
                let error = (found[row] * f32::from(integer) - 0.5 * value).abs();
                assert!(error <= 0.51 * found[row] * f32::from(row < 2));
            }
        }
        assert!(found[0] > 0.5 && found[2] == 0.5);
    }
}
