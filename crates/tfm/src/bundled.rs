//! The bundled model. It is part of the program, so it needs no files at run time.

/// Its name.
pub(crate) const NAME: &str = "marian-tatoeba-en-fr (bundled)";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../models/marian-tatoeba-en-fr/", $name)))),*]
    };
}

/// Its files.
pub(crate) const FILES: &[(&str, &[u8])] = files![
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "source.spm",
    "target.spm",
    "tokenizer_config.json",
    "vocab.json",
];

/// The content of one of its files.
///
/// # Panics
/// If it is not one of them.
pub(crate) fn file(name: &str) -> &'static [u8] {
    let found = FILES.iter().find(|(given, _)| *given == name);
    found.unwrap_or_else(|| panic!("{name} is not bundled")).1
}
