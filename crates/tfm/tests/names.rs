//! Whatever a public function gives can be named with this crate alone: each is written out here.

use std::borrow::Cow;
use std::sync::Arc;
use tfm::checkpoint::{Description, Family, Fault, ParameterInfo, Shape, Template, Tensor};
use tfm::config::{
    Activation, Embedding, FeedForward, Heads, Norm, NormKind, NormPlacement, Output, OutputBias,
    Position, PositionKind, PositionTable, SpecialTokens, Stack,
};
use tfm::errors::{CoreError, ModelError, NotFinite, OptionsError, Rejection, TextError};
use tfm::tokenizer::{Affixes, Files, Framing, Sampling, Word};
use tfm::{
    Checkpoint, Config, Device, EarlyStopping, ElementType, Error, GenerationOptions, Model,
    Options, Piece, Stats, Tokenizer, TranslationStream, Translator,
};

#[test]
fn what_models_give_has_names() {
    let model = Model::bundled().unwrap();
    let config: &Config = model.config();
    let Config { encoder, decoder, cross_attention, source, target, output, special, .. } = config;
    let stacks: [&Stack; 2] = [encoder, decoder];
    let heads: &Heads = cross_attention;
    let (position, norm): (Position, Norm) = (heads.position, encoder.norm);
    let (kind, placement): (NormKind, NormPlacement) = (norm.kind, norm.placement);
    let feed_forward: FeedForward = decoder.feed_forward;
    let activation: Activation = feed_forward.activation;
    let embeddings: [&Embedding; 2] = [source, target];
    let table: PositionTable = source.positions.unwrap();
    assert!(matches!(table.kind, PositionKind::Sinusoidal(_)));
    let (output, special): (&Output, &SpecialTokens) = (output, special);
    assert_eq!(output.bias, OutputBias::Constant);
    assert_eq!((stacks.len(), embeddings.len(), special.eos.len()), (2, 2, 1));
    assert_eq!((position, kind), (Position::None, NormKind::Layer));
    assert_eq!((placement, activation), (NormPlacement::Post, Activation::Swish));

    let generation: &GenerationOptions = model.generation();
    assert_eq!(generation.early_stopping, EarlyStopping::No);

    let checkpoint: &Arc<Checkpoint> = model.checkpoint();
    let description: &Description = checkpoint.description();
    let (family, template): (&Family, &Template) =
        (description.family, description.family.template().unwrap());
    assert_eq!((family.model_type(), template.is_open), ("marian", false));
    let first: ParameterInfo<'_> = checkpoint.parameters().next().unwrap();
    let (_, element_type): (&str, ElementType) = first.stored.unwrap();
    assert_eq!(element_type, ElementType::BF16);
    let tensor: Tensor = checkpoint.tensor(first.name).unwrap();
    let shape: &Shape = first.shape;
    assert_eq!(tensor.shape(), shape);

    let tokenizer: &Tokenizer = model.tokenizer();
    let framing: &Framing = tokenizer.framing();
    let affixes: &Affixes = &framing.source;
    assert_eq!(affixes.after, special.eos);
    let ids = tokenizer.encode_source_sampled("Thank you.", Sampling::OFF, 0).unwrap();
    let words: Vec<Word> = tokenizer.source_words(&ids);
    let name: Option<Cow<'_, str>> = tokenizer.source_token(0);
    assert_eq!((words.len(), name.as_deref()), (2, Some("</s>")));
}

#[test]
fn errors_have_names() {
    let of_text: Result<Tokenizer, TextError> = Tokenizer::from_files(&Files::Memory(&[]));
    let error = Error::from(of_text.unwrap_err());
    assert!(matches!(error, Error::Text(TextError::Missing { .. })));
    let Err(ModelError::Checkpoint { faults, .. }) = Checkpoint::open("/nowhere") else {
        panic!("there is no such folder")
    };
    let fault: &Fault = &faults[0];
    assert!(fault.to_string().contains("/nowhere"));
    let model = Model::bundled().unwrap();
    let made = Translator::new(&model, Device::cpu(), &Options::new().beams(0));
    assert!(matches!(made.err(), Some(Error::Generation(OptionsError::NoBeams))));
    let names: [fn(&Error) -> bool; 3] = [
        |error| matches!(error, Error::Model(ModelError::Rejected(Rejection::Forked))),
        |error| match error {
            Error::Model(ModelError::NotFinite(found)) => {
                let found: &NotFinite = found;
                found.elements > 0
            }
            _ => false,
        },
        |error| match error {
            Error::Model(ModelError::Engine(error)) => {
                let error: &CoreError = error;
                !error.to_string().is_empty()
            }
            _ => false,
        },
    ];
    assert!(names.iter().all(|is| !is(&error)));
}

#[test]
fn settled_tokens_come_with_their_text() {
    let model = Model::bundled().unwrap();
    let translator = Translator::new(&model, Device::cpu(), &Options::new().beams(4)).unwrap();
    let mut stream: TranslationStream = translator.stream("Where is the station?").unwrap();
    let pieces: Vec<Piece> = stream.by_ref().collect();
    let whole = stream.finish().unwrap();
    let tokens: Vec<String> = pieces.iter().flat_map(|piece| piece.tokens.clone()).collect();
    assert_eq!(tokens, whole.tokens);
    assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), whole.text);
    let stats: Stats = translator.stats();
    assert_eq!(stats.finished, 1);
}
