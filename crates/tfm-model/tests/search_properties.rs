//! What must hold of every search, whatever candidates it is shown.

use proptest::prelude::*;
use std::sync::Arc;
use tfm_model::search::{
    Advance, EarlyStopping, Hypothesis, Search, SearchError, SearchOptions, static_bans,
};

const VOCABULARY: u32 = 12;

fn tokens(most: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..VOCABULARY, 0..=most)
}

fn options() -> impl Strategy<Value = SearchOptions> {
    let stopping =
        prop::sample::select(vec![EarlyStopping::No, EarlyStopping::Yes, EarlyStopping::Never]);
    let shape = (1..6usize, 0..5usize, -2.0..2.0f64, stopping, 1..12usize, 0..12usize);
    let banned = prop::collection::vec(prop::collection::vec(0..VOCABULARY, 1..4), 0..4);
    let forced = (prop::option::of(0..VOCABULARY), tokens(2), tokens(3));
    let history = (0..4usize, prop_oneof![Just(1.0f32), 1.0..3.0f32], any::<bool>());
    (shape, tokens(3), banned, forced, history).prop_map(
        |((beams, n_best, penalty, stopping, max, min), eos, banned, forced, history)| {
            let max_length = max + forced.2.len();
            SearchOptions {
                beams,
                n_best: 1 + n_best % beams,
                length_penalty: penalty,
                early_stopping: stopping,
                min_length: min.min(max_length),
                forced_bos: forced.0,
                forced_eos: forced.1,
                prefix: forced.2,
                banned,
                no_repeat_ngram: history.0,
                repetition_penalty: history.1,
                renormalize: history.2,
                scores: true,
                ..SearchOptions::new(0, eos, max_length)
            }
        },
    )
}

fn odd_values() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>(), Just(f32::NEG_INFINITY), Just(f32::NAN)]
}

/// Runs a search on a stream of log-probabilities. Returns the result and the number of steps.
fn run(options: &SearchOptions, stream: &[f32], sorted: bool) -> (Vec<Hypothesis>, usize) {
    let options = Arc::new(options.clone());
    let bans = static_bans(&options);
    let mut search = Search::new(&options);
    let mut values = stream.iter().cycle().copied();
    for step in 1.. {
        let (mut log_probabilities, mut ids) = (Vec::new(), Vec::new());
        let width = search.candidates_needed().min(VOCABULARY as usize);
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
        match search.advance(&log_probabilities, &ids, width) {
            Advance::Finished => return (search.finish(), step),
            Advance::Continue => {
                assert!((1..=options.beams).contains(&search.live()));
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
        prop_assert_eq!(options.validate(VOCABULARY as usize), Ok(()));
        let (hypotheses, steps) = run(&options, &stream, true);
        let prefix = options.prefix.len();
        prop_assert!((1..=options.n_best).contains(&hypotheses.len()));
        prop_assert!(steps <= options.max_length);
        prop_assert!(hypotheses.windows(2).all(|pair| pair[0].score >= pair[1].score));
        for hypothesis in &hypotheses {
            let tokens = &hypothesis.tokens;
            let length = tokens.len();
            prop_assert!(length <= options.max_length);
            prop_assert_eq!(hypothesis.token_log_probabilities.len(), length);
            prop_assert_eq!(hypothesis.beam_indices.len(), length);
            let sum: f32 = hypothesis.token_log_probabilities.iter().sum();
            prop_assert_eq!(hypothesis.log_probability, sum);
            prop_assert!(tokens.starts_with(&options.prefix[..prefix.min(length)]));

            let ends = |token: &u32| options.eos.contains(token);
            let generated = &tokens[prefix.min(length)..];
            prop_assert_eq!(hypothesis.finished, generated.last().is_some_and(ends));
            prop_assert!(generated.iter().rev().skip(1).all(|token| !ends(token)));

            // What was freely chosen: neither prefix, nor forced first, nor forced last.
            let forced_first = options.forced_bos.is_some() && prefix == 0;
            let forced_last = !options.forced_eos.is_empty() && length == options.max_length;
            let first = prefix + usize::from(forced_first);
            let free = first..length - usize::from(forced_last && length > first);
            if forced_first && options.max_length > 1 && length > 0 {
                prop_assert_eq!(Some(tokens[0]), options.forced_bos);
            }
            if forced_last {
                prop_assert!(options.forced_eos.contains(&tokens[length - 1]));
            }
            for sequence in &options.banned {
                let ends_sentence = sequence.len() == 1 && ends(&sequence[0]);
                prop_assert!(ends_sentence || !occurs(tokens, sequence, free.clone()));
            }
            for at in free {
                let token = tokens[at];
                prop_assert!(!ends(&token) || at >= options.min_length);
                let size = options.no_repeat_ngram;
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
        let (hypotheses, steps) = run(&options, &stream, sorted);
        prop_assert!((1..=options.n_best).contains(&hypotheses.len()));
        prop_assert!(steps <= options.max_length);
    }

    #[test]
    fn odd_options_and_rows_do_not_panic(
        options in options(),
        beams in 0..3usize,
        n_best in 0..9usize,
        max_length in 0..3usize,
        penalties in (any::<f64>(), any::<f32>()),
        values in prop::collection::vec(any::<f32>(), 0..30),
        ids in prop::collection::vec(any::<i32>(), 0..30),
        width in 0..9usize,
    ) {
        let (length_penalty, repetition_penalty) = penalties;
        let odd = SearchOptions {
            beams,
            n_best,
            max_length,
            length_penalty,
            repetition_penalty,
            ..options
        };
        let mut search = Search::new(&Arc::new(odd));
        for _ in 0..20 {
            prop_assert!(search.candidates_needed() > 0);
            if search.advance(&values, &ids, width) == Advance::Finished {
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
    let mut options = SearchOptions::new(0, vec![eos], 4);
    options.beams = 81;
    options.n_best = 40;
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

    let mut search = Search::new(&Arc::new(options));
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
        if search.advance(&values, &ids, 4) == Advance::Finished {
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

/// Equal scores: the earlier hypothesis, then the more probable token, then the lower id.
#[test]
fn ties_are_settled_the_same_way_always() {
    let mut options = SearchOptions::new(0, vec![1], 3);
    (options.beams, options.n_best, options.length_penalty) = (2, 2, 0.0);
    let mut search = Search::new(&Arc::new(options));
    assert_eq!(search.advance(&[-0.5, -1.0, -1.0], &[3, 1, 4], 3), Advance::Continue);
    assert_eq!(search.parents(), [0, 0]);
    assert!(search.last_tokens().eq([3, 4]));
    // Sums of -1 all: two for the first hypothesis, one for the second.
    let (values, ids) = ([-0.5, -0.5, -9.0, 0.0, -9.0, -9.0], [2, 5, 6, 7, 8, 9]);
    assert_eq!(search.advance(&values, &ids, 3), Advance::Continue);
    assert_eq!(search.parents(), [0, 0]);
    assert!(search.last_tokens().eq([2, 5]));
    assert_eq!(search.advance(&[0.0, -1.0, 0.0, -1.0], &[1, 2, 1, 2], 2), Advance::Finished);
    let tokens: Vec<_> =
        search.finish().into_iter().map(|best| (best.tokens, best.score)).collect();
    assert_eq!(tokens, [(vec![1], -1.0), (vec![3, 2, 1], -1.0)]);
}

#[test]
fn options_that_make_no_sense_are_named() {
    let good = SearchOptions { beams: 4, ..SearchOptions::new(0, vec![1], 10) };
    let check = |change: fn(&mut SearchOptions)| {
        let mut options = good.clone();
        change(&mut options);
        options.validate(100)
    };
    assert_eq!(check(|_| ()), Ok(()));
    assert_eq!(check(|options| options.beams = 0), Err(SearchError::NoBeams));
    let n_best = |n_best| Err(SearchError::NBest { n_best, beams: 4 });
    assert_eq!(check(|options| options.n_best = 5), n_best(5));
    assert_eq!(check(|options| options.n_best = 0), n_best(0));
    let infinite = Err(SearchError::LengthPenalty(f64::INFINITY));
    assert_eq!(check(|options| options.length_penalty = f64::INFINITY), infinite);
    let too_small = Err(SearchError::RepetitionPenalty(0.5));
    assert_eq!(check(|options| options.repetition_penalty = 0.5), too_small);
    let no_room = Err(SearchError::MaxLength { max: 10, prefix: 10 });
    assert_eq!(check(|options| options.prefix = vec![3; 10]), no_room);
    let crossed = Err(SearchError::MinLength { min: 11, max: 10 });
    assert_eq!(check(|options| options.min_length = 11), crossed);
    let empty = Err(SearchError::EmptyBan { index: 1 });
    assert_eq!(check(|options| options.banned = vec![vec![1], vec![]]), empty);
    let unknown = |role| Err(SearchError::OutOfVocabulary { role, token: 100, vocabulary: 100 });
    assert_eq!(check(|options| options.forced_bos = Some(100)), unknown("forced first"));
    assert_eq!(check(|options| options.banned = vec![vec![1, 100]]), unknown("banned"));
}

#[test]
fn ends_of_sentence_are_not_banned_statically() {
    let mut options = SearchOptions::new(0, vec![1, 2], 10);
    options.banned = vec![vec![5], vec![1], vec![6, 7], vec![2, 1]];
    assert_eq!(static_bans(&options), [5]);
}
