//! What must hold of every search, whatever candidates it is shown.

use proptest::prelude::*;
use std::sync::Arc;
use tfm_model::generation::{
    Advance, DeeperRow, EarlyStopping, Finished, GenerationOptions, Hypothesis, OptionsError, Rows,
    Search, SearchInput, Settled, StepFault, static_bans,
};

const VOCABULARY: u32 = 12;
const POSITIONS: usize = 1000;

fn search(options: &Arc<GenerationOptions>) -> Search {
    Search::new(options, SearchInput { source: &[], number: 0, positions: POSITIONS })
}

fn tokens(most: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..VOCABULARY, 0..=most)
}

fn options() -> impl Strategy<Value = GenerationOptions> {
    let stopping =
        prop::sample::select(vec![EarlyStopping::No, EarlyStopping::Yes, EarlyStopping::Never]);
    let shape = (1..6usize, 0..5usize, -2.0..2.0f64, stopping, 1..12usize, 0..12usize);
    let banned = prop::collection::vec(prop::collection::vec(0..VOCABULARY, 1..4), 0..4);
    let forced = (prop::option::of(0..VOCABULARY), tokens(2), tokens(3));
    let history = (0..4usize, prop_oneof![Just(1.0), 1.0..3.0f64], any::<bool>());
    (shape, tokens(3), banned, forced, history).prop_map(
        |((beams, n_best, penalty, stopping, max, min), eos, banned, forced, history)| {
            GenerationOptions {
                num_beams: beams,
                num_return_sequences: 1 + n_best % beams,
                length_penalty: penalty,
                early_stopping: stopping,
                max_new_tokens: Some(max),
                min_length: (min + 1).min(max + forced.2.len() + 1),
                forced_bos_token_id: forced.0,
                forced_eos_token_id: forced.1,
                prefix: forced.2,
                bad_words_ids: banned,
                no_repeat_ngram_size: history.0,
                repetition_penalty: history.1,
                renormalize_logits: history.2,
                scores: true,
                ..GenerationOptions::new(0, eos)
            }
        },
    )
}

fn odd_values() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>(), Just(f32::NEG_INFINITY), Just(f32::NAN)]
}

/// Runs a search on a stream of log-probabilities. Returns the result and the number of steps. What
/// was settled on the way is the beginning of the result, and in the end all of it.
fn run(
    options: &GenerationOptions,
    stream: &[f32],
    sorted: bool,
) -> Result<(Vec<Hypothesis>, usize), StepFault> {
    let options = Arc::new(options.clone());
    let bans = static_bans(&options);
    let mut search = search(&options);
    let mut settled: Vec<Settled> = Vec::new();
    let mut values = stream.iter().cycle().copied();
    for step in 1.. {
        let (mut log_probabilities, mut ids) = (Vec::new(), Vec::new());
        let width = search.needs().candidates.min(VOCABULARY as usize);
        for _ in 0..search.live() {
            let mut row: Vec<(f32, i32)> = (0..VOCABULARY)
                .map(|id| (values.next().expect("endless"), id as i32))
                .map(|(value, id)| {
                    let banned = bans.contains(&(id as u32));
                    (if banned { f32::NEG_INFINITY } else { value }, id)
                })
                .collect();
            if sorted {
                row.sort_by(|a, b| b.0.total_cmp(&a.0));
            }
            log_probabilities.extend(row[..width].iter().map(|candidate| candidate.0));
            ids.extend(row[..width].iter().map(|candidate| candidate.1));
        }
        let live = search.live();
        let rows =
            Rows { values: &log_probabilities, ids: &ids, width, normalizers: &[], deeper: &[] };
        let advance = search.advance(rows)?;
        settled.extend(search.settled());
        match advance {
            Advance::Finished => {
                let found = search.finish();
                let told = settled.iter().map(|settled| (settled.token, settled.log_probability));
                let best = found[0].tokens.iter().zip(&found[0].token_log_probabilities);
                assert!(told.eq(best.map(|(&token, &probability)| (token, probability))));
                assert!(search.settled().is_empty());
                return Ok((found, step));
            }
            Advance::Continue => {
                assert!((1..=options.num_beams).contains(&search.live()));
                assert_eq!(search.parents().len(), search.live());
                assert_eq!(search.last_tokens().len(), search.live());
                assert!(search.parents().iter().all(|&parent| parent < live));
                assert!((0..search.live()).map(|i| search.last_token(i)).eq(search.last_tokens()));
            }
        }
    }
    unreachable!("the loop has no other end")
}

/// Whether `sequence` ends somewhere among the tokens that were freely chosen.
fn occurs(tokens: &[u32], sequence: &[u32], free: std::ops::Range<usize>) -> bool {
    tokens
        .windows(sequence.len())
        .enumerate()
        .any(|(at, window)| window == sequence && free.contains(&(at + sequence.len() - 1)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn invariants(options in options(), stream in prop::collection::vec(-8.0..-0.01f32, 40..200)) {
        prop_assert_eq!(options.validate(VOCABULARY as usize, POSITIONS), Ok(()));
        let found = run(&options, &stream, true);
        prop_assert_ne!(&found, &Err(StepFault::NotFinite));
        let Ok((hypotheses, steps)) = found else { return Ok(()) };
        let longest = options.longest(POSITIONS);
        let prefix = options.prefix.len();
        prop_assert!((1..=options.num_return_sequences).contains(&hypotheses.len()));
        prop_assert!(steps <= longest);
        prop_assert!(hypotheses.windows(2).all(|pair| pair[0].score >= pair[1].score));
        for hypothesis in &hypotheses {
            let tokens = &hypothesis.tokens;
            let length = tokens.len();
            prop_assert!(length <= longest);
            prop_assert_eq!(hypothesis.token_log_probabilities.len(), length);
            prop_assert_eq!(hypothesis.beam_indices.len(), length);
            let sum: f32 = hypothesis.token_log_probabilities.iter().sum();
            prop_assert_eq!(hypothesis.log_probability, sum);
            prop_assert!(tokens.starts_with(&options.prefix[..prefix.min(length)]));

            let ends = |token: &u32| options.eos_token_id.contains(token);
            let generated = &tokens[prefix.min(length)..];
            let forced_end = !options.forced_eos_token_id.is_empty() && length == longest;
            let at_end = generated.last().is_some_and(ends) && !forced_end;
            let finished = if at_end { Finished::End } else { Finished::Length };
            prop_assert_eq!(hypothesis.finished, finished);
            prop_assert!(generated.iter().rev().skip(1).all(|token| !ends(token)));

            // What was freely chosen: neither prefix, nor forced first, nor forced last.
            let forced_first = options.forced_bos_token_id.is_some() && prefix == 0;
            let forced_last = !options.forced_eos_token_id.is_empty() && length == longest;
            let first = prefix + usize::from(forced_first);
            let free = first..length - usize::from(forced_last && length > first);
            if forced_first && longest > 1 && length > 0 {
                prop_assert_eq!(Some(tokens[0]), options.forced_bos_token_id);
            }
            if forced_last {
                prop_assert!(options.forced_eos_token_id.contains(&tokens[length - 1]));
            }
            for sequence in &options.bad_words_ids {
                let ends_sentence = sequence.len() == 1 && ends(&sequence[0]);
                prop_assert!(ends_sentence || !occurs(tokens, sequence, free.clone()));
            }
            for at in free {
                let token = tokens[at];
                prop_assert!(!ends(&token) || at >= options.shortest());
                let size = options.no_repeat_ngram_size;
                let with_start = [&[0], &tokens[..=at]].concat();
                if size > 0 && with_start.len() >= size {
                    let ngram = &with_start[with_start.len() - size..];
                    let times = with_start.windows(size).filter(|other| *other == ngram).count();
                    prop_assert_eq!(times, 1);
                }
            }
        }
    }

    #[test]
    fn any_candidates_come_to_an_end(
        options in options(),
        stream in prop::collection::vec(odd_values(), 40..200),
        sorted in any::<bool>(),
    ) {
        let Ok((hypotheses, steps)) = run(&options, &stream, sorted) else { return Ok(()) };
        let longest = options.longest(POSITIONS);
        prop_assert!((1..=options.num_return_sequences).contains(&hypotheses.len()));
        prop_assert!(steps <= longest);
    }

    #[test]
    fn odd_options_and_rows_do_not_panic(
        options in options(),
        beams in 0..3usize,
        n_best in 0..9usize,
        max_length in 0..3usize,
        penalties in (any::<f64>(), any::<f64>()),
        values in prop::collection::vec(any::<f32>(), 0..30),
        ids in prop::collection::vec(any::<i32>(), 0..30),
        width in 0..9usize,
    ) {
        let (length_penalty, repetition_penalty) = penalties;
        let odd = GenerationOptions {
            num_beams: beams,
            num_return_sequences: n_best,
            max_length: Some(max_length),
            max_new_tokens: None,
            length_penalty,
            repetition_penalty,
            ..options
        };
        let mut search = search(&Arc::new(odd));
        for _ in 0..20 {
            prop_assert!(search.needs().candidates > 0);
            let rows = Rows { values: &values, ids: &ids, width, normalizers: &[], deeper: &[] };
            if search.advance(rows) != Ok(Advance::Continue) {
                break;
            }
        }
        prop_assert!(!search.finish().is_empty());
    }
}

/// With as many beams as there are prefixes of any length, beam search is exhaustive.
#[test]
fn wide_beams_find_the_best_of_all() {
    let eos = 3;
    let log_probability = |before: &[u32], token: u32| {
        let hash = before.iter().fold(7u32, |hash, &id| hash.wrapping_mul(31).wrapping_add(id + 1));
        -(((hash ^ token.wrapping_mul(0x9e37)).wrapping_mul(0x85eb_ca6b) >> 20) as f32) / 512.0
    };
    let mut options = GenerationOptions::new(0, vec![eos]);
    options.max_new_tokens = Some(4);
    options.num_beams = 81;
    options.num_return_sequences = 40;
    options.length_penalty = 0.0;
    options.early_stopping = EarlyStopping::Never;

    let mut all: Vec<(f32, Vec<u32>)> = Vec::new();
    let mut open: Vec<(f32, Vec<u32>)> = vec![(0.0, Vec::new())];
    while let Some((sum, tokens)) = open.pop() {
        for token in 0..4 {
            let next = (sum + log_probability(&tokens, token), [&tokens[..], &[token]].concat());
            let done = token == eos || next.1.len() == 4;
            if done { &mut all } else { &mut open }.push(next);
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));

    let mut search = search(&Arc::new(options));
    let mut live: Vec<Vec<u32>> = vec![Vec::new()];
    loop {
        let (mut values, mut ids) = (Vec::new(), Vec::new());
        for tokens in &live {
            let mut row: Vec<_> =
                (0..4).map(|id| (log_probability(tokens, id), id as i32)).collect();
            row.sort_by(|a, b| b.0.total_cmp(&a.0));
            values.extend(row.iter().map(|candidate| candidate.0));
            ids.extend(row.iter().map(|candidate| candidate.1));
        }
        let rows = Rows { values: &values, ids: &ids, width: 4, normalizers: &[], deeper: &[] };
        if search.advance(rows) == Ok(Advance::Finished) {
            break;
        }
        let continued = search.parents().iter().zip(search.last_tokens());
        live = continued.map(|(&parent, token)| [&live[parent][..], &[token]].concat()).collect();
    }
    let found = search.finish();
    assert_eq!(found.len(), 40);
    for (found, (score, _)) in found.iter().zip(&all) {
        assert_eq!(found.score, *score);
    }
}

fn advance(
    search: &mut Search,
    values: &[f32],
    ids: &[i32],
    width: usize,
) -> Result<Advance, StepFault> {
    search.advance(Rows { values, ids, width, normalizers: &[], deeper: &[] })
}

/// Equal scores: the earlier hypothesis, then the more probable token, then the lower id.
#[test]
fn ties_are_settled_the_same_way_always() {
    let mut options = GenerationOptions::new(0, vec![1]);
    options.max_new_tokens = Some(3);
    (options.num_beams, options.num_return_sequences, options.length_penalty) = (2, 2, 0.0);
    let mut search = search(&Arc::new(options));
    assert_eq!(advance(&mut search, &[-0.5, -1.0, -1.0], &[3, 1, 4], 3), Ok(Advance::Continue));
    assert_eq!(search.parents(), [0, 0]);
    assert!(search.last_tokens().eq([3, 4]));
    // Sums of -1 all: two for the first hypothesis, one for the second.
    let (values, ids) = ([-0.5, -0.5, -9.0, 0.0, -9.0, -9.0], [2, 5, 6, 7, 8, 9]);
    assert_eq!(advance(&mut search, &values, &ids, 3), Ok(Advance::Continue));
    assert_eq!(search.parents(), [0, 0]);
    assert!(search.last_tokens().eq([2, 5]));
    assert_eq!(
        advance(&mut search, &[0.0, -1.0, 0.0, -1.0], &[1, 2, 1, 2], 2),
        Ok(Advance::Finished)
    );
    let tokens: Vec<_> =
        search.finish().into_iter().map(|best| (best.tokens, best.score)).collect();
    assert_eq!(tokens, [(vec![1], -1.0), (vec![3, 2, 1], -1.0)]);
}

#[test]
fn options_that_make_no_sense_are_named() {
    let good = GenerationOptions {
        num_beams: 4,
        max_length: Some(11),
        ..GenerationOptions::new(0, vec![1])
    };
    let check = |change: fn(&mut GenerationOptions)| {
        let mut options = good.clone();
        change(&mut options);
        options.validate(100, POSITIONS)
    };
    assert_eq!(check(|_| ()), Ok(()));
    assert_eq!(check(|options| options.num_beams = 0), Err(OptionsError::NoBeams));
    let n_best = |n_best| Err(OptionsError::NBest { n_best, beams: 4 });
    assert_eq!(check(|options| options.num_return_sequences = 5), n_best(5));
    assert_eq!(check(|options| options.num_return_sequences = 0), n_best(0));
    for value in [f64::INFINITY, 100.0, -100.0] {
        let options = GenerationOptions { length_penalty: value, ..good.clone() };
        let (option, range) = ("length_penalty", "at least -10 and at most 10");
        let expected = Err(OptionsError::Range { option, value, range });
        assert_eq!(options.validate(100, POSITIONS), expected);
    }
    let no_room = Err(OptionsError::MaxLength { max: 0, prefix: 0 });
    assert_eq!(check(|options| options.max_length = Some(1)), no_room);
    assert_eq!(check(|options| options.max_new_tokens = Some(0)), no_room);
    let (role, token) = ("forced_bos_token_id", 7);
    let forced = |options: &mut GenerationOptions| {
        (options.forced_bos_token_id, options.suppress_tokens) = (Some(7), vec![5, 7]);
    };
    assert_eq!(check(forced), Err(OptionsError::ForcedAndSuppressed { role, token }));
    let all = |options: &mut GenerationOptions| {
        options.suppress_tokens = (0..50).collect();
        options.bad_words_ids = (50..100).map(|token| vec![token]).collect();
    };
    assert_eq!(check(all), Err(OptionsError::AllBanned { vocabulary: 100 }));
    let biases = |options: &mut GenerationOptions| {
        options.sequence_bias = vec![(vec![5], 3e38), (vec![5], -3e38)];
    };
    assert!(matches!(check(biases), Err(OptionsError::Range { option: "sequence_bias", .. })));
    let penalty = |value| {
        let (option, range) = ("repetition_penalty", "a finite number above 0");
        Err(OptionsError::Range { option, value, range })
    };
    assert_eq!(check(|options| options.repetition_penalty = 0.0), penalty(0.0));
    assert_eq!(check(|options| options.repetition_penalty = 0.5), Ok(()));
    let no_room = Err(OptionsError::MaxLength { max: 10, prefix: 10 });
    assert_eq!(check(|options| options.prefix = vec![3; 10]), no_room);
    let crossed = Err(OptionsError::MinLength { min: 11, max: 10 });
    assert_eq!(check(|options| options.min_length = 12), crossed);
    let empty = Err(OptionsError::EmptySequence { option: "bad_words_ids", index: 1 });
    assert_eq!(check(|options| options.bad_words_ids = vec![vec![1], vec![]]), empty);
    let unknown = |role| Err(OptionsError::OutOfVocabulary { role, token: 100, vocabulary: 100 });
    assert_eq!(
        check(|options| options.forced_bos_token_id = Some(100)),
        unknown("forced_bos_token_id")
    );
    assert_eq!(
        check(|options| options.bad_words_ids = vec![vec![1, 100]]),
        unknown("bad_words_ids")
    );
}

#[test]
fn ends_of_sentence_are_not_banned_statically() {
    let mut options = GenerationOptions::new(0, vec![1, 2]);
    options.bad_words_ids = vec![vec![5], vec![1], vec![6, 7], vec![2, 1]];
    assert_eq!(static_bans(&options), [5]);
}

/// Numbers that no model should compute end a search with an error, and bans do not.
#[test]
fn rows_of_no_numbers_are_errors() {
    let mut options = GenerationOptions::new(0, vec![1]);
    options.bad_words_ids = vec![vec![3], vec![4]];
    let options = Arc::new(options);
    let first =
        |values: &[f32], ids: &[i32]| advance(&mut search(&options), values, ids, values.len());
    const BANNED: f32 = f32::NEG_INFINITY;
    assert_eq!(first(&[-1.0, -2.0, BANNED], &[5, 6, 3]), Ok(Advance::Continue));
    assert_eq!(first(&[f32::NAN, f32::NAN], &[5, 6]), Err(StepFault::NotFinite));
    assert_eq!(first(&[-1.0, f32::NAN], &[5, 6]), Err(StepFault::NotFinite));
    assert_eq!(first(&[f32::INFINITY, -1.0], &[5, 6]), Err(StepFault::NotFinite));
    assert_eq!(first(&[BANNED, BANNED], &[2, 3]), Err(StepFault::NotFinite));
    assert_eq!(first(&[BANNED, BANNED], &[3, 4]), Err(StepFault::AllBanned));
}

/// A row of log-probabilities, best first: few different values, so that there are many equals. In
/// some rows one token has nearly all of the probability, and in others none has more than another.
fn drawn_row(seed: u64, vocabulary: i32) -> (Vec<f32>, Vec<i32>) {
    let steepness = [0.0, 0.25, 4.0][(seed % 3) as usize];
    let mut row: Vec<(f32, i32)> = (0..vocabulary)
        .map(|id| {
            let hash = (seed ^ (id as u64) << 17).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
            (-steepness * hash as f32, id)
        })
        .collect();
    row.sort_by(|a, b| b.0.total_cmp(&a.0));
    row.into_iter().unzip()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A search that is shown few candidates of each hypothesis, and more of those that it says
    /// lack them, is the search that is shown all.
    #[test]
    fn few_candidates_do_where_the_search_lacks_none(
        beams in 30..90usize,
        seed in any::<u64>(),
        eos in tokens(2),
        min_length in 0..4usize,
        bad_words_ids in prop::collection::vec(prop::collection::vec(0..VOCABULARY, 2), 0..3),
    ) {
        let vocabulary = 160;
        let options = Arc::new(GenerationOptions {
            num_beams: beams,
            num_return_sequences: 9,
            max_new_tokens: Some(6),
            min_length,
            bad_words_ids,
            ..GenerationOptions::new(0, eos)
        });
        let (mut whole, mut few) = (search(&options), search(&options));
        let mut lacked = 0;
        for step in 0.. {
            let needs = whole.needs();
            prop_assert_eq!(needs, few.needs());
            let rows: Vec<_> = (0..whole.live() as u64)
                .map(|row| drawn_row(seed.wrapping_add(row * 7 + step * 1000), vocabulary))
                .collect();
            let flat = |width: usize| {
                let values: Vec<f32> =
                    rows.iter().flat_map(|(values, _)| &values[..width]).copied().collect();
                let ids: Vec<i32> =
                    rows.iter().flat_map(|(_, ids)| &ids[..width]).copied().collect();
                (values, ids)
            };
            let width = needs.candidates.min(vocabulary as usize);
            let (values, ids) = flat(width);
            let all = Rows { values: &values, ids: &ids, width, normalizers: &[], deeper: &[] };
            prop_assert!(whole.lacking(all).is_empty());
            let outcome = whole.advance(all);
            let (values, ids) = flat(needs.first);
            let shown = Rows { values: &values, ids: &ids, width: needs.first, ..all };
            let numbers = few.lacking(shown);
            lacked += numbers.len();
            let deeper: Vec<DeeperRow> = numbers
                .into_iter()
                .map(|number| DeeperRow {
                    number,
                    values: rows[number].0[..width].to_vec(),
                    ids: rows[number].1[..width].to_vec(),
                })
                .collect();
            prop_assert_eq!(outcome, few.advance(Rows { deeper: &deeper, ..shown }));
            prop_assert_eq!(whole.parents(), few.parents());
            if outcome != Ok(Advance::Continue) {
                break;
            }
        }
        prop_assert_eq!(whole.finish(), few.finish());
        // Where values differ little, few rows do; where one token is far ahead, most do.
        prop_assert!(lacked < 6 * beams);
    }
}
