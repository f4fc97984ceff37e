//! Reads lines of UTF-8 from files and pipes, in bounded memory.

use crate::compressed;
use crate::error::{Error, LineProblem, Result};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The longest line in bytes, unless [`Lines::with_longest`] says otherwise. A longer one is an
/// error, so that it cannot exhaust the memory.
pub const LONGEST_LINE: u64 = 16 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The lines of an input, without their ends (`\n` or `\r\n`) and without a byte order mark.
///
/// A line at fault is an error ([`Error::is_of_a_line`]), and the lines after it follow. Any other
/// error is the last item.
pub struct Lines {
    reader: Box<dyn BufRead + Send>,
    name: String,
    number: u64,
    longest: u64,
    /// The rest of the line before is still to be skipped.
    within_a_line: bool,
    ended: bool,
}

impl Lines {
    /// Opens a file, or standard input if `path` is `-`. Both may be compressed with gzip or zstd:
    /// their first bytes tell.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(path: &Path) -> Result<Self> {
        let (name, file) = if path == Path::new("-") {
            let stdin: Box<dyn BufRead + Send> = Box::new(BufReader::new(io::stdin()));
            ("standard input".to_owned(), Ok(stdin))
        } else {
            (path.display().to_string(), open_file(path))
        };
        match file.and_then(compressed::reader) {
            Ok(reader) => Ok(Lines::of(reader, name)),
            Err(source) => Err(Error::Open { name, source }),
        }
    }

    /// The lines of `reader`, which messages call `name`. It may be compressed, too.
    ///
    /// # Errors
    /// [`Error::Open`] if its first bytes cannot be read.
    pub fn new(reader: impl BufRead + Send + 'static, name: &str) -> Result<Self> {
        let reader = compressed::reader(Box::new(reader));
        let reader = reader.map_err(|source| Error::Open { name: name.into(), source })?;
        Ok(Lines::of(reader, name.into()))
    }

    fn of(reader: Box<dyn BufRead + Send>, name: String) -> Self {
        let longest = LONGEST_LINE;
        Lines { reader, name, number: 0, longest, within_a_line: false, ended: false }
    }

    /// The same lines, of which none may have more bytes than this.
    #[must_use]
    pub fn with_longest(self, bytes: u64) -> Self {
        Lines { longest: bytes, ..self }
    }

    /// The number of the line that was read last, counted from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The input's name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An error about the line that was read last.
    #[must_use]
    pub fn fault(&self, problem: LineProblem) -> Error {
        Error::Line { name: self.name.clone(), line: self.number, problem }
    }

    /// The bytes of the next line, of which a longer one has one too many.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if std::mem::take(&mut self.within_a_line) {
            self.reader.skip_until(b'\n')?;
        }
        let mut line = Vec::new();
        let mark = if self.number == 0 { BYTE_ORDER_MARK } else { b"" };
        // A longest line, its end, and what may stand before the first.
        let most = self.longest.saturating_add(2 + mark.len() as u64);
        self.reader.by_ref().take(most).read_until(b'\n', &mut line)?;
        if line.starts_with(mark) {
            line.drain(..mark.len());
        }
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop_if(|byte| *byte == b'\n').is_some() {
            line.pop_if(|byte| *byte == b'\r');
        } else {
            self.within_a_line = line.len() as u64 > self.longest;
        }
        Ok(Some(line))
    }

    fn text(&self, line: Vec<u8>) -> Result<String> {
        if line.len() as u64 > self.longest {
            return Err(self.fault(LineProblem::TooLong { most: self.longest }));
        }
        String::from_utf8(line).map_err(|error| {
            let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
            let hint = if self.number == 1 { hint(bytes) } else { "" };
            self.fault(LineProblem::NotUtf8 { byte: bytes[at], column: at + 1, hint })
        })
    }
}

/// What a file may be that begins with these bytes and is not UTF-8.
fn hint(bytes: &[u8]) -> &'static str {
    for (start, hint) in [
        (&b"\xFF\xFE"[..], " (the file looks like UTF-16)"),
        (b"\xFE\xFF", " (the file looks like UTF-16)"),
        (b"\xFD7zXZ", " (the file is packed by xz; unpack it, or use gzip or zstd)"),
        (b"BZh", " (the file is packed by bzip2; unpack it, or use gzip or zstd)"),
        (b"PK\x03\x04", " (the file is a zip archive; unpack it)"),
        (b"\x1f\x8b", " (the file is packed twice)"),
        (b"\x28\xb5\x2f\xfd", " (the file is packed twice)"),
    ] {
        if bytes.starts_with(start) {
            return hint;
        }
    }
    ""
}

/// Opens anything but a folder, whose opening succeeds and whose reading fails later.
fn open_file(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
}

impl Iterator for Lines {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.read() {
            Ok(Some(line)) => {
                self.number += 1;
                Some(self.text(line))
            }
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(source) => {
                self.ended = true;
                let (name, line) = (self.name.clone(), self.number + 1);
                Some(Err(Error::Read { name, line, source }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use std::io::Cursor;

    fn read(bytes: &[u8], longest: u64) -> Vec<Result<String, String>> {
        let lines = Lines::new(Cursor::new(bytes.to_vec()), "text").unwrap().with_longest(longest);
        lines.map(|line| line.map_err(|error| error.to_string())).collect()
    }

    fn texts(lines: &[&str]) -> Vec<Result<String, String>> {
        lines.iter().map(|line| Ok((*line).to_owned())).collect()
    }

    #[test]
    fn line_ends_and_the_byte_order_mark_are_not_text() {
        let lines = read(b"\xEF\xBB\xBFone\r\n\ntwo \r\n\xEF\xBB\xBFthree", 100);
        assert_eq!(lines, texts(&["one", "", "two ", "\u{feff}three"]));
        assert_eq!(read(b"", 100), []);
        assert_eq!(read(b"\xEF\xBB\xBF", 100), []);
        assert_eq!(read(b"\xEF\xBB\xBF1234\r\n", 4), texts(&["1234"]));
        assert_eq!(read(b"\n", 100), texts(&[""]));
        // Separators that are not line feeds belong to the text.
        let text = "a\u{2028}b\rc\u{85}d";
        assert_eq!(read(format!("{text}\n").as_bytes(), 100), texts(&[text]));
    }

    #[test]
    fn a_fault_names_its_line_and_those_after_it_follow() {
        let lines = read(b"fine\nbad \xff\nfine again\n", 100);
        let expected = "text, line 2: not UTF-8: byte 0xff at column 5; convert it first";
        assert_eq!(lines[0], Ok("fine".into()));
        assert_eq!(lines[1], Err(expected.into()));
        assert_eq!(lines[2..], texts(&["fine again"]));
        let utf16 = read(b"\xff\xfea\0\n\0", 100).remove(0).unwrap_err();
        assert!(utf16.ends_with("(the file looks like UTF-16)"), "{utf16}");
    }

    #[test]
    fn the_longest_line_is_a_line_and_one_byte_more_is_an_error() {
        assert_eq!(read(b"12345678\n", 8), texts(&["12345678"]));
        assert_eq!(read(b"12345678\r\n", 8), texts(&["12345678"]));
        let too_long =
            |number: usize| Err(format!("text, line {number}: longer than 8 bytes; split it"));
        for long in ["123456789", "1234567890", "12345678901", &"1".repeat(1000)] {
            let lines = read(format!("{long}\nnext\n{long}\r\n{long}").as_bytes(), 8);
            let expected = [too_long(1), Ok("next".into()), too_long(3), too_long(4)];
            assert_eq!(lines, expected, "{long}");
        }
    }
}
