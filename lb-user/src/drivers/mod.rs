//! Drivers: each feeds one protocol core with what happens and carries out what it decides.

pub mod garp;
pub mod health;
pub mod peer;
mod seldom;
pub mod sync;
pub mod vrrp;
mod waiting;

pub(crate) use waiting::passed;
