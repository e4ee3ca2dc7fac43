//! A VRRP virtual router (RFC 9568 section 6, Active/Backup names; the timers of RFC 3768 for version 2) as a pure state machine.
//!
//! The caller brings parsed adverts, local events and the time; the machine answers with [`Output`]s. A driver
//! repeats three steps:
//!
//! 1. wait for a packet, an event, or [`Instance::deadline`], which may change after every input;
//! 2. hand in one input: [`Instance::on_advert`] for **every packet that is already queued**, then
//!    [`Instance::on_local`], then [`Instance::on_deadline`], each with the time of handing it in;
//! 3. drain [`Instance::poll`] to `None` and do what it says, in its order.
//!
//! The machine holds no timer and no channel: a stale expiry cannot exist, because `on_deadline` compares the time
//! with the one stored deadline. Every input is legal in every state. What backends do never enters here: whether a
//! node can forward and whether a backend is ready are separate questions.
//!
//! LIFECYCLE.md beside this file has the states, and where and why the rules are stricter than the specification's.

mod config;
mod faults;
mod group;
mod machine;
mod output;
mod replay;
mod stamp;
mod timers;

pub use config::Config;
pub use group::{Group, Part, Standing, Word};
pub use machine::{Instance, Local};
pub use output::{AdvertFault, Announcement, FaultReason, Mismatch, Output, State, Transmit, Why};
pub use replay::{Kept, ReplayFault, Sequences};
pub use stamp::{Moment, reached};
pub use timers::{active_down_interval, skew_time};
