//! `vocab.json`: a JSON object from token to id.

use std::{collections::HashMap, sync::Arc};

use crate::Error;

/// A vocabulary: token to id and id to token.
#[derive(Debug)]
pub struct Vocab {
    ids: HashMap<Arc<str>, u32>,
    /// By id; an id that no token has is `None`.
    tokens: Vec<Option<Arc<str>>>,
}

impl Vocab {
    /// Reads `vocab.json`. `file` is the name that errors mention. If two tokens share an id, the
    /// later one is what the id reads as, as in Python.
    ///
    /// # Errors
    /// [`Error::Malformed`] if this is not a JSON object of numbers, is empty, or leaves most ids
    /// unused.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self, Error> {
        let malformed = |fault| Error::Malformed { file: file.into(), format: "vocabulary", fault };
        let Entries(entries) =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let Some(&(ref last, max)) = entries.iter().max_by_key(|(_, id)| *id) else {
            return Err(malformed("it has no entries".into()));
        };
        // The ids index rows of an embedding matrix, so they are dense but for a few holes.
        if max as usize > 4 * entries.len() + 1024 {
            return Err(malformed(format!(
                "token {last:?} has id {max}, but there are only {} entries",
                entries.len()
            )));
        }
        let mut ids = HashMap::with_capacity(entries.len());
        let mut tokens = vec![None; max as usize + 1];
        for (token, id) in entries {
            let token: Arc<str> = token.into();
            tokens[id as usize] = Some(Arc::clone(&token));
            ids.insert(token, id);
        }
        Ok(Vocab { ids, tokens })
    }

    /// The id of a token.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// The token with this id.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize)?.as_deref()
    }

    /// One more than the highest id: the rows an embedding matrix needs.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.tokens.len()
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// All tokens, in the order of their ids.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().flatten().map(|token| &**token)
    }

    /// Adds a token under a new id above all others, and returns the id. A token that is there
    /// keeps its own.
    pub(crate) fn add(&mut self, token: &str) -> u32 {
        if let Some(id) = self.id(token) {
            return id;
        }
        let id = self.tokens.len() as u32;
        let token: Arc<str> = token.into();
        self.tokens.push(Some(Arc::clone(&token)));
        self.ids.insert(token, id);
        id
    }
}

/// The members of a JSON object in file order, so that later duplicates win.
struct Entries(Vec<(String, u32)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object from token to id")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(
                self,
                mut map: M,
            ) -> Result<Entries, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> String {
        Vocab::from_json(json.as_bytes(), "vocab.json").unwrap_err().to_string()
    }

    #[test]
    fn reads_both_ways() {
        let mut vocab = Vocab::from_json(r#"{"a": 0, "b": 3, "c": 3}"#.as_bytes(), "v").unwrap();
        assert_eq!((vocab.id("b"), vocab.id("c"), vocab.id("d")), (Some(3), Some(3), None));
        assert_eq!((vocab.token(3), vocab.token(1), vocab.token(9)), (Some("c"), None, None));
        assert_eq!((vocab.len(), vocab.size()), (3, 4));
        assert_eq!((vocab.add("a"), vocab.add("new")), (0, 4));
        assert_eq!(vocab.tokens().collect::<Vec<_>>(), ["a", "c", "new"]);
    }

    #[test]
    fn faults_name_the_file_and_the_token() {
        assert!(fault("[1]").starts_with("vocab.json is not a usable vocabulary file"));
        assert!(fault("{}").contains("no entries"));
        assert!(fault(r#"{"a": -1}"#).contains("line 1"));
        assert!(fault(r#"{"a": 4294967295}"#).contains(r#"token "a" has id 4294967295"#));
        assert!(fault(r#"{"a": "#).contains("EOF"));
    }
}
