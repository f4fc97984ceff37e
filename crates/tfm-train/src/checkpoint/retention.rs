//! Lists checkpoints, finds the last good one, and removes old ones.

use super::load::{Loaded, inspect, load_alone};
use super::{Score, all, name};
use crate::config::Metric;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The newest checkpoint that is good.
#[derive(Debug)]
pub struct Latest {
    /// Its folder and content; `None` if no checkpoint is good.
    pub found: Option<(PathBuf, Loaded)>,
    /// The fault of each newer checkpoint.
    pub refused: Vec<Error>,
}

/// The checkpoints in the folder `output`, good or not: the update and the folder of each, in the
/// order of the updates.
///
/// # Errors
/// [`Error::Read`].
pub fn steps(output: &Path) -> Result<Vec<(u64, PathBuf)>> {
    steps_in(&all(output))
}

fn steps_in(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut steps = Vec::new();
    for found in names(folder)? {
        let step = found.strip_prefix("step-").and_then(|digits| digits.parse().ok());
        // Not `step-+1`, nor a name with another number of leading zeros.
        if let Some(step) = step.filter(|&step| name(step) == found) {
            steps.push((step, folder.join(found)));
        }
    }
    steps.sort();
    Ok(steps)
}

/// The names in a folder; none if the folder does not exist.
fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = |source| Error::Read { path: folder.into(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

/// The newest complete checkpoint in the folder `output`.
///
/// # Errors
/// [`Error::Read`] if the folder cannot be read.
pub fn latest_good(output: &Path) -> Result<Latest> {
    let mut refused = Vec::new();
    for (_, folder) in steps(output)?.into_iter().rev() {
        match load_alone(&folder) {
            Ok(loaded) => return Ok(Latest { found: Some((folder, loaded)), refused }),
            Err(error) => refused.push(error),
        }
    }
    Ok(Latest { found: None, refused })
}

/// The newest other checkpoint beside this one that looks complete.
pub(super) fn another(folder: &Path) -> Option<PathBuf> {
    let steps = steps_in(folder.parent()?).ok()?;
    let others = steps.into_iter().rev().map(|(_, other)| other).filter(|other| other != folder);
    others.into_iter().find(|other| inspect(other).is_ok())
}

/// Removes all checkpoints but the newest and the best, and files that killed programs have left.
/// Returns what was removed. The newest checkpoint that looks complete always stays.
///
/// # Errors
/// [`Error::Read`] or [`Error::Write`].
pub fn prune(
    output: &Path,
    keep_last: usize,
    keep_best: usize,
    metric: Metric,
    scores: &[Score],
) -> Result<Vec<PathBuf>> {
    let folder = all(output);
    for left in names(&folder)? {
        if left.starts_with(".step-") && (left.ends_with(".part") || left.ends_with(".old")) {
            remove(&folder.join(left))?;
        }
    }
    let steps = steps(output)?;
    let mut kept: BTreeSet<u64> =
        steps.iter().rev().take(keep_last.max(1)).map(|(step, _)| *step).collect();
    let mut scored: Vec<Score> = scores.to_vec();
    scored.retain(|score| steps.iter().any(|(step, _)| *step == score.step));
    // A stable sort, so that the earlier of two equal scores comes first.
    scored.sort_by(|one, other| match metric.is_better(one.score, other.score) {
        true => std::cmp::Ordering::Less,
        false if metric.is_better(other.score, one.score) => std::cmp::Ordering::Greater,
        false => std::cmp::Ordering::Equal,
    });
    kept.extend(scored.iter().take(keep_best).map(|score| score.step));
    let is_whole = |(_, folder): &&(u64, PathBuf)| inspect(folder).is_ok();
    if !steps.iter().filter(|(step, _)| kept.contains(step)).any(|one| is_whole(&one)) {
        kept.extend(steps.iter().rev().find(is_whole).map(|(step, _)| *step));
    }
    let mut removed = Vec::new();
    for (_, folder) in steps.into_iter().filter(|(step, _)| !kept.contains(step)) {
        // Rename it first: a checkpoint that is half removed must not look like a checkpoint.
        remove(&set_aside(&folder)?)?;
        removed.push(folder);
    }
    Ok(removed)
}

/// Removes the checkpoints of updates after `step`, from which a training resumes: the training is
/// about to repeat those updates, and the old checkpoints would look newer. Returns what was
/// removed.
///
/// # Errors
/// [`Error::Read`] or [`Error::Write`].
pub fn discard_after(output: &Path, step: u64) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for (_, folder) in steps(output)?.into_iter().filter(|(found, _)| *found > step) {
        remove(&set_aside(&folder)?)?;
        removed.push(folder);
    }
    Ok(removed)
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(|source| Error::Write {
        action: "remove",
        path: folder.into(),
        source,
    })
}

/// Renames a checkpoint so that it no longer counts as one.
pub(super) fn set_aside(folder: &Path) -> Result<PathBuf> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!(".{name}.old"));
    if aside.exists() {
        remove(&aside)?;
    }
    let failed = |source| Error::Write { action: "rename", path: folder.into(), source };
    fs::rename(folder, &aside).map_err(failed)?;
    Ok(aside)
}
