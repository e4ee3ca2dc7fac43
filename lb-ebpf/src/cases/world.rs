//! What the agent has written into the tables, and the hosts of the stories.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Frame;
use super::frame::sixth;
use crate::abi::{
    Backend, Delivery, Endpoint, Lease, Node, PortKey, PortSet, RING_SIZE, Service, Sharing, SourceLimit, VERSION, mask,
};
use crate::net::header::flag;
use crate::net::{Be32, Be128};

/// The tables that the agent writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// This node.
    pub node: Node,
    /// What is known of nodes that share flows.
    pub sharing: Sharing,
    /// VIPs.
    pub vips: Vec<Be128>,
    /// This node's own addresses besides.
    pub own: Vec<Be128>,
    /// Listeners.
    pub services: Vec<(Endpoint, Service)>,
    /// Backends by slot.
    pub backends: Vec<Backend>,
    /// Rounds, from the first place on.
    pub rings: Vec<u32>,
    /// Ethernet addresses of nodes that forward to this one without translating.
    pub fellows: Vec<[u8; 6]>,
    /// Nodes from which packets inside outer ones are taken.
    pub tunnels: Vec<Be128>,
    /// Allow lists: number of the list, prefix, and its length in bits of an address of IPv6.
    pub allowed: Vec<(u32, Be128, u8)>,
    /// Limits of sources, by service number.
    pub limits: Vec<(u32, SourceLimit)>,
    /// Sources that have as many connections as they may, of one address each: service number, address, and until when.
    pub full: Vec<(u32, Be128, u64)>,
    /// Source addresses besides the VIP, of the world's IP version.
    pub sources: Vec<Be128>,
    /// Whether there are sets of source ports, with none taken, for each backend and address; counts when a story begins.
    pub hints: bool,
    /// Leases of virtual addresses.
    pub leases: Vec<(Be128, Lease)>,
    /// Entries of the table of established flows; counts when a story begins.
    pub capacity: u32,
}

pub(super) const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
pub(super) const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 21));
pub(super) const PORT: u16 = 8443;
pub(super) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
pub(super) const CLIENT_PORT: u16 = 40_000;
pub(super) const BACKEND_PORT: u16 = 6443;
pub(super) const FIRST_PORT: u16 = 20_000;
pub(super) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x22];

/// Address of a backend by slot.
pub(super) const fn backend(slot: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 31 + slot))
}

/// Ethernet address of a backend by slot.
pub(super) const fn backend_mac(slot: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, slot]
}

impl World {
    /// One service on one VIP with three backends of weight 1.
    #[must_use]
    pub fn standard() -> Self {
        let backends = (0..3).map(|slot| Backend {
            endpoint: SocketAddr::new(backend(slot), BACKEND_PORT).into(),
            generation: 1,
            service: 0,
            gone: 0,
            delivery: Delivery::Translated as u16,
            mac: backend_mac(slot),
            share: 1,
            ..Backend::default()
        });
        Self {
            node: Node {
                version: VERSION,
                flags: 0,
                ifindex: 1,
                resets_per_second: 1_000_000,
                first_port: FIRST_PORT,
                port_count: 1000,
                port_jitter: 0,
                mac: NODE_MAC,
                port_offset: 0,
                address: Be32::default(),
                mtu: 0,
                mss: 0,
                port_stride: 0,
                sources: [0; 2],
                address6: Be128::default(),
                mss6: 0,
                // No time passes in a story, unless it says so.
                syn_patience: u16::MAX,
                suspect_after: u16::MAX,
                pad: 0,
            },
            sharing: Sharing::default(),
            vips: vec![VIP.into()],
            own: vec![OWN.into()],
            services: vec![(
                SocketAddr::new(VIP, PORT).into(),
                Service { ring_length: 3, idle_seconds: 7200, ..Service::default() },
            )],
            backends: backends.collect(),
            rings: vec![0, 1, 2],
            fellows: Vec::new(),
            tunnels: Vec::new(),
            allowed: Vec::new(),
            limits: Vec::new(),
            full: Vec::new(),
            sources: Vec::new(),
            hints: true,
            leases: Vec::new(),
            capacity: 1024,
        }
    }

    /// The same of hosts with IPv6 addresses.
    #[must_use]
    pub fn in_ipv6(mut self) -> Self {
        let six = |address: &mut Be128| *address = sixth(IpAddr::from(*address)).into();
        self.vips.iter_mut().for_each(six);
        self.own.iter_mut().for_each(six);
        self.leases.iter_mut().for_each(|(vip, _)| six(vip));
        self.sources.iter_mut().for_each(six);
        self.node.sources.reverse();
        self.services.iter_mut().for_each(|(at, _)| six(&mut at.address));
        self.backends.iter_mut().for_each(|backend| six(&mut backend.endpoint.address));
        self.allowed.iter_mut().for_each(|(_, address, bits)| {
            six(address);
            *bits = sixth_bits(*bits);
        });
        self.limits.iter_mut().for_each(|(_, limit)| {
            let bits: u32 = limit.mask.words().iter().map(|word| word.raw().count_ones()).sum();
            limit.mask = mask(sixth_bits(bits as u8));
        });
        self.full.iter_mut().for_each(|(_, address, _)| six(address));
        self.tunnels.iter_mut().for_each(six);
        if self.node.address != Be32::default() {
            self.node.address6 = sixth(IpAddr::V4(self.node.address.into())).into();
        }
        self
    }

    /// Sets of source ports as the agent makes them.
    #[must_use]
    pub fn port_sets(&self) -> Vec<PortKey> {
        let slots = 0..if self.hints { self.backends.len() as u32 } else { 0 };
        let addresses = || self.vips.iter().chain(&self.sources);
        slots.flat_map(|slot| addresses().map(move |address| PortKey { address: *address, slot })).collect()
    }

    /// What is in each of them at the beginning.
    #[must_use]
    pub fn no_port_taken(&self) -> PortSet {
        let first = self.node.first_port;
        match self.node.port_count {
            0 => PortSet::full(),
            count => PortSet::of_range(first..=first.saturating_add(count - 1)),
        }
    }

    /// The same after a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        assert!(self.rings.len() <= RING_SIZE as usize, "a story needs no second round");
        self
    }
}

/// The length of an IPv4 prefix between hosts with IPv6 addresses, where each byte has a group of its own ([`sixth`]).
const fn sixth_bits(bits: u8) -> u8 {
    let bits = bits - 96;
    64 + bits / 8 * 16 + if bits.is_multiple_of(8) { 0 } else { 8 + bits % 8 }
}

/// From the client to the service.
pub(super) fn request(flags: u8) -> Frame {
    Frame {
        mac_to: NODE_MAC,
        mac_from: CLIENT_MAC,
        from: CLIENT,
        to: VIP,
        from_port: CLIENT_PORT,
        to_port: PORT,
        ttl: 64,
        identification: 0x1234,
        fragment: 0x4000,
        sequence: if flags & flag::SYN != 0 { 1000 } else { 1001 },
        acknowledgement: if flags & flag::ACK != 0 { 5001 } else { 0 },
        flags,
        window: 64_240,
        options: if flags & flag::SYN != 0 { vec![2, 4, 5, 0xb4, 1, 3, 3, 7] } else { Vec::new() },
        payload: Vec::new(),
    }
}

/// From a backend in answer, as it arrives at the balancer.
pub(super) fn answer(slot: u8, source_port: u16, flags: u8) -> Frame {
    Frame {
        mac_to: NODE_MAC,
        mac_from: backend_mac(slot),
        from: backend(slot),
        to: VIP,
        from_port: BACKEND_PORT,
        to_port: source_port,
        sequence: if flags & flag::SYN != 0 { 5000 } else { 5001 },
        acknowledgement: 1001,
        ..request(flags)
    }
}

/// The client's frame as it goes to the backend.
pub(super) fn to_backend(frame: &Frame, slot: u8, source_port: u16) -> Frame {
    Frame {
        mac_to: backend_mac(slot),
        mac_from: NODE_MAC,
        from: VIP,
        to: backend(slot),
        from_port: source_port,
        to_port: BACKEND_PORT,
        ttl: frame.ttl - 1,
        ..frame.clone()
    }
}

/// The backend's frame as it goes to the client.
pub(super) fn to_client(frame: &Frame) -> Frame {
    Frame {
        mac_to: CLIENT_MAC,
        mac_from: NODE_MAC,
        from: VIP,
        to: CLIENT,
        from_port: PORT,
        to_port: CLIENT_PORT,
        ttl: frame.ttl - 1,
        ..frame.clone()
    }
}

/// The RST that answers a frame.
pub(super) fn reset(frame: &Frame) -> Frame {
    let acknowledges = frame.flags & flag::ACK != 0;
    let length =
        frame.payload.len() as u32 + u32::from(frame.flags & flag::SYN != 0) + u32::from(frame.flags & flag::FIN != 0);
    Frame {
        mac_to: frame.mac_from,
        mac_from: NODE_MAC,
        from: frame.to,
        to: frame.from,
        from_port: frame.to_port,
        to_port: frame.from_port,
        ttl: 64,
        identification: 0,
        fragment: 0x4000,
        sequence: if acknowledges { frame.acknowledgement } else { 0 },
        acknowledgement: if acknowledges { 0 } else { frame.sequence.wrapping_add(length) },
        flags: if acknowledges { flag::RST } else { flag::RST | flag::ACK },
        window: 0,
        options: Vec::new(),
        payload: Vec::new(),
    }
}
