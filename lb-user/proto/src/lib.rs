//! The protocol cores of xvip: everything that decides, and nothing that acts.
//!
//! No I/O, no clock, no randomness, no async. A driver feeds packets, results and the time into a core, then
//! drains what the core wants done; it asks `deadline()` when to come back. Nothing here can block or panic on input.
#![forbid(unsafe_code)]

pub mod family;
pub mod garp;
pub mod health;
pub mod pace;
pub mod peer;
pub mod plan;
pub mod sync;
pub mod units;
pub mod vrrp;
pub mod wire;
