//! The fields of a JSON object, read with all their faults collected.

use crate::fault::{Fault, shortened};
use serde_json::{Map, Value, json};

/// The file that describes a model.
pub(crate) const CONFIG: &str = "config.json";
/// The file that says how its makers generate with it.
pub(crate) const GENERATION: &str = "generation_config.json";

/// The largest configuration file that is read.
const LARGEST_FILE: usize = 1 << 20;

/// A JSON object from a file, and what was found wrong with it so far. A getter that finds a fault
/// notes it and answers as if the field were absent.
pub(crate) struct Fields {
    file: &'static str,
    object: Map<String, Value>,
    pub(crate) faults: Vec<Fault>,
}

impl Fields {
    /// Parses a file. One that is no JSON object is a fault and has no fields.
    pub(crate) fn parse(file: &'static str, json: &[u8]) -> Self {
        let (object, problem) = match json {
            long if long.len() > LARGEST_FILE => {
                let (length, most) = (long.len(), LARGEST_FILE);
                (Map::new(), Some(format!("has {length} bytes; {most} is the most")))
            }
            json => match serde_json::from_slice(json) {
                Ok(Value::Object(object)) => (object, None),
                Ok(_) => (Map::new(), Some("is not a JSON object".into())),
                Err(error) => (Map::new(), Some(format!("is not valid JSON: {error}"))),
            },
        };
        let faults = problem.map(|problem| Fault::file(file, problem)).into_iter().collect();
        Fields { file, object, faults }
    }

    /// Whether the file could be parsed.
    pub(crate) fn is_object(&self) -> bool {
        !self.faults.iter().any(|fault| matches!(fault, Fault::File { .. }))
    }

    pub(crate) fn fault(&mut self, field: &str, problem: impl Into<String>) {
        let (file, field) = (self.file.into(), field.into());
        self.faults.push(Fault::Field { file, field, problem: problem.into() });
    }

    /// The field's value; `null` is as good as absent.
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// What `read` makes of the field's value; where it makes nothing, that is a fault.
    pub(super) fn read<T>(
        &mut self,
        field: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(field)?;
        let result = read(value);
        if result.is_none() {
            let problem = format!("is {}, but must be {expected}", excerpt(value));
            self.fault(field, problem);
        }
        result
    }

    /// A size or a count.
    pub(crate) fn count(&mut self, field: &str) -> Option<usize> {
        self.read(field, "a whole number", |value| usize::try_from(value.as_u64()?).ok())
    }

    /// A size that must be there; 0, which no check lets pass, if it is not.
    pub(crate) fn required_count(&mut self, field: &str) -> usize {
        if self.get(field).is_none() {
            self.fault(field, "is missing");
        }
        self.count(field).unwrap_or(0)
    }

    pub(crate) fn flag(&mut self, field: &str) -> Option<bool> {
        self.read(field, "true or false", Value::as_bool)
    }

    /// A finite number.
    pub(crate) fn number(&mut self, field: &str) -> Option<f64> {
        self.read(field, "a number", |value| value.as_f64().filter(|number| number.is_finite()))
    }

    /// What a word stands for; a word that is not among the choices is a fault.
    pub(crate) fn choice<T: Copy>(&mut self, field: &str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.text(field)?;
        let found = choices.iter().find(|(name, _)| *name == word);
        if found.is_none() {
            let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            self.fault(field, format!("is \"{}\"; supported are: {names}", shortened(&word)));
        }
        found.map(|&(_, meaning)| meaning)
    }

    pub(crate) fn text(&mut self, field: &str) -> Option<String> {
        self.read(field, "a text", |value| value.as_str().map(String::from))
    }

    pub(crate) fn token(&mut self, field: &str) -> Option<u32> {
        self.read(field, "a token id", token)
    }

    pub(crate) fn texts(&mut self, field: &str) -> Option<Vec<String>> {
        self.read(field, "a list of texts", |value| {
            value.as_array()?.iter().map(|text| text.as_str().map(String::from)).collect()
        })
    }

    /// One token or a list of them.
    pub(crate) fn tokens(&mut self, field: &str) -> Option<Vec<u32>> {
        self.read(field, "a token id or a list of them", |value| match value {
            Value::Array(list) => list.iter().map(token).collect(),
            one => Some(vec![token(one)?]),
        })
    }

    /// One token, alone or as a list of itself.
    fn single(&mut self, field: &str) -> Option<u32> {
        self.read(field, "one token id", |value| match value {
            Value::Array(list) if list.len() == 1 => token(&list[0]),
            one => token(one),
        })
    }

    /// A list of lists of tokens.
    pub(crate) fn token_lists(&mut self, field: &str) -> Option<Vec<Vec<u32>>> {
        self.read(field, "a list of lists of token ids", |value| {
            let list = |value: &Value| value.as_array()?.iter().map(token).collect();
            value.as_array()?.iter().map(list).collect()
        })
    }
}

/// The two files that describe a model, where it has both.
pub(crate) struct ConfigFiles {
    pub(crate) config: Fields,
    pub(crate) generation: Option<Fields>,
}

impl ConfigFiles {
    /// One token, by the same rule as [`tokens`](Self::tokens).
    pub(crate) fn token(&mut self, field: &str) -> Option<u32> {
        let generation = self.generation.as_mut().and_then(|fields| fields.single(field));
        generation.or_else(|| self.config.single(field))
    }

    /// The file that a field of the configuration was read from: tokens may be in either.
    pub(crate) fn file_of(&self, field: &str) -> &'static str {
        let has = |fields: &Fields| field.ends_with("_token_id") && fields.get(field).is_some();
        if self.generation.as_ref().is_some_and(has) { GENERATION } else { CONFIG }
    }

    /// One token or a list of them. Where `generation_config.json` names it, generation goes by
    /// that.
    pub(crate) fn tokens(&mut self, field: &str) -> Option<Vec<u32>> {
        let generation = self.generation.as_mut().and_then(|fields| fields.tokens(field));
        generation.or_else(|| self.config.tokens(field)).filter(|tokens| !tokens.is_empty())
    }
}

/// A list of one token as the token alone, as `transformers` writes it.
pub(crate) fn one_or_list(tokens: &[u32]) -> Value {
    match tokens {
        [one] => json!(one),
        many => json!(many),
    }
}

fn token(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// The value as JSON, cut where it is long.
pub(super) fn excerpt(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
