//! Flows: one entry for each direction, keyed by what a packet of that direction carries.

use super::word::{Readable, Word};
use super::{CLOSED_SECONDS, HALF_OPEN_SECONDS, RESET_SECONDS, TIME_WAIT_SECONDS};
use crate::net::checksum::{change16, fold};
use crate::net::{Address, Be16, Be32, Be128};

/// Addresses and ports as a packet carries them; `A` is [`Be32`] for IPv4 and [`Be128`] for IPv6.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FlowKey<A = Be32> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
}

impl<A: Address> FlowKey<A> {
    /// The same with IPv4 addresses as IPv4-mapped ones.
    #[inline(always)]
    #[must_use]
    pub fn wide(&self) -> FlowKey<Be128> {
        FlowKey {
            source: self.source.into(),
            destination: self.destination.into(),
            source_port: self.source_port,
            destination_port: self.destination_port,
        }
    }

    /// The key of a packet in answer to one with this key.
    #[inline(always)]
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

/// Which way the packets of an entry go.
#[repr(u16)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    ToBackend = 0,
    /// From the backend.
    ToClient = 1,
}

/// How packets reach a backend.
#[repr(u16)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// With a source address and port of ours, so that answers come back through this node.
    #[default]
    Translated = 0,
    /// The backend is this node itself: only the destination changes, and its answers are translated where they leave.
    Local = 1,
    /// Only the Ethernet addresses change; the backend's own node translates, and answers the client itself.
    Direct = 2,
    /// The same inside an outer packet to the backend's address (RFC 2003, RFC 2473), for a node behind routers.
    Tunnelled = 3,
}

/// Bits of [`Flow::state`].
pub mod state {
    /// The client has sent a FIN.
    pub const FIN_CLIENT: u32 = 1;
    /// The backend has sent a FIN.
    pub const FIN_BACKEND: u32 = 2;
    /// The backend sent its FIN without having seen the client's, so its socket will wait.
    pub const BACKEND_FIRST: u32 = 4;
    /// One side has reset the connection.
    pub const RESET: u32 = 8;
    /// Half-open only: the backend has answered, and `expect` holds what the client must acknowledge.
    pub const ANSWERED: u32 = 16;
    /// Half-open only: no other backend is left to try.
    pub const LAST: u32 = 32;
    /// Its packets may have gone through another node unseen: the next one in this direction is believed, and sets the numbers.
    pub const UNSURE: u32 = 64;
    /// Another node has told of it.
    pub const LEARNT: u32 = 128;
}

/// A flow in one direction: what to write into its packets, and what has been seen of it.
///
/// `A` is as in [`FlowKey`]. `W` is `u32` for a copy and [`Word`] ([`SharedFlow`]) for the entry itself, which other CPUs
/// write too.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow<A = Be32, W = u32> {
    /// The key its packets have when they leave.
    pub translated: FlowKey<A>,
    /// What the translation, and one hop less to live, add to the complement of the IPv4 header checksum; IPv6 has none.
    pub ip_change: u16,
    /// What the translation adds to the complement of the TCP checksum.
    pub tcp_change: u16,
    /// Slot of the backend.
    pub backend: u16,
    /// Number of the service.
    pub service: u16,
    /// Generation of the backend's slot when the flow began.
    pub generation: u32,
    /// [`Direction`].
    pub direction: u16,
    /// [`Delivery`].
    pub delivery: u16,
    /// Second of the last packet, monotonic clock of the kernel.
    pub seen: W,
    /// See [`state`].
    pub state: W,
    /// Last acknowledgement number sent in this direction, host order; what the other side may send next.
    pub acknowledged: W,
    /// Acknowledgement number that completes the handshake (half-open); then the next sequence number in this direction. Host
    /// order.
    pub expect: W,
    /// Ethernet address of the client's next hop, first four bytes.
    pub mac_high: W,
    /// The last two.
    pub mac_low: W,
    /// Second in which the next hop was last looked up. Of an adopted flow whose packets stay as they are, the client's port
    /// as its server sees it.
    pub routed: W,
    /// Seconds the flow may be silent.
    pub idle_seconds: u32,
}

/// A flow's entry as it lies in the table.
pub type SharedFlow<A = Be32> = Flow<A, Word>;

const _: () = {
    assert!(size_of::<FlowKey>() == 12);
    assert!(size_of::<Flow>() == 60);
    assert!(size_of::<SharedFlow>() == size_of::<Flow>() && align_of::<SharedFlow>() == align_of::<Flow>());
    assert!(size_of::<FlowKey<Be128>>() == 36);
    assert!(size_of::<Flow<Be128>>() == 84);
    assert!(size_of::<SharedFlow<Be128>>() == 84 && align_of::<SharedFlow<Be128>>() == align_of::<Flow<Be128>>());
};

impl<A: Address> Flow<A> {
    /// An entry that turns packets of `key` into packets of `translated`.
    #[inline(always)]
    #[must_use]
    pub fn new(key: &FlowKey<A>, translated: FlowKey<A>, direction: Direction, now: u32) -> Self {
        let addresses = addresses(key, &translated);
        let ports = change16(key.source_port.raw(), translated.source_port.raw())
            + change16(key.destination_port.raw(), translated.destination_port.raw());
        // TTL is the upper half of its word, so one less is 0x0100 less.
        let ttl = change16(Be16::new(0x0100).raw(), 0);
        Self {
            translated,
            ip_change: fold(addresses + ttl),
            tcp_change: fold(addresses + ports),
            direction: direction as u16,
            seen: now,
            ..Self::default()
        }
    }

    /// The same for packets that are delivered as `delivery` says; those to and from this node itself pass no router.
    #[inline(always)]
    #[must_use]
    pub fn delivered(self, key: &FlowKey<A>, delivery: Delivery) -> Self {
        let is_local = delivery as u16 == Delivery::Local as u16;
        let ip_change = if is_local { fold(addresses(key, &self.translated)) } else { self.ip_change };
        Self { delivery: delivery as u16, ip_change, ..self }
    }

    /// The entry for the backend's answers to this flow, whose packets from the client have the key `client`.
    #[inline(always)]
    #[must_use]
    pub fn answering(&self, client: &FlowKey<A>, now: u32) -> Self {
        let (key, delivery) = (self.other(), if self.is_local() { Delivery::Local } else { Delivery::Translated });
        let answers = Self::new(&key, client.reversed(), Direction::ToClient, now).delivered(&key, delivery);
        Self {
            backend: self.backend,
            service: self.service,
            generation: self.generation,
            idle_seconds: self.idle_seconds,
            mac_high: self.mac_high,
            mac_low: self.mac_low,
            ..answers
        }
    }
}

/// What a change of both addresses adds to the complement of a checksum over them.
#[inline(always)]
fn addresses<A: Address>(from: &FlowKey<A>, to: &FlowKey<A>) -> u32 {
    from.source.change(to.source) + from.destination.change(to.destination)
}

impl<A: Address, W: Readable> Flow<A, W> {
    /// The key of the entry for the other direction.
    #[inline(always)]
    #[must_use]
    pub fn other(&self) -> FlowKey<A> {
        self.translated.reversed()
    }

    /// Whether this key is that of the entry for the other direction.
    #[inline(always)]
    #[must_use]
    pub fn is_other_of(&self, key: &FlowKey<A>) -> bool {
        let there = &self.translated;
        there.source_port.raw() == key.destination_port.raw()
            && there.destination_port.raw() == key.source_port.raw()
            && there.source == key.destination
            && there.destination == key.source
    }

    /// The Ethernet address of the client's next hop; zero when unknown.
    #[inline(always)]
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        let ([a, b, c, d], [e, f, _, _]) = (self.mac_high.get().to_ne_bytes(), self.mac_low.get().to_ne_bytes());
        [a, b, c, d, e, f]
    }

    /// Whether its backend is this node itself.
    #[inline(always)]
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.delivery == Delivery::Local as u16
    }

    /// Whether its backend is this node itself and sees a VIP of ours as its client, because the flow was opened through
    /// another node: its answers leave by the loopback interface. `key` is that of this entry.
    #[inline(always)]
    #[must_use]
    pub fn is_homed(&self, key: &FlowKey<A>) -> bool {
        let (client, seen) = if self.is_from_client() {
            (key.source, self.translated.source)
        } else {
            (self.translated.destination, key.destination)
        };
        self.is_local() && client != seen
    }

    /// Whether its backend answers the client itself, so that there is no entry for answers.
    #[inline(always)]
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.delivery == Delivery::Direct as u16 || self.is_tunnelled()
    }

    /// Whether its packets leave inside outer ones.
    #[inline(always)]
    #[must_use]
    pub fn is_tunnelled(&self) -> bool {
        self.delivery == Delivery::Tunnelled as u16
    }

    /// Whether its packets come from the client.
    #[inline(always)]
    #[must_use]
    pub fn is_from_client(&self) -> bool {
        self.direction == Direction::ToBackend as u16
    }

    /// Whether both sides are done with this flow.
    #[inline(always)]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        is_closed(self.state.get())
    }

    /// Whether the entry has been silent for longer than its state allows.
    #[inline(always)]
    #[must_use]
    pub fn is_expired(&self, now: u32) -> bool {
        now.saturating_sub(self.seen.get()) > lifetime(self.state.get(), self.idle_seconds)
    }

    /// Whether a half-open entry has been silent for too long.
    #[inline(always)]
    #[must_use]
    pub fn is_stale_half_open(&self, now: u32) -> bool {
        now.saturating_sub(self.seen.get()) > HALF_OPEN_SECONDS
    }
}

impl<A: Address> SharedFlow<A> {
    /// Notes that a packet was seen in this second.
    #[inline(always)]
    pub fn touch(&self, now: u32) {
        // Reading first keeps the cache line shared while the second lasts.
        if self.seen.get() != now {
            self.seen.set(now);
        }
    }

    /// Sets the Ethernet address of the client's next hop.
    #[inline(always)]
    pub fn set_mac(&self, mac: [u8; 6]) {
        let (high, low) = split_mac(mac);
        self.mac_high.set(high);
        self.mac_low.set(low);
    }
}

/// An Ethernet address as two words of a flow.
#[inline(always)]
#[must_use]
pub const fn split_mac(mac: [u8; 6]) -> (u32, u32) {
    let [a, b, c, d, e, f] = mac;
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, 0, 0]))
}

#[inline(always)]
const fn is_closed(bits: u32) -> bool {
    bits & state::RESET != 0
        || bits & (state::FIN_CLIENT | state::FIN_BACKEND) == state::FIN_CLIENT | state::FIN_BACKEND
}

#[inline(always)]
const fn lifetime(bits: u32, idle_seconds: u32) -> u32 {
    if bits & state::RESET != 0 {
        RESET_SECONDS
    } else if !is_closed(bits) {
        idle_seconds
    } else if bits & state::BACKEND_FIRST != 0 {
        TIME_WAIT_SECONDS
    } else {
        CLOSED_SECONDS
    }
}
