//! Reads lines of UTF-8 from files and pipes, in bounded memory.

use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The longest line in bytes. A longer one is an error, so that it cannot exhaust the memory.
pub(crate) const LONGEST_LINE: u64 = 16 << 20;

/// The lines of an input, without their ends (`\n` or `\r\n`) and without a byte order mark.
pub(crate) struct Lines<R> {
    reader: R,
    /// The name of the input in messages.
    name: String,
    number: usize,
    longest: u64,
}

/// The lines of a file, or of standard input if `path` is `-`. A file whose name ends in `.gz` is
/// decompressed.
///
/// # Errors
/// The file cannot be opened; the message names it.
pub(crate) fn open(path: &Path) -> io::Result<Lines<Box<dyn BufRead + Send>>> {
    if path == Path::new("-") {
        let stdin: Box<dyn BufRead + Send> = Box::new(BufReader::new(io::stdin()));
        return Ok(Lines::new(stdin, "standard input"));
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| named(&e, &name))?;
    if file.metadata()?.is_dir() {
        return Err(named(&io::Error::from(io::ErrorKind::IsADirectory), &name));
    }
    let file = BufReader::with_capacity(1 << 16, file);
    let reader: Box<dyn BufRead + Send> = if path.extension().is_some_and(|end| end == "gz") {
        Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    };
    Ok(Lines::new(reader, &name))
}

fn named(error: &io::Error, name: &str) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {name}: {error}"))
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`, which messages call `name`.
    pub(crate) fn new(reader: R, name: &str) -> Self {
        Lines { reader, name: name.into(), number: 0, longest: LONGEST_LINE }
    }

    fn read(&mut self) -> io::Result<Option<String>> {
        self.number += 1;
        let mut line = Vec::new();
        let limit = self.longest + 2; // a longest line and its end
        self.reader.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|error| {
            let place = format!("{}, line {}: {error}", self.name, self.number);
            io::Error::new(error.kind(), place)
        })?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        let fault = |problem: String| {
            let place = format!("{}, line {}: {problem}", self.name, self.number);
            io::Error::new(io::ErrorKind::InvalidData, place)
        };
        if line.len() as u64 > self.longest {
            return Err(fault(format!("longer than {} bytes; split it", self.longest)));
        }
        if self.number == 1 && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        String::from_utf8(line).map(Some).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[at];
            fault(format!("not UTF-8: byte {byte:#04x} at column {}; convert it first", at + 1))
        })
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    fn read(bytes: &[u8], longest: u64) -> Vec<Result<String, String>> {
        let lines = Lines { longest, ..Lines::new(bytes, "text") };
        lines.map(|line| line.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn line_ends_and_the_byte_order_mark_are_not_text() {
        let lines = read(b"\xEF\xBB\xBFone\r\n\ntwo \r\n\xEF\xBB\xBFthree", 100);
        let expected = ["one", "", "two ", "\u{feff}three"];
        assert_eq!(lines, expected.map(|line| Ok(line.to_owned())));
        assert!(read(b"", 100).is_empty());
    }

    #[test]
    fn a_fault_names_its_line() {
        let lines = read(b"fine\nbad \xff\n", 100);
        assert_eq!(lines[0], Ok("fine".into()));
        let expected = "text, line 2: not UTF-8: byte 0xff at column 5; convert it first";
        assert_eq!(lines[1], Err(expected.into()));
    }

    #[test]
    fn the_longest_line_is_a_line_and_one_byte_more_is_an_error() {
        assert_eq!(read(b"12345678\n", 8), [Ok("12345678".to_owned())]);
        assert_eq!(read(b"12345678\r\n", 8), [Ok("12345678".to_owned())]);
        let error = read(b"123456789", 8).remove(0).unwrap_err();
        assert!(error.contains("line 1: longer than 8 bytes"), "{error}");
    }
}
