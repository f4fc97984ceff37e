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
    #[error(
        "language {language:?} is not in the vocabulary: {}", known_languages(.language, .available)
    )]
    UnknownLanguage {
        /// The code that was asked for, as it was written.
        language: String,
        /// The codes the vocabulary has, without `>>` and `<<`, sorted.
        available: Vec<String>,
    },

    /// A shortlist of other vocabularies.
    #[error(
        "{file} is a shortlist for another model: {fault}; learn one for this model with `tfm shortlist`"
    )]
    ForeignShortlist {
        /// The shortlist.
        file: String,
        /// In what the vocabularies differ.
        fault: String,
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

    /// A file could not be written.
    #[error(transparent)]
    Files(#[from] tfm_files::Error),

    /// An option of training or sampling that makes no sense.
    #[error("{option}: {problem}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },

    /// There is no text to learn pieces from.
    #[error(
        "no text to learn from: {skipped} sentences were longer than the longest allowed, the others empty"
    )]
    NothingToLearn {
        /// Sentences left out for their length.
        skipped: usize,
    },

    /// More different words than training holds in memory.
    #[error(
        "the different words of the text have more than {limit} bytes: give a sample of the sentences"
    )]
    TooManyWords {
        /// The most bytes of different words, together.
        limit: usize,
    },

    /// A vocabulary that has no room for what must be in it.
    #[error(
        "a vocabulary of {asked} is too small: {characters} characters, {symbols} symbols and {special} special pieces need {}; ask for more, or lower the character coverage",
        characters + symbols + special
    )]
    VocabularyTooSmall {
        /// The size asked for.
        asked: usize,
        /// Characters that the coverage requires.
        characters: usize,
        /// User-defined symbols.
        symbols: usize,
        /// Special pieces such as `<unk>`.
        special: usize,
    },

    /// A vocabulary larger than the text has pieces for.
    #[error("a vocabulary of {asked} is too large: this text gives at most {most}")]
    VocabularyTooLarge {
        /// The size asked for.
        asked: usize,
        /// The largest size that this text can fill.
        most: usize,
    },

    /// A metric was asked for with nothing to score.
    #[error("nothing to score: give at least one hypothesis and one reference")]
    NothingToScore,
}

/// Lists the languages or, of many, those whose codes are nearest to what was asked for.
fn known_languages(asked: &str, available: &[String]) -> String {
    const SHOWN: usize = 20;
    const NEAREST: usize = 5;
    if available.is_empty() {
        return "this model translates between two fixed languages and takes no code".into();
    }
    if available.len() <= SHOWN {
        return format!("use one of {}", available.join(", "));
    }
    let asked = asked.trim_start_matches('>').trim_end_matches('<');
    let mut nearest: Vec<&str> = available.iter().map(String::as_str).collect();
    nearest.sort_by_key(|code| changes(asked, code));
    nearest.truncate(NEAREST);
    let all = available.len();
    format!("the nearest of its {all} languages are {}", nearest.join(", "))
}

/// How many letters have to be inserted, deleted or replaced to make `b` of `a` (Levenshtein 1966).
fn changes(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_languages_the_nearest_are_named() {
        assert_eq!(changes("kitten", "sitting"), 3);
        assert_eq!(changes("", "abc"), 3);
        assert_eq!(changes("éa", "a"), 1);
        let mut available: Vec<String> = (0..30).map(|i| format!("x{i:02}")).collect();
        available.extend(["fra", "frm", "frp"].map(String::from));
        available.sort_unstable();
        let language = ">>fro<<".to_owned();
        let message = Error::UnknownLanguage { language, available }.to_string();
        assert!(
            message.contains("the nearest of its 33 languages are fra, frm, frp, "),
            "{message}"
        );
    }
}
