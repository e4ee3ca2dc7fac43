//! Translation of a packet: addresses, ports, checksums, hop count, Ethernet addresses.

use super::tables::Tables;
use crate::abi::{Backend, Flow, Node, node_flag};
use crate::net::checksum::update;
use crate::net::header::TcpHead;
use crate::net::{Address as _, Be16, Family};

/// Turns a packet of a flow into what leaves.
#[inline(always)]
pub(super) fn translate<F: Family, W>(head: &mut TcpHead<F>, flow: &Flow<F::Address, W>, node: &Node, mac: [u8; 6]) {
    head.set_mac_destination(mac);
    head.set_mac_source(node.mac);
    // `parse::fault` has refused packets with nothing left to take.
    head.set_hops(head.hops().wrapping_sub(1));
    deliver(head, flow);
}

/// Turns a packet of a flow with this node's own backend into what its stack, or the client, expects.
#[inline(always)]
pub(super) fn deliver<F: Family, W>(head: &mut TcpHead<F>, flow: &Flow<F::Address, W>) {
    head.change_header(flow.ip_change);
    head.set_source(flow.translated.source);
    head.set_destination(flow.translated.destination);
    head.set_source_port(flow.translated.source_port);
    head.set_destination_port(flow.translated.destination_port);
    head.set_tcp_checksum(Be16::from_raw(update(head.tcp_checksum().raw(), flow.tcp_change)));
}

/// Where a packet to a backend goes: as the agent resolved it, else as the kernel's tables say of the backend's address,
/// whatever the packet's own destination is.
#[inline(always)]
pub(super) fn backend_mac<F: Family>(
    tables: &impl Tables<F>, node: &Node, backend: &Backend, source: F::Address, length: u32,
) -> Option<[u8; 6]> {
    if backend.mac != [0; 6] {
        return Some(backend.mac);
    }
    if node.flags & node_flag::FIB == 0 {
        return None;
    }
    tables.next_hop(source, F::Address::of(backend.endpoint.address), length as u16)
}
