//! The xvip agent.

pub mod clock;
pub mod config;
pub mod drivers;
pub mod probe;
pub mod status;
