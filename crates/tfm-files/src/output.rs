//! Where results go. A file gets its name only when it is complete.

use crate::aside::Aside;
use crate::error::{Error, Result};
use crate::identity::refuse_inputs;
use crate::unfinished;
use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The bytes that become a frame of zstd.
const FRAME: usize = 1 << 20;

/// How often compressed results are flushed.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How many links are followed to a file.
const MOST_LINKS: usize = 40;

/// Standard output, a device, or a file that is written under another name and renamed by
/// [`Output::finish`]. A file whose name ends in `.gz` or `.zst` is compressed.
pub struct Output {
    writer: Writer,
    aside: Option<Aside>,
    /// What messages call it.
    name: String,
    /// When compressed results were flushed last.
    flushed: Instant,
}

enum Writer {
    Plain(BufWriter<Box<dyn Write + Send>>),
    Gzip(GzEncoder<BufWriter<Box<dyn Write + Send>>>),
    /// What is not yet compressed, and where it goes.
    Zstd(Vec<u8>, Box<dyn Write + Send>),
}

impl Output {
    /// Opens `path` (`-` is standard output) for writing, so that a file that cannot be written is
    /// reported before any work is done. A link stays a link: the file that it names is replaced.
    ///
    /// # Errors
    /// [`Error::OutputIsInput`] for one of `inputs` under whatever name; [`Error::Write`].
    pub fn create<'a>(path: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        refuse_inputs(path, inputs)?;
        let failed = |source| Error::write(path, source);
        if path == Path::new("-") {
            let writer = Writer::Plain(BufWriter::new(standard_output().map_err(failed)?));
            return Ok(Output::to(path, writer, None));
        }
        if is_descriptor(path) {
            // Append, for it may be a file that has something already.
            let file = File::options().append(true).open(path).map_err(failed)?;
            return Ok(Output::to(path, Writer::new(path, Box::new(file)), None));
        }
        if path.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let target = followed(path).map_err(failed)?;
        match fs::metadata(&target) {
            Ok(found) if found.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
            Ok(found) if !found.is_file() => {
                let device = File::options().write(true).open(&target).map_err(failed)?;
                return Ok(Output::to(path, Writer::new(path, Box::new(device)), None));
            }
            // Refuse to replace a read-only file.
            Ok(_) => drop(File::options().append(true).open(&target).map_err(failed)?),
            Err(_) => {}
        }
        let aside = Aside::create(&target).map_err(|error| match error {
            Error::Write { source, .. } => failed(source),
            other => other,
        })?;
        unfinished::begin(aside.path(), unfinished::Kind::Results);
        let file = aside.file.try_clone().map_err(failed)?;
        Ok(Output::to(path, Writer::new(path, Box::new(file)), Some(aside)))
    }

    fn to(path: &Path, writer: Writer, aside: Option<Aside>) -> Self {
        let is_stdout = path == Path::new("-");
        let name = if is_stdout { "standard output".into() } else { path.display().to_string() };
        Output { writer, aside, name, flushed: Instant::now() }
    }

    /// Writes one result. Where it is not compressed it is flushed: the reader of a pipe sees it at
    /// once, and it is kept if the next one fails. Where it is compressed, it is flushed every
    /// second.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write(&mut self, result: &str) -> io::Result<()> {
        self.write_bytes(result.as_bytes())
    }

    /// Writes one result that is no text.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.put(bytes);
        written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What is compressed is worse to compress in small pieces, and would be lost in large ones.
        let is_time = self.flushed.elapsed() >= FLUSH_EVERY;
        if is_time {
            self.flushed = Instant::now();
        }
        match &mut self.writer {
            Writer::Plain(plain) => plain.write_all(bytes).and_then(|()| plain.flush()),
            Writer::Gzip(gzip) => {
                gzip.write_all(bytes)?;
                if is_time { gzip.flush() } else { Ok(()) }
            }
            Writer::Zstd(frame, file) => {
                frame.extend(bytes);
                if is_time || frame.len() >= FRAME { write_frame(frame, file) } else { Ok(()) }
            }
        }
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// The operating system's.
    pub fn finish(self) -> io::Result<()> {
        self.writer.finish()?;
        Ok(self.aside.map_or(Ok(()), Aside::finish)?)
    }

    /// Ends after a failure. Returns the partial file; an empty one is removed.
    pub fn abandon(self) -> Option<PathBuf> {
        // If it fails now, writing failed before: that error is already being reported.
        let _ = self.writer.finish();
        let aside = self.aside?;
        let is_empty = aside.file.metadata().is_ok_and(|found| found.len() == 0);
        (!is_empty).then(|| aside.keep())
    }
}

impl Writer {
    /// Compresses as the name says.
    fn new(name: &Path, file: Box<dyn Write + Send>) -> Self {
        let ends =
            |end: &str| name.extension().is_some_and(|found| found.eq_ignore_ascii_case(end));
        match (ends("gz"), ends("zst")) {
            (true, _) => Writer::Gzip(GzEncoder::new(BufWriter::new(file), Compression::default())),
            (_, true) => Writer::Zstd(Vec::new(), file),
            _ => Writer::Plain(BufWriter::new(file)),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Writer::Plain(mut plain) => plain.flush(),
            Writer::Gzip(gzip) => gzip.finish()?.flush(),
            Writer::Zstd(mut frame, mut file) => {
                write_frame(&mut frame, &mut file)?;
                file.flush()
            }
        }
    }
}

/// Compresses and writes what is there. Frames one after another are a file of zstd.
fn write_frame(frame: &mut Vec<u8>, file: &mut impl Write) -> io::Result<()> {
    let frame = std::mem::take(frame);
    file.write_all(&compress_to_vec(&frame[..], CompressionLevel::Fastest))
}

/// Standard output without the standard library's own, which takes a descriptor that cannot be
/// written for one that swallows everything.
fn standard_output() -> io::Result<Box<dyn Write + Send>> {
    #[cfg(unix)]
    let output = File::from(std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?);
    #[cfg(not(unix))]
    let output = io::stdout();
    Ok(Box::new(output))
}

/// Whether a path names an open descriptor of this process, such as `/dev/stdout`: the file behind
/// it is somebody's who has it open, and is not replaced.
fn is_descriptor(path: &Path) -> bool {
    if ["/dev/stdout", "/dev/stderr"].iter().any(|name| path == Path::new(name)) {
        return true;
    }
    let folder = path.parent().and_then(|parent| fs::canonicalize(parent).ok());
    folder.is_some_and(|folder| folder.starts_with("/proc") || folder.starts_with("/dev/fd"))
}

/// The file that a path names, through links, whether it is there or not.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            // A relative link counts from its own folder.
            Ok(link) => path = path.parent().unwrap_or(Path::new("")).join(link),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("there are too many links"))
}

#[cfg(test)]
mod tests {
    use super::Output;
    use crate::Lines;
    use proptest::prelude::*;
    use std::fs;
    use std::path::Path;

    fn create(path: &Path) -> Output {
        Output::create(path, []).unwrap()
    }

    #[test]
    fn a_file_takes_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "old").unwrap();
        let mut output = create(&path);
        output.write("new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        output.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_written_before_a_failure_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        assert_eq!(create(&path).abandon(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut output = create(&path);
        output.write("one\n").unwrap();
        let kept = output.abandon().unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "one\n");
        assert!(!path.exists());
        let mut other = create(&path);
        other.write("two\n").unwrap();
        other.finish().unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), "one\n", "the next run leaves it alone");
    }

    #[test]
    fn what_cannot_be_written_is_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let [inside, slash] = ["absent/out", "new/"].map(|name| folder.path().join(name));
        for path in [folder.path(), &inside, &slash] {
            let error = Output::create(path, []).err().unwrap().to_string();
            let expected = format!("cannot write {}: ", path.display());
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_open_is_appended_to() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let open = fs::File::open(&path).unwrap();
        for folder in ["/dev/fd", "/proc/self/fd"] {
            let mut output = create(&Path::new(folder).join(open.as_raw_fd().to_string()));
            output.write("more\n").unwrap();
            output.finish().unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nmore\nmore\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("deep")).unwrap();
        for (link, target) in [("old", "deep/old"), ("new", "deep/new")] {
            std::os::unix::fs::symlink(target, path(link)).unwrap();
            fs::write(path("deep/old"), "old").unwrap();
            let mut output = create(&path(link));
            output.write("text").unwrap();
            output.finish().unwrap();
            assert!(path(link).is_symlink(), "{link}");
            assert_eq!(fs::read_to_string(path(target)).unwrap(), "text");
        }
        std::os::unix::fs::symlink("round", path("round")).unwrap();
        assert!(Output::create(&path("round"), []).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whatever is written, by whatever suffix, is read as it was.
        #[test]
        fn what_is_written_is_read(
            lines in prop::collection::vec("[a-zà-ü \u{2028}\u{85}]{0,40}", 0..60),
            times in prop_oneof![9 => Just(1usize), 1 => Just(2000)],
            suffix in prop::sample::select(vec!["txt", "gz", "GZ", "zst", "Zst"]),
            crlf in any::<bool>(),
            mark in any::<bool>(),
        ) {
            let lines: Vec<&String> = (0..times).flat_map(|_| &lines).collect();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(format!("text.{suffix}"));
            let mut output = create(&path);
            if mark {
                output.write("\u{feff}").unwrap();
            }
            let end = if crlf { "\r\n" } else { "\n" };
            for line in &lines {
                output.write(&format!("{line}{end}")).unwrap();
            }
            output.finish().unwrap();
            // Its name says nothing to the reader.
            let moved = folder.path().join("moved");
            fs::rename(&path, &moved).unwrap();
            let found: Vec<String> = Lines::open(&moved).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), lines);
        }
    }
}
