//! Configuration: a file in, a typed value or a list of faults out.

mod valid;

pub use valid::*;
