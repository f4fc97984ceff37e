//! Attention has a kernel for every attribute of the op, through the backend: nothing of it is
//! decomposed.

use crate::bench::{
    self, FLOATS, assert_near, everywhere, fused, noise, packed, rows as rows_of, tolerance,
};
use tfm_core::backend::Signature;
use tfm_core::fused::{
    Attention, AttentionOperands, DropoutMask, FusedOp, KeyLookup, KeyOperands, KeyRows, KeySet,
    Operand, RelativeBias,
};
use tfm_core::{Backend, DType, Layout, Shape};
use tfm_cuda::CudaBackend;

/// Numbers of queries, rows of keys, heads, key heads, size of heads, sequences, columns of tables.
const SIZES: [usize; 7] = [12, 40, 6, 2, 64, 3, 20];

/// Shape and type of each operand of an op whose floats have this type.
fn operands(op: &Attention, dtype: DType) -> Vec<(Shape, DType)> {
    let [queries, rows, heads, kv_heads, size, sequences, width] = SIZES;
    let of_set = |set: KeySet| {
        let key = (Shape::from([rows, kv_heads, size]), dtype);
        let rows = match set.lookup {
            KeyLookup::Ranges => KeyRows::Ranges {
                query_offsets: (Shape::from([sequences + 1]), DType::I32),
                key_ranges: (Shape::from([sequences, 2]), DType::I32),
            },
            KeyLookup::Table => KeyRows::Table {
                row_table: (Shape::from([queries, width]), DType::I32),
                lengths: (Shape::from([queries]), DType::I32),
            },
        };
        let bias = set.bias.map(|bias| (Shape::from([bias.buckets, heads]), DType::F32));
        (key, rows, bias)
    };
    // The list of operands is in the order of `AttentionOperands::list`.
    let mut all = vec![(Shape::from([queries, heads, size]), dtype)];
    for set in [Some(op.keys), op.more_keys].into_iter().flatten() {
        let (key, rows, bias) = of_set(set);
        all.extend([key.clone(), key]);
        match rows {
            KeyRows::Ranges { query_offsets: a, key_ranges: b }
            | KeyRows::Table { row_table: a, lengths: b } => all.extend([a, b]),
        }
        all.extend(bias);
    }
    all.extend(op.dropout.map(|_| (Shape::from([3]), DType::I32)));
    all
}

fn is_native(cuda: &CudaBackend, op: Attention, dtype: DType) -> bool {
    let operands = operands(&op, dtype);
    let named: Vec<Operand<'_>> =
        operands.iter().map(|(shape, dtype)| Operand { shape, dtype: *dtype }).collect();
    op.infer(&named).unwrap_or_else(|problem| panic!("{problem}: {op:?}"));
    let inputs: Vec<_> =
        operands.iter().map(|(shape, dtype)| (*dtype, Layout::contiguous(shape))).collect();
    cuda.supports(&op.into(), &Signature { inputs: &inputs })
}

#[test]
fn every_attribute_is_native() {
    everywhere("attention::every_attribute_is_native", |cuda| {
        let bias = RelativeBias { buckets: 32, max_distance: 128, bidirectional: true };
        let mut sets = Vec::new();
        for lookup in [KeyLookup::Ranges, KeyLookup::Table] {
            for causal in [false, true] {
                for window in [None, Some(1), Some(usize::MAX)] {
                    for bias in [None, Some(bias)] {
                        sets.push(KeySet { lookup, causal, window, bias });
                    }
                }
            }
        }
        for dtype in FLOATS {
            for soft_cap in [None, Some(30.0)] {
                for keys in sets.iter().copied() {
                    for more_keys in sets.iter().copied().map(Some).chain([None]) {
                        let scale = 0.125;
                        let op = Attention { scale, soft_cap, keys, more_keys, dropout: None };
                        assert!(is_native(cuda, op, dtype), "{dtype} {op:?}");
                        let dropout = Some(DropoutMask { rate: 0.1, stream: 3 });
                        let op = Attention { dropout, ..op };
                        // Dropout is for training, which has one set of keys by ranges.
                        assert_eq!(is_native(cuda, op, dtype), op.gives_sums(), "{dtype} {op:?}");
                    }
                }
            }
        }
    });
}

/// A merged self- and cross-attention of a decoding step, as of T5Gemma 2: hypotheses with lists of
/// rows in a cache, and the keys of their sentence, in fewer heads than the queries have.
#[test]
fn self_and_cross_attention_of_a_step_at_once() {
    everywhere("attention::self_and_cross_attention_of_a_step_at_once", |cuda| {
        let [queries, rows, heads, kv_heads, size, sequences, width] = SIZES;
        let lengths: Vec<usize> = (0..queries).map(|i| 1 + i * 7 % width).collect();
        let table: Vec<usize> = (0..queries * width).map(|at| at * 17 % rows).collect();
        let sentences = [(0, 4, 0, 13), (4, 9, 13, 1), (9, 12, 14, 26)];
        let (cap, window, scale) = (5.0, 8, 0.5);
        for dtype in FLOATS {
            // Rows of heads with gaps between them, as in a joined projection.
            let of = |seed, count: usize, heads: usize| {
                let (width, gap) = (heads * size, 16);
                let numbers = noise(seed, count * width, 1.0);
                let flat = rows_of(cuda, dtype, &[count, width], &numbers, [8, gap]);
                let shape = Shape::from([count, heads, size]);
                let layout = Layout::from_parts(shape, &[width + gap, size, 1], 8);
                bench::Operand { layout, ..flat }
            };
            let whole = |shape: &[usize], numbers: Vec<usize>| {
                let numbers: Vec<f64> = numbers.iter().map(|n| *n as f64).collect();
                packed(cuda, DType::I32, shape, &numbers, 0)
            };
            let query = of(1, queries, heads);
            let [k1, v1, k2, v2] = [2, 3, 4, 5].map(|seed| of(seed, rows, kv_heads));
            let offsets = whole(&[sequences + 1], vec![0, 4, 9, 12]);
            let ranges = sentences.iter().flat_map(|s| [s.2, s.3]).collect();
            let ranges = whole(&[sequences, 2], ranges);
            let row_table = whole(&[queries, width], table.clone());
            let of_lengths = whole(&[queries], lengths.clone());
            let own =
                KeySet { lookup: KeyLookup::Table, window: Some(window), ..KeySet::default() };
            let more_keys = Some(KeySet::default());
            let op = Attention { scale, soft_cap: Some(cap), keys: own, more_keys, dropout: None };
            let key_rows = KeyRows::Table { row_table: &row_table, lengths: &of_lengths };
            let keys = KeyOperands::new([&k1, &v1], key_rows);
            let key_rows = KeyRows::Ranges { query_offsets: &offsets, key_ranges: &ranges };
            let more = KeyOperands::new([&k2, &v2], key_rows);
            let operands =
                AttentionOperands { query: &query, keys, more_keys: Some(more), random_key: None };
            let result: [(_, &[usize]); 1] = [(dtype, &[queries, heads, size])];
            let found = fused(cuda, op, &operands.list(), &result, 8);

            let mut wanted = Vec::new();
            for (i, head) in (0..queries).flat_map(|i| (0..heads).map(move |head| (i, head))) {
                let seen = lengths[i].saturating_sub(window)..lengths[i];
                let own = seen.map(|j| (table[i * width + j], &k1.values, &v1.values));
                let of = sentences.iter().find(|s| (s.0..s.1).contains(&i)).unwrap();
                let cross = (of.2..of.2 + of.3).map(|row| (row, &k2.values, &v2.values));
                let mut sum = 0.0;
                let mut context = vec![0.0; size];
                for (row, key, value) in own.chain(cross) {
                    let at = (row * kv_heads + head / (heads / kv_heads)) * size;
                    let q = &query.values[(i * heads + head) * size..][..size];
                    let dot: f64 = q.iter().zip(&key[at..]).map(|(q, k)| q * k).sum();
                    let weight = (cap * (scale * dot / cap).tanh()).exp();
                    sum += weight;
                    for (c, v) in context.iter_mut().zip(&value[at..]) {
                        *c += weight * v;
                    }
                }
                wanted.extend(context.iter().map(|c| c / sum));
            }
            let what = format!("merged attention, {dtype}");
            assert_near(&what, &found[0], &wanted, tolerance(dtype));
        }
    });
}
