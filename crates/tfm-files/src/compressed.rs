//! Reads files that may be compressed. Their first bytes tell: no UTF-8 text begins with them.

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Cursor, Read};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// What the first of the 16 kinds of frames begins with that readers skip.
const SKIPPED: u8 = 0x50;
/// How these go on.
const SKIPPED_REST: &[u8] = &[0x2a, 0x4d, 0x18];

/// Reads a plain, gzip or zstd input decompressed.
pub(crate) fn reader(mut input: Box<dyn BufRead + Send>) -> io::Result<Box<dyn BufRead + Send>> {
    // A pipe may bring one byte at a time, and plain text is not waited for.
    let mut start = Vec::new();
    while may_be_packed(&start) {
        let Some(byte) = input.fill_buf()?.first().copied() else { break };
        input.consume(1);
        start.push(byte);
    }
    let is_skipped = start.len() == 4 && start[0] & 0xf0 == SKIPPED && start[1..] == *SKIPPED_REST;
    let (is_gzip, is_zstd) = (start == GZIP, start == ZSTD || is_skipped);
    let input = Cursor::new(start).chain(input);
    Ok(match (is_gzip, is_zstd) {
        (true, _) => Box::new(BufReader::new(MultiGzDecoder::new(input))),
        (_, true) => Box::new(BufReader::new(Zstd::new(input)?)),
        _ => Box::new(input),
    })
}

/// Whether a packed file may begin so and go on.
fn may_be_packed(start: &[u8]) -> bool {
    let begins = |magic: &[u8]| magic.len() > start.len() && magic.starts_with(start);
    let is_skipped = |(first, rest): (&u8, &[u8])| {
        first & 0xf0 == SKIPPED && rest.len() < 3 && SKIPPED_REST.starts_with(rest)
    };
    begins(GZIP) || begins(ZSTD) || start.split_first().is_some_and(is_skipped)
}

/// What is wrong with a file that does not unpack.
fn damaged(_: impl std::error::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its zstd data are damaged or cut off")
}

/// The frames of a zstd file, one after another.
struct Zstd<R> {
    file: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Zstd<R> {
    fn new(file: R) -> io::Result<Self> {
        // The decoder limits every frame but the first to 100 MiB of memory. So the first is an
        // empty one.
        const EMPTY: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0];
        let mut decoder = FrameDecoder::new();
        let mut empty = EMPTY;
        decoder.init(&mut empty).map_err(io::Error::other)?;
        decoder.decode_blocks(&mut empty, BlockDecodingStrategy::All).map_err(io::Error::other)?;
        Ok(Zstd { file, decoder })
    }

    /// Moves to the next frame that holds data, and returns whether there is one.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.file.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.file) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    io::copy(&mut (&mut self.file).take(length), &mut io::sink())?;
                }
                Err(FrameDecoderError::WindowSizeTooBig { requested }) => {
                    let mebibytes = requested >> 20;
                    return Err(io::Error::other(format!(
                        "its zstd window has {mebibytes} MiB, and 100 is the most: compress it \
                         again without --long and --ultra"
                    )));
                }
                Err(error) => return Err(damaged(error)),
            }
        }
        Ok(false)
    }

    fn check(&self) -> io::Result<()> {
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the zstd checksum is wrong"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.decoder.can_collect() > 0 {
                let count = self.decoder.read(buffer)?;
                if self.decoder.is_finished() && self.decoder.can_collect() == 0 {
                    self.check()?;
                }
                return Ok(count);
            }
            if !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBytes(buffer.len());
                self.decoder.decode_blocks(&mut self.file, strategy).map_err(damaged)?;
            } else if !self.next_frame()? {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        reader(Box::new(Cursor::new(bytes)))?.read_to_end(&mut found)?;
        Ok(found)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn all_members_and_frames_are_read() {
        let long: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        assert_eq!(read(long.clone()).unwrap(), long);
        let both = [&long[..], b"end"].concat();
        assert_eq!(read([gzip(&long), gzip(b"end")].concat()).unwrap(), both);
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9].to_vec();
        let frames = [&zstd(&long), &skippable[..], &zstd(b""), &zstd(b"end")].concat();
        assert_eq!(read(frames).unwrap(), both);
        assert_eq!(read([skippable, zstd(b"end")].concat()).unwrap(), b"end");
        for text in [&b"P"[..], b"P*", b"P*M", b"Plain", b"(", b"\x1f"] {
            assert_eq!(read(text.to_vec()).unwrap(), text);
        }
        assert_eq!(read(Vec::new()).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_or_damaged_is_an_error() {
        let text = b"the same and the same and the same ".repeat(5000);
        for bytes in [gzip(&text), zstd(&text)] {
            for end in [bytes.len() - 1, bytes.len() / 2, 11] {
                assert!(read(bytes[..end].to_vec()).is_err(), "{end} of {}", bytes.len());
            }
            let mut flipped = bytes.clone();
            *flipped.last_mut().unwrap() ^= 1;
            assert!(read(flipped).is_err());
        }
    }

    #[test]
    fn a_frame_that_wants_too_much_memory_is_refused() {
        // A window of 2^(10 + 25) bytes, then a block that repeats a byte.
        let bomb = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 25 << 3, 0x03, 0x00, 0x00, b'a'].to_vec();
        let error = read(bomb).unwrap_err().to_string();
        assert!(error.starts_with("its zstd window has 32768 MiB"), "{error}");
    }
}
