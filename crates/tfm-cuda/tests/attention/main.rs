//! The kernels of attention against f64, interpreted without host code. `case` describes a problem,
//! `reference` is the definition, `device` runs the kernels, `properties` has the tests, and
//! `mutants` shows that these tests notice faults. `general` has the same for the general kernels.

mod case;
mod device;
mod general;
mod mutants;
mod properties;
mod reference;
