//! Settings as large as numbers go: scores are finite, what is only improbable is not banned, and
//! what is certain comes.

use std::sync::Arc;
use tfm_model::generation::{
    Advance, EarlyStopping, GenerationOptions, Hypothesis, Needs, Output, Rows, Search,
    SearchInput, StepFault, static_bans,
};

const EOS: u32 = 0;
const VOCABULARY: i32 = 6;

/// A model for which all steps are the same: the end is improbable.
fn run(options: GenerationOptions) -> Result<Vec<Hypothesis>, StepFault> {
    const LOGITS: [f32; VOCABULARY as usize] = [-9.0, 1.0, 2.0, 3.0, 0.5, 0.0];
    let sum: f32 = LOGITS.iter().map(|logit| logit.exp()).sum();
    let options = Arc::new(options);
    let bans = static_bans(&options);
    let mut search = Search::new(&options, SearchInput { source: &[], number: 0, positions: 12 });
    loop {
        let Needs { output, .. } = search.needs();
        let mut row: Vec<(f32, i32)> = LOGITS.into_iter().zip(0..).collect();
        if output != Output::Row {
            row.iter_mut().for_each(|(value, _)| *value -= sum.ln());
            let banned = |id: &i32| bans.contains(&(*id as u32));
            row.iter_mut()
                .filter(|(_, id)| banned(id))
                .for_each(|(value, _)| *value = f32::NEG_INFINITY);
            row.sort_by(|a, b| b.0.total_cmp(&a.0));
        }
        let live = search.live();
        let repeated = || std::iter::repeat_n(&row, live).flatten();
        let values: Vec<f32> = repeated().map(|(value, _)| *value).collect();
        let ids: Vec<i32> = repeated().map(|(_, id)| *id).collect();
        let normalizers = vec![sum.ln(); live];
        let width = row.len();
        let rows =
            Rows { values: &values, ids: &ids, width, normalizers: &normalizers, deeper: &[] };
        if search.advance(rows)? == Advance::Finished {
            return Ok(search.finish());
        }
    }
}

fn options(num_beams: usize, do_sample: bool) -> GenerationOptions {
    let start = VOCABULARY as u32 - 1;
    GenerationOptions { num_beams, do_sample, ..GenerationOptions::new(start, vec![EOS]) }
}

/// Greedy search, beams, and sampling.
fn searches() -> [GenerationOptions; 3] {
    [options(1, false), options(3, false), options(1, true)]
}

fn finite(found: &[Hypothesis]) {
    for Hypothesis { score, log_probability, .. } in found {
        assert!(score.is_finite() && log_probability.is_finite(), "{score} {log_probability}");
    }
}

#[test]
fn a_bias_that_is_large_decides() {
    for search in searches() {
        for renormalize_logits in [false, true] {
            let bias = vec![(vec![4], 9e29)];
            let found = run(GenerationOptions {
                sequence_bias: bias,
                renormalize_logits,
                ..search.clone()
            });
            let found = found.unwrap();
            assert_eq!(found[0].tokens, [4; 12], "{search:?}");
            finite(&found);
        }
    }
}

#[test]
fn a_decay_that_is_large_ends_a_sentence() {
    for search in searches() {
        let exponential_decay_length_penalty = Some((2, 1e38));
        let found = run(GenerationOptions { exponential_decay_length_penalty, ..search }).unwrap();
        let [.., last] = found[0].tokens[..] else { panic!("there are tokens") };
        assert_eq!((found[0].tokens.len(), last), (4, EOS), "the first token beyond two");
        finite(&found);
    }
}

#[test]
fn penalties_that_are_large_or_small_ban_nothing() {
    for penalty in [1e-300, 1e300] {
        for search in searches() {
            let max_new_tokens = Some(9); // more than there are tokens
            let found =
                run(GenerationOptions { repetition_penalty: penalty, max_new_tokens, ..search });
            let found = found.unwrap();
            assert!(!found[0].tokens.is_empty());
            finite(&found);
        }
    }
}

#[test]
fn length_penalties_give_finite_scores() {
    for length_penalty in [-10.0, 10.0] {
        for early_stopping in [EarlyStopping::No, EarlyStopping::Never] {
            let search = options(3, false);
            let found =
                run(GenerationOptions { length_penalty, early_stopping, ..search }).unwrap();
            finite(&found);
        }
    }
}

#[test]
fn where_all_tokens_are_banned_that_is_the_error() {
    for search in searches() {
        for renormalize_logits in [false, true] {
            // All but the end, which may not come yet.
            let suppress_tokens = (1..VOCABULARY as u32).collect();
            let banned = GenerationOptions {
                suppress_tokens,
                min_new_tokens: Some(3),
                renormalize_logits,
                ..search.clone()
            };
            assert_eq!(run(banned), Err(StepFault::AllBanned), "{search:?}");
            // Each token may come once.
            let banned = GenerationOptions {
                no_repeat_ngram_size: 1,
                min_new_tokens: Some(10),
                renormalize_logits,
                ..search.clone()
            };
            assert_eq!(run(banned), Err(StepFault::AllBanned), "{search:?}");
        }
    }
}
