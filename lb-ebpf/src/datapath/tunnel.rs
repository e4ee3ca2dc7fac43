//! Packets to nodes behind routers: the client's own packet inside an outer one of the same IP version (IPv4: RFC 2003,
//! IPv6: RFC 2473).
//!
//! ```text
//! balancer -> backend's node ( client:cp -> VIP:vp )
//! ```
//! The outer packet may be fragmented where the inner one may, and carries its traffic class. What is longer than the
//! interface takes with the outer header more is answered as a router does. At the other end only packets for a service
//! with a backend there are taken out, and only from nodes that the agent knows.

mod v4;
mod v6;

use super::parse::Odd;
use super::tables::Tables;
use crate::abi::{Endpoint, Node, Reason, node_flag};
use crate::net::header::{ETHERNET, PROTOCOL_TCP, TcpHead, set_mac};
use crate::net::{Address as _, Be16, Family};
use crate::packet::{Packet, Short};

/// Hops that outer packets, and errors, may live.
const HOPS: u8 = 64;

/// An IP version whose packets travel inside its own.
pub trait Nested: Family {
    /// Its protocol number above itself.
    const INSIDE: u8;
    /// Bytes of the longest packet that an outer one can hold.
    const LONGEST: u32;

    /// This node's own address, where outer packets come or go; zero: none do.
    fn own(node: &Node) -> Self::Address;

    /// The largest TCP segment that clients are told to send; 0: as the stack says.
    fn segments(node: &Node) -> u16;

    /// Whether routers may fragment a packet.
    fn may_be_cut(head: &TcpHead<Self>) -> bool;

    /// The head of a frame with an outer packet in it: Ethernet, both IP headers, and the ports.
    ///
    /// # Errors
    /// [`Short`] when the frame ends earlier.
    fn both(packet: &mut impl Packet) -> Result<&[u16], Short>;

    /// Puts a packet into an outer one from this node.
    ///
    /// # Errors
    /// [`Short`] when there is no room.
    fn enclose(
        packet: &mut impl Packet, node: &Node, to: Self::Address, random: impl FnOnce() -> u32,
    ) -> Result<(), Short>;

    /// Takes the outer header away.
    ///
    /// # Errors
    /// [`Short`] when the device cannot.
    fn disclose(packet: &mut impl Packet) -> Result<(), Short>;

    /// Turns a packet into the ICMP error that its sender gets at `mac`: it is too long for an outer packet.
    ///
    /// # Errors
    /// [`Short`] when the device cannot.
    fn refuse(packet: &mut impl Packet, node: &Node, mac: [u8; 6]) -> Result<(), Short>;
}

/// Whether the frame may be an outer packet for this node, as far as a packet's head tells.
#[inline(always)]
pub(super) fn may_be_outer<F: Nested>(head: &TcpHead<F>, node: &Node) -> bool {
    node.flags & node_flag::DELIVERS_ONLY != 0
        && head.protocol() == F::INSIDE
        && F::own(node) != F::Address::default()
        && head.mac_destination() == node.mac
}

/// Whether a frame that [`may_be_outer`] holds a packet that is to be taken out.
#[inline(always)]
fn is_ours<F: Nested>(front: &[u16], tables: &impl Tables<F>) -> bool {
    let inner = ETHERNET + F::IP;
    if !F::is_plain(front, ETHERNET, F::INSIDE) || !F::is_plain(front, inner, PROTOCOL_TCP) {
        return false;
    }
    let port = Be16::from_raw(front[(inner + F::IP) / 2 + 1]);
    let listener = Endpoint::new(F::destination(front, inner).into(), port);
    // The backend's own address, of which a node may have several.
    let own = tables.service(&listener).and_then(|service| tables.backend(service.own.checked_sub(1)?));
    own.is_some_and(|own| own.endpoint.address == F::destination(front, ETHERNET).into())
        && tables.is_tunnel(F::source(front, ETHERNET))
}

/// Takes the inner packet out; a reason if there is none for this node.
#[inline(always)]
pub fn unwrap<F: Nested + Odd>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Option<Reason> {
    let Some(node) = tables.node() else {
        return Some(Reason::NotConfigured);
    };
    let is_ours = F::both(packet).is_ok_and(|front| is_ours::<F>(front, tables));
    if !is_ours {
        return Some(F::odd(packet, tables, node));
    }
    F::disclose(packet).err().map(|_| Reason::CannotReply)
}

/// Puts a packet that has been rewritten for its backend into an outer one. `segments`: it is many in one, which the
/// kernel will cut to fit.
///
/// # Errors
/// What becomes of it instead.
#[inline(always)]
pub fn wrap<F: Nested>(packet: &mut impl Packet, tables: &impl Tables<F>, segments: bool) -> Result<(), Reason> {
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return Err(Reason::NotConfigured);
    };
    let key = super::key(head);
    let Some(flow) = tables.established(&key).or_else(|| tables.half_open(&key)) else {
        return Err(Reason::NoNeighbour);
    };
    let Some(backend) = tables.backend(flow.backend as u32) else {
        return Err(Reason::NoNeighbour);
    };
    let length = head.ip_length();
    if length > F::LONGEST || !segments && node.mtu != 0 && length + F::IP as u32 > node.mtu as u32 {
        if F::may_be_cut(head) || !tables.spend_reset(tables.now(), node.resets_per_second) {
            return Err(Reason::TunnelTooBig);
        }
        return Err(match F::refuse(packet, node, flow.mac()) {
            Ok(()) => Reason::FragmentationNeeded,
            Err(_) => Reason::CannotReply,
        });
    }
    let to = F::Address::of(backend.endpoint.address);
    F::enclose(packet, node, to, || tables.random()).map_err(|_| Reason::CannotReply)
}

/// Writes an Ethernet header.
#[inline(always)]
fn ethernet<F: Family>(frame: &mut [u16], to: [u8; 6], from: [u8; 6]) {
    set_mac(frame, 0, to);
    set_mac(frame, 6, from);
    frame[6] = F::ETHERTYPE.raw();
}
