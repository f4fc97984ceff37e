//! Pairs of `bf16` numbers, in the form that products read: a word of 32 bits holds two inputs of a
//! row, or the weights of two inputs for an output column.

use super::bf16::upper;
use super::pack::{Panels, Weight};
use super::rows::Rows;
use super::simd::{Isa, Kernel, Simd};
use super::threads::Threads;

/// Two numbers, the first in the lower half.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub struct Pair(u32);

impl Pair {
    /// Rounds both numbers to the nearest `bf16`, ties to even.
    #[inline(always)]
    pub fn new(first: f32, second: f32) -> Pair {
        Pair(upper(first) >> 16 | upper(second))
    }
}

impl Weight for Pair {
    const INPUTS: usize = 2;
    const FLOATS: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, w: *const Pair) -> S::F {
        // SAFETY: the caller's promise, and a word is as large as a float.
        unsafe { s.load_ptr(w.cast()) }
    }
    #[inline(always)]
    fn part<S: Simd>(s: S, w: S::F, float: usize) -> S::F {
        if float == 0 { s.firsts(w) } else { s.seconds(w) }
    }
    fn numbers(self, out: &mut [f32]) {
        let both = [self.0 << 16, self.0 & 0xffff_0000];
        out.iter_mut().zip(both).for_each(|(out, bits)| *out = f32::from_bits(bits));
    }
}

/// A [`Pair`] on a CPU with an instruction that multiplies pairs. Only [`at_once`] returns such
/// pairs.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct PairAtOnce(Pair);

impl Weight for PairAtOnce {
    const INPUTS: usize = 2;
    const FLOATS: usize = 1;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, w: *const PairAtOnce) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { Pair::load(s, w.cast()) }
    }
    #[inline(always)]
    fn add_product<S: Simd>(s: S, acc: S::F, x: S::F, w: S::F) -> S::F {
        // SAFETY: `at_once` has checked the panels' instruction set, which is the one that runs.
        unsafe { s.add_pairs_at_once(acc, x, w) }
    }
    fn numbers(self, out: &mut [f32]) {
        self.0.numbers(out);
    }
}

/// The panels for products by that instruction, if their instruction set has it and it is fast.
pub fn at_once<'a>(panels: &Panels<'a, Pair>) -> Option<Panels<'a, PairAtOnce>> {
    panels.isa().multiplies_pairs_fast().then(|| {
        panels.map(|data| {
            // SAFETY: both types are the same words.
            unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), data.len()) }
        })
    })
}

/// Words of a row of `cols` numbers.
pub fn words(cols: usize) -> usize {
    cols.div_ceil(Pair::INPUTS)
}

/// The floats of a row of `cols` inputs in the form that [`pair_rows`] makes.
pub fn floats(isa: Isa, cols: usize) -> usize {
    words(cols) * if isa.multiplies_pairs_fast() { PairAtOnce::FLOATS } else { Pair::FLOATS }
}

/// Rounds rows and stores them in the form that the product reads, `out [m, floats(k)]`. If one
/// instruction multiplies pairs, the floats hold the bits of pairs instead of numbers. A last pair
/// without a second number has 0 in its place.
pub fn pair_rows(isa: Isa, threads: &Threads, x: Rows<'_>, out: &mut [f32]) {
    let (floats, at_once) = (floats(isa, x.cols()), isa.multiplies_pairs_fast());
    assert_eq!(out.len(), x.rows() * floats);
    threads.rows(out, floats, 8 * floats, |rows, out| {
        for (row, out) in rows.zip(out.chunks_exact_mut(floats)) {
            let x = x.row(row);
            if at_once { isa.run(PairRow { x, out }) } else { isa.run(RoundedRow { x, out }) }
        }
    });
}

struct RoundedRow<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for RoundedRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (out, rest) = self.out.split_at_mut(self.x.len());
        for (&x, out) in self.x.iter().zip(out) {
            *out = f32::from_bits(upper(x));
        }
        rest.fill(0.0);
    }
}

struct PairRow<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for PairRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (whole, rest) = self.x.as_chunks::<2>();
        for (&[first, second], out) in whole.iter().zip(&mut *self.out) {
            *out = f32::from_bits(Pair::new(first, second).0);
        }
        if let ([last], Some(out)) = (rest, self.out.last_mut()) {
            *out = f32::from_bits(Pair::new(*last, 0.0).0);
        }
    }
}

/// Makes pairs of whole panels, from each two inputs, or from a last one and 0.
pub(super) struct PairPanels<'a> {
    /// `[panels, inputs, width]`
    pub(super) wide: &'a [f32],
    pub(super) inputs: usize,
    pub(super) width: usize,
    /// `[panels, words(inputs), width]`
    pub(super) out: &'a mut [Pair],
}

impl Kernel for PairPanels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let PairPanels { wide, inputs, width, out } = self;
        let panels = wide.chunks_exact(inputs * width);
        for (wide, out) in panels.zip(out.chunks_exact_mut(words(inputs) * width)) {
            for (both, out) in wide.chunks(2 * width).zip(out.chunks_exact_mut(width)) {
                let (firsts, seconds) = both.split_at(width);
                for (i, (out, first)) in out.iter_mut().zip(firsts).enumerate() {
                    *out = Pair::new(*first, seconds.get(i).copied().unwrap_or(0.0));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_same_bits, everywhere, noise};
    use half::bf16;

    /// The numbers of a row in the form that the product reads.
    fn numbers(isa: Isa, pairs: &[f32]) -> Vec<f32> {
        if !isa.multiplies_pairs_fast() {
            return pairs.to_vec();
        }
        let mut out = vec![0.0; 2 * pairs.len()];
        for (pair, out) in pairs.iter().zip(out.chunks_exact_mut(2)) {
            Pair(pair.to_bits()).numbers(out);
        }
        out
    }

    #[test]
    fn rounds_as_the_type_does() {
        let mut x = noise(1, 1000);
        // Ties whose upper parts are even and odd, a number that rounds to infinity, infinities and
        // small numbers.
        let bits = [0x3f80_8000u32, 0x3f81_8000, 0x7f7f_ffff, 0x7f80_0000, 0xff80_0000, 1, 0x8000];
        x.extend(bits.map(f32::from_bits));
        let mut want: Vec<f32> = x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
        want.push(0.0);
        everywhere(|isa, threads| {
            let mut out = vec![0.0; floats(isa, x.len())];
            pair_rows(isa, threads, Rows::contiguous(&x, x.len()), &mut out);
            assert_same_bits(&numbers(isa, &out), &want);
        });
        let (isa, threads) = (Isa::best(), Threads::new(1).unwrap());
        let mut out = vec![0.0; floats(isa, 2)];
        pair_rows(isa, &threads, Rows::contiguous(&[f32::NAN, 2.0], 2), &mut out);
        assert!(numbers(isa, &out)[0].is_nan() && numbers(isa, &out)[1] == 2.0);
    }

    struct Both<'a>(&'a [f32], &'a [f32], bool);

    impl Kernel for Both<'_> {
        type Output = [Vec<f32>; 2];

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [Vec<f32>; 2] {
            let Both(x, w, at_once) = self;
            let mut out = [vec![0.0; S::LANES], vec![0.0; S::LANES]];
            let mut acc = [s.splat(0.25); 2];
            for (x, w) in x.chunks_exact(S::LANES).zip(w.chunks_exact(S::LANES)) {
                let (x, w) = (s.load(x), s.load(w));
                for float in [1, 0] {
                    let [x, w] = [Pair::part(s, x, float), Pair::part(s, w, float)];
                    acc[0] = Pair::add_product(s, acc[0], x, w);
                }
                acc[1] = match at_once {
                    // SAFETY: the test has asked whether the CPU has the instruction.
                    true => unsafe { s.add_pairs_at_once(acc[1], x, w) },
                    false => acc[0],
                };
            }
            s.store(acc[0], &mut out[0]);
            s.store(acc[1], &mut out[1]);
            out
        }
    }

    #[test]
    fn an_instruction_of_its_own_gives_the_same_bits() {
        let mut pairs = [vec![0.0; 320], vec![0.0; 320]];
        for isa in Isa::available() {
            for (seed, out) in pairs.iter_mut().enumerate() {
                isa.run(PairRow { x: &noise(seed as u64 + 5, 640), out });
            }
            if !isa.multiplies_pairs() {
                println!("skipped: {} has no products of pairs", isa.name());
            }
            let [want, got] = isa.run(Both(&pairs[0], &pairs[1], isa.multiplies_pairs()));
            assert!(want.iter().all(|x| x.is_finite()));
            assert_same_bits(&got, &want);
        }
    }
}
