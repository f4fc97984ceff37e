//! Event files for TensorBoard: records in TensorFlow's format, each an `Event` in protocol
//! buffers.
//!
//! The formats are described in TensorFlow's `record_writer.h`, `event.proto` and `summary.proto`.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file of events, open for appending.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates a new file in the folder `tensorboard`, for a training that resumes after update
    /// `step`. TensorBoard then ignores the later updates of earlier files.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        let folder = folder.join("tensorboard");
        let failed = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Write { action, path, source }
        };
        fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        let time = now();
        // TensorBoard reads the files of a folder in the order of their names.
        let name = format!("events.out.tfevents.{:010}.{}", time as u64, std::process::id());
        let path = folder.join(name);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(failed("write", &path))?;
        let mut events = EventFile { path, file };
        events.write(&version(time))?;
        if step > 0 {
            events.write(&restart(time, step + 1))?;
        }
        Ok(events)
    }

    /// Adds a number under a name, as in `loss/train`.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn scalar(&mut self, step: u64, name: &str, value: f64) -> Result<()> {
        self.write(&scalar(now(), step, name, value as f32))
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&record(event)).map_err(|source| Error::Write {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Length, checksum, data, checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let sum = |bytes: &[u8]| masked(crc32c::crc32c(bytes)).to_le_bytes();
    [&length[..], &sum(&length), data, &sum(data)].concat()
}

/// TensorFlow's masked CRC: the CRC of data that contains CRCs itself would detect little.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The first event of a file.
fn version(time: f64) -> Vec<u8> {
    [&double(1, time)[..], &bytes(3, b"brain.Event:2")].concat()
}

/// The event that says that a training resumes at update `step`.
fn restart(time: f64, step: u64) -> Vec<u8> {
    const START: u64 = 1;
    let session = integer(1, START);
    [&double(1, time)[..], &integer(2, step), &bytes(7, &session)].concat()
}

fn scalar(time: f64, step: u64, name: &str, value: f32) -> Vec<u8> {
    let number = [&tag(2, Wire::Fixed32)[..], &value.to_le_bytes()].concat();
    let value = [&bytes(1, name.as_bytes())[..], &number].concat();
    let summary = bytes(1, &value);
    [&double(1, time)[..], &integer(2, step), &bytes(5, &summary)].concat()
}

/// The wire type of a field.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn tag(field: u64, wire: Wire) -> Vec<u8> {
    varint(field << 3 | wire as u64)
}

/// Seven bits per byte, the lowest first; the highest bit says that more bytes follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn integer(field: u64, value: u64) -> Vec<u8> {
    [tag(field, Wire::Varint), varint(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [&tag(field, Wire::Fixed64)[..], &value.to_le_bytes()].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [&tag(field, Wire::Bytes)[..], &varint(value.len() as u64), value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes were read back with the `tensorboard` package for Python, version 2.21.0, which
    /// checks the sums and found the values below.
    #[test]
    fn bytes_that_tensorboard_has_read() {
        let time = 1_700_000_000.5;
        let file = [
            record(&version(time)),
            record(&restart(time, 301)),
            record(&scalar(time, 301, "loss/train", 2.5)),
        ];
        let golden = include_bytes!("../../tests/golden/events.tfevents");
        assert!(file.concat() == golden);
    }

    #[test]
    fn the_published_checksum_of_crc32c() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
