//! What Prometheus sees: definitions, event counters, and the text they are scraped as.
//!
//! State comes from the status snapshot (`snapshot`), events are counted where they happen (`events`); no value has two sources.

mod agent;
pub mod defs;
mod events;
mod labels;
mod snapshot;
mod sync;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub use events::Metrics;

use crate::heartbeat::Heartbeat;
use crate::status::Status;

/// Media type of what `Exposition::render` returns: the Prometheus text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The states of a virtual router, as they appear in status and labels.
const VRRP_STATES: [&str; 4] = ["active", "backup", "initialize", "fault"];

/// The states of a backend, likewise.
const BACKEND_STATES: [&str; 4] = ["up", "down", "draining", "disabled"];

/// All metrics together, ready to be scraped.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// Joins the event counters, the newest status, and what the agent is itself.
    #[must_use]
    pub fn new(metrics: &Metrics, status: watch::Receiver<Arc<Status>>, heartbeat: Heartbeat) -> Self {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        registry.register_collector(Box::new(snapshot::Snapshot(status.clone())));
        registry.register_collector(Box::new(agent::Agent { metrics: metrics.clone(), status, heartbeat }));
        Self(registry)
    }

    /// The text of a scrape. Fails only if a metric cannot be written, which is a defect of the metric.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        encode_registry(&mut text, &self.0)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
