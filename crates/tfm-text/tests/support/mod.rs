//! What the tests share: fixtures, and the large texts that may lie beside the repository.

#![allow(dead_code, reason = "each test uses its own part")]

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A file of `tests/golden`, by name.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A fixture written by `make_golden.py`.
pub(crate) fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

/// The directory of the bundled model.
pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tfm/models/marian-tatoeba-en-fr")
}

/// A path in the folder of large reference data: `TFM_TEST_DATA`, else `shared` beside the
/// repository. Where it is absent the test says so and passes.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("TFM_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = folder.join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no ../shared ({} is not there)", path.display());
    None
}

/// The lines of a gzipped text, cut at line feeds only.
pub(crate) fn gunzip_lines(path: &Path) -> Vec<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.trim_end_matches('\n').split('\n').map(str::to_owned).collect()
}

/// Test texts by the names that `digests.json` uses: Tatoeba sentences of both sides, or one side
/// of Multi30k.
pub(crate) fn texts(kind: &str, language: &str) -> Option<Vec<String>> {
    let file = match kind {
        "tatoeba" => format!("data/tatoeba/test.en-{language}.tsv.gz"),
        _ => format!("data/multi30k/test_2016_flickr.{language}.gz"),
    };
    let lines = gunzip_lines(&shared(&file)?);
    Some(match kind {
        "tatoeba" => lines.iter().flat_map(|l| l.split('\t').take(2)).map(str::to_owned).collect(),
        _ => lines,
    })
}

/// FNV-1a, 64 bits, over rows of ids as little-endian `u32`, each row closed by `u32::MAX`.
pub(crate) fn digest(rows: impl IntoIterator<Item = Vec<u32>>) -> String {
    let mut value: u64 = 0xcbf2_9ce4_8422_2325;
    for row in rows {
        for id in row.into_iter().chain([u32::MAX]) {
            for byte in id.to_le_bytes() {
                value = (value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    format!("{value:016x}")
}

pub(crate) fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}
