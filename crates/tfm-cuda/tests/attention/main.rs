//! The kernels of attention against f64, interpreted without host code: `case` says what is
//! computed, `reference` by which definition, `device` runs the kernels, `properties` are the
//! tests, and `mutants` shows that these tests see faults.

mod case;
mod device;
mod mutants;
mod properties;
mod reference;
