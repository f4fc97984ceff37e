//! Elements as they lie in files, little-endian and not aligned: to f32, and whether they are
//! numbers.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;

/// The element types that weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// IEEE 754 double precision, rounded to single when it is read.
    F64,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    BF16,
    /// 8-bit integers. Each row of a matrix has a scale to be multiplied with, an F32 of a tensor
    /// `[n, 1]` of the same name with `_scale` behind it.
    I8,
}

impl ElementType {
    /// Every type.
    pub const ALL: [ElementType; 5] =
        [ElementType::F64, ElementType::F32, ElementType::F16, ElementType::BF16, ElementType::I8];

    pub(super) fn from_dtype(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F64 => Some(ElementType::F64),
            Dtype::F32 => Some(ElementType::F32),
            Dtype::F16 => Some(ElementType::F16),
            Dtype::BF16 => Some(ElementType::BF16),
            Dtype::I8 => Some(ElementType::I8),
            _ => None,
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            ElementType::F64 => Dtype::F64,
            ElementType::F32 => Dtype::F32,
            ElementType::F16 => Dtype::F16,
            ElementType::BF16 => Dtype::BF16,
            ElementType::I8 => Dtype::I8,
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            ElementType::F64 => 8,
            ElementType::F32 => 4,
            ElementType::F16 | ElementType::BF16 => 2,
            ElementType::I8 => 1,
        }
    }
}

/// Elements converted or examined at a time.
const CHUNK: usize = 1024;

/// Elements of a file, as many as `out` has, as f32, which holds each but those of F64 exactly.
/// Integers are without their scales.
pub(super) fn to_f32(stored: ElementType, bytes: &[u8], out: &mut [f32]) {
    match stored {
        ElementType::F64 => each(out, words(bytes), |word| f64::from_le_bytes(word) as f32),
        ElementType::F32 => each(out, words(bytes), f32::from_le_bytes),
        ElementType::BF16 => each(out, words(bytes), |word| bf16::from_le_bytes(word).to_f32()),
        ElementType::I8 => each(out, words(bytes), |word| f32::from(i8::from_le_bytes(word))),
        ElementType::F16 => {
            // The processor converts whole slices at once.
            let mut halves = [f16::ZERO; CHUNK];
            for (out, bytes) in out.chunks_mut(CHUNK).zip(bytes.chunks(2 * CHUNK)) {
                let halves = &mut halves[..out.len()];
                each(halves, words(bytes), f16::from_le_bytes);
                halves.convert_to_f32_slice(out);
            }
        }
    }
}

fn each<T, const N: usize>(out: &mut [T], words: &[[u8; N]], convert: impl Fn([u8; N]) -> T) {
    out.iter_mut().zip(words).for_each(|(out, &word)| *out = convert(word));
}

/// Writes f32 elements as they lie in files, rounded to nearest; integers as they are.
pub(super) fn from_f32(stored: ElementType, values: &[f32], bytes: &mut Vec<u8>) {
    bytes.reserve(values.len() * stored.size());
    match stored {
        ElementType::F64 => {
            values.iter().for_each(|&value| bytes.extend(f64::from(value).to_le_bytes()))
        }
        ElementType::F32 => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
        ElementType::F16 => {
            values.iter().for_each(|&value| bytes.extend(f16::from_f32(value).to_le_bytes()))
        }
        ElementType::BF16 => {
            values.iter().for_each(|&value| bytes.extend(bf16::from_f32(value).to_le_bytes()))
        }
        ElementType::I8 => bytes.extend(values.iter().map(|&value| value as i8 as u8)),
    }
}

/// How many elements are NaN, and how many infinite, in f32.
pub(super) fn not_finite(stored: ElementType, bytes: &[u8]) -> (usize, usize) {
    match stored {
        ElementType::F64 => {
            let numbers = words(bytes).iter().map(|&word| f64::from_le_bytes(word) as f32);
            numbers.fold((0, 0), |(nan, infinite), x| {
                (nan + usize::from(x.is_nan()), infinite + usize::from(x.is_infinite()))
            })
        }
        ElementType::F32 => {
            count(words(bytes), 0x7f80_0000, |word| (u32::from_le_bytes(word) & 0x7fff_ffff) as i32)
        }
        ElementType::F16 => {
            count(words(bytes), 0x7c00, |word| (u16::from_le_bytes(word) & 0x7fff).into())
        }
        ElementType::BF16 => {
            count(words(bytes), 0x7f80, |word| (u16::from_le_bytes(word) & 0x7fff).into())
        }
        ElementType::I8 => (0, 0),
    }
}

/// Without its sign, NaN is above the bits of infinity.
fn count<const N: usize>(
    words: &[[u8; N]],
    infinity: i32,
    magnitude: impl Fn([u8; N]) -> i32,
) -> (usize, usize) {
    let (mut nan, mut infinite) = (0, 0);
    for words in words.chunks(CHUNK) {
        // Nearly always nothing is found; to look is all that takes time.
        let above = words.iter().fold(0, |above, &word| above | (infinity - 1 - magnitude(word)));
        if above < 0 {
            nan += words.iter().filter(|&&word| magnitude(word) > infinity).count();
            infinite += words.iter().filter(|&&word| magnitude(word) == infinity).count();
        }
    }
    (nan, infinite)
}

fn words<const N: usize>(bytes: &[u8]) -> &[[u8; N]] {
    bytes.as_chunks::<N>().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_becomes_the_f32_of_the_half_crate() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let [f16s, bf16s] = [ElementType::F16, ElementType::BF16].map(|stored| {
            let mut values = vec![0.0; bytes.len() / 2];
            to_f32(stored, &bytes, &mut values);
            values
        });
        for bits in 0..=u16::MAX {
            let (a, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            let same = |found: f32, expected: f32| {
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
            };
            assert!(same(f16s[usize::from(bits)], a.to_f32()), "f16 {bits:04x}");
            assert!(same(bf16s[usize::from(bits)], b.to_f32()), "bf16 {bits:04x}");
        }
    }

    #[test]
    fn nan_and_infinity_are_counted_apart() {
        let values = [1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN, f32::MAX, 0.0];
        for stored in [ElementType::F32, ElementType::F16, ElementType::BF16] {
            let values: Vec<f32> = values.iter().map(|&value| value.clamp(-6e4, 6e4)).collect();
            let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN];
            let mut bytes = Vec::new();
            from_f32(stored, &[values, special.to_vec()].concat(), &mut bytes);
            // The clamp leaves the two NaN and no infinity of the first list.
            assert_eq!(not_finite(stored, &bytes), (4, 2), "{stored:?}");
        }
    }
}
