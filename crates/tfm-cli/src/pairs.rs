//! Pairs of lines: of two files, or of the columns of one.

use crate::failure::{Failure, Outcome};
use clap::Args;
use std::path::{Path, PathBuf};
use tfm_files::Pairs;

/// Which pairs to read.
#[derive(Debug, Args)]
pub(crate) struct Columns {
    /// Which columns of --tsv are the source and the target, counted from 1
    #[arg(long, value_name = "SOURCE,TARGET", default_value = "1,2", value_parser = columns)]
    columns: [usize; 2],
}

impl Columns {
    /// The pairs of a file with tabs between its columns.
    pub(crate) fn open(&self, path: &Path) -> Outcome<Pairs> {
        Ok(Pairs::of_columns(path, self.columns)?)
    }
}

/// Two different numbers, which are counted from 1, as numbers that are counted from 0.
fn columns(text: &str) -> Result<[usize; 2], String> {
    let wanted = "two different columns, such as 1,2";
    let (source, target) = text.split_once(',').ok_or(wanted)?;
    let column = |text: &str| {
        text.trim().parse::<usize>().ok().and_then(|column| column.checked_sub(1)).ok_or(wanted)
    };
    match [column(source)?, column(target)?] {
        [source, target] if source == target => Err(wanted.into()),
        columns => Ok(columns),
    }
}

/// Refuses to read standard input twice.
pub(crate) fn refuse_stdin_twice<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Outcome {
    match paths.into_iter().filter(|path| path.as_path() == Path::new("-")).count() {
        0 | 1 => Ok(()),
        _ => Err(Failure::Usage("standard input (-) can be read only once".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn columns_are_counted_from_1() {
        assert_eq!(columns("1,2"), Ok([0, 1]));
        assert_eq!(columns("3, 1"), Ok([2, 0]));
        for bad in ["", "1", "0,1", "1,1", "1,2,3", "a,b", "-1,2"] {
            assert!(columns(bad).is_err(), "{bad}");
        }
    }
}
