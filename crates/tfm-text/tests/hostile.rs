//! Nothing from outside makes the crate panic or loop: arbitrary texts, arbitrary bytes, damaged
//! files.

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use support::{bundled, golden};
use tfm_text::{Bleu, BleuTokenizer, Chrf, Files, SentencePiece, Tokenizer, Vocab};

const TINY: [&str; 3] = ["tiny-bpe-bytes", "tiny-unigram-symbols", "tiny-unigram-suffix"];

static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    TINY.iter().map(|name| std::fs::read(golden(&format!("{name}.spm"))).unwrap()).collect()
});
static MODELS: LazyLock<Vec<SentencePiece>> = LazyLock::new(|| {
    FILES.iter().map(|file| SentencePiece::from_bytes(file, "tiny").unwrap()).collect()
});
static MARIAN: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::from_dir(&bundled()).unwrap());
/// A `tokenizer.json` with most of its vocabulary cut, so that damage hits the rest.
static JSON: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut file = support::json("tokenizer_json.json")["file"].clone();
    file["model"]["merges"].as_array_mut().unwrap().truncate(4);
    file["model"]["vocab"].as_object_mut().unwrap().retain(|_, id| id.as_u64() < Some(270));
    file.to_string().into_bytes()
});
static RULES: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(golden("tiny-unigram-nfkc.spm")).unwrap());

/// Texts made of the characters that tokenisers treat specially, and of any others.
fn text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "▁",
        " ",
        "  ",
        "\t",
        "\n",
        "<unk>",
        "</s>",
        "<pad>",
        ">>",
        "<<",
        ">>fra<<",
        "<sep>",
        "é",
        "e\u{301}",
        "foo",
        "a b",
        "\u{200d}",
        "\u{feff}",
        "\u{fffd}",
        "\0",
        "ﬁ",
        "👨‍👩‍👧",
        "한",
        "<0x41>",
    ]);
    let part = prop_oneof![
        special.prop_map(str::to_owned),
        "\\PC{0,8}",
        any::<char>().prop_map(String::from)
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn byte_fallback_loses_no_text(text in text()) {
        // The rule-free model with bytes for what it does not know gives every text back, but for
        // spaces.
        let model = &MODELS[0];
        let decoded = model.decode(&model.encode(&text).unwrap()).unwrap();
        let words = |text: &str| -> Vec<String> {
            text.replace('▁', " ").split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        prop_assert_eq!(words(&decoded), words(&text));
    }

    #[test]
    fn pieces_are_what_ids_name(text in text()) {
        for model in MODELS.iter() {
            let (ids, pieces) = (model.encode(&text).unwrap(), model.encode_pieces(&text).unwrap());
            prop_assert_eq!(ids.len(), pieces.len());
            for (id, piece) in ids.iter().zip(&pieces) {
                prop_assert!(*id == model.unk_id() || model.piece(*id) == Some(piece));
            }
            model.decode_pieces(pieces.iter().map(String::as_str));
        }
    }

    #[test]
    fn marian_encodes_and_decodes_any_text(text in text(), ids in prop::collection::vec(0..5000u32, 0..40)) {
        let encoded = MARIAN.encode_source(&text).unwrap();
        prop_assert_eq!(encoded.last().copied(), MARIAN.eos_id());
        prop_assert!(encoded.iter().all(|&id| (id as usize) < MARIAN.source_vocab_size()));
        MARIAN.decode_target(&encoded).unwrap();
        MARIAN.decode_target(&ids).unwrap();
    }

    #[test]
    fn any_bytes_are_a_model_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(model) = SentencePiece::from_bytes(&bytes, "arbitrary") {
            model.encode("Hello, wörld").unwrap();
        }
        let _ = Vocab::from_json(&bytes, "arbitrary");
        let _ = Tokenizer::from_files(&Files::Memory(&[("tokenizer.json", &bytes)]));
        let _ = Tokenizer::from_files(&Files::Memory(&[
            ("source.spm", &FILES[0]), ("target.spm", &FILES[0]), ("vocab.json", &bytes),
        ]));
    }

    #[test]
    fn damaged_models_work_or_are_errors(
        which in 0..TINY.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<prop::sample::Index>(),
        text in text(),
    ) {
        let mut bytes = FILES[which].clone();
        for (at, byte) in &damage {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if damage.len() % 4 == 0 {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(model) = SentencePiece::from_bytes(&bytes, "damaged") {
            let ids = model.encode(&text).unwrap();
            model.encode_pieces(&text).unwrap();
            model.decode(&ids).unwrap();
        }
    }

    #[test]
    fn damaged_tokenizer_json_works_or_is_an_error(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        text in text(),
    ) {
        let mut bytes = JSON.clone();
        for (at, byte) in &damage {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Ok(tokenizer) = Tokenizer::from_files(&Files::Memory(&[("tokenizer.json", &bytes)]))
            && let Ok(ids) = tokenizer.encode_source(&text)
        {
            let _ = tokenizer.decode_target(&ids);
        }
    }

    #[test]
    fn damaged_rules_work_or_are_errors(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..2000),
        text in text(),
    ) {
        // Most of the file is its charsmap, and most of that its double array.
        let mut bytes = RULES.clone();
        for (at, byte) in &damage {
            let from = bytes.len() - 240_000;
            let at = from + at.index(bytes.len() - from);
            bytes[at] = *byte;
        }
        if let Ok(model) = SentencePiece::from_bytes(&bytes, "damaged") {
            let ids = model.encode(&text).unwrap();
            model.decode(&ids).unwrap();
        }
    }

    #[test]
    fn scores_are_between_0_and_100(hypothesis in text(), reference in text()) {
        for tokenizer in ["13a", "intl", "char", "none"] {
            let metric = Bleu {
                tokenizer: BleuTokenizer::from_name(tokenizer).unwrap(),
                effective_order: true,
                ..Bleu::default()
            };
            let score = metric.sentence(&hypothesis, &[&reference]).unwrap().score;
            prop_assert!((0.0..=100.0 + 1e-9).contains(&score));
            let same = metric.sentence(&hypothesis, &[&hypothesis]).unwrap();
            prop_assert!(same.hypothesis_len == 0 || (same.score - 100.0).abs() < 1e-9);
        }
        let score = Chrf::plus_plus().sentence(&hypothesis, &[&reference]).unwrap().score;
        prop_assert!((0.0..=100.0 + 1e-9).contains(&score));
    }
}

#[test]
fn a_charsmap_longer_than_its_file_is_refused() {
    // Announces four gigabytes of rules: the library would reserve eight times as much.
    let json = br#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":{"type":"Sequence","normalizers":[{"type":"Precompiled","precompiled_charsmap":"/////wAA"}]},"pre_tokenizer":null,"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#;
    let error = Tokenizer::from_files(&Files::Memory(&[("tokenizer.json", json)])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tokenizer.json is not a usable tokenizer.json file: its precompiled_charsmap is cut short"
    );
}
