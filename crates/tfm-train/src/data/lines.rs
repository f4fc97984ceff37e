//! The lines of a text file.

use super::compressed;
use crate::error::{Error, Result};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// The longest line that is read, in bytes. A longer one is hardly a sentence.
pub(super) const LONGEST_LINE: usize = 1 << 20;

/// A file being read line by line.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    number: u64,
    bytes: Vec<u8>,
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its text, without the end of the line.
    Text(String),
    /// It has more than [`LONGEST_LINE`] bytes.
    TooLong,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let reader = compressed::open(path)?;
        Ok(Lines { path: path.into(), reader, number: 0, bytes: Vec::new() })
    }

    /// The number of the line that was read last, which is the number of lines so far.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An error about the line that was read last.
    pub(super) fn fault(&self, problem: String) -> Error {
        Error::Line { path: self.path.clone(), line: self.number, problem }
    }

    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        self.bytes.clear();
        let most = LONGEST_LINE as u64 + 2;
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut self.bytes);
        if read.map_err(|source| Error::Read { path: self.path.clone(), source })? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let whole = self.bytes.pop_if(|byte| *byte == b'\n').is_some();
        if whole {
            self.bytes.pop_if(|byte| *byte == b'\r');
        }
        if self.bytes.len() > LONGEST_LINE {
            if !whole {
                self.skip_line()?;
            }
            return Ok(Some(Line::TooLong));
        }
        let start = if self.number == 1 && self.bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        match std::str::from_utf8(&self.bytes[start..]) {
            Ok(text) => Ok(Some(Line::Text(text.into()))),
            Err(error) => Err(self.fault(format!(
                "is not UTF-8 from byte {} of the line on: convert the file",
                start + error.valid_up_to() + 1
            ))),
        }
    }

    /// Skips to the end of a line, buffer by buffer.
    fn skip_line(&mut self) -> Result<()> {
        self.reader
            .skip_until(b'\n')
            .map(drop)
            .map_err(|source| Error::Read { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Result<Vec<Line>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, bytes).unwrap();
        let mut lines = Lines::open(&path)?;
        let mut found = Vec::new();
        while let Some(line) = lines.next()? {
            found.push(line);
        }
        Ok(found)
    }

    fn text(text: &str) -> Line {
        Line::Text(text.into())
    }

    #[test]
    fn ends_of_lines() {
        assert_eq!(lines(b"").unwrap(), []);
        assert_eq!(lines(b"\n").unwrap(), [text("")]);
        assert_eq!(lines(b"\xef\xbb\xbfa\r\n\r\nb").unwrap(), [text("a"), text(""), text("b")]);
        // Separators that are not line feeds belong to the text.
        assert_eq!(lines("a\u{2028}b\rc\n".as_bytes()).unwrap(), [text("a\u{2028}b\rc")]);
    }

    #[test]
    fn a_long_line_is_skipped_whole() {
        let fits = "x".repeat(LONGEST_LINE);
        let long = "x".repeat(10 << 20);
        let all = format!("a\n{long}\n{fits}\r\n{fits}y\n{long}");
        let expected = [text("a"), Line::TooLong, text(&fits), Line::TooLong, Line::TooLong];
        assert!(lines(all.as_bytes()).unwrap() == expected);
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        let error = lines(b"a\nb\xff\n").unwrap_err().to_string();
        assert!(error.contains("text:2: is not UTF-8 from byte 2"), "{error}");
    }
}
