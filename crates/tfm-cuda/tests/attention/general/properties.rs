//! What the general kernels must compute, for lengths around the edges of tiles, chunks and
//! windows.

use super::{Data, Lookup, Problem, Set, SetData};
use tfm_core::DType;
use tfm_ptx_emu::{Counters, Launch};

/// The schedule of the n-th problem. Over many problems, every seed and both kinds of copies have
/// their turn.
pub(super) fn schedule(n: usize) -> Launch {
    Launch { seed: (n % 5) as u64, lazy: n.is_multiple_of(2), ..Launch::default() }
}

/// Checks the results, and returns them with what was counted.
fn assert_right(problem: &Problem, how: Launch) -> (Vec<Vec<f64>>, Counters) {
    let data = problem.data();
    let found = problem.run(&data, how, None, None);
    let compared = found.and_then(|found| {
        problem.compare(&found.0, &problem.expected(&data))?;
        Ok(found)
    });
    compared.unwrap_or_else(|fault| panic!("{fault}\n  of {problem:?}, {how:?}"))
}

/// Windows whose edges lie at every place of a tile, with and without causality, groups, caps and
/// biases, for tile kernels and plain ones.
#[test]
fn windows_end_at_every_place_of_a_tile() {
    for keys in (1..=132).step_by(3) {
        for window in [1, 2, 7, 31, 32, 33, 64, 200] {
            let n = keys + window;
            let set = Set::ranges(1 + n % 2, &[(1 + n % 40, keys), (3, 5)]);
            let set = Set { window: Some(window), causal: n % 4 < 2, ..set };
            let set = if n.is_multiple_of(3) { set.biased(12, 30, n % 2 == 0) } else { set };
            let cap = n.is_multiple_of(5).then_some(3.0);
            let (dtype, size) = [(DType::F16, 64), (DType::BF16, 40)][n % 2];
            if n.is_multiple_of(2) || window < 3 {
                let problem = Problem::by_ranges(dtype, 2, size, vec![set.clone()]);
                assert_right(&Problem { cap, ..problem }, schedule(n));
            } else {
                let (dtype, size) = [(DType::F32, 12), (DType::F16, 7), (DType::BF16, 20)][n % 3];
                let problem = Problem::by_ranges(dtype, 2, size, vec![set]);
                assert_right(&Problem { cap, ..problem }, schedule(n));
            }
        }
    }
}

/// Sequences that share keys, that have no keys, no queries, or more queries than keys; and rows of
/// NaN that no query sees.
fn ragged(kv_heads: usize) -> Set {
    let mut set = Set::ranges(
        kv_heads,
        &[(3, 5), (0, 4), (66, 67), (5, 0), (20, 7), (1, 130), (2, 3), (1, 9)],
    );
    let Lookup::Ranges(sequences) = &mut set.lookup else { unreachable!("by ranges") };
    sequences.push((9, sequences[2].1)); // as the third
    sequences.push((4, (7, 90))); // across several
    set.rows += 70;
    set
}

/// Another set for the queries of [`ragged`], whose sequences begin elsewhere.
fn ragged_otherwise(kv_heads: usize) -> Set {
    Set::ranges(kv_heads, &[(1, 40), (0, 3), (35, 20), (50, 33), (2, 0), (23, 70)])
}

/// Every size that there are kernels for, and sizes that are padded to it, with all attributes at
/// once.
#[test]
fn every_size_of_heads() {
    for (n, size) in [8, 64, 72, 128, 136, 256, 1, 33, 100, 255].into_iter().enumerate() {
        let dtype = [DType::F16, DType::BF16][n % 2];
        let set = Set { causal: n % 3 == 0, window: Some(5 + 9 * n), ..ragged(2) };
        let set = if n % 4 < 2 { set.biased(8, 9, n % 2 == 1) } else { set };
        let problem = Problem::by_ranges(dtype, 6, size, vec![set]);
        let rate = (n % 2 == 0).then_some(0.3);
        assert_right(&Problem { cap: Some(4.0), rate, ..problem }, schedule(n));
    }
    for (n, size) in [1, 20, 33, 256].into_iter().enumerate() {
        let set = Set { causal: n % 2 == 0, window: Some(11), ..ragged(1) }.biased(7, 20, n > 1);
        let problem = Problem::by_ranges(DType::F32, 3, size, vec![set]);
        let rate = (n % 2 == 0).then_some(0.3);
        assert_right(&Problem { cap: Some(2.0), rate, ..problem }, schedule(n));
    }
}

/// Two sets by ranges, of the same sequences and of others, with attributes and heads of their own.
#[test]
fn two_sets_by_ranges() {
    let of_two = [(DType::F16, 64), (DType::BF16, 80), (DType::F32, 20), (DType::F16, 256)];
    for (n, (dtype, size)) in of_two.into_iter().enumerate() {
        let causal = Set { causal: true, window: Some(30), ..ragged(2) }.biased(9, 40, false);
        let other = Set { window: Some(12), ..ragged_otherwise(4) };
        let biased = ragged_otherwise(1).biased(16, 30, true);
        let all = [[causal.clone(), other], [biased, causal.clone()], [causal.clone(), ragged(4)]];
        for (m, sets) in all.into_iter().enumerate() {
            let problem = Problem::by_ranges(dtype, 4, size, sets.into());
            let cap = (m == 1).then_some(5.0);
            assert_right(&Problem { cap, ..problem }, schedule(n + m));
        }
    }
}

/// Scores far beyond the cap and far below it.
#[test]
fn caps_of_scores() {
    for (n, cap) in [0.01, 1.0, 50.0, 1000.0].into_iter().enumerate() {
        for (dtype, size) in [(DType::F16, 64), (DType::BF16, 128), (DType::F32, 20)] {
            let sets = vec![Set::ranges(1, &[(20, 70)])];
            let problem = Problem::by_ranges(dtype, 2, size, sets.clone());
            assert_right(&Problem { cap: Some(cap), scale: 3.0, ..problem }, schedule(n));
            let sets = vec![Set::table(1, &[20, 70], 70)];
            let problem = Problem::single(dtype, 2, size, sets);
            assert_right(&Problem { cap: Some(cap), scale: 3.0, ..problem }, schedule(n));
        }
    }
    // A factor below 0.
    let problem = Problem::by_ranges(DType::F16, 2, 64, vec![Set::ranges(1, &[(20, 70)])]);
    assert_right(&Problem { scale: -0.1, ..problem }, schedule(1));
}

/// Single queries with tables, windows and groups, with lengths around chunks and blocks.
#[test]
fn single_queries_by_tables() {
    for (n, dtype) in [DType::F32, DType::F16, DType::BF16].into_iter().enumerate() {
        let lengths: Vec<usize> = (0..=66).collect();
        for window in [1, 2, 63, 64, 65, 300] {
            let set = Set { window: Some(window), ..Set::table(2, &lengths, 66) };
            let set = if window > 63 { set.biased(16, 30, n == 1) } else { set };
            assert_right(&Problem::single(dtype, 4, 64, vec![set]), schedule(n + window));
        }
        // Chunks beyond the number of blocks.
        let lengths = [0, 1, 511, 512, 513, 577, 700];
        for window in [None, Some(130), Some(520)] {
            let set = Set { window, causal: true, ..Set::table(1, &lengths, 700) };
            let set = set.biased(9, 600, false);
            let problem = Problem::single(dtype, 2, 8, vec![set]);
            assert_right(&Problem { cap: Some(3.0), ..problem }, schedule(n));
        }
        for size in [1, 3, 8, 63, 100, 128, 136, 255, 256] {
            let set = Set { window: Some(20), ..Set::table(1, &[5, 70], 70) };
            assert_right(&Problem::single(dtype, 3, size, vec![set]), schedule(n + size));
        }
    }
}

/// Single queries with two sets, each by a table or by ranges.
#[test]
fn single_queries_with_two_sets() {
    for (n, dtype) in [DType::F32, DType::F16, DType::BF16].into_iter().enumerate() {
        let lengths = [0, 1, 5, 64, 65, 128, 200, 0, 3, 70, 12, 130];
        let table = Set { window: Some(90), ..Set::table(2, &lengths, 200) };
        let other = Set::table(1, &[9, 0, 100, 1, 65, 0, 2, 0, 64, 63, 5, 7], 100);
        let ranges = Set::ranges(4, &[(2, 130), (0, 7), (1, 0), (5, 65), (4, 1)]);
        let windowed = Set { window: Some(40), causal: true, ..ranges.clone() };
        let all = [
            [table.clone(), ranges.clone()],
            [ranges.clone().biased(12, 40, true), table.clone().biased(6, 20, false)],
            [table.clone().biased(8, 30, false), other],
            [windowed.clone(), table],
        ];
        for (m, sets) in all.into_iter().enumerate() {
            let size = [64, 40, 128, 33][(n + m) % 4];
            let problem = Problem::single(dtype, 4, size, sets.into());
            let cap = (m == 2).then_some(4.0);
            assert_right(&Problem { cap, ..problem }, schedule(n + m));
        }
        // More sequences than a warp looks at in one round.
        let lengths: Vec<(usize, usize)> =
            (0..1100).map(|s| (usize::from(s % 90 == 89), 1 + s % 3)).collect();
        let ranges = Set::ranges(2, &lengths);
        assert_right(&Problem::single(dtype, 4, 8, vec![table_of(&ranges), ranges]), schedule(n));
    }
}

/// A set by a table for as many queries.
fn table_of(set: &Set) -> Set {
    let lengths: Vec<usize> = (0..set.queries()).map(|i| i * 7 % 20).collect();
    Set::table(2, &lengths, 20)
}

/// A sequence has the same bits in any company and under any schedule, and so has a query with a
/// table, however wide it is.
#[test]
fn bits_depend_on_a_sequence_alone() {
    for (dtype, size) in [(DType::F16, 64), (DType::F32, 20)] {
        let of = |lengths: &[(usize, usize)]| {
            let set = Set { causal: true, window: Some(50), ..Set::ranges(1, lengths) };
            set.biased(12, 40, false)
        };
        let problem = |lengths: &[(usize, usize)]| {
            let sets = vec![of(lengths), Set::ranges(2, lengths)];
            Problem { cap: Some(5.0), ..Problem::by_ranges(dtype, 2, size, sets) }
        };
        let all = problem(&[(70, 90), (5, 33)]);
        let (found, _) = assert_right(&all, schedule(0));
        assert_eq!(found, assert_right(&all, schedule(3)).0);
        let (data, alone) = (all.data(), problem(&[(70, 90)]));
        let cut = |x: &[f64], rows: usize| x[..rows * size].to_vec();
        let sets = data.sets.iter().enumerate().map(|(n, set)| SetData {
            key: cut(&set.key, 90 * (n + 1)),
            value: cut(&set.value, 90 * (n + 1)),
            biases: set.biases.clone(),
        });
        let data = Data { query: cut(&data.query, 70 * 2), sets: sets.collect() };
        let (alone, _) = alone.run(&data, schedule(1), None, None).unwrap();
        for (alone, all) in alone.iter().zip(&found) {
            assert_eq!(alone[..], all[..alone.len()]);
        }
    }
    for (dtype, size) in [(DType::F16, 64), (DType::F32, 20), (DType::BF16, 33)] {
        let problem = |lengths: &[usize], width: usize| {
            let table = Set { rows: 71, window: Some(60), ..Set::table(2, lengths, width) };
            let Lookup::Table(_, rows, _) = &table.lookup else { unreachable!("by a table") };
            let rows = rows.iter().enumerate().map(|(at, _)| (at % width * 13 % 71) as i32);
            let lookup =
                Lookup::Table(width, rows.collect(), lengths.iter().map(|n| *n as i32).collect());
            let ranges = Set::ranges(1, &[(1, 70), (lengths.len() - 1, 5)]);
            let ranges = Set { rows: 100, ..ranges };
            let problem = Problem::single(dtype, 4, size, vec![Set { lookup, ..table }, ranges]);
            Problem { cap: Some(5.0), ..problem }
        };
        let (alone, _) = assert_right(&problem(&[50], 64), schedule(1));
        let all = problem(&[50, 600, 0], 600);
        let mut data = all.data();
        data.query.splice(..4 * size, problem(&[50], 64).data().query[..4 * size].iter().copied());
        let (among, _) = all.run(&data, schedule(2), None, None).unwrap();
        assert_eq!(alone[0][..], among[0][..4 * size], "{dtype}");
    }
}

/// Wrong offsets, ranges, tables and lengths cause no access out of bounds.
#[test]
fn wild_rows_touch_nothing_outside() {
    let ranges = [[30, 50], [-5, 20], [3, -7], [i32::MAX, i32::MAX], [0, i32::MAX]];
    let ranges = ranges.map(|range| [vec![0, 10], range.to_vec()]);
    let offsets = [[-3, 10], [5, 100], [70, 10], [90, 200], [-200, -100], [8, 3]];
    let offsets = offsets.map(|offsets| [offsets.to_vec(), vec![0, 40]]);
    let set =
        Set { window: Some(7), causal: true, ..Set::ranges(1, &[(10, 40)]) }.biased(9, 9, true);
    for (n, wild) in ranges.into_iter().chain(offsets).enumerate() {
        for (dtype, size) in [(DType::F16, 64), (DType::F32, 12)] {
            for single in [false, true] {
                let sets = vec![set.clone(), Set::ranges(2, &[(10, 20)])];
                let make = if single { Problem::single } else { Problem::by_ranges };
                let problem = Problem { wild: Some(wild.clone()), ..make(dtype, 2, size, sets) };
                let run = problem.run(&problem.data(), schedule(n), None, None);
                run.unwrap_or_else(|fault| panic!("{fault}: {wild:?}"));
            }
        }
    }
    for (n, dtype) in [DType::F32, DType::F16].into_iter().enumerate() {
        let mut set = Set { rows: 9, window: Some(60), ..Set::table(1, &[40, 40, 90], 70) };
        let Lookup::Table(_, table, lengths) = &mut set.lookup else { unreachable!("by a table") };
        lengths[1] = -1;
        for (at, row) in [(0, -1), (3, 9), (35, i32::MAX), (69, i32::MIN)] {
            table[at] = row;
        }
        assert_right(&Problem::single(dtype, 2, 64, vec![set.biased(8, 20, false)]), schedule(n));
    }
}

/// Keys outside of the window cost nothing.
#[test]
fn keys_outside_of_the_window_are_skipped() {
    let instructions = |window: Option<usize>| {
        let ranges = Set { causal: true, window, ..Set::ranges(1, &[(64, 1024)]) };
        let tiles = Problem::by_ranges(DType::F16, 1, 64, vec![ranges.clone()]);
        let plain = Problem::by_ranges(DType::F32, 1, 64, vec![ranges]);
        let table = Set { window, ..Set::table(1, &[1024; 4], 1024) };
        let single = Problem::single(DType::F16, 1, 64, vec![table]);
        [tiles, plain, single].map(|problem| assert_right(&problem, schedule(1)).1.instructions)
    };
    let (all, within) = (instructions(None), instructions(Some(32)));
    for (all, within) in all.into_iter().zip(within) {
        assert!(4 * within < all, "{within} instructions of {all}");
    }
}

/// The kernels of single queries read keys and values once, and only whole sectors of them.
#[test]
fn memory_is_read_once() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let set = Set::table(4, &[256; 3], 256);
        let problem = Problem { cap: Some(5.0), ..Problem::single(dtype, 4, 64, vec![set]) };
        let (_, counters) = assert_right(&problem, schedule(1));
        let floor = 2 * 3 * 256 * 4 * 64 * dtype.size() as u64;
        let read = 32 * counters.global_sectors;
        assert!(read >= floor && read < floor + floor / 5, "{dtype}: {read} of {floor} bytes");
    }
}
