//! The kernels of rows and elements through the backend over the fake driver, against f64. Sizes
//! are real and odd ones, in every type, at addresses that are multiples of 16 and that are not,
//! with gaps between rows, under several schedules.

mod attention;
mod bench;
mod elements;
mod indices;
mod loss;
mod norm;
mod quantized;
