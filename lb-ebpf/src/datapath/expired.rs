//! Packets with no hop left to live: their sender is told as by a router (RFC 792, RFC 1812 section 5.3.1, RFC 4443), so that
//! traceroute shows the balancer, by the VIP, and a circle shows itself.

use super::failure::Failure;
use super::tables::Tables;
use super::{Handled, deliver, key, listener, parse};
use crate::abi::Reason;
use crate::packet::Packet;

/// Answers a packet that has no hop left; a reason if its sender is not told.
#[inline(always)]
pub(super) fn expired<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Option<Reason> {
    let length = packet.len();
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return Some(Reason::CannotReply);
    };
    // Read anew, and whoever shares its memory may have changed it.
    match parse::fault(head, length) {
        Some(Reason::Ttl) => {}
        fault => return Some(fault.unwrap_or(Reason::Ttl)),
    }
    let key = key(head);
    if parse::is_martian(&key, tables) || tables.is_own(key.source) {
        return Some(Reason::Martian);
    }
    // Who forwarded it is not its sender.
    if deliver::is_forwarded(head, tables, node, &key) {
        return Some(Reason::Ttl);
    }
    let is_allowed = |list: u32| list == 0 || tables.is_allowed(list, key.source);
    if tables.service(&listener::<F>(&key)).is_some_and(|service| !is_allowed(service.allow)) {
        return Some(Reason::NotAllowed);
    }
    if !tables.spend_error(tables.now()) {
        return Some(Reason::IcmpLimit);
    }
    let failure = Failure {
        mac_to: head.mac_source(),
        mac_from: node.mac,
        from: key.destination,
        kind: F::TIME_EXCEEDED,
        mtu: 0,
    };
    F::tell(packet, &failure).err().map(|_| Reason::CannotReply)
}
