//! The xvip agent.

pub mod admin;
pub mod bpf;
pub mod cli;
pub mod clock;
pub mod config;
pub mod drivers;
pub mod heartbeat;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod netlink;
pub mod probe;
mod serve;
pub mod sock;
pub mod status;
