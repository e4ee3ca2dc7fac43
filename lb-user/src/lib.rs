//! The xvip agent.

pub mod cli;
pub mod clock;
pub mod config;
pub mod heartbeat;
pub mod logging;
pub mod metrics;
pub mod status;
