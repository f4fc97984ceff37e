//! The languages that a model can be asked for.

use crate::Error;

/// The codes of languages, each with the id of its token.
#[derive(Debug, Clone, Default)]
pub(super) struct Languages {
    /// Sorted by code.
    table: Vec<Language>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Language {
    /// As people write it, such as `fra`.
    code: String,
    /// As the vocabulary writes it, such as `>>fra<<`.
    token: String,
    id: u32,
}

impl Languages {
    /// From codes, tokens and ids.
    pub(super) fn new(languages: impl IntoIterator<Item = (String, String, u32)>) -> Self {
        let languages = languages.into_iter();
        let mut table: Vec<_> =
            languages.map(|(code, token, id)| Language { code, token, id }).collect();
        table.sort_unstable();
        Languages { table }
    }

    /// The id of a language's token. The language may be given by its code or by its token.
    pub(super) fn id(&self, language: &str) -> Result<u32, Error> {
        let mut table = self.table.iter();
        let found = table.find(|known| known.code == language || known.token == language);
        found.map(|known| known.id).ok_or_else(|| Error::UnknownLanguage {
            language: language.into(),
            available: self.codes().map(str::to_owned).collect(),
        })
    }

    /// Whether an id is that of a language's token.
    pub(super) fn has(&self, id: u32) -> bool {
        self.table.iter().any(|known| known.id == id)
    }

    /// The codes, sorted.
    pub(super) fn codes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.table.iter().map(|known| known.code.as_str())
    }
}
