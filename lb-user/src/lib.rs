//! The xvip agent.
//!
//! ```text
//!  sock::vrrp ──bytes──> drivers::vrrp ──watch VrrpSnapshot──┐
//!                        (own thread, owns the machines)     v
//!  probe::* ──Outcome──> drivers::health ──watch Health──> agent ──pass──> reconcile ──> netlink (addresses)
//!                        (owns the trackers)                 ^                  ├──────> drivers::garp ──> sock::frame
//!  bpf::sweep ──watch Sweep─────────────────────────────────-┤                  └──plan─> bpf::tables
//!  netlink::monitor (wakes only), SIGHUP, admin ─────────────┘
//!                                                            └──watch Status──> http, admin
//! ```
//! Each state has one owner; what others need of it they get as a snapshot. `clock` is the only clock.

pub mod admin;
pub mod agent;
pub mod bpf;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connections;
pub mod desired;
pub mod direct;
pub mod doctor;
pub mod drivers;
mod ethtool;
pub mod events;
pub mod explain;
pub mod flow_log;
pub mod heartbeat;
pub mod http;
pub mod import;
pub mod leaving;
mod lock;
pub mod logging;
pub mod manual;
pub mod metrics;
pub mod naming;
pub mod netlink;
pub mod passwords;
pub mod privileges;
pub mod probe;
pub mod reconcile;
#[cfg(test)]
mod reference;
pub mod report;
mod serve;
pub mod sock;
pub mod status;
pub mod steer;
pub mod sysctl;
mod turns;
