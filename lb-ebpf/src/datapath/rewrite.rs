//! Translation of a packet: addresses, ports, checksums, hop count, Ethernet addresses.

use super::tables::Tables;
use crate::abi::{Backend, Flow, FlowKey, Node, node_flag};
use crate::net::Be16;
use crate::net::checksum::update;
use crate::net::header::TcpHead;

/// Turns a packet of a flow into what leaves.
#[inline(always)]
pub(super) fn translate<W>(head: &mut TcpHead, flow: &Flow<W>, node: &Node, mac: [u8; 6]) {
    head.set_mac_destination(mac);
    head.set_mac_source(node.mac);
    // `parse::fault` has refused packets with nothing left to take.
    head.set_ttl(head.ttl().wrapping_sub(1));
    deliver(head, flow);
}

/// Turns a packet of a flow with this node's own backend into what its stack, or the client, expects.
#[inline(always)]
pub(super) fn deliver<W>(head: &mut TcpHead, flow: &Flow<W>) {
    head.set_ip_checksum(changed(head.ip_checksum(), flow.ip_change));
    head.set_source(flow.translated.source);
    head.set_destination(flow.translated.destination);
    head.set_source_port(flow.translated.source_port);
    head.set_destination_port(flow.translated.destination_port);
    head.set_tcp_checksum(changed(head.tcp_checksum(), flow.tcp_change));
}

#[inline(always)]
fn changed(checksum: Be16, change: u16) -> Be16 {
    Be16::from_raw(update(checksum.raw(), change))
}

/// Where a packet to a backend goes: as the agent resolved it, else as the kernel's tables say.
#[inline(always)]
pub(super) fn backend_mac(
    head: &TcpHead, tables: &impl Tables, node: &Node, backend: &Backend, translated: &FlowKey,
) -> Option<[u8; 6]> {
    if backend.mac != [0; 6] {
        return Some(backend.mac);
    }
    if node.flags & node_flag::FIB == 0 {
        return None;
    }
    tables.next_hop(translated.source, translated.destination, head.total_length().get())
}
