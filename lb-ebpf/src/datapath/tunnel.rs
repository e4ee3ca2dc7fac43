//! Packets to nodes behind routers: the client's own packet inside an outer one of the same IP version (IPv4: RFC 2003,
//! IPv6: RFC 2473).
//!
//! ```text
//! balancer -> backend's node ( client:cp -> VIP:vp )
//! ```
//! The outer packet may be fragmented where the inner one may, and carries its traffic class. What is longer than the
//! interface takes with the outer header more is answered as a router does. At the other end only packets for a service
//! with a backend there, or ICMP errors about what that has sent, are taken out, and only from nodes that the agent knows.

pub(super) mod v4;
pub(super) mod v6;

use super::Key;
use super::error::{self, ICMP};
use super::failure::{Failure, Told};
use super::parse::Odd;
use super::tables::Tables;
use crate::abi::{Endpoint, Node, Reason, node_flag};
use crate::net::header::{ETHERNET, PROTOCOL_TCP, TcpHead};
use crate::net::{Address as _, Family};
use crate::packet::{Packet, Short};

/// Hops that outer packets, and errors of our own, may live.
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

    /// The same with an ICMP error in the outer packet, up to the ports of the packet that the error is about.
    ///
    /// # Errors
    /// [`Short`] when the frame ends earlier.
    fn both_of_error(packet: &mut impl Packet) -> Result<&[u16], Short>;

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
    F::is_plain(front, ETHERNET, F::INSIDE)
        && F::is_plain(front, inner, PROTOCOL_TCP)
        && is_from_fellow::<F>(front, tables, &error::answer_to::<F>(front, inner))
}

/// Whether it holds an ICMP error that is.
#[inline(always)]
fn is_error_of_ours<F: Nested>(front: &[u16], tables: &impl Tables<F>) -> bool {
    let (inner, about) = (ETHERNET + F::IP, ETHERNET + 2 * F::IP + ICMP);
    F::is_plain(front, ETHERNET, F::INSIDE)
        && F::is_plain(front, inner, F::ICMP)
        && F::is_plain(front, about, PROTOCOL_TCP)
        && F::destination(front, inner) == F::source(front, about)
        && is_from_fellow::<F>(front, tables, &error::answer_to::<F>(front, about).reversed())
}

/// Whether an outer packet comes from a node that is known, to the backend that has sent a packet with this key to a
/// client.
#[inline(always)]
fn is_from_fellow<F: Nested>(front: &[u16], tables: &impl Tables<F>, answer: &Key<F>) -> bool {
    let listener = Endpoint::new(answer.source.into(), answer.source_port);
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
    let is_ours = F::both(packet).is_ok_and(|front| is_ours::<F>(front, tables))
        || F::both_of_error(packet).is_ok_and(|front| is_error_of_ours::<F>(front, tables));
    if !is_ours {
        return Some(F::odd(packet, tables, node));
    }
    F::disclose(packet).err().map(|_| Reason::CannotReply)
}

/// Puts a packet that has been rewritten for its backend into an outer one. `segments`: it is many in one, which the
/// kernel will cut to fit. `is_error`: it is an ICMP error about what the backend has sent.
///
/// # Errors
/// What becomes of it instead.
#[inline(always)]
pub fn wrap<F: Nested + Told>(
    packet: &mut impl Packet, tables: &impl Tables<F>, segments: bool, is_error: bool,
) -> Result<(), Reason> {
    let key = match is_error {
        true => F::error_head(packet).map(|head| error::answer_to::<F>(head, ETHERNET + F::IP + ICMP)),
        false => F::head(packet).map(|head| super::key(head)),
    };
    let (Some(node), Ok(key), Ok(head)) = (tables.node(), key, F::head(packet)) else {
        return Err(Reason::NotConfigured);
    };
    let Some(flow) = tables.established(&key).or_else(|| tables.half_open(&key)) else {
        return Err(Reason::NoNeighbour);
    };
    let Some(backend) = tables.backend(flow.backend as u32) else {
        return Err(Reason::NoNeighbour);
    };
    let length = head.ip_length();
    if length > F::LONGEST || !segments && node.mtu != 0 && length + F::IP as u32 > node.mtu as u32 {
        // Errors are not told of errors (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
        if is_error || F::may_be_cut(head) || !tables.spend_reset(tables.now(), node.resets_per_second) {
            return Err(Reason::TunnelTooBig);
        }
        let failure = Failure {
            mac_to: flow.mac(),
            mac_from: node.mac,
            from: F::own(node),
            kind: F::TOO_BIG,
            mtu: node.mtu.saturating_sub(F::IP as u16),
        };
        return Err(match F::tell(packet, &failure) {
            Ok(()) => Reason::FragmentationNeeded,
            Err(_) => Reason::CannotReply,
        });
    }
    let to = F::Address::of(backend.endpoint.address);
    F::enclose(packet, node, to, || tables.random()).map_err(|_| Reason::CannotReply)
}
