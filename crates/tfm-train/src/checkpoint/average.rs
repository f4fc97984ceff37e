//! The mean of several checkpoints' weights (section 6.1).

use super::load::load;
use crate::error::{Error, Result};
use std::path::PathBuf;
use tfm_core::Shape;

/// A mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Averaged {
    /// The tensor's name.
    pub name: String,
    /// Its extents.
    pub shape: Shape,
    /// The means of its elements, row by row.
    pub values: Vec<f32>,
}

/// The means of the tensors whose names are `wanted`, over the checkpoints in these folders. Sums
/// are f64; one checkpoint at a time is in memory.
///
/// # Errors
/// As [`load`], and [`Error::Checkpoint`] if checkpoints differ in their tensors or there is none.
pub fn average(folders: &[PathBuf], wanted: impl Fn(&str) -> bool) -> Result<Vec<Averaged>> {
    let mut sums: Vec<(String, Shape, Vec<f64>)> = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        let loaded = load(folder)?;
        let refuse = |problem: String| Error::Checkpoint {
            place: folder.display().to_string(),
            problem: format!("{problem}, unlike {}", folders[0].display()),
        };
        let names: Vec<&str> =
            loaded.tensors().map(|(name, _)| name).filter(|name| wanted(name)).collect();
        if number == 0 {
            for name in names {
                if let Some((shape, values)) = loaded.tensor(name) {
                    let values = values.into_iter().map(f64::from).collect();
                    sums.push((name.into(), shape.clone(), values));
                }
            }
            continue;
        }
        if names.len() != sums.len() {
            return Err(refuse(format!("has {} such tensors", names.len())));
        }
        for (name, shape, sum) in &mut sums {
            match loaded.tensor(name) {
                Some((found, values)) if found == shape => {
                    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(value));
                }
                Some((found, _)) => return Err(refuse(format!("`{name}` has shape {found}"))),
                None => return Err(refuse(format!("has no `{name}`"))),
            }
        }
    }
    if sums.is_empty() {
        let problem = "there are no weights to average".into();
        return Err(Error::Checkpoint { place: "the average".into(), problem });
    }
    let count = folders.len() as f64;
    let mean = |(name, shape, sum): (String, Shape, Vec<f64>)| {
        let values = sum.into_iter().map(|sum| (sum / count) as f32).collect();
        Averaged { name, shape, values }
    };
    Ok(sums.into_iter().map(mean).collect())
}
