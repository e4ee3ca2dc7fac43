//! `cargo xtask`: prepares, builds, checks and runs xvip.
fn main() {}
