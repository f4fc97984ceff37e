//! The kernels of rows and elements at real sizes and odd ones, through the backend over the fake
//! driver, against f64: in every type, at addresses that are multiples of 16 and not, with rows
//! that have gaps between them, under several schedules.

mod bench;
mod elements;
mod indices;
mod loss;
mod norm;
mod quantized;
