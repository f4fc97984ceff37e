//! What the kernels must compute, for all lengths around the edges of tiles.

use crate::case::{Case, Data, Results, norm};
use crate::device::{Kernel, Run};
use crate::reference::expected;
use tfm_core::DType;
use tfm_ptx_emu::Launch;

/// The schedule of the n-th case. Over many cases, every seed and both kinds of copies have their
/// turn.
fn schedule(n: usize) -> Launch {
    Launch { seed: (n % 5) as u64, lazy: n.is_multiple_of(2), ..Launch::default() }
}

/// Checks forward and backward, and returns the results.
fn assert_right(case: &Case, how: Launch) -> Results {
    let data = case.data();
    let found = Run::new(case, &data).all(how);
    let compared = found.and_then(|found| {
        case.compare(&found, &expected(case, &data))?;
        Ok(found)
    });
    compared.unwrap_or_else(|problem| panic!("{problem}\n  of {case:?}, {how:?}"))
}

/// Lengths with every residue of a tile, twice, for tile kernels and plain ones.
#[test]
fn every_key_length_up_to_two_tiles() {
    for keys in 1..=128 {
        let (dtype, size) = [(DType::F16, 64), (DType::BF16, 32)][keys % 2];
        let lengths = [(1 + keys % 3, keys)];
        let case = Case { causal: keys % 4 < 2, ..Case::new(dtype, size, &lengths) };
        assert_right(&case, schedule(keys));
        if keys <= 64 {
            let (dtype, size) = [(DType::F32, 13), (DType::F16, 7), (DType::BF16, 36)][keys % 3];
            let case = Case { causal: keys % 4 < 2, ..Case::new(dtype, size, &lengths) };
            assert_right(&case, schedule(keys + 1));
        }
    }
}

#[test]
fn query_lengths_around_the_tiles() {
    let lengths = [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129];
    for (n, queries) in lengths.into_iter().enumerate() {
        let dtype = [DType::F16, DType::BF16][n % 2];
        let case = Case::new(dtype, 64, &[(queries, 70)]);
        assert_right(&Case { causal: n % 4 < 2, ..case }, schedule(n));
        let case = Case::new(DType::F32, 20, &[(queries, 40)]);
        assert_right(&Case { causal: n % 4 >= 2, ..case }, schedule(n));
    }
}

/// Every size that there are kernels for, and sizes that are padded to it.
#[test]
fn every_size_of_heads() {
    let sizes = [8, 32, 40, 64, 80, 96, 104, 128, 136, 256];
    for (n, size) in sizes.into_iter().enumerate() {
        let dtype = [DType::F16, DType::BF16][n % 2];
        let case = Case::new(dtype, size, &[(9, 45), (3, 17)]);
        let rate = (n % 4 < 2).then_some(0.2);
        assert_right(&Case { heads: 2, causal: n.is_multiple_of(3), rate, ..case }, schedule(n));
    }
    for (n, size) in [1, 3, 31, 33, 100, 255, 256].into_iter().enumerate() {
        let dtype = [DType::F32, DType::F16, DType::BF16][n % 3];
        let case = Case { padded: None, ..Case::new(dtype, size, &[(5, 40), (3, 5)]) };
        let rate = (n % 2 == 0).then_some(0.2);
        assert_right(&Case { heads: 2, causal: n.is_multiple_of(3), rate, ..case }, schedule(n));
    }
}

/// Sequences that share keys, that have no keys, no queries, or more queries than keys; and rows of
/// NaN that no sequence has.
fn ragged(dtype: DType, size: usize) -> Case {
    let mut case =
        Case::new(dtype, size, &[(3, 5), (0, 4), (66, 67), (5, 0), (20, 7), (1, 130), (2, 3)]);
    case.sequences.push((9, case.sequences[2].1)); // as the third
    case.sequences.push((4, (7, 90))); // across several
    case.rows += 70;
    Case { heads: 2, ..case }
}

#[test]
fn ragged_batches_under_every_schedule() {
    for seed in 0..3 {
        for lazy in [false, true] {
            let how = Launch { seed, lazy, ..Launch::default() };
            let n = 2 * seed as usize + usize::from(lazy);
            let rate = (n.is_multiple_of(3)).then_some(0.3);
            let (dtype, size) = [(DType::F16, 32), (DType::BF16, 64)][n % 2];
            let case = Case { causal: n % 4 < 2, rate, ..ragged(dtype, size) };
            assert_right(&case, how);
            if lazy == (seed == 1) {
                let case = Case { causal: n % 4 >= 2, rate, ..ragged(DType::F32, 10) };
                assert_right(&case, how);
            }
        }
    }
    // More sequences than a block has threads.
    let lengths: Vec<(usize, usize)> =
        (0..150).map(|s| (usize::from(s % 8 == 7), 1 + s % 2)).collect();
    for (dtype, size) in [(DType::F16, 8), (DType::F32, 4)] {
        assert_right(&Case { causal: true, ..Case::new(dtype, size, &lengths) }, schedule(1));
    }
}

/// A sequence has the same bits in any company and under any schedule.
#[test]
fn bits_depend_on_a_sequence_alone() {
    for (dtype, size, biased) in [
        (DType::F16, 64, false),
        (DType::F32, 20, false),
        (DType::F16, 64, true),
        (DType::F32, 20, true),
    ] {
        let case = Case { causal: true, ..Case::new(dtype, size, &[(70, 90), (5, 33)]) };
        let case = if biased { case.biased(12, 40, false) } else { case };
        let all = assert_right(&case, schedule(0));
        assert_eq!(all, assert_right(&case, schedule(3)));
        let first = Case { sequences: case.sequences[..1].to_vec(), rows: 90, ..case.clone() };
        let whole = case.data();
        let cut = |x: &[f64], rows: usize| x[..rows * size].to_vec();
        let data = Data {
            query: cut(&whole.query, 70),
            key: cut(&whole.key, 90),
            value: cut(&whole.value, 90),
            d_context: cut(&whole.d_context, 70),
            biases: whole.biases.clone(),
        };
        let alone = Run::new(&first, &data).all(schedule(1)).unwrap();
        // The gradient of biases is left out, since it sums over sequences.
        for i in 0..5 {
            assert_eq!(alone[i][..], all[i][..alone[i].len()], "result {i}");
        }
    }
}

#[test]
fn large_scores_stay_finite_and_right() {
    for (n, dtype) in [DType::F16, DType::BF16, DType::F32].into_iter().enumerate() {
        let case = Case::new(dtype, 32, &[(20, 100)]);
        assert_right(&Case { scale: 20.0, causal: n == 1, ..case }, schedule(n));
    }
}

#[test]
fn the_order_of_keys_does_not_matter() {
    for (dtype, size) in [(DType::F16, 64), (DType::BF16, 64), (DType::F32, 12)] {
        let (keys, case) = (77, Case::new(dtype, size, &[(10, 77)]));
        let data = case.data();
        let turn = |x: &[f64]| -> Vec<f64> {
            let row = |j: usize| x[j * 30 % keys * size..][..size].iter().copied();
            (0..keys).flat_map(row).collect()
        };
        let turned = Data { key: turn(&data.key), value: turn(&data.value), ..data.clone() };
        let a = Run::new(&case, &data).all(schedule(0)).unwrap();
        let b = Run::new(&case, &turned).all(schedule(1)).unwrap();
        let a = [a[0].clone(), a[1].clone(), a[2].clone(), turn(&a[3]), turn(&a[4]), vec![]];
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
            assert!(norm(&differences) <= 2.0 * case.bounds()[i] * norm(a), "result {i}");
        }
    }
}

/// Wrong offsets and ranges cause no access out of bounds.
#[test]
fn wild_ranges_touch_nothing_outside() {
    let cases = Case::wild(DType::F16, 64).chain(Case::wild(DType::F32, 12));
    for (n, case) in cases.enumerate() {
        let mut run = Run::new(&case, &case.data());
        for kernel in Kernel::ALL {
            let launched = run.launch(kernel, None, schedule(n));
            launched.unwrap_or_else(|problem| panic!("{problem}: {:?}", case.wild));
        }
    }
}

/// A random number that equals the rate, and positions of random numbers beyond 2^34.
#[test]
fn dropout_draws_as_the_decomposition() {
    for (dtype, size) in [(DType::F16, 32), (DType::F32, 4)] {
        let case = Case::new(dtype, size, &[(2, 100)]);
        assert_right(&Case { rate: Some(Case::tie()), ..case }, schedule(1));
        let case = Case::new(dtype, size, &[(12, 64)]);
        let claimed_rows = Some(i32::MAX as usize - 2);
        assert_right(&Case { rate: Some(0.4), heads: 2, claimed_rows, ..case }, schedule(0));
    }
}

/// Learned biases by distance, with lengths on both sides of tiles and of the last bucket, for
/// every kernel and together with the other options.
#[test]
fn biases_by_distance() {
    for keys in (1..=128).step_by(3) {
        let (dtype, size) = [(DType::F16, 64), (DType::BF16, 40)][keys % 2];
        let bidirectional = keys % 3 == 1 || keys % 8 < 4;
        let case = Case::new(dtype, size, &[(1 + keys % 5, keys)]).biased(16, 30, bidirectional);
        assert_right(&Case { causal: keys % 4 < 2, ..case }, schedule(keys));
        if keys <= 64 {
            let (dtype, size) =
                [(DType::F32, 13), (DType::F16, 7), (DType::BF16, 36)][keys / 3 % 3];
            let case = Case::new(dtype, size, &[(1 + keys % 5, keys)]).biased(7, 20, bidirectional);
            assert_right(&Case { causal: keys % 4 < 2, ..case }, schedule(keys + 1));
        }
    }
    for (n, queries) in [1, 15, 31, 33, 63, 64, 65, 129].into_iter().enumerate() {
        let (causal, rate) = (n % 4 < 2, n.is_multiple_of(3).then_some(0.3));
        // As in T5.
        let dtype = [DType::F16, DType::BF16][n % 2];
        let case = Case::new(dtype, 64, &[(queries, 70)]).biased(32, 128, !causal);
        assert_right(&Case { causal, rate, heads: 2, ..case }, schedule(n));
        let case = Case::new(DType::F32, 20, &[(queries, 40)]).biased(32, 128, !causal);
        assert_right(&Case { causal, rate, heads: 2, ..case }, schedule(n));
    }
    for (n, size) in [8, 64, 72, 128, 136, 256].into_iter().enumerate() {
        let case = Case::new([DType::F16, DType::BF16][n % 2], size, &[(70, 45), (3, 17)]);
        let case = Case { causal: n.is_multiple_of(3), ..case }.biased(8, 9, n % 2 == 1);
        assert_right(&case, schedule(n));
    }
    for (n, dtype) in [DType::F16, DType::BF16, DType::F32].into_iter().enumerate() {
        let case = Case { rate: (n == 1).then_some(0.3), causal: n == 0, ..ragged(dtype, 64) };
        assert_right(&case.biased(32, 128, n > 0), schedule(n));
    }
}

/// Only the dropout's bytes have bank conflicts.
#[test]
fn tiles_lie_in_different_banks() {
    for size in [32, 64, 96, 128, 256] {
        let case = Case::new(DType::F16, size, &[(64, 128)]);
        let mut run = Run::new(&case, &case.data());
        run.all(schedule(0)).unwrap();
        let (conflicts, passes) = (run.counters.bank_conflicts, run.counters.shared_passes);
        println!("{conflicts} conflicts in {passes} passes, size {size}");
        assert!(16 * conflicts <= passes, "{conflicts} conflicts in {passes} passes, size {size}");
    }
}
