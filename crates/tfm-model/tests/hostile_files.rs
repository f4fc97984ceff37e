//! Whatever bytes a file of a model has, reading it ends with faults or with a model that makes
//! sense. The entries are those of the fuzz targets, run on their corpus, on mutations of it and on
//! random bytes.

#[path = "../../../fuzz/entries/config.rs"]
mod config;
#[path = "../../../fuzz/entries/safetensors.rs"]
mod safetensors_file;
#[path = "../../../fuzz/entries/shard_index.rs"]
mod shard_index;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;
use tfm_model::checkpoint::Header;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 1, "the corpus of {target} is there");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

static CONFIGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("config"));
static WEIGHTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("safetensors"));
static INDICES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("shard_index"));

/// A model in 8 bits: its file, the bytes of data at its end, and where the scales of each weight
/// are.
type Integers = (Vec<u8>, usize, Vec<(String, Range<usize>)>);

static INTEGERS: LazyLock<Integers> = LazyLock::new(|| {
    let mut files = WEIGHTS.iter().filter(|bytes| bytes.windows(6).any(|bytes| bytes == b"_scale"));
    let file = files.next().expect("a model in 8 bits is in the corpus").clone();
    let header = Header::read("file", &file).unwrap();
    let scales = header.tensors.iter().filter(|tensor| tensor.name.ends_with("_scale"));
    let scales: Vec<_> = scales.map(|tensor| (tensor.name.clone(), tensor.bytes.clone())).collect();
    assert!(scales.len() > 10);
    let data = file.len() - header.tensors.iter().map(|tensor| tensor.bytes.start).min().unwrap();
    (file, data, scales)
});

/// Whether no float of the file is NaN or infinite.
fn floats_are_finite(file: &[u8]) -> bool {
    let header = Header::read("file", file).unwrap();
    let mut floats = header.tensors.iter().filter(|tensor| tensor.dtype == safetensors::Dtype::F32);
    floats.all(|tensor| {
        let words = file[tensor.bytes.clone()].as_chunks().0;
        words.iter().all(|&word| f32::from_le_bytes(word).is_finite())
    })
}

/// A change to a file.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let place = |index: &Index| index.index(bytes.len());
        match self {
            Mutation::Set(index, byte) => {
                let place = place(index);
                bytes[place] = *byte;
            }
            Mutation::Insert(index, new) => {
                let place = place(index);
                bytes.splice(place..place, new.iter().copied());
            }
            Mutation::Remove(index, count) => {
                let place = place(index);
                bytes.drain(place..bytes.len().min(place + count));
            }
            Mutation::Repeat(index, count) => {
                let place = place(index);
                let again = bytes[place..bytes.len().min(place + count)].to_vec();
                bytes.splice(place..place, again);
            }
            Mutation::Cut(index) => {
                let place = place(index);
                bytes.truncate(place);
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let words: Vec<&[u8]> = vec![
        b"0",
        b"9",
        b"-1",
        b"1e9",
        b"18446744073709551615",
        b"1152921504606846976",
        b"null",
        b"[]",
        b"{}",
        b"[",
        b"{",
        b"\"",
        b"\\u0000",
        b",",
        b":",
        b"\"a\":",
        b"F16",
        b"I8",
        b"I64",
        b"_scale",
        b"true",
        b"..",
        b"/",
        b"\xff",
    ];
    let word = prop::sample::select(words).prop_map(<[u8]>::to_vec);
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(index, byte)| Mutation::Set(index, byte)),
        4 => (any::<Index>(), word).prop_map(|(index, new)| Mutation::Insert(index, new)),
        2 => (any::<Index>(), 1..40usize).prop_map(|(index, count)| Mutation::Remove(index, count)),
        2 => (any::<Index>(), 1..400usize).prop_map(|(index, count)| Mutation::Repeat(index, count)),
        1 => any::<Index>().prop_map(Mutation::Cut),
    ]
}

fn mutated(corpus: &'static LazyLock<Vec<Vec<u8>>>) -> impl Strategy<Value = Vec<u8>> {
    let mutations = prop::collection::vec(mutation(), 1..4);
    (any::<Index>(), mutations).prop_map(|(seed, mutations)| {
        let mut bytes = seed.get(corpus).clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        bytes
    })
}

#[test]
fn the_corpus_itself() {
    CONFIGS.iter().for_each(|bytes| config::run(bytes));
    WEIGHTS.iter().for_each(|bytes| safetensors_file::run(bytes));
    INDICES.iter().for_each(|bytes| shard_index::run(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        config::run(&bytes);
        safetensors_file::run(&bytes);
        shard_index::run(&bytes);
    }

    #[test]
    fn mutated_configurations(bytes in mutated(&CONFIGS)) {
        config::run(&bytes);
    }

    #[test]
    fn mutated_weights(bytes in mutated(&WEIGHTS)) {
        safetensors_file::run(&bytes);
    }

    /// Integers and scales of any bits: what is refused is refused, and the rest is numbers.
    #[test]
    fn any_integers_and_scales(data in prop::collection::vec(any::<u8>(), INTEGERS.1), small in any::<bool>()) {
        let mut file = INTEGERS.0.clone();
        for (place, byte) in (INTEGERS.0.len() - INTEGERS.1..).zip(data) {
            file[place] = byte;
        }
        if small {
            // Else hardly any scale passes: exponents of numbers below 2.
            for (name, scales) in &INTEGERS.2 {
                assert!(name.ends_with("_scale"));
                scales.clone().skip(3).step_by(4).for_each(|place| file[place] &= 0x3f);
            }
            let read = tfm_model::Checkpoint::from_files("f", safetensors_file::CONFIG, None, file.clone());
            prop_assert!(read.is_ok() || !floats_are_finite(&file), "{:?}", read.err());
        }
        safetensors_file::run(&file);
    }

    #[test]
    fn mutated_indices(bytes in mutated(&INDICES)) {
        shard_index::run(&bytes);
    }
}

/// Tensors of small shapes whose offsets are right, or off by a little.
fn headers() -> impl Strategy<Value = (serde_json::Value, usize)> {
    let dtype = prop::sample::select(vec!["F32", "F16", "BF16", "I64", "I8", "U8", "F4", "X9"]);
    let off = || prop_oneof![12 => Just(0i64), 1 => -3..4i64];
    let tensor = (dtype, prop::collection::vec(0..5u64, 0..4), off(), off());
    (prop::collection::vec(tensor, 0..5), off()).prop_map(|(tensors, extra)| {
        let (mut header, mut start) = (serde_json::Map::new(), 0i64);
        for (number, (dtype, shape, off_start, off_end)) in tensors.into_iter().enumerate() {
            let bits = match dtype {
                "F32" => 32,
                "F16" | "BF16" => 16,
                "I64" => 64,
                "F4" => 4,
                _ => 8,
            };
            let end = start + (shape.iter().product::<u64>() * bits / 8) as i64;
            let offsets = [(start + off_start).max(0), (end + off_end).max(0)];
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
            header.insert(format!("t{number}"), entry);
            start = end;
        }
        (header.into(), (start + extra).max(0) as usize)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// We list all faults where the format's own crate stops at the first; the verdict is the same.
    #[test]
    fn our_verdict_is_that_of_the_safetensors_crate((header, data) in headers()) {
        let json = header.to_string();
        let length = (json.len() as u64).to_le_bytes();
        let file = [&length[..], json.as_bytes(), &vec![0; data]].concat();
        let ours = Header::read("file", &file);
        match safetensors::SafeTensors::deserialize(&file) {
            Ok(theirs) => {
                let ours = ours.map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
                prop_assert_eq!(ours.tensors.len(), theirs.len());
                for tensor in &ours.tensors {
                    let view = theirs.tensor(&tensor.name).unwrap();
                    prop_assert_eq!((tensor.dtype, &tensor.shape[..]), (view.dtype(), view.shape()));
                    prop_assert_eq!(&file[tensor.bytes.clone()], view.data());
                }
            }
            Err(error) => prop_assert!(ours.is_err(), "{}", error),
        }
    }
}
