//! How many threads compute.

use std::num::NonZeroUsize;
use tfm::{Device, Model, Options, Translator};

fn device(threads: usize) -> Device {
    Device::cpu().with_threads(NonZeroUsize::new(threads).unwrap())
}

#[test]
fn more_threads_than_processors_are_bounded_and_said() {
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(Device::cpu().threads(), processors);
    assert_eq!(device(4 * processors).threads(), 4 * processors);
    assert_eq!(device(4 * processors).threads_note(), None);
    assert_eq!(device(1).threads(), 1);
    let many = device(4 * processors + 1);
    assert_eq!(many.threads(), 4 * processors);
    let note = many.threads_note().unwrap();
    assert!(note.contains(&format!("not {}", 4 * processors + 1)), "{note}");
    if 4 * processors < 1024 {
        let model = Model::bundled().unwrap();
        let translator = Translator::new(&model, device(1024), &Options::default()).unwrap();
        assert_eq!(translator.translate("Thank you.").unwrap().text, "Merci.");
    }
}

#[test]
fn absurd_numbers_of_threads_are_errors() {
    let model = Model::bundled().unwrap();
    for threads in [1025, 100_000, usize::MAX] {
        let made = Translator::new(&model, device(threads), &Options::default());
        let error = made.err().unwrap().to_string();
        assert_eq!(error, format!("threads: {threads} are too many: give at most 1024"));
    }
}

#[cfg(feature = "training")]
#[test]
fn training_has_the_same_limits() {
    use tfm::training::{TrainConfig, train};
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/copy.toml");
    let config = TrainConfig::read(path).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(true);
    let error = train(&config, device(2000), false, &stop, &mut ()).unwrap_err();
    assert!(error.to_string().starts_with("threads: 2000 are too many"), "{error}");
}

#[cfg(feature = "training")]
#[test]
fn a_model_larger_than_memory_is_an_error_before_it_is_made() {
    use tfm::training::{TrainConfig, train};
    let folder = std::env::temp_dir().join(format!("tfm-memory-{}", std::process::id()));
    let text = include_str!("../../../configs/copy.toml").replace("../runs/copy", "run");
    let stop = std::sync::atomic::AtomicBool::new(true);
    for (from, to) in [
        ("d_model = 64", "d_model = 65536"),
        ("layers = 2, heads = 4, ffn_dim = 256", "layers = 1000, heads = 4, ffn_dim = 65536"),
    ] {
        let text = text.replace(from, to).replace("d_model = 64\n", "d_model = 8192\n");
        let config = TrainConfig::parse("large.toml", &text, &folder, None).unwrap();
        let error = train(&config, device(1), false, &stop, &mut ()).unwrap_err().to_string();
        assert!(error.contains("GiB to be trained"), "{error}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
