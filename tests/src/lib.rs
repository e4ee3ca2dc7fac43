//! The harness: namespaces, wires, peers and agents for tests and the sandbox.

pub mod kernel;
