//! The part of the status that tells of shared flows.

use lb_proto::sync::{LAG_BOUNDS, Lag, Refusal, Report};

use crate::bpf::Skipped;
use crate::clock::unix_of;
use crate::drivers::sync::{Settings, SyncSnapshot};
use crate::status::{HandshakeBucket, Handshakes, RefusedDatagrams, SkippedFlows, SyncPeerStatus, SyncStatus};

/// Puts it together.
#[must_use]
pub fn status(settings: Option<&Settings>, snapshot: &SyncSnapshot) -> SyncStatus {
    let Some(settings) = settings else {
        return SyncStatus::default();
    };
    let peers = snapshot.peers.iter().map(|(address, report)| peer(address.to_string(), report));
    let adopted = snapshot.adopted;
    let skipped = Skipped::ALL.iter().zip(adopted.skipped);
    let skipped = skipped.map(|(why, flows)| SkippedFlows { reason: why.label().to_owned(), flows });
    SyncStatus {
        shared: true,
        port: settings.port,
        peers: peers.collect(),
        flows_taken: adopted.taken,
        flows_skipped: skipped.collect(),
        batches_dropped: snapshot.dropped,
        events_lost: snapshot.lost,
        strangers: snapshot.strangers,
    }
}

fn peer(address: String, report: &Report) -> SyncPeerStatus {
    let counts = &report.counts;
    let of = |refusal: &Refusal| counts.refused.get(refusal).copied().unwrap_or_default();
    let refused = Refusal::ALL.iter().filter(|refusal| **refusal != Refusal::Stranger);
    SyncPeerStatus {
        address,
        state: if report.is_up { "up" } else { "down" }.to_owned(),
        since: unix_of(report.since),
        heard: report.heard.map(unix_of),
        flows_sent: counts.flows_out,
        flows_received: counts.flows_in,
        ends_sent: counts.ends_out,
        ends_received: counts.ends_in,
        bytes_sent: counts.bytes_out,
        bytes_received: counts.bytes_in,
        datagrams_sent: counts.datagrams_out,
        datagrams_received: counts.datagrams_in,
        tables_sent: counts.tables_out,
        tables_received: counts.tables_in,
        resyncs: counts.resyncs,
        backlog: report.backlog as u64,
        lag_seconds: counts.lag.last.as_secs_f64(),
        lags: lags(&counts.lag),
        refused: refused
            .map(|refusal| RefusedDatagrams { reason: refusal.reason().to_owned(), datagrams: of(refusal) })
            .collect(),
    }
}

fn lags(lag: &Lag) -> Handshakes {
    let bounds = LAG_BOUNDS.iter().map(|millis| Some(*millis as f64 / 1e3)).chain([None]);
    let bucket = |(up_to, count): (_, &u64)| HandshakeBucket { up_to, handshakes: *count };
    Handshakes { seconds: lag.sum.as_secs_f64(), buckets: bounds.zip(&lag.buckets).map(bucket).collect() }
}
