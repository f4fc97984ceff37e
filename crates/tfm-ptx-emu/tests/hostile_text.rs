//! Whatever the text, reading and running it ends with an error or a result. This runs the entry of
//! the fuzz target on its corpus, on the compiled kernels and on mutations of both.

#[path = "../../../fuzz/entries/ptx.rs"]
mod entry;

use proptest::prelude::*;
use proptest::sample::Index;
use std::path::Path;
use std::sync::LazyLock;

static TEXTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/ptx");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 1, "the corpus is there");
    let corpus = paths.iter().map(|path| std::fs::read(path).unwrap());
    corpus.chain([include_bytes!("fixtures/kernels.ptx").to_vec()]).collect()
});

#[test]
fn the_corpus_runs() {
    for text in TEXTS.iter() {
        tfm_ptx_emu::Module::parse(std::str::from_utf8(text).unwrap())
            .unwrap_or_else(|error| panic!("{error}"));
        entry::run(text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Words and lines replace others.
    #[test]
    fn mutations_do_no_harm(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), 0..3), 1..6),
    ) {
        let text = which.get(&TEXTS);
        let mut words: Vec<&[u8]> = text.split_inclusive(|byte| !byte.is_ascii_alphanumeric()).collect();
        for (from, to, kind) in changes {
            let (from, to) = (from.index(words.len()), to.index(words.len()));
            match kind {
                0 => words[to] = words[from],
                1 => words.insert(to, words[from]),
                _ => drop(words.remove(to)),
            }
            prop_assume!(!words.is_empty());
        }
        entry::run(&words.concat());
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        entry::run(&bytes);
    }
}
