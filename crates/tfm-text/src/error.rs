//! The one error type of this crate.

/// What can go wrong while loading a tokeniser, encoding text or scoring translations.
///
/// Every message names the file (or the text) at fault and says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The file, as a path or as the name it was given in memory.
        file: String,
        /// What the operating system answered.
        source: std::io::Error,
    },

    /// A file that the tokeniser needs is absent.
    #[error("{file} is missing: {remedy}")]
    Missing {
        /// The file that was looked for.
        file: String,
        /// Where to get it, or which files would do instead.
        remedy: String,
    },

    /// A file is there but its content is not what its format promises.
    #[error("{file} is not a usable {format} file: {fault}")]
    Malformed {
        /// The file at fault.
        file: String,
        /// The format that was expected.
        format: &'static str,
        /// The first thing found wrong with it.
        fault: String,
    },

    /// A language code that the vocabulary does not know.
    #[error("language {language:?} is not in the vocabulary: {}", known_languages(.available))]
    UnknownLanguage {
        /// The code that was asked for, as it was written.
        language: String,
        /// The codes the vocabulary has, without `>>` and `<<`, sorted.
        available: Vec<String>,
    },

    /// A token id at or above the size of the vocabulary.
    #[error(
        "token id {id} is outside of the vocabulary of {size} entries: the ids belong to another tokeniser"
    )]
    UnknownId {
        /// The offending id.
        id: u32,
        /// How many entries the vocabulary has.
        size: usize,
    },

    /// A text longer than the tokeniser takes in one piece.
    #[error(
        "a text of {bytes} bytes is too long to encode at once (limit {limit}): split it into lines"
    )]
    TextTooLong {
        /// Length of the text in UTF-8 bytes.
        bytes: usize,
        /// The longest text accepted, in bytes.
        limit: usize,
    },

    /// The `tokenizers` library refused a text or a list of ids.
    #[error("{file} failed to {action}: {fault}")]
    Pipeline {
        /// The `tokenizer.json` in use.
        file: String,
        /// What was being done: `encode` or `decode`.
        action: &'static str,
        /// The library's own message.
        fault: String,
    },

    /// Hypotheses and references do not pair up line by line.
    #[error(
        "{hypotheses} hypotheses against {references} lines in reference {stream}: every reference must have one line for each hypothesis"
    )]
    LineCount {
        /// Number of hypotheses.
        hypotheses: usize,
        /// Number of lines in the offending reference.
        references: usize,
        /// Which reference, counted from 1.
        stream: usize,
    },

    /// A metric was asked for with nothing to score.
    #[error("nothing to score: give at least one hypothesis and one reference")]
    NothingToScore,
}

/// Lists at most a screenful of languages.
fn known_languages(available: &[String]) -> String {
    const SHOWN: usize = 200;
    match available {
        [] => "this model translates between two fixed languages and takes no code".into(),
        few if few.len() <= SHOWN => format!("use one of {}", few.join(", ")),
        many => format!("use one of {}, … ({} in all)", many[..SHOWN].join(", "), many.len()),
    }
}
