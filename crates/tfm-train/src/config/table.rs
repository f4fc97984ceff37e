//! Reads the tables of a TOML file, and collects all their faults.

use super::ConfigFault;
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest edit distance at which a key is taken for a misspelling of a known one.
const FURTHEST_SLIP: usize = 3;

/// The text of a file, and the faults found so far.
pub(super) struct Document<'t> {
    pub(super) text: &'t str,
    pub(super) faults: RefCell<Vec<ConfigFault>>,
}

impl Document<'_> {
    pub(super) fn fault(&self, at: usize, key: String, problem: impl Into<String>) {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|&&byte| byte == b'\n').count();
        self.faults.borrow_mut().push(ConfigFault { line, key, problem: problem.into() });
    }
}

/// A table of the file. A getter that finds a fault notes it and answers as if the key were absent.
/// The known keys are those that were asked for: any other key is a fault when the table is
/// dropped.
pub(super) struct Table<'d> {
    document: &'d Document<'d>,
    /// The prefix of its keys, as in `model.encoder`; empty for the file itself.
    path: String,
    /// Its place in the file.
    at: usize,
    table: Option<&'d DeTable<'d>>,
    asked: Vec<&'static str>,
}

impl<'d> Table<'d> {
    pub(super) fn root(document: &'d Document<'d>, table: &'d DeTable<'d>) -> Self {
        Table { document, path: String::new(), at: 0, table: Some(table), asked: Vec::new() }
    }

    /// Whether the file has the table.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the file has the key, of whatever type.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.table?.get(key)
    }

    fn name(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.into(),
            path if key.is_empty() => path.into(),
            path => format!("{path}.{key}"),
        }
    }

    /// Notes a fault of a key, or of the table where the key is empty or absent.
    pub(super) fn fault(&self, key: &str, problem: impl Into<String>) {
        let at = self.find(key).map_or(self.at, |value| value.span().start);
        self.document.fault(at, self.name(key), problem);
    }

    /// Asks for a key that must be there.
    pub(super) fn required<T>(&self, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.has(key) {
            self.fault(key, "is missing");
        }
        value
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&'d DeValue<'d>) -> Option<T>,
    ) -> Option<T> {
        self.asked.push(key);
        let value = self.find(key)?.get_ref();
        let result = read(value);
        if result.is_none() {
            self.fault(key, format!("is {}, but must be {expected}", shown(value)));
        }
        result
    }

    /// A whole number in a range.
    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let (least, most) = (range.start(), range.end());
        let expected = match *most {
            u64::MAX => format!("a whole number, {least} or more"),
            _ => format!("a whole number from {least} to {most}"),
        };
        self.read(key, &expected, |value| whole(value).filter(|count| range.contains(count)))
    }

    /// [`count`](Self::count), as the type of sizes.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<usize> {
        self.count(key, range).and_then(|size| usize::try_from(size).ok())
    }

    /// A number for which `fits` holds, which `expected` says in words.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        expected: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Option<f64> {
        self.read(key, expected, |value| number(value).filter(|&number| fits(number)))
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", DeValue::as_bool)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let filled = |value: &'d DeValue<'d>| value.as_str().filter(|text| !text.is_empty());
        self.read(key, "a text in quotes", filled).map(String::from)
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.read(key, "a list of texts in quotes", |value| {
            let texts = value.as_array()?.iter().map(|text| text.get_ref().as_str());
            texts.map(|text| text.map(String::from)).collect()
        })
    }

    /// Two numbers for which `fits` holds.
    pub(super) fn pair(
        &mut self,
        key: &'static str,
        expected: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Option<[f64; 2]> {
        self.read(key, expected, |value| {
            let numbers = value.as_array()?.iter().map(|value| number(value.get_ref()));
            let numbers: Vec<f64> = numbers.collect::<Option<_>>()?;
            numbers.try_into().ok().filter(|pair: &[f64; 2]| pair.iter().all(|&one| fits(one)))
        })
    }

    /// The value that a word stands for.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.read(key, &format!("one of {}", names.join(", ")), |value| {
            let word = value.as_str()?;
            choices.iter().find(|(name, _)| *name == word).map(|&(_, meaning)| meaning)
        })
    }

    /// The values that a list of words stands for, each at most once.
    pub(super) fn choices<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.read(key, &format!("a list out of {}", names.join(", ")), |value| {
            let mut meanings = Vec::new();
            for word in value.as_array()?.iter() {
                let word = word.get_ref().as_str()?;
                let &(_, meaning) = choices.iter().find(|(name, _)| *name == word)?;
                if !meanings.contains(&meaning) {
                    meanings.push(meaning);
                }
            }
            Some(meanings)
        })
    }

    /// A table inside this one; an empty one where there is none.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'d> {
        let table = self.read(key, "a table", DeValue::as_table);
        let at = self.find(key).map_or(self.at, |value| value.span().start);
        Table { document: self.document, path: self.name(key), at, table, asked: Vec::new() }
    }

    /// A list of tables; a single table is a list of one.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'d>> {
        let expected = "a list of tables, as in [{ tsv = \"pairs.tsv\" }]";
        let found = self.read(key, expected, |value| match value {
            DeValue::Table(table) => Some(vec![(None, table)]),
            DeValue::Array(list) => list
                .iter()
                .map(|value| Some((Some(value.span()), value.get_ref().as_table()?)))
                .collect(),
            _ => None,
        });
        let whole = self.find(key).map_or(self.at, |value| value.span().start);
        let table = |(number, (span, table)): (usize, (Option<Range<usize>>, &'d DeTable<'d>))| {
            let path = match &span {
                Some(_) => format!("{}[{number}]", self.name(key)),
                None => self.name(key),
            };
            let at = span.map_or(whole, |span| span.start);
            Table { document: self.document, path, at, table: Some(table), asked: Vec::new() }
        };
        found.unwrap_or_default().into_iter().enumerate().map(table).collect()
    }

    /// Notes a fault that only shows beside other sections, after all keys of the table were asked
    /// for.
    pub(super) fn refuse_value(mut self, key: &str, problem: String) {
        self.fault(key, problem);
        self.asked.clear();
        self.table = None;
    }

    /// Notes that keys have no meaning here.
    pub(super) fn refuse(&mut self, keys: &[&'static str], why: &str) {
        for &key in keys {
            if self.has(key) && !self.asked.contains(&key) {
                self.fault(key, why);
            }
            self.asked.push(key);
        }
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let word: &str = key.get_ref();
            if self.asked.contains(&word) {
                continue;
            }
            let distance = |known: &&str| strsim::damerau_levenshtein(word, known);
            // A key of a kilobyte is no misspelling, and measuring its distance would take long.
            let nearest =
                self.asked.iter().copied().filter(|_| word.len() < 64).min_by_key(distance);
            let problem = match nearest.filter(|known| distance(known) <= FURTHEST_SLIP) {
                Some(known) => format!("is not known; is `{known}` meant?"),
                None if self.asked.is_empty() => "is not known".into(),
                None => format!("is not known; there are: {}", self.asked.join(", ")),
            };
            self.document.fault(key.span().start, self.name(&shortened(word)), problem);
        }
    }
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A finite number; an integer is one too.
fn number(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Float(float) => float.as_str().parse().ok()?,
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok()?,
        _ => return None,
    };
    f64::is_finite(number).then_some(number)
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", shortened(text)),
        DeValue::Integer(integer) => shortened(integer.as_str()),
        DeValue::Float(float) => shortened(float.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(list) if list.iter().all(|value| value.get_ref().as_table().is_none()) => {
            let items: Vec<_> = list.iter().take(8).map(|value| shown(value.get_ref())).collect();
            let more = if list.len() > items.len() { ", …" } else { "" };
            shortened(&format!("[{}{more}]", items.join(", ")))
        }
        DeValue::Array(_) => "a list of tables".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
