//! The harness: namespaces, wires, peers and agents for tests and the sandbox.
//!
//! Everything made here has a name that starts with the [`run::Run`] it belongs to and disappears with it, in this order: processes,
//! namespaces (and with them links and bridges), pins, files. What a killed run leaves is recognised by its dead owner and removed
//! by the next one.
#![allow(
    clippy::disallowed_methods,
    reason = "the harness measures real peers against the real clock; nothing here decides for the agent"
)]

pub mod agent;
pub mod apiserver;
pub mod book;
pub mod bpf;
pub mod capture;
pub mod cgroup;
pub mod chromium;
pub mod chroot;
pub mod client;
pub mod deployment;
pub mod dial;
pub mod direct;
pub mod figures;
pub mod flood;
pub mod foreign;
pub mod frr;
pub mod hooks;
pub mod incumbent;
pub mod ipv6;
pub mod keepalived;

pub mod kernel;
pub mod machine;
pub mod netns;
pub mod node;
pub mod owners;
pub mod ping;
pub mod pki;
pub mod process;
pub mod prometheus;
pub mod reloads;
pub mod run;
pub mod scrape;
pub mod stacked;
pub mod stats;
pub mod status;
pub mod stop;
pub mod tap;
pub mod topology;
pub mod unit;
pub mod until;
pub mod version;
pub mod wire;
