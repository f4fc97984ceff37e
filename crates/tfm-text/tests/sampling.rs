//! Random cuts have the probabilities that the papers give them.

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use support::golden;
use tfm_text::training::{Kind, Options, train};
use tfm_text::{Error, Files, Sampling, SentencePiece, Tokenizer};

fn load(name: &str) -> SentencePiece {
    SentencePiece::from_bytes(&std::fs::read(golden(name)).unwrap(), name).unwrap()
}

/// A model file of pieces with their scores.
fn file(model_type: u8, pieces: &[(&str, f32)]) -> Vec<u8> {
    let mut file = vec![0x0a, 9, 0x0a, 5];
    file.extend(b"<unk>\x18\x02");
    for (text, score) in pieces {
        file.extend([0x0a, text.len() as u8 + 7, 0x0a, text.len() as u8]);
        file.extend(text.as_bytes());
        file.push(0x15);
        file.extend(score.to_le_bytes());
    }
    file.extend([0x12, 2, 0x18, model_type]);
    file
}

/// How often each cut was drawn, for many seeds.
fn draws(model: &SentencePiece, text: &str, sampling: Sampling) -> BTreeMap<String, f64> {
    const DRAWS: u64 = 40_000;
    let mut found = BTreeMap::new();
    for seed in 0..DRAWS {
        let ids = model.encode_sampled(text, sampling, seed).unwrap();
        let cut: Vec<&str> = ids.iter().map(|&id| model.piece(id).unwrap()).collect();
        *found.entry(cut.join(" ")).or_insert(0.0) += 1.0 / DRAWS as f64;
    }
    found
}

/// Compares with tolerance: five standard deviations of a share of 40,000 draws.
fn assert_shares(found: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (cut, share) in expected {
        let found = found.get(*cut).copied().unwrap_or_default();
        let deviation = (share * (1.0 - share) / 40_000.0).sqrt();
        assert!((found - share).abs() < 5.0 * deviation + 1e-9, "{cut}: {found} for {share}");
    }
}

#[test]
fn unigram_cuts_have_the_probabilities_of_the_lattice() {
    let pieces = [("▁", -1.0), ("a", -1.5), ("b", -2.0), ("ab", -2.5), ("▁a", -2.25), ("ba", -4.0)];
    let model = SentencePiece::from_bytes(&file(1, &pieces), "six").unwrap();
    let cuts: [(&str, f64); 5] = [
        ("▁ a b a", -6.0),
        ("▁ ab a", -5.0),
        ("▁ a ba", -6.5),
        ("▁a b a", -5.75),
        ("▁a ba", -6.25),
    ];
    for alpha in [0.0, 0.3, 1.0, 2.0] {
        let total: f64 = cuts.iter().map(|(_, score)| (alpha * score).exp()).sum();
        let expected = cuts.map(|(cut, score)| (cut, (alpha * score).exp() / total));
        let sampling = Sampling { alpha, ..Sampling::OFF };
        assert_shares(&draws(&model, "aba", sampling), &expected);
    }
}

#[test]
fn dropped_merges_have_the_probabilities_of_the_paper() {
    // Merges: a b first, then b c, then ab c. The word "abc" without its space.
    let pieces = [
        ("ab", -0.5),
        ("bc", -1.0),
        ("abc", -2.0),
        ("a", -9.0),
        ("b", -9.0),
        ("c", -9.0),
        ("▁", -9.0),
    ];
    let model = SentencePiece::from_bytes(&file(2, &pieces), "merges").unwrap();
    let p: f64 = 0.4;
    let ab = 1.0 - p;
    let bc = p * (1.0 - p);
    // Both a·bc and ab·c make abc, if that merge is kept at the last step.
    let expected = [
        ("▁ a b c", p * p),
        ("▁ ab c", ab * p),
        ("▁ a bc", bc * p),
        ("▁ abc", (ab + bc) * (1.0 - p)),
    ];
    assert_shares(&draws(&model, "abc", Sampling { dropout: p, ..Sampling::OFF }), &expected);
}

#[test]
fn all_merges_dropped_are_characters() {
    let text = std::fs::read_to_string(golden("learnt.txt")).unwrap();
    let model = train(Options::new(Kind::Bpe, 400), text.lines()).unwrap().load().unwrap();
    let sampling = Sampling { dropout: 1.0, ..Sampling::OFF };
    let ids = model.encode_sampled("the cat", sampling, 7).unwrap();
    let pieces: Vec<&str> = ids.iter().map(|&id| model.piece(id).unwrap()).collect();
    assert_eq!(pieces, ["▁", "t", "h", "e", "▁", "c", "a", "t"]);
}

#[test]
fn sentences_are_sampled_on_both_sides_and_closed() {
    let folder = Files::Folder(golden("learnt-unigram"));
    let tokenizer = Tokenizer::from_files(&folder).unwrap();
    let (text, sampling) =
        ("She has foo<sep> to go home.", Sampling { alpha: 0.1, ..Sampling::OFF });
    let plain = tokenizer.encode_source(text).unwrap();
    let mut different = 0;
    for seed in 0..50 {
        let source = tokenizer.encode_source_sampled(text, sampling, seed).unwrap();
        let target = tokenizer.encode_target_sampled(text, sampling, seed).unwrap();
        assert_eq!(source, target);
        assert_eq!(source.last().copied(), tokenizer.eos_id());
        assert_eq!(tokenizer.decode_target(&source).unwrap(), text);
        // Symbols stay whole.
        for symbol in ["foo", "<sep>"] {
            let whole = |id: &u32| tokenizer.source_token(*id).is_some_and(|t| t == symbol);
            assert!(source.iter().any(whole));
        }
        different += usize::from(source != plain);
    }
    assert!(different > 40, "{different}");
    assert_eq!(tokenizer.encode_source_sampled(text, Sampling::OFF, 3).unwrap(), plain);
}

#[test]
fn what_cannot_be_sampled_is_an_error() {
    let model = load("tiny-bpe-bytes.spm");
    for (name, sampling) in [
        ("alpha", Sampling { alpha: -1.0, dropout: 0.0 }),
        ("alpha", Sampling { alpha: f64::NAN, dropout: 0.0 }),
        ("dropout", Sampling { alpha: 1.0, dropout: 1.5 }),
        ("dropout", Sampling { alpha: 1.0, dropout: f64::NAN }),
    ] {
        let error = model.encode_sampled("a", sampling, 0).unwrap_err();
        assert!(matches!(error, Error::Option { option, .. } if option == name), "{error}");
    }
    let json = std::fs::read(golden("learnt-bpe/tokenizer.json")).unwrap();
    let json = Tokenizer::from_files(&Files::Memory(&[("tokenizer.json", &json)])).unwrap();
    assert!(
        json.encode_source_sampled("a", Sampling { dropout: 0.1, ..Sampling::OFF }, 0).is_err()
    );
    let plain = json.encode_source("a").unwrap();
    assert_eq!(json.encode_source_sampled("a", Sampling::OFF, 0).unwrap(), plain);
}

proptest! {
    #[test]
    fn any_text_has_a_cut_that_says_the_same(
        text in "[abcé▁ foo<sep>日]{0,20}|\\PC{0,20}",
        alpha in prop::sample::select(vec![0.0, 0.2, 1.0, 50.0, 1e300, f64::INFINITY]),
        dropout in prop::sample::select(vec![0.0, 0.1, 0.9, 1.0]),
        seed in any::<u64>(),
    ) {
        let sampling = Sampling { alpha, dropout };
        for name in ["tiny-bpe-bytes.spm", "tiny-unigram-symbols.spm", "tiny-unigram-suffix.spm", "crafted-bpe-2.spm", "crafted-unigram-2.spm"] {
            let model = load(name);
            let sampled = model.encode_sampled(&text, sampling, seed).unwrap();
            prop_assert_eq!(&sampled, &model.encode_sampled(&text, sampling, seed).unwrap());
            let plain = model.encode(&text).unwrap();
            let off = name.contains("bpe") && dropout == 0.0 || !name.contains("bpe") && alpha.is_infinite();
            if off {
                prop_assert_eq!(&sampled, &plain);
            }
            if name == "tiny-bpe-bytes.spm" {
                prop_assert_eq!(model.decode(&sampled).unwrap(), model.decode(&plain).unwrap());
            }
        }
    }
}
