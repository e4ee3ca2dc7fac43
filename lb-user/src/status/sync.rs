//! What the status says of flows that are shared with other balancers.

use serde::{Deserialize, Serialize};

use super::Handshakes;

/// Flows shared with other balancers.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
pub struct SyncStatus {
    /// Whether they are: there is a `[sync]` with a key.
    pub shared: bool,
    /// `sync.port`
    pub port: u16,
    /// One for each peer, by address.
    pub peers: Vec<SyncPeerStatus>,
    /// Flows of others taken into the tables.
    pub flows_taken: u64,
    /// Flows of others that were not, by reason.
    pub flows_skipped: Vec<SkippedFlows>,
    /// Batches that the tables had no time for; they were asked for again.
    pub batches_dropped: u64,
    /// Times that the datapath had more to tell than could be heard; the whole table was told instead.
    pub events_lost: u64,
    /// Datagrams of nobody configured.
    pub strangers: u64,
}

/// Another balancer.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
pub struct SyncPeerStatus {
    /// Its address.
    pub address: String,
    /// `up` or `down`.
    pub state: String,
    /// Seconds since the Unix epoch at which it came to be so.
    pub since: f64,
    /// When it was last heard, likewise; none: never.
    pub heard: Option<f64>,
    /// Flows told to it.
    pub flows_sent: u64,
    /// Flows that it told.
    pub flows_received: u64,
    /// Ends of flows told to it.
    pub ends_sent: u64,
    /// Ends of flows that it told.
    pub ends_received: u64,
    /// UDP payload.
    pub bytes_sent: u64,
    /// UDP payload.
    pub bytes_received: u64,
    /// Messages to it.
    pub datagrams_sent: u64,
    /// Messages from it.
    pub datagrams_received: u64,
    /// Tables told to it as a whole.
    pub tables_sent: u64,
    /// Tables that it told as a whole.
    pub tables_received: u64,
    /// Times that more happened than could be told one by one, and the table was told instead.
    pub resyncs: u64,
    /// Messages that it has not confirmed.
    pub backlog: u64,
    /// From the last change to its confirmation.
    pub lag_seconds: f64,
    /// The same of all changes, in messages of several.
    pub lags: Handshakes,
    /// Messages that were not believed.
    pub refused: Vec<RefusedDatagrams>,
}

/// Flows of others that became none of this node for one reason.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct SkippedFlows {
    /// Closed set.
    pub reason: String,
    /// How many.
    pub flows: u64,
}

/// Messages that were not believed for one reason.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct RefusedDatagrams {
    /// Closed set.
    pub reason: String,
    /// How many.
    pub datagrams: u64,
}
