//! Sinusoidal positional encoding (section 3.5).

use crate::config::{Config, PositionKind, PositionTable, SinusoidLayout};
use tfm_core::{Shape, Tensor};

/// The table `[rows, d]`, row-major: `sin(p/10000^(2i/d))` and `cos(p/10000^(2i/d))` for position p
/// and i = 0 … d/2 − 1, laid out as the family does. An odd d has one sine more.
pub fn sinusoids(rows: usize, d: usize, layout: SinusoidLayout) -> Vec<f32> {
    let mut table = vec![0.0; rows * d];
    if let SinusoidLayout::Fairseq { first } = layout {
        fairseq(&mut table, d, first);
        return table;
    }
    let sines = d.div_ceil(2);
    // The same for all positions, and dearer than a sine.
    let periods: Vec<f64> =
        (0..sines).map(|pair| 10_000f64.powf(2.0 * pair as f64 / d as f64)).collect();
    for (position, row) in table.chunks_exact_mut(d.max(1)).enumerate() {
        for (pair, period) in periods.iter().enumerate() {
            let angle = position as f64 / period;
            let (sine, cosine) = match layout {
                SinusoidLayout::Interleaved => (2 * pair, 2 * pair + 1),
                SinusoidLayout::Halves | SinusoidLayout::Fairseq { .. } => (pair, sines + pair),
            };
            row[sine] = angle.sin() as f32;
            if cosine < d {
                row[cosine] = angle.cos() as f32;
            }
        }
    }
    table
}

/// As fairseq computes them: the longest period is 10000·2π itself, an odd d ends with a zero, and
/// row 0 is position `first`. In f32, as there.
fn fairseq(table: &mut [f32], d: usize, first: usize) {
    let half = d / 2;
    let step = -(10_000f64.ln() / half.saturating_sub(1).max(1) as f64) as f32;
    let frequencies: Vec<f32> = (0..half).map(|pair| (pair as f32 * step).exp()).collect();
    for (position, row) in table.chunks_exact_mut(d.max(1)).enumerate() {
        for (pair, frequency) in frequencies.iter().enumerate() {
            let angle = (first + position) as f32 * frequency;
            (row[pair], row[half + pair]) = angle.sin_cos();
        }
    }
}

/// The table of sinusoids of that name, and its layout, if that is what the parameter is.
fn sinusoidal(config: &Config, name: &str) -> Option<(PositionTable, SinusoidLayout)> {
    let embedding = match name {
        "encoder.positions.weight" => &config.source,
        "decoder.positions.weight" => &config.target,
        _ => return None,
    };
    let table = embedding.positions?;
    match table.kind {
        PositionKind::Sinusoidal(layout) => Some((table, layout)),
        PositionKind::Learned { .. } => None,
    }
}

/// The parameter of that name, if it is one that is computed: a table of sinusoids.
pub fn computed(config: &Config, name: &str) -> Option<Tensor> {
    let (table, layout) = sinusoidal(config, name)?;
    let (rows, d) = (table.rows, config.d_model);
    Tensor::from_f32([rows, d], sinusoids(rows, d, layout)).ok()
}

/// The shape of the parameter of that name, if it is one that is computed.
pub(crate) fn computed_shape(config: &Config, name: &str) -> Option<Shape> {
    sinusoidal(config, name).map(|(table, _)| Shape::from([table.rows, config.d_model]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_zero_is_all_sine_zero_and_cosine_one() {
        assert_eq!(sinusoids(1, 4, SinusoidLayout::Halves), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(sinusoids(1, 4, SinusoidLayout::Interleaved), [0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn positions_of_fairseq_begin_behind_the_padding_token() {
        let table = sinusoids(2, 5, SinusoidLayout::Fairseq { first: 2 });
        let angle = 2.0 * 1e-4f32;
        let expected = [2f32.sin(), angle.sin(), 2f32.cos(), angle.cos(), 0.0];
        for (found, expected) in table.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{table:?}");
        }
        assert_eq!(sinusoids(1, 1, SinusoidLayout::Fairseq { first: 0 }), [0.0]);
    }

    #[test]
    fn layouts_hold_the_same_numbers() {
        let (halves, interleaved) =
            (sinusoids(7, 6, SinusoidLayout::Halves), sinusoids(7, 6, SinusoidLayout::Interleaved));
        for (halves, interleaved) in halves.chunks(6).zip(interleaved.chunks(6)) {
            for pair in 0..3 {
                assert_eq!(halves[pair], interleaved[2 * pair]);
                assert_eq!(halves[3 + pair], interleaved[2 * pair + 1]);
            }
        }
        assert!((halves[6] - 1f32.sin()).abs() < 1e-7);
    }
}
