//! Whom flows are shared with.

use super::super::words::{ago, check};
use super::{Cell, Page, Paint, Status};

pub(super) fn sync(out: &mut Page, status: &Status, now: f64) {
    let sync = &status.sync;
    if !sync.shared {
        if !status.vrrp.is_empty() {
            out.gap();
            out.line(
                "SYNC",
                "flows are not shared: connections do not survive a move of the VIP; see [sync]",
                Paint::None,
            );
        }
        return;
    }
    let rows = sync.peers.iter().map(|peer| {
        let refused: u64 = peer.refused.iter().map(|row| row.datagrams).sum();
        vec![
            Cell::bold(&peer.address),
            Cell::state(&peer.state),
            Cell::plain(super::since(now, peer.since)),
            Cell::plain(peer.heard.map_or_else(|| "never".to_owned(), |heard| ago(now, heard))),
            Cell::plain(peer.flows_sent.to_string()),
            Cell::plain(peer.flows_received.to_string()),
            Cell::plain(check(Some(peer.lag_seconds))),
            Cell::plain(refused.to_string()),
        ]
    });
    out.gap();
    let header = ["SYNC", "STATE", "FOR", "HEARD", "SENT", "RECEIVED", "LAG", "REFUSED"];
    out.table(&header, &[4, 5, 6, 7], &[5, 4, 2, 7], rows.collect());
    // Flows that this node knows better are none that it lacks.
    let lacks = |row: &&super::super::SkippedFlows| row.flows > 0 && row.reason != "newer" && row.reason != "not_here";
    let lacking: Vec<_> =
        sync.flows_skipped.iter().filter(lacks).map(|row| format!("{} {}", row.flows, row.reason)).collect();
    if !lacking.is_empty() {
        let text =
            format!("flows of others without a place here: {}; configure all balancers alike", lacking.join(", "));
        out.line("", &text, Paint::Bad);
    }
}
