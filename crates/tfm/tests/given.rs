//! What a model computes of given texts, beside the probabilities of the same texts. (The arrays
//! themselves are compared with those of `transformers` in `golden.rs`.)

use tfm::{ComputeType, Device, Model, Options, TokenVectors, Translator};

fn translator() -> (Model, Translator) {
    let model = Model::bundled().unwrap();
    let translator = Translator::new(&model, Device::cpu(), &Options::new()).unwrap();
    (model, translator)
}

#[test]
fn logits_are_those_of_which_scores_are_made() {
    let (model, translator) = translator();
    let (source, target) = ("Where is the station?", "Où est la gare ?");
    let logits = translator.logits(source, target).unwrap();
    let score = translator.score(source, target).unwrap();
    assert_eq!(logits.width, model.config().target.vocabulary);
    assert_eq!(logits.values.len(), logits.tokens.len() * logits.width);
    assert!(logits.tokens.iter().eq(score.tokens.iter().map(|(token, _)| token)));
    let ids = model.tokenizer().encode_target(target).unwrap();
    for ((row, id), (token, expected)) in logits.rows().zip(ids).zip(&score.tokens) {
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        let found = f64::from(row[id as usize]) - sum.ln();
        assert!((found - f64::from(*expected)).abs() < 1e-4, "{token}: {found}, not {expected}");
    }
}

#[test]
fn encoded_texts_have_the_vectors_that_they_have_alone() {
    let (model, translator) = translator();
    let texts = ["Thank you.", "Where is the station?", ""];
    let together = translator.encode(&texts).unwrap();
    assert_eq!(together.len(), 3);
    for (text, found) in texts.iter().zip(&together) {
        let alone = translator.encode(&[text]).unwrap().remove(0);
        assert_eq!(*found, alone, "{text}");
        assert_eq!(found.width, model.config().d_model);
        assert_eq!(found.tokens.last().unwrap(), "</s>");
        assert_eq!(found.rows().len(), found.tokens.len());
        assert!(found.values.iter().all(|value| value.is_finite()));
    }
    assert_ne!(together[0].values[..256], together[1].values[..256]);
    assert_eq!(translator.encode::<&str>(&[]).unwrap(), []);
    assert_eq!(TokenVectors::default().rows().len(), 0);
}

#[test]
fn what_is_too_long_is_an_error() {
    let (_, translator) = translator();
    let long = "word ".repeat(2000);
    for error in [
        translator.encode(&[&long]).unwrap_err(),
        translator.logits(&long, "mot").unwrap_err(),
        translator.logits("word", &long).unwrap_err(),
    ] {
        assert!(error.to_string().contains("split it"), "{error}");
    }
}

#[test]
fn other_types_of_numbers_give_f32() {
    let model = Model::bundled().unwrap();
    let compute = tfm::Compute::new().dtype(ComputeType::BF16);
    let translator =
        Translator::with_compute(&model, Device::cpu(), &compute, &Options::new()).unwrap();
    let states = translator.encode(&["Thank you."]).unwrap().remove(0);
    assert_eq!(states.values.len(), states.tokens.len() * 256);
    assert!(!translator.logits("Thank you.", "Merci.").unwrap().values.is_empty());
}
