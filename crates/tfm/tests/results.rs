//! What a translation says of itself.

use tfm::{Device, Finished, Model, Options, Translator};

fn translator(options: &Options) -> Translator {
    Translator::new(&Model::bundled().unwrap(), Device::auto(), options).unwrap()
}

#[test]
fn a_translation_says_whether_it_came_to_its_end() {
    let whole = translator(&Options::default()).translate("The cat is sleeping.").unwrap();
    assert_eq!(whole.finished, Finished::End);
    assert_eq!(translator(&Options::default()).translate(" \t").unwrap().finished, Finished::End);
    for beams in [1, 4] {
        // The settings of this model force an end of sequence at the greatest length.
        let options = Options::new().beams(beams).max_new_tokens(3);
        let cut = translator(&options).translate("The cat is sleeping.").unwrap();
        assert_eq!((cut.finished.as_str(), cut.tokens.len()), ("length", 3), "{:?}", cut.tokens);
    }
}

#[test]
fn alternatives_have_what_the_best_one_has() {
    let options = Options::new().beams(4).n_best(4).alignments(true);
    let best = translator(&options).translate("Where is the station?").unwrap();
    assert_eq!(best.alternatives.len(), 3);
    let of_best = best.alignment.unwrap();
    assert_eq!(of_best.weights.len(), best.tokens.len());
    for other in &best.alternatives {
        let alignment = other.alignment.as_ref().unwrap();
        assert_eq!(alignment.source, of_best.source);
        assert_eq!(alignment.weights.len(), other.tokens.len());
        assert_eq!(other.finished, Finished::End);
        assert_eq!(other.tokens.last().unwrap(), "</s>");
        let words = alignment.words().target;
        assert_eq!(words.join(" ").replace(' ', ""), other.text.replace(' ', ""));
        // The tokens of this one and not of the best.
        assert_ne!(other.tokens, best.tokens);
    }
}

#[test]
fn words_are_aligned() {
    let options = Options::new().alignments(true);
    let found = translator(&options).translate("The cat is sleeping.").unwrap();
    let words = found.alignment.unwrap().words();
    assert_eq!(words.source, ["The", "cat", "is", "sleeping."]);
    assert_eq!(words.target, ["Le", "chat", "dort."]);
    let pairs: Vec<_> = words.pairs().collect();
    assert_eq!(pairs.iter().map(|&(_, target)| target).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(pairs.contains(&(1, 1)), "cat is chat: {pairs:?}");
}

#[test]
fn translations_begin_as_they_are_told() {
    let source = "Where is the station?";
    let prefix = "Où se trouve";
    for options in [Options::new().beams(1), Options::new().beams(4).n_best(4)] {
        let free = translator(&options).translate(source).unwrap();
        assert!(!free.text.starts_with(prefix), "{}", free.text);
        let translator = translator(&options.target_prefix(prefix).alignments(true));
        let found = translator.translate(source).unwrap();
        assert_eq!(found.text, "Où se trouve la gare ?");
        for other in &found.alternatives {
            assert!(other.text.starts_with(prefix), "{}", other.text);
        }
        assert_eq!(found.alignment.unwrap().weights.len(), found.tokens.len());
        let pieces: String = translator.stream(source).unwrap().map(|piece| piece.text).collect();
        assert_eq!(pieces, found.text);
    }
    let none = Options::new().target_prefix(" ");
    let free = translator(&Options::new()).translate(source).unwrap();
    assert_eq!(translator(&none).translate(source).unwrap(), free);
    let long = Options::new().target_prefix("mot ".repeat(2000));
    let made = Translator::new(&Model::bundled().unwrap(), Device::auto(), &long);
    assert!(made.err().unwrap().to_string().contains("prefix"));
}
