//! Walks several operands of one shape at once, each by its own strides.
//!
//! All slices begin at the layout's first element. So the layout's offset is not added again.

use half::bf16;
use tfm_core::Layout;

use crate::buffer::Element;
use crate::kernels::bf16::round_to_bf16 as round_run;
use crate::kernels::simd::Isa;

/// A run of elements: where it begins in each operand, its length, and the distance of its
/// elements.
pub(crate) struct Run<const N: usize> {
    pub(crate) starts: [usize; N],
    pub(crate) strides: [usize; N],
    pub(crate) len: usize,
}

/// Calls `f` with runs that together cover every element once, in row-major order. Axes that follow
/// one another without gaps in all operands are joined, so that contiguous operands make a single
/// run.
pub(crate) fn for_each_run<const N: usize>(layouts: [&Layout; N], mut f: impl FnMut(Run<N>)) {
    let shape = layouts[0].shape();
    if shape.contains(&0) {
        return;
    }
    let mut axes: Vec<(usize, [usize; N])> = Vec::with_capacity(shape.len());
    for (axis, &extent) in shape.iter().enumerate().filter(|&(_, &extent)| extent != 1) {
        let strides = layouts.map(|layout| layout.strides()[axis]);
        match axes.last_mut() {
            Some((outer, outer_strides))
                if (0..N).all(|i| outer_strides[i] == strides[i] * extent) =>
            {
                *outer *= extent;
                *outer_strides = strides;
            }
            _ => axes.push((extent, strides)),
        }
    }
    let (len, strides) = axes.pop().unwrap_or((1, [1; N]));
    let mut index = vec![0; axes.len()];
    let mut starts = [0; N];
    'runs: loop {
        f(Run { starts, strides, len });
        for ((extent, strides), index) in axes.iter().zip(&mut index).rev() {
            *index += 1;
            if *index < *extent {
                (0..N).for_each(|i| starts[i] += strides[i]);
                continue 'runs;
            }
            *index = 0;
            (0..N).for_each(|i| starts[i] -= strides[i] * (extent - 1));
        }
        return;
    }
}

/// Copies all elements of `src` to `dst`.
pub(crate) fn copy<T: Element>(src: &[T], src_layout: &Layout, dst: &mut [T], dst_layout: &Layout) {
    for_each_run(
        [src_layout, dst_layout],
        |Run { starts: [from, to], strides, len }| match strides {
            [1, 1] => dst[to..to + len].copy_from_slice(&src[from..from + len]),
            [from_stride, to_stride] => {
                for i in 0..len {
                    dst[to + i * to_stride] = src[from + i * from_stride];
                }
            }
        },
    );
}

/// Copies all elements of `src` to `dst` and converts each.
pub(crate) fn convert<T: Element, U: Element>(
    src: &[T],
    src_layout: &Layout,
    dst: &mut [U],
    dst_layout: &Layout,
) {
    for_each_run([src_layout, dst_layout], |Run { starts, strides, len }| {
        for i in 0..len {
            let x = src[starts[0] + i * strides[0]].to_f64();
            dst[starts[1] + i * strides[1]] = U::from_f64(x);
        }
    });
}

/// Copies all elements of `src` to `dst` and rounds each.
pub(crate) fn round_to_bf16(
    isa: Isa,
    src: &[f32],
    src_layout: &Layout,
    dst: &mut [bf16],
    dst_layout: &Layout,
) {
    for_each_run([src_layout, dst_layout], |Run { starts: [from, to], strides, len }| {
        if strides == [1, 1] {
            round_run(isa, &src[from..from + len], &mut dst[to..to + len]);
        } else {
            for i in 0..len {
                dst[to + i * strides[1]] = bf16::from_f32(src[from + i * strides[0]]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_visit_every_element_in_order() {
        let base = Layout::contiguous(&[3, 4, 5].into());
        let shape = [4, 3, 2].into();
        let views = [
            base.permute(&[1, 0, 2]).slice(2, 1, 2),
            Layout::contiguous(&shape),
            Layout::contiguous(&[3, 1].into()).broadcast(&shape),
            Layout::contiguous(&[].into()).broadcast(&shape),
        ];
        for view in &views {
            for other in &views {
                let (mut seen, mut others) = (Vec::new(), Vec::new());
                for_each_run([view, other], |run| {
                    for i in 0..run.len {
                        seen.push(view.offset() + run.starts[0] + i * run.strides[0]);
                        others.push(other.offset() + run.starts[1] + i * run.strides[1]);
                    }
                });
                assert_eq!(seen, view.positions().collect::<Vec<_>>());
                assert_eq!(others, other.positions().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn contiguous_operands_make_one_run_and_empty_ones_none() {
        for (shape, runs) in [(vec![2, 3, 4], 1), (vec![], 1), (vec![1, 1], 1), (vec![3, 0], 0)] {
            let layout = Layout::contiguous(&shape[..].into());
            let mut count = 0;
            for_each_run([&layout], |run| {
                assert_eq!(run.len, layout.shape().elements());
                count += 1;
            });
            assert_eq!(count, runs);
        }
    }
}
