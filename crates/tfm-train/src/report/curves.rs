//! The learning curves of a training as a picture.

use super::Record;
use super::chart::{Panel, Series, draw};
use crate::error::Result;
use std::path::{Path, PathBuf};
use tfm_files::write_whole;

const FILE: &str = "curves.svg";

/// The most points of a line. Where there are more, means of neighbours are drawn.
const MOST_POINTS: usize = 400;

/// The axis of losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossAxis {
    /// Linear.
    Linear,
    /// Logarithmic.
    Logarithmic,
}

/// An SVG of two panels: the losses on training and validation data, and BLEU (chrF where there is
/// no BLEU). A panel without measurements is left out.
pub fn curves(records: &[Record], axis: LossAxis) -> String {
    let logarithmic = axis == LossAxis::Logarithmic;
    let pick = |get: &dyn Fn(&Record) -> Option<f64>| {
        let points = records.iter().filter_map(|record| Some((record.step() as f64, get(record)?)));
        let drawable = |value: f64| value.is_finite() && (!logarithmic || value > 0.0);
        thinned(&points.filter(|point| drawable(point.1)).collect::<Vec<_>>())
    };
    let train = pick(&|record| match record {
        Record::Train { loss, .. } => Some(*loss),
        Record::Validation { .. } => None,
    });
    let validation = |get: fn(Option<f64>, Option<f64>, Option<f64>) -> Option<f64>| {
        pick(&move |record| match record {
            Record::Train { .. } => None,
            Record::Validation { loss, bleu, chrf, .. } => get(*loss, *bleu, *chrf),
        })
    };
    let bleu = validation(|_, bleu, _| bleu);
    let (title, quality) = match bleu.is_empty() {
        true => ("chrF on validation data", validation(|_, _, chrf| chrf)),
        false => ("BLEU on validation data", bleu),
    };
    let dotted = |name, points: Vec<(f64, f64)>| {
        let dots = points.len() <= 40;
        Series { name, points, dots }
    };
    let losses = Panel {
        title: "Loss a target token",
        logarithmic,
        series: vec![
            Series { name: "training", points: train, dots: false },
            dotted("validation", validation(|loss, _, _| loss)),
        ],
    };
    let quality = Panel { title, logarithmic: false, series: vec![dotted("", quality)] };
    draw(&[losses, quality], "updates")
}

/// Writes [`curves`] to `curves.svg` in a folder, completely or not at all.
///
/// # Errors
/// [`Error::Files`](crate::Error::Files).
pub fn write_curves(folder: &Path, records: &[Record], axis: LossAxis) -> Result<PathBuf> {
    let place = folder.join(FILE);
    write_whole(&place, curves(records, axis).as_bytes())?;
    Ok(place)
}

/// Averages neighbours, so that there are not too many points.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        let sum = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(size).map(mean).collect()
}
