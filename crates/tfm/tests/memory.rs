//! Memory does not grow with requests. The test stands alone, for it measures its whole process.

mod common;

use common::{cpu, fixture, open};
use std::sync::Arc;
use tfm_model::Numerics;
use tfm_model::generation::GenerationOptions;
use tfm_model::scheduler::{Scheduler, Settings};

/// What the process holds, in bytes, on Linux.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}

#[test]
fn memory_stays_flat_over_many_requests() {
    let Some(_) = resident() else {
        println!("skipped: no /proc/self/statm");
        return;
    };
    let checkpoint = open(fixture("marian_swish_tied"));
    let config = Arc::new(checkpoint.config().clone());
    let options = GenerationOptions { num_beams: 2, ..checkpoint.generation().clone() };
    let options = Arc::new(GenerationOptions { max_new_tokens: Some(6), ..options });
    let session = cpu(&checkpoint, 1);
    let scheduler =
        Scheduler::new(&session, &config, Numerics::default(), &Settings::default()).unwrap();
    let mut state = 7u64;
    let mut below = move |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % n
    };
    let mut round = |count: usize| {
        let sources: Vec<Vec<u32>> = (0..count)
            .map(|_| {
                let length = 1 + below(6);
                let words = (0..length).map(|_| 4 + below(8) as u32);
                words.chain([config.special.eos[0]]).collect()
            })
            .collect();
        scheduler.generate(&options, &sources).unwrap();
        resident().unwrap()
    };
    let before = round(2_000);
    let after = (0..9).map(|_| round(2_000)).next_back().unwrap();
    assert!(
        after < before + (4 << 20),
        "{before} bytes after 2,000 requests, {after} after 20,000"
    );
}
