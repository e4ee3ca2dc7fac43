//! The `xvip` binary.
fn main() {}
