//! The xvip agent.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod heartbeat;
pub mod http;
pub mod logging;
pub mod metrics;
mod serve;
pub mod status;
