//! The scales of matrices that files hold as 8-bit integers: `x = scale·integer`, a scale for each
//! row.
//!
//! Names and shape are those of `compressed-tensors`: the scales of `fc1.weight [n, k]` are
//! `fc1.weight_scale [n, 1]`.

use super::elements::{ElementType, to_f32};
use super::files::Tensors;
use super::header::Entry;
use crate::fault::Fault;
use tfm_core::Shape;

const REMEDY: &str = "convert the model again, from its original";

/// The name of the tensor that holds the scales of another.
pub(super) fn name_of(tensor: &str) -> String {
    format!("{tensor}_scale")
}

/// The shape of the scales of a matrix of integers.
pub(super) fn shape_of(matrix: &Shape) -> Shape {
    matrix.with_extent(1, 1)
}

/// Whether a number can be a scale: not negative, and finite with every integer.
pub(super) fn is_scale(scale: f32) -> bool {
    scale >= 0.0 && (scale * -f32::from(i8::MIN)).is_finite()
}

/// The tensor with the scales of a matrix of integers, and the scales; or what is wrong with them.
pub(super) fn read<'a>(
    tensors: &'a Tensors,
    file: usize,
    matrix: &Entry,
) -> Result<(&'a str, Vec<f32>), Fault> {
    let (name, expected) = (name_of(&matrix.name), shape_of(&matrix.shape));
    let Some((place, entry)) = tensors.by_name.get(&name) else {
        let problem = format!(
            "is I8 {} and needs the scales of its rows, `{name}` F32 {expected}, which no file has; {REMEDY}",
            matrix.shape
        );
        return Err(Fault::entry(&tensors.names[file], &matrix.name, problem));
    };
    let fault = |problem: String| Err(Fault::entry(&tensors.names[*place], &name, problem));
    let element_type = ElementType::from_dtype(entry.dtype);
    if entry.shape != expected || element_type != Some(ElementType::F32) {
        return fault(format!(
            "should be F32 {expected}, the scales of the rows of `{}` I8 {}, but is {} {}; {REMEDY}",
            matrix.name, matrix.shape, entry.dtype, entry.shape
        ));
    }
    let mut scales = vec![0.0; entry.shape.elements()];
    to_f32(ElementType::F32, &tensors.files[*place][entry.bytes.clone()], &mut scales);
    tensors.files[*place].release(entry.bytes.clone());
    let bad = scales.iter().filter(|&&scale| !is_scale(scale)).count();
    if bad > 0 {
        let all = scales.len();
        return fault(format!(
            "has {bad} scales of {all} that are negative, not numbers or too large; the file is damaged: {REMEDY}"
        ));
    }
    Ok((&entry.name, scales))
}
