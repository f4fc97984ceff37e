//! Arbitrary bytes as the configuration of a training give faults that can be printed, or a
//! configuration.
//!
//! Shared by the fuzz target and by the property tests of tfm-train.

use std::path::Path;
use tfm_train::{Error, TrainConfig};

pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match TrainConfig::parse("fuzz.toml", &text, Path::new(""), None) {
        Ok(config) => {
            assert!(config.batch.tokens >= 2 * config.data.filters.maximum_tokens);
            for update in [0, 1, 100, u64::MAX] {
                assert!(config.schedule.rate(update, 64).is_finite());
            }
        }
        Err(Error::Config { faults, .. }) => {
            assert!(!faults.is_empty());
            assert!(faults.iter().all(|fault| fault.line >= 1));
        }
        Err(error) => panic!("{error}"),
    }
}
