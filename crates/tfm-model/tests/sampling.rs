//! Sampling: what is drawn follows the probabilities, and the seed alone decides.

use std::sync::Arc;
use tfm_model::generation::{
    Advance, GenerationOptions, Hypothesis, Needs, Output, Rows, Search, SearchInput,
};

const EOS: u32 = 1;

fn logits(step: usize, vocabulary: usize) -> Vec<f32> {
    (0..vocabulary).map(|id| (((id * 7 + step * 5 + 3) % 11) as f32 - 5.0) * 0.45).collect()
}

/// Runs a search on rows that depend on the step alone. Where `extra` is given, candidates beyond
/// those needed.
fn run(
    options: &GenerationOptions,
    number: u64,
    vocabulary: usize,
    extra: usize,
) -> Vec<Hypothesis> {
    let options = Arc::new(options.clone());
    let input = SearchInput { source: &[], number, positions: 100 };
    let mut search = Search::new(&options, input);
    for step in 0.. {
        let row = logits(step, vocabulary);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        let live = search.live();
        let Needs { output, candidates, .. } = search.needs();
        let (values, ids, width): (Vec<f32>, Vec<i32>, usize) = match output {
            Output::Row => (row.repeat(live), Vec::new(), vocabulary),
            _ => {
                let mut best: Vec<(f32, i32)> = row.iter().copied().zip(0..).collect();
                best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                best.truncate(candidates + extra);
                let values: Vec<f32> =
                    best.iter().map(|&(logit, _)| (f64::from(logit) - sum.ln()) as f32).collect();
                let ids: Vec<i32> = best.iter().map(|&(_, id)| id).collect();
                (values.repeat(live), ids.repeat(live), best.len())
            }
        };
        let normalizers = vec![sum.ln() as f32; live];
        let rows =
            Rows { values: &values, ids: &ids, width, normalizers: &normalizers, deeper: &[] };
        match search.advance(rows).unwrap() {
            Advance::Continue => {}
            Advance::Finished => break,
        }
    }
    search.finish()
}

fn sampling(vocabulary_top: usize) -> GenerationOptions {
    GenerationOptions {
        do_sample: true,
        top_k: vocabulary_top,
        max_new_tokens: Some(1),
        ..GenerationOptions::new(0, vec![EOS])
    }
}

/// Pearson's statistic of the first tokens of so many sequences.
fn chi_square(found: &[usize], expected: &[f64]) -> f64 {
    let draws = found.iter().sum::<usize>() as f64;
    let terms = found.iter().zip(expected).map(|(&found, share)| {
        let expected = share * draws;
        (found as f64 - expected).powi(2) / expected
    });
    terms.sum()
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> =
        logits.iter().map(|&logit| (f64::from(logit) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[test]
fn ten_thousand_draws_follow_the_softmax() {
    const VOCABULARY: usize = 20;
    for (seed, temperature, independent) in [(0, 1.0, false), (1, 0.7, false), (2, 1.3, true)] {
        let options = GenerationOptions { seed, temperature, ..sampling(0) };
        let mut found = vec![0; VOCABULARY];
        if independent {
            // Of one request.
            let options = GenerationOptions { num_return_sequences: 1000, ..options };
            for number in 0..10 {
                for hypothesis in run(&options, number, VOCABULARY, 0) {
                    found[hypothesis.tokens[0] as usize] += 1;
                }
            }
        } else {
            for number in 0..10_000 {
                found[run(&options, number, VOCABULARY, 0)[0].tokens[0] as usize] += 1;
            }
        }
        assert_eq!(found.iter().sum::<usize>(), 10_000);
        let statistic = chi_square(&found, &softmax(&logits(0, VOCABULARY), temperature));
        // 19 degrees of freedom: one in a thousand is above 43.8.
        assert!(statistic < 43.8, "{statistic}: {found:?}");
        // And it is not too good to be true: one in a thousand is below 5.4.
        assert!(statistic > 5.4, "{statistic}: {found:?}");
    }
}

#[test]
fn the_most_probable_alone_are_drawn_in_proportion() {
    const VOCABULARY: usize = 40;
    let options = GenerationOptions { top_k: 6, ..sampling(0) };
    let mut found = vec![0; VOCABULARY];
    for number in 0..10_000 {
        found[run(&options, number, VOCABULARY, 0)[0].tokens[0] as usize] += 1;
    }
    let row = logits(0, VOCABULARY);
    let mut best: Vec<usize> = (0..VOCABULARY).collect();
    best.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
    best.truncate(6);
    let shares = softmax(&best.iter().map(|&id| row[id]).collect::<Vec<_>>(), 1.0);
    let counts: Vec<usize> = best.iter().map(|&id| found[id]).collect();
    assert_eq!(counts.iter().sum::<usize>(), 10_000);
    // 5 degrees of freedom: one in a thousand is above 20.5.
    let statistic = chi_square(&counts, &shares);
    assert!(statistic < 20.5, "{statistic}: {counts:?}");
}

#[test]
fn the_seed_and_the_number_alone_decide() {
    let long = GenerationOptions {
        max_new_tokens: Some(12),
        num_return_sequences: 3,
        seed: u64::MAX - 5,
        top_k: 8,
        ..sampling(0)
    };
    let penalised = GenerationOptions { repetition_penalty: 1.2, ..long.clone() };
    let whole = GenerationOptions { top_k: 0, top_p: 0.9, ..long.clone() };
    let raised = GenerationOptions { repetition_penalty: 0.8, ..long.clone() };
    for options in [long, penalised, whole, raised] {
        let first = run(&options, 7, 30, 0);
        assert_eq!(first.len(), 3);
        assert_eq!(run(&options, 7, 30, 0), first);
        assert_eq!(run(&options, 7, 30, 5), first, "more candidates change nothing");
        assert_ne!(run(&options, 8, 30, 0), first);
        let other = GenerationOptions { seed: 3, ..options.clone() };
        assert_ne!(run(&other, 7, 30, 0), first);
        // The draws of a request are independent, and fewer of them are the first ones.
        assert!(first[0].tokens != first[1].tokens || first[0].tokens != first[2].tokens);
        let one = GenerationOptions { num_return_sequences: 1, ..options };
        assert_eq!(run(&one, 7, 30, 0)[0].tokens, first[0].tokens);
    }
}

#[test]
fn scores_are_the_models_whatever_is_drawn_from() {
    let options =
        GenerationOptions { max_new_tokens: Some(5), temperature: 0.4, top_k: 4, ..sampling(0) };
    let found = run(&options, 1, 25, 0).remove(0);
    for (step, (&token, &found)) in
        found.tokens.iter().zip(&found.token_log_probabilities).enumerate()
    {
        let expected = softmax(&logits(step, 25), 1.0)[token as usize].ln() as f32;
        assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
    }
}

/// A penalty below 1 raises tokens that are not among the best.
#[test]
fn tokens_that_rise_are_found_wherever_they_are() {
    for num_beams in [1, 3] {
        let options = GenerationOptions {
            num_beams,
            max_new_tokens: Some(4),
            sequence_bias: vec![(vec![13], 9.0)],
            eos_token_id: vec![],
            ..GenerationOptions::new(0, vec![])
        };
        let found = run(&options, 0, 30, 0).remove(0);
        assert_eq!(found.tokens, [13; 4], "{num_beams}");
    }
}

/// Where nothing may come next, a sequence is cut off: none is lost, whatever became of the others.
#[test]
fn sequences_that_cannot_go_on_are_kept() {
    let only = 2;
    let options = GenerationOptions {
        num_return_sequences: 8,
        max_new_tokens: Some(6),
        suppress_tokens: (0..8).filter(|&token| token != only && token != EOS).collect(),
        bad_words_ids: vec![vec![only, EOS], vec![only, only]],
        ..sampling(0)
    };
    for number in 0..20 {
        let found = run(&options, number, 8, 0);
        assert_eq!(found.len(), 8);
        for hypothesis in found {
            assert!([&[only][..], &[EOS]].contains(&&hypothesis.tokens[..]));
        }
    }
}
