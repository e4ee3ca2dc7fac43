//! What hostile bytes may not do to xvip: fuzz targets as ordinary functions.
//!
//! Each takes any bytes and panics when something is broken that has to hold. libFuzzer finds the bytes (`cargo xtask fuzz`),
//! `cargo test` replays those it has found, which are below `corpus/`.

pub mod bytes;
pub mod mutate;

mod admin;
mod answer;
mod config;
mod datapath;
mod frame;
mod import;
mod page;
mod pipe;
mod sound;
mod story;
mod sync;
mod wire;

pub use admin::admin;
pub use answer::answer;
pub use config::config;
pub use datapath::datapath;
pub use frame::frame;
pub use import::{haproxy, keepalived};
pub use page::page;
pub use sync::sync;
pub use wire::{neighbour, peer, vrrp};

/// What is fed, and by what name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, in the order of their names.
pub const TARGETS: [Target; 12] = [
    ("admin", admin),
    ("answer", answer),
    ("config", config),
    ("datapath", datapath),
    ("frame", frame),
    ("haproxy", haproxy),
    ("keepalived", keepalived),
    ("neighbour", neighbour),
    ("page", page),
    ("peer", peer),
    ("sync", sync),
    ("vrrp", vrrp),
];
