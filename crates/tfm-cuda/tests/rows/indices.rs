//! The primitives whose threads do not compute one element each: reductions, sums by ids, top-k.

use crate::bench::{FLOATS, assert_near, everywhere, noise, outputs, packed, rows, tolerance};
use tfm_core::backend::{View, ViewMut};
use tfm_core::op::ReduceOp;
use tfm_core::testing::Data;
use tfm_core::{Backend, DType, Layout, Shape};
use tfm_cuda::Buffer;

/// The destination again, for a method that consumes it.
fn again<'a>(out: &'a mut ViewMut<'_, Buffer>) -> ViewMut<'a, Buffer> {
    ViewMut { buffer: out.buffer, dtype: out.dtype, layout: out.layout }
}

/// Lines with and without gaps, from short ones, which one thread reads, to long ones, which blocks
/// read in parts. A line has the same bits wherever it lies.
#[test]
fn reductions() {
    everywhere("indices::reductions", |cuda| {
        for (lines, extent) in
            [(3, 0), (5, 1), (33, 31), (9, 32), (2, 256), (3, 257), (2, 3001), (1, 65_537)]
        {
            let values = noise(1, lines * extent, 1.0);
            let turned: Vec<f64> =
                (0..lines * extent).map(|i| values[i % lines * extent + i / lines]).collect();
            let mut bits = std::collections::HashMap::new();
            for (axis, dtype) in [0, 1].into_iter().flat_map(|axis| FLOATS.map(|t| (axis, t))) {
                if extent > 10_000 && dtype != DType::F16 {
                    continue;
                }
                let [n, d] = if axis == 0 { [extent, lines] } else { [lines, extent] };
                let values = if axis == 0 { &turned } else { &values };
                let x = rows(cuda, dtype, &[n, d], values, [3, 5]);
                let line = |i: usize| -> Vec<f64> {
                    let at = |j| if axis == 0 { j * lines + i } else { i * extent + j };
                    (0..extent).map(|j| x.values[at(j)]).collect()
                };
                for op in [ReduceOp::Sum, ReduceOp::Max] {
                    let shape = if axis == 0 { [1, lines] } else { [lines, 1] };
                    let got = outputs(cuda, &[(dtype, &shape)], 3, |out| {
                        let out = again(&mut out[0]);
                        cuda.reduce(op, axis, x.view(), out).unwrap();
                    });
                    let what = format!("{op:?} of {lines} lines of {extent}, axis {axis}, {dtype}");
                    let same = bits.entry((op, dtype)).or_insert_with(|| got[0].to_f64());
                    assert_eq!(*same, got[0].to_f64(), "{what}");
                    let max = |x: Vec<f64>| x.into_iter().fold(f64::NEG_INFINITY, f64::max);
                    if op == ReduceOp::Max {
                        let want: Vec<f64> = (0..lines).map(|i| max(line(i))).collect();
                        assert_eq!(got[0].to_f64(), want, "{what}");
                    } else {
                        // Sums close to 0 are compared relative to the sum of absolute values.
                        for i in 0..lines {
                            let (sum, got) = (line(i).iter().sum::<f64>(), got[0].to_f64()[i]);
                            let size = line(i).iter().map(|x| x.abs()).sum::<f64>();
                            let error = (got - sum).abs();
                            assert!(error <= tolerance(dtype) * size, "{what}, line {i}: {error}");
                        }
                    }
                }
            }
        }
    });
}

/// Rows with few sources, with many, with more than a list holds, and with none; ids that name no
/// row.
#[test]
fn sums_by_ids() {
    everywhere("indices::sums_by_ids", |cuda| {
        for (n, entries, width, frequent) in
            [(0, 3, 5, 0), (1, 1, 1, 0), (37, 11, 33, 5), (700, 40, 130, 600), (300, 2, 515, 299)]
        {
            for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32] {
                let mut data = Data::new(7);
                // The last row has none of the few, and one id is past the end.
                let some = |i: usize, data: &mut Data| match i {
                    _ if i < frequent => 0.0,
                    _ if i + 1 == n && n > 1 => entries as f64,
                    _ => data.below(entries) as f64,
                };
                let mut ids: Vec<f64> = (0..n).map(|i| some(i, &mut data)).collect();
                if n > 1 {
                    ids.swap(3, n - 2);
                }
                let values: Vec<f64> = noise(2, n * width, 8.0).iter().map(|x| x.round()).collect();
                let src = rows(cuda, dtype, &[n, width], &values, [3, 5]);
                let at = packed(cuda, DType::I32, &[n], &ids, 1);
                let got = outputs(cuda, &[(dtype, &[entries, width])], 3, |out| {
                    let out = again(&mut out[0]);
                    cuda.scatter_add(src.view(), at.view(), out).unwrap();
                });
                let mut want = vec![0.0; entries * width];
                for (i, id) in ids.iter().enumerate().filter(|(_, id)| **id < entries as f64) {
                    for column in 0..width {
                        want[*id as usize * width + column] += src.values[i * width + column];
                    }
                }
                let what = format!("{n} sources, {entries} rows of {width}, {dtype}");
                assert_near(&what, &got[0], &want, tolerance(dtype));
                if matches!(dtype, DType::F32 | DType::I32) {
                    assert_eq!(got[0].to_f64(), want, "{what}");
                }
            }
        }
    });
}

/// Sums are in the order of the sources; rounding shows any other order.
#[test]
fn sums_by_ids_are_in_order() {
    everywhere("indices::sums_by_ids_are_in_order", |cuda| {
        for n in [3, 100, 257, 400] {
            let values = noise(1, n, 1.0);
            let src = packed(cuda, DType::F32, &[n, 1], &values, 0);
            let ids = packed(cuda, DType::I32, &[n], &vec![1.0; n], 0);
            let got = outputs(cuda, &[(DType::F32, &[2, 1])], 0, |out| {
                let out = again(&mut out[0]);
                cuda.scatter_add(src.view(), ids.view(), out).unwrap();
            });
            let want = src.values.iter().fold(0.0f32, |sum, x| sum + *x as f32);
            assert_eq!(got[0].as_f32().unwrap(), [0.0, want]);
        }
    });
}

#[test]
fn top_k() {
    everywhere("indices::top_k", |cuda| {
        for (v, k) in [(1, 1), (7, 7), (33, 8), (1000, 5), (8195, 8), (600, 21)] {
            for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32] {
                // Coarse values, so that some are equal.
                let values: Vec<f64> =
                    noise(3, 2 * v, 40.0).iter().map(|x| x.round() - 50.0).collect();
                let x = rows(cuda, dtype, &[2, v], &values, [3, 5]);
                // Rows with gaps, and a layout that has no contiguous rows.
                let strided = rows(cuda, dtype, &[v, 2], &values, [1, 0]);
                let turned = Layout::from_parts(Shape::from([2, v]), &[1, 2], 1);
                let turned = View { buffer: &strided.buffer, dtype, layout: &turned };
                let transposed: Vec<f64> =
                    (0..2 * v).map(|i| strided.values[i % v * 2 + i / v]).collect();
                for (view, all) in [(x.view(), &x.values), (turned, &transposed)] {
                    if v > 1000 && all == &transposed {
                        continue;
                    }
                    let results: [(_, &[usize]); 2] = [(dtype, &[2, k]), (DType::I32, &[2, k])];
                    let got = outputs(cuda, &results, 1, |out| {
                        let [values, indices] = out else { unreachable!() };
                        cuda.top_k(k, view, again(values), again(indices)).unwrap();
                    });
                    for row in 0..2 {
                        let x = &all[row * v..][..v];
                        let mut order: Vec<usize> = (0..v).collect();
                        order.sort_by(|a, b| x[*b].partial_cmp(&x[*a]).unwrap());
                        let want: Vec<f64> = order[..k].iter().map(|i| *i as f64).collect();
                        let what = format!("{k} of {v}, {dtype}");
                        assert_eq!(got[1].to_f64()[row * k..][..k], want, "{what}");
                        let want: Vec<f64> = order[..k].iter().map(|i| x[*i]).collect();
                        assert_eq!(got[0].to_f64()[row * k..][..k], want, "{what}");
                    }
                }
            }
        }
    });
}
