//! Memory-mapped files: the only unsafe code of this crate.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Maps a file for reading. Its pages are read when they are touched.
///
/// Nobody may shorten the file while the map lives: touching a page that is gone ends the process.
/// Programs that write models, this one too, write a new file and rename it, which leaves the
/// mapped one whole.
///
/// # Errors
/// The operating system's, and a path that is no regular file.
pub(super) fn map(path: &Path) -> io::Result<Mmap> {
    // Before opening, for opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    // SAFETY: the map is read-only and private to this process' view of the file. Its bytes are
    // only ever read as plain numbers and UTF-8-checked text, for which any content is valid; a
    // concurrent change of the file can at worst change numbers, and a shortened file ends the
    // process as described above.
    unsafe { Mmap::map(&file) }
}

/// Gives the memory of these bytes, and of what lies with them in a page, back to the system, which
/// reads them again if they are touched again. As often as not it has them still.
pub(super) fn release(map: &Mmap, bytes: Range<usize>) {
    /// The largest pages there are on common systems, and what Linux maps around one that is
    /// touched.
    const PAGE: usize = 64 << 10;
    let (start, end) = (bytes.start / PAGE * PAGE, bytes.end.next_multiple_of(PAGE).min(map.len()));
    if start >= end {
        return;
    }
    #[cfg(unix)]
    {
        // SAFETY: the map is of a file and read-only, so what is read again is the file's content,
        // as before.
        let advised = unsafe {
            map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
        };
        // A system that keeps the memory does no harm.
        let _ = advised;
    }
    #[cfg(not(unix))]
    let _ = map;
}
