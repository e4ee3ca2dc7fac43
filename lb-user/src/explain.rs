//! What becomes of a client's next connection, and why: the datapath's own decision, made on a copy of its tables. Pure.

mod facts;
mod words;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::{Balance, Reason};
use lb_ebpf::datapath::process;
use lb_ebpf::packet::Owned;
use serde::{Deserialize, Serialize};

pub use facts::Facts;
use facts::Trial;
pub use words::explanation;

/// What becomes of a connection, and why; the body of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The client, address:port.
    pub client: String,
    /// Where it connects to.
    pub listener: String,
    /// The service there; none: nobody listens.
    pub service: Option<String>,
    /// `roundrobin`, `leastconn`, `source` or `maglev`; empty without a service.
    pub balance: String,
    /// Whether packets to that address come to this node, in words.
    pub vip: String,
    /// Whether the allow list has the client, in words.
    pub allowed: String,
    /// What the limit for sources says, in words.
    pub source_limit: String,
    /// The flow that there is.
    pub flow: Option<crate::connections::Connection>,
    /// The backends of the service.
    pub candidates: Vec<Candidate>,
    /// How the datapath would end the first packet of a new connection: a reason as in the counters of packets.
    pub outcome: String,
    /// The same in words.
    pub words: String,
}

/// A backend, as far as it is one for this connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Address:port.
    pub address: String,
    /// Whether it takes new connections.
    pub takes: bool,
    /// Why, or why not.
    pub why: String,
    /// Established connections, as the datapath counts them.
    pub connections: u32,
    /// How likely it gets this one: 1 where it follows from the client, its share of the next turns otherwise.
    pub chance: f64,
}

/// How the datapath would decide.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    /// How the first packet ends.
    reason: Reason,
    /// Slots that the connection may go to, with the turns in which it does.
    turns: BTreeMap<u32, u32>,
}

impl Decision {
    /// The share of turns in which a slot is taken.
    fn chance(&self, slot: u32) -> f64 {
        let all: u32 = self.turns.values().sum();
        let of = self.turns.get(&slot).copied().unwrap_or_default();
        if all == 0 { 0.0 } else { f64::from(of) / f64::from(all) }
    }
}

/// Has the datapath decide about a new connection, in each turn that may be the next where it goes by turns.
fn decide(facts: &Facts) -> Decision {
    let by_turn = |balance: u16| balance == Balance::RoundRobin as u16 || balance == Balance::LeastConn as u16;
    let turns = match &facts.service {
        Some(service) if by_turn(service.balance) => u32::from(service.ring_length).max(1),
        _ => 1,
    };
    let frame = opening(facts.client, facts.listener, facts.node.mac);
    let mut decision = Decision { reason: Reason::NotConfigured, turns: BTreeMap::new() };
    for turn in 0..turns {
        let trial = Trial::new(facts, turn);
        decision.reason = process(&mut Owned::new(&frame), &trial);
        if let Some(slot) = trial.chosen() {
            *decision.turns.entry(slot).or_default() += 1;
        }
    }
    decision
}

/// The first packet of a connection, as it arrives.
fn opening(client: SocketAddr, listener: SocketAddr, mac: [u8; 6]) -> Vec<u8> {
    const TCP: u8 = 6;
    const HOPS: u8 = 64;
    const LENGTH: u8 = 20;
    let mut frame = Vec::with_capacity(74);
    frame.extend(mac);
    frame.extend([2, 0, 0, 0, 0, 1]);
    match (client.ip(), listener.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = [0x45, 0, 0, 20 + LENGTH, 0, 0, 0x40, 0, HOPS, TCP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[12..16].copy_from_slice(&from.octets());
            header[16..].copy_from_slice(&to.octets());
            let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(header);
        }
        (from, to) => {
            let six = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, LENGTH, TCP, HOPS]);
            frame.extend(six(from));
            frame.extend(six(to));
        }
    }
    frame.extend(client.port().to_be_bytes());
    frame.extend(listener.port().to_be_bytes());
    // Sequence and acknowledgement number, five words of header, SYN, window; nobody looks at the checksum.
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

#[cfg(test)]
mod tests;
