//! Who may say where a virtual address is. Past its lease this node neither answers for it nor announces it: frames that
//! would make it do so are dropped on their way in, and those that do on their way out. An address without a lease is
//! somebody else's business.
//!
//! ```text
//! in    ARP request for A, neighbour solicitation for A          dropped once A's lease is over
//!       ARP from A, neighbour advertisement of A, another MAC    a claim, while A's lease lasts
//! out   ARP from A, neighbour advertisement of A, ND from A      dropped once A's lease is over
//! ```

use super::tables::Tables;
use super::{Handled, Step};
use crate::abi::{Reason, SharedLease, lease_flag};
use crate::net::header::{ETHERNET, byte};
use crate::net::{Be16, Be32, Be128, Family as _, V6};
use crate::packet::Packet;

/// EtherType of ARP.
pub const ARP: Be16 = Be16::new(0x0806);
/// Ethernet and ARP for IPv4 (RFC 826), in halfwords.
pub const ARP_HALFWORDS: usize = (ETHERNET + 28) / 2;
/// Ethernet, IPv6, and a neighbour solicitation or advertisement without options (RFC 4861 sections 4.3 and 4.4), in halfwords.
pub const NEIGHBOUR_HALFWORDS: usize = (ETHERNET + V6::IP + 24) / 2;

/// Hardware Ethernet, protocol IPv4, their lengths (RFC 826).
const ARP_FORM: [u16; 3] = [Be16::new(1).raw(), Be16::new(0x0800).raw(), Be16::new(0x0604).raw()];
const ARP_REQUEST: u16 = Be16::new(1).raw();
/// Of neighbour discovery, so that it is known to be from the link.
pub(super) const HOP_LIMIT: u8 = 255;
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;

/// What the datapath asks about leases.
pub trait Leases {
    /// This node's Ethernet address, once the agent has told it.
    fn own_mac(&self) -> Option<[u8; 6]>;
    /// The lease of an address, if it has one.
    fn lease(&self, address: Be128) -> Option<&SharedLease>;
    /// Nanoseconds of the clock that leases end by.
    fn boot_nanoseconds(&self) -> u64;
    /// Tells the agent of a claim, unless it has heard enough.
    fn claimed(&self, address: Be128, mac: [u8; 6]);
}

/// An ARP frame that arrives.
#[inline(always)]
pub fn arp(head: &[u16; ARP_HALFWORDS], leases: &impl Leases) -> Reason {
    if !is_arp(head) {
        return Reason::NotIp;
    }
    let (sender, target) = (address(head, 28), address(head, 38));
    if let Some(reason) = claim(leases, sender, mac(head, 22)) {
        return reason;
    }
    if head[10] == ARP_REQUEST && sender != target && is_over(leases, target) {
        return Reason::LeaseOver;
    }
    Reason::NotIp
}

/// What comes next for a frame of neighbour discovery that arrives.
#[inline(always)]
pub fn neighbour<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let reason = match packet.head::<NEIGHBOUR_HALFWORDS>() {
        Ok(head) => discovery(head, tables),
        Err(_) => None,
    };
    let Some(node) = tables.node() else {
        return Step::End(Reason::NotConfigured);
    };
    Step::End(match reason {
        Some(reason) => reason,
        None => F::odd(packet, tables, node),
    })
}

#[inline(always)]
fn discovery(head: &[u16; NEIGHBOUR_HALFWORDS], leases: &impl Leases) -> Option<Reason> {
    let target = address6(head, TARGET);
    if kind(head) == ADVERTISEMENT {
        return claim(leases, target, mac(head, 6));
    }
    is_over(leases, target).then_some(Reason::LeaseOver)
}

/// An ARP frame that leaves: why it may not.
#[inline(always)]
#[must_use]
pub fn arp_leaves(head: &[u16; ARP_HALFWORDS], leases: &impl Leases) -> Option<Reason> {
    (is_arp(head) && is_over(leases, address(head, 28))).then_some(Reason::LeaseOverOut)
}

/// A frame of IPv6 that leaves: why it may not.
#[inline(always)]
#[must_use]
pub fn neighbour_leaves(head: &[u16; NEIGHBOUR_HALFWORDS], leases: &impl Leases) -> Option<Reason> {
    if byte(head, ETHERNET + 6) != V6::ICMP || !matches!(kind(head), SOLICITATION | ADVERTISEMENT) {
        return None;
    }
    // A solicitation tells where its source is, an advertisement where its target is.
    let at = if kind(head) == ADVERTISEMENT { TARGET } else { ETHERNET + 8 };
    is_over(leases, address6(head, at)).then_some(Reason::LeaseOverOut)
}

/// Where the target is in a neighbour solicitation or advertisement.
const TARGET: usize = ETHERNET + V6::IP + 8;

#[inline(always)]
fn kind(head: &[u16; NEIGHBOUR_HALFWORDS]) -> u8 {
    byte(head, ETHERNET + V6::IP)
}

#[inline(always)]
fn is_arp(head: &[u16; ARP_HALFWORDS]) -> bool {
    head[7] == ARP_FORM[0] && head[8] == ARP_FORM[1] && head[9] == ARP_FORM[2]
}

#[inline(always)]
fn is_over(leases: &impl Leases, address: Be128) -> bool {
    leases.lease(address).is_some_and(|lease| lease.until.get() <= leases.boot_nanoseconds())
}

/// How a frame ends by which somebody says that `address` is at `mac`, if that concerns us.
#[inline(always)]
fn claim(leases: &impl Leases, address: Be128, mac: [u8; 6]) -> Option<Reason> {
    let lease = leases.lease(address)?;
    if leases.own_mac() == Some(mac) || lease.until.get() <= leases.boot_nanoseconds() {
        return None;
    }
    if lease.flags & lease_flag::YIELDS != 0 {
        lease.until.set(0);
        return None;
    }
    leases.claimed(address, mac);
    Some(Reason::VipClaimed)
}

#[inline(always)]
fn address(head: &[u16; ARP_HALFWORDS], at: usize) -> Be128 {
    Be32::from_halves([head[at / 2], head[at / 2 + 1]]).into()
}

#[inline(always)]
fn address6(head: &[u16; NEIGHBOUR_HALFWORDS], at: usize) -> Be128 {
    let word = |place: usize| Be32::from_halves([head[at / 2 + 2 * place], head[at / 2 + 2 * place + 1]]);
    Be128::from_words([word(0), word(1), word(2), word(3)])
}

#[inline(always)]
fn mac<const N: usize>(head: &[u16; N], at: usize) -> [u8; 6] {
    let pair = |place: usize| head[at / 2 + place].to_ne_bytes();
    let ([a, b], [c, d], [e, f]) = (pair(0), pair(1), pair(2));
    [a, b, c, d, e, f]
}
