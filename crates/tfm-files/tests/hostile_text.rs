//! Arbitrary bytes as text: the corpus of the fuzz target, and mutations of it.

#[path = "../../../fuzz/entries/lines.rs"]
mod entry;

use proptest::prelude::*;
use std::fs;
use std::path::Path;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/lines");
    fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn the_corpus_is_read() {
    let corpus = corpus();
    assert!(corpus.len() >= 4);
    corpus.iter().for_each(|bytes| entry::run(bytes));
}

proptest! {
    #[test]
    fn mutations_are_lines_or_errors(
        seed in prop::sample::select(corpus()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = seed;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        entry::run(&bytes);
    }

    #[test]
    fn any_text_is_its_lines(text in "[a\n\r\u{feff}é]{0,200}") {
        entry::run(text.as_bytes());
    }
}
