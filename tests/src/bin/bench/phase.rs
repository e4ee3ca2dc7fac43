//! What is measured.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::load::Direction;

/// New connections a second by the timetable: far less than any balancer takes, so that nothing queues.
const CONNECTION_RATE: f64 = 2000.0;
/// Requests a second by the timetable.
const REQUEST_RATE: f64 = 8000.0;

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// Connect, request, close: 32 at a time
    Connections,
    /// Connect, request, close: 2,000 a second
    ConnectionsPaced,
    /// Requests over 32 kept connections
    Requests,
    /// Requests over 32 kept connections: 8,000 a second
    RequestsPaced,
    /// Connect, full TLS handshake, request, close: 32 at a time
    Tls,
    /// One stream to the client
    #[value(name = "bulk-1")]
    #[serde(rename = "bulk-1")]
    Bulk1,
    /// Four streams to the client
    #[value(name = "bulk-4")]
    #[serde(rename = "bulk-4")]
    Bulk4,
    /// Four streams to the servers
    #[value(name = "upload-4")]
    #[serde(rename = "upload-4")]
    Upload4,
    /// Cost of a packet of an established flow inside the program
    Packets,
    /// Cost of the first packet of a flow inside the program
    NewFlows,
}

/// What goes over the wires in a phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Work {
    /// Small exchanges.
    Exchanges {
        /// Over kept connections.
        is_kept: bool,
        /// How many a second; in a closed loop without.
        rate: Option<f64>,
        /// With TLS.
        is_secret: bool,
    },
    /// Streams of bytes.
    Streams(usize, Direction),
}

impl Phase {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// In words.
    pub(crate) fn title(self) -> String {
        self.to_possible_value().and_then(|value| Some(value.get_help()?.to_string())).unwrap_or_default()
    }

    /// What goes over the wires; `None` where it happens inside the program alone.
    pub(crate) fn work(self) -> Option<Work> {
        let exchanges = |is_kept, rate, is_secret| Some(Work::Exchanges { is_kept, rate, is_secret });
        match self {
            Phase::Connections => exchanges(false, None, false),
            Phase::ConnectionsPaced => exchanges(false, Some(CONNECTION_RATE), false),
            Phase::Requests => exchanges(true, None, false),
            Phase::RequestsPaced => exchanges(true, Some(REQUEST_RATE), false),
            Phase::Tls => exchanges(false, None, true),
            Phase::Bulk1 => Some(Work::Streams(1, Direction::Down)),
            Phase::Bulk4 => Some(Work::Streams(4, Direction::Down)),
            Phase::Upload4 => Some(Work::Streams(4, Direction::Up)),
            Phase::Packets | Phase::NewFlows => None,
        }
    }

    /// Whether the rate is given.
    pub(crate) fn is_paced(self) -> bool {
        matches!(self, Phase::ConnectionsPaced | Phase::RequestsPaced)
    }

    /// What a rate counts.
    pub(crate) fn unit(self) -> Unit {
        match self {
            Phase::Connections | Phase::ConnectionsPaced | Phase::Tls => Unit::Connections,
            Phase::Requests | Phase::RequestsPaced => Unit::Requests,
            Phase::Bulk1 | Phase::Bulk4 | Phase::Upload4 => Unit::Bytes,
            Phase::Packets | Phase::NewFlows => Unit::Packets,
        }
    }
}

/// What a rate counts, and for how many of them processor time is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    /// New connections.
    Connections,
    /// Requests.
    Requests,
    /// Bytes.
    Bytes,
    /// Packets, one at a time.
    Packets,
}

impl Unit {
    /// Of a rate.
    pub(crate) const fn rate(self) -> &'static str {
        match self {
            Unit::Connections => "conn/s",
            Unit::Requests => "req/s",
            Unit::Bytes => "Gbit/s",
            Unit::Packets => "packets/s",
        }
    }

    /// Of processor time.
    pub(crate) const fn cost(self) -> &'static str {
        match self {
            Unit::Connections => "CPU-s/10k conn",
            Unit::Requests => "CPU-s/100k req",
            Unit::Bytes => "CPU-s/GB",
            Unit::Packets => "ns",
        }
    }

    /// A rate as people read it, of so many a second.
    pub(crate) fn shown(self, each_second: f64) -> f64 {
        if self == Unit::Bytes { each_second * 8.0 / 1e9 } else { each_second }
    }

    /// For how many processor time is given.
    pub(crate) const fn batch(self) -> f64 {
        match self {
            Unit::Connections => 1e4,
            Unit::Requests => 1e5,
            Unit::Bytes => 1e9,
            Unit::Packets => 1.0,
        }
    }

    /// Digits behind the point of a rate.
    pub(crate) const fn digits(self) -> usize {
        if matches!(self, Unit::Bytes) { 2 } else { 0 }
    }
}

/// Who stands between client and servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Balancer {
    /// Nobody: the client takes the servers in turn itself
    Direct,
    /// haproxy, mode tcp
    Haproxy,
    /// nftables: DNAT in turn, and masquerade
    Nftables,
    /// xvip by XDP in the driver
    XvipXdp,
    /// xvip by TC
    XvipTc,
}

impl Balancer {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What the wires do to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wire {
    /// A packet is a packet: checksums finished, nothing joined, on every veth
    Wire,
    /// veths as they come: checksums unfinished, segments joined
    Plain,
}

impl Wire {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// In words.
    pub(crate) const fn offloads(self) -> &'static str {
        match self {
            Wire::Wire => "TSO, GSO, GRO and checksum offload are off on every veth",
            Wire::Plain => "veth defaults: TSO, GSO and checksum offload on, GRO off",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_called_as_on_the_command_line() {
        for phase in Phase::value_variants() {
            assert_eq!(serde_json::to_value(phase).unwrap(), serde_json::Value::String(phase.name()));
            assert!(!phase.title().is_empty());
        }
        for balancer in Balancer::value_variants() {
            assert_eq!(serde_json::to_value(balancer).unwrap(), serde_json::Value::String(balancer.name()));
        }
    }

    #[test]
    fn rates_are_shown_as_people_read_them() {
        assert_eq!(Unit::Bytes.shown(125_000_000.0), 1.0);
        assert_eq!(Unit::Requests.shown(50_000.0), 50_000.0);
    }
}
