//! The metrics of flows that are shared with other balancers.

use std::fmt;

use super::defs;
use super::snapshot::Out;
use crate::status::{Status, SyncPeerStatus};

/// Nothing where nothing is shared.
pub(super) fn sync(out: &mut Out<'_, '_>, status: &Status) -> fmt::Result {
    let sync = &status.sync;
    if !sync.shared {
        return Ok(());
    }
    let peers = &sync.peers;
    let each = |value: fn(&SyncPeerStatus) -> u64| peers.iter().map(move |peer| ([peer.address.as_str()], value(peer)));
    let both = |value: fn(&SyncPeerStatus) -> (u64, u64)| {
        peers.iter().flat_map(move |peer| {
            let ((sent, received), address) = (value(peer), peer.address.as_str());
            [([address, "sent"], sent), ([address, "received"], received)]
        })
    };
    out.family(&defs::SYNC_PEER_UP, each(|peer| u64::from(peer.state == "up")))?;
    out.family(&defs::SYNC_FLOWS, both(|peer| (peer.flows_sent, peer.flows_received)))?;
    out.family(&defs::SYNC_ENDS, both(|peer| (peer.ends_sent, peer.ends_received)))?;
    out.family(&defs::SYNC_BYTES, both(|peer| (peer.bytes_sent, peer.bytes_received)))?;
    out.family(&defs::SYNC_DATAGRAMS, both(|peer| (peer.datagrams_sent, peer.datagrams_received)))?;
    out.family(&defs::SYNC_TABLES, both(|peer| (peer.tables_sent, peer.tables_received)))?;
    out.family(&defs::SYNC_RESYNCS, each(|peer| peer.resyncs))?;
    out.family(&defs::SYNC_BACKLOG, each(|peer| peer.backlog))?;
    out.histograms(&defs::SYNC_LAG, peers.iter().map(|peer| ([peer.address.as_str()], &peer.lags)))?;
    let refused = peers
        .iter()
        .flat_map(|peer| peer.refused.iter().map(|row| ([peer.address.as_str(), row.reason.as_str()], row.datagrams)));
    out.family(&defs::SYNC_REFUSED, refused)?;
    out.family(&defs::SYNC_STRANGERS, [([], sync.strangers)])?;
    let skipped = sync.flows_skipped.iter().map(|row| ([row.reason.as_str()], row.flows));
    out.family(&defs::SYNC_ADOPTED, [(["taken"], sync.flows_taken)].into_iter().chain(skipped))?;
    out.family(&defs::SYNC_DROPPED, [([], sync.batches_dropped)])?;
    out.family(&defs::SYNC_EVENTS_LOST, [([], sync.events_lost)])
}
