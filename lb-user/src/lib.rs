//! The xvip agent.

pub mod clock;
pub mod config;
pub mod status;
