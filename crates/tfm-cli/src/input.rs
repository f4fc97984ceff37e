//! What is to be translated: the arguments, or the lines of files and pipes.

use crate::arguments;
use crate::failure::{Failure, Outcome};
use crate::options::positive;
use crate::standard_streams;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tfm_files::{Error, Lines};

/// Which text to translate.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// The text, one sentence per argument; without it, lines are read from --input
    #[arg(value_name = "TEXT", conflicts_with = "input", value_parser = arguments::text)]
    pub(crate) text: Vec<String>,
    /// Read lines from this file, which may be compressed (gzip, zstd); - is standard input. May be
    /// given several times
    #[arg(short, long, value_name = "FILE")]
    input: Vec<PathBuf>,
    /// What a line is: text, or a JSON object with `text` and, if you like, `id`. Without it, as
    /// the file's name says (.jsonl)
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with = "text")]
    input_format: Option<InputFormat>,
    /// Take the N-th column of lines with tabs, counted from 1
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with_all = ["text", "input_format"])]
    column: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    Text,
    Jsonl,
}

/// A text to translate.
#[derive(Debug)]
pub(crate) struct Item {
    /// What the input calls it, if it does, byte for byte.
    pub(crate) id: Option<Box<RawValue>>,
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// Where a text comes from.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The name of the input; none for the arguments.
    name: Option<Arc<str>>,
    /// Its line, or the argument, counted from 1.
    number: u64,
}

/// A fault of the input.
#[derive(Debug)]
pub(crate) struct Fault {
    /// With the place.
    pub(crate) message: String,
    /// What the input calls the line, if it does.
    pub(crate) id: Option<Box<RawValue>>,
    /// Whether the lines after it can be read.
    pub(crate) is_of_a_line: bool,
}

/// The items of an input, and the faults in their places.
pub(crate) type Items = Box<dyn Iterator<Item = Result<Item, Fault>> + Send>;

impl Input {
    /// The files that are read, `-` for standard input; none if the text is in the arguments.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match (self.text.is_empty(), self.input.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => vec![Path::new("-")],
            (true, false) => self.input.iter().map(PathBuf::as_path).collect(),
        }
    }

    /// Opens all files, so that one which cannot be read is reported before any work is done.
    pub(crate) fn open(&self, quiet: bool) -> Outcome<Items> {
        let files = self.files();
        if files.iter().filter(|path| **path == Path::new("-")).count() > 1 {
            return Err(Failure::Usage("standard input (-) can be read only once".into()));
        }
        if files == [Path::new("-")] && io::stdin().is_terminal() && !quiet {
            eprintln!("note: type lines; each is answered, and end of file ends it");
        }
        if files == [Path::new("-")] && standard_streams::input_was_closed() {
            return Err(Failure::Work("standard input is closed: nothing to read".into()));
        }
        if let [text] = &self.text[..]
            && Path::new(text).is_file()
            && !quiet
        {
            eprintln!("note: to translate the lines of the file {text}, use --input {text}");
        }
        let files = files
            .into_iter()
            .map(|path| Ok((Lines::open(path)?, self.reading(path))))
            .collect::<Result<Vec<_>, Error>>()?;
        let texts =
            self.text.clone().into_iter().zip(1..).map(|(text, number)| {
                Ok(Item { id: None, text, place: Place { name: None, number } })
            });
        Ok(Box::new(
            texts.chain(files.into_iter().flat_map(|(lines, reading)| items(lines, reading))),
        ))
    }

    fn reading(&self, path: &Path) -> Reading {
        if let Some(column) = self.column {
            return Reading::Column(column.get());
        }
        match self.input_format.unwrap_or_else(|| format_of(path)) {
            InputFormat::Text => Reading::Text,
            InputFormat::Jsonl => Reading::Json,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}, line {}", self.number),
            None => write!(f, "argument {}", self.number),
        }
    }
}

/// What a line says.
#[derive(Clone, Copy)]
enum Reading {
    Text,
    Json,
    Column(usize),
}

/// The lines of a file as items, by the file's name as text or as JSON.
pub(crate) fn lines(path: &Path) -> Outcome<Items> {
    let reading = match format_of(path) {
        InputFormat::Text => Reading::Text,
        InputFormat::Jsonl => Reading::Json,
    };
    Ok(Box::new(items(Lines::open(path)?, reading)))
}

/// Refuses files of JSON lines, for a command that reads plain lines alone.
pub(crate) fn refuse_json<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Outcome {
    let is_json = |path: &&PathBuf| format_of(path) == InputFormat::Jsonl;
    match paths.into_iter().find(is_json) {
        None => Ok(()),
        Some(path) => Err(Failure::Usage(format!(
            "{}: by its name it has JSON lines, and this command reads plain lines; take the texts \
             out first (jq -r .text)",
            path.display()
        ))),
    }
}

fn format_of(path: &Path) -> InputFormat {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    let is_json = name.ends_with(".jsonl") || name.ends_with(".ndjson");
    if is_json { InputFormat::Jsonl } else { InputFormat::Text }
}

fn items(mut lines: Lines, reading: Reading) -> impl Iterator<Item = Result<Item, Fault>> {
    let name: Arc<str> = lines.name().into();
    std::iter::from_fn(move || {
        loop {
            let line = match lines.next()? {
                Ok(line) => line,
                Err(error) => return Some(Err(Fault::from(error))),
            };
            let found = match reading {
                Reading::Text => (None, Ok(line)),
                Reading::Column(number) => (None, column(&line, number)),
                // A blank line is no object, and no fault either.
                Reading::Json if line.trim().is_empty() => continue,
                Reading::Json => json(&line),
            };
            let place = Place { name: Some(name.clone()), number: lines.number() };
            return Some(match found {
                (id, Ok(text)) => Ok(Item { id, text, place }),
                (id, Err(problem)) => {
                    Err(Fault { message: format!("{place}: {problem}"), id, is_of_a_line: true })
                }
            });
        }
    })
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault { is_of_a_line: error.is_of_a_line(), id: None, message: error.to_string() }
    }
}

fn column(line: &str, number: usize) -> Result<String, String> {
    let found = || line.split('\t').count();
    let column = line.split('\t').nth(number - 1);
    column.map(str::to_owned).ok_or_else(|| {
        format!("no column {number} (counted from 1): there are {}, separated by tabs", found())
    })
}

/// A line of JSON. Other fields are not looked at.
#[derive(Deserialize)]
struct Record {
    id: Option<Box<RawValue>>,
    text: Option<Value>,
}

/// The `id` and the `text` of a JSON object.
fn json(line: &str) -> (Option<Box<RawValue>>, Result<String, String>) {
    let record: Record = match serde_json::from_str(line) {
        Ok(record) => record,
        Err(error) if error.is_data() => {
            return (None, Err("not a JSON object such as {\"id\": 1, \"text\": \"…\"}".into()));
        }
        Err(error) => {
            // It has one line, which is named already.
            let problem = error.to_string().replace(" at line 1 column", " at column");
            return (None, Err(format!("not JSON: {problem}")));
        }
    };
    let text = match record.text {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("the field `text` is no string: {other}")),
        None => Err("the object has no field `text`".into()),
    };
    (record.id, text)
}

#[cfg(test)]
mod tests {
    use super::{InputFormat, Path, column, format_of, json};

    #[test]
    fn json_has_an_id_and_a_text() {
        for id in ["7", "1.10", "1e400", "12345678901234567890123", "\"a\\u00e9\"", "[1, 2]"] {
            let (found, text) = json(&format!("{{\"text\": \"a\", \"id\": {id}, \"more\": []}}"));
            assert_eq!((found.unwrap().get(), text.unwrap()), (id, "a".to_owned()));
        }
        let (id, text) = json(r#"{"text": ""}"#);
        assert!(id.is_none() && text.unwrap().is_empty());
        assert_eq!(json(r#"{"id": 5, "text": 1}"#).0.unwrap().get(), "5");
        for bad in ["a", "[]", "{}", r#"{"text": 1}"#, r#"{"text": "a""#] {
            assert!(json(bad).1.is_err(), "{bad}");
        }
    }

    #[test]
    fn names_say_what_lines_are() {
        for (name, expected) in [
            ("a.jsonl", InputFormat::Jsonl),
            ("d/a.JSONL.gz", InputFormat::Jsonl),
            ("a.jsonl.zst", InputFormat::Jsonl),
            ("a.txt", InputFormat::Text),
            ("jsonl", InputFormat::Text),
            ("-", InputFormat::Text),
        ] {
            assert_eq!(format_of(Path::new(name)), expected, "{name}");
        }
        assert_eq!(column("a\tb", 2).unwrap(), "b");
        assert!(column("a\tb", 3).unwrap_err().contains("there are 2"));
    }
}
