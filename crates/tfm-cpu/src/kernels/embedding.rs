//! Token embedding: rows of a table, scaled, plus rows of a table of positions.

use super::rows::Rows;

/// `out[i] = scale·table[ids[i]] + positions`, where positions are `(position_table, position ids)`, if any.
/// Panics where an id is outside its table.
pub fn embedding(
    table: Rows<'_>,
    ids: &[i32],
    scale: f32,
    positions: Option<(Rows<'_>, &[i32])>,
    out: &mut [f32],
) {
    let d = table.cols();
    assert_eq!(out.len(), ids.len() * d);
    if d == 0 {
        return;
    }
    for (i, out) in out.chunks_exact_mut(d).enumerate() {
        let row = table.row(ids[i] as usize);
        match positions {
            Some((position_table, positions)) => {
                let position = position_table.row(positions[i] as usize);
                for ((out, &x), &p) in out.iter_mut().zip(row).zip(position) {
                    *out = scale * x + p;
                }
            }
            None => out.iter_mut().zip(row).for_each(|(out, &x)| *out = scale * x),
        }
    }
}
