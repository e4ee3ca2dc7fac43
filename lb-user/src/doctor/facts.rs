//! What was observed, as plain data: all that judging needs.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use lb_proto::health::Outcome;
use lb_proto::wire::arp::Mac;

use crate::bpf::choose;
use crate::config::{Datapath, Faults, IpNet, Listen};
pub use crate::http::RevocationList;

/// Something that was looked at, or why it could not be.
pub type Seen<T> = Result<T, String>;

/// Everything observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The configuration.
    pub configuration: Configuration,
    /// The files of keys that it names.
    pub keys: Vec<KeyFile>,
    /// The files of the status page that it names.
    pub page: Page,
    /// The host.
    pub host: Host,
    /// The interfaces of the configuration; without one, every one that is up.
    pub devices: Vec<Device>,
    /// All other interfaces that have addresses.
    pub others: Vec<Other>,
    /// The virtual routers of the configuration.
    pub routers: Vec<Router>,
    /// Adverts heard, on any of the interfaces.
    pub adverts: Vec<Advert>,
    /// Interfaces on which nothing could be heard, and why.
    pub deaf: Vec<(String, String)>,
    /// How long was listened.
    pub listened: Duration,
    /// The VIPs of virtual routers.
    pub vips: Vec<Vip>,
    /// The services of the configuration.
    pub services: Vec<Service>,
    /// Sockets of the host that listen where a service or the agent wants to be.
    pub listeners: Seen<Vec<Listener>>,
}

/// The configuration, as far as it could be used.
#[derive(Debug, Clone, PartialEq)]
pub enum Configuration {
    /// None was named.
    None,
    /// It is wrong by itself.
    Wrong(Faults),
    /// It is good by itself.
    Good {
        /// What the host lacks for it.
        host_lacks: Option<Faults>,
        /// What `node.datapath` asks for.
        datapath: Datapath,
        /// `node.interface`
        interface: String,
        /// `node.source_ports`
        source_ports: RangeInclusive<u16>,
        /// `metrics.listen`
        metrics: SocketAddr,
    },
}

/// A file of keys that the configuration names.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyFile {
    /// The file.
    pub path: PathBuf,
    /// What it is for, or why it cannot be used, in words that name it.
    pub usable: Seen<String>,
}

/// The files of the status page that the configuration names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// `metrics.password_file`: which it is, or why it cannot be used, in words that name it.
    pub passwords: Option<Seen<PathBuf>>,
    /// `metrics.tls_cert` and `metrics.tls_key`: the first, with its certificates, the server's own first; or why both cannot be
    /// used, in words that name the one at fault.
    pub tls: Option<Seen<(PathBuf, Vec<Certificate>)>>,
    /// `metrics.tls_client_ca`: what it says, or why it cannot be used, in words that name it.
    pub clients: Option<Seen<Clients>>,
}

/// Whose certificates are those of administrators.
#[derive(Debug, Clone, PartialEq)]
pub struct Clients {
    /// The file.
    pub path: PathBuf,
    /// The authorities in it.
    pub authorities: Vec<Certificate>,
    /// Their lists of what they have revoked.
    pub lists: Vec<RevocationList>,
}

/// The host as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// `uname -r`
    pub kernel: Seen<String>,
    /// Whether the kernel shows its own types.
    pub btf: bool,
    /// Whether it is a PREEMPT_RT kernel (/sys/kernel/realtime).
    pub realtime: bool,
    /// `net.core.bpf_jit_enable`
    pub jit: Seen<u32>,
    /// Whether there is a BPF file system at its usual place.
    pub bpffs: bool,
    /// Where cgroup version 2 is mounted, if it is.
    pub cgroup: Seen<Option<String>>,
    /// The effective capabilities of this process, bit by bit.
    pub capabilities: Seen<u64>,
    /// Whether this binary holds the kernel side.
    pub datapath_inside: bool,
    /// `net.ipv4.ip_local_port_range`
    pub port_range: Seen<RangeInclusive<u16>>,
    /// CPUs this process may use.
    pub cpus: u32,
    /// Other balancers and routers that run here: program and process id.
    pub processes: Seen<Vec<(String, u32)>>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What decides on the datapath.
    pub traits: choose::Facts,
    /// Switched on and with carrier.
    pub up: bool,
    /// Whether it has an Ethernet address.
    pub ethernet: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// The device above it: name and kind.
    pub master: Option<(String, Option<String>)>,
    /// VLAN identifier, of a VLAN's interface.
    pub vlan: Option<u16>,
    /// The driver's name.
    pub driver: Seen<String>,
    /// Receive queues.
    pub queues: Seen<u32>,
    /// What the card and the stack do.
    pub offloads: Seen<Offloads>,
    /// Programs on it.
    pub programs: Vec<Seen<Program>>,
    /// `rp_filter`, the higher of that of all interfaces and its own.
    pub rp_filter: Seen<u32>,
    /// `arp_ignore`, the higher of that of all interfaces and its own.
    pub arp_ignore: Seen<u32>,
}

/// An interface that is not served.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// `arp_ignore`, as for a device.
    pub arp_ignore: Seen<u32>,
}

/// Offloads in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// Received checksums are verified by the card.
    pub rx_checksum: bool,
    /// Sent checksums are finished by the card.
    pub tx_checksum: bool,
    /// Sent segments are cut by the card.
    pub tso: bool,
    /// Received segments are joined by the stack.
    pub gro: bool,
    /// Received segments are joined by the card, for good.
    pub lro: bool,
}

/// Where a program sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// XDP in the driver, or on the card.
    XdpNative,
    /// XDP in the stack.
    XdpGeneric,
    /// tcx, on the way in or out.
    Tcx {
        /// On the way in.
        ingress: bool,
    },
    /// A classic traffic control filter, on the way in or out.
    Filter {
        /// On the way in.
        ingress: bool,
    },
}

/// A program on an interface, or a classic filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it sits.
    pub hook: Hook,
    /// Its name, or the kind of the filter; none where it may not be seen.
    pub name: Option<String>,
    /// The kernel's number of the program.
    pub id: Option<u32>,
}

impl Program {
    /// Whether it is one of XDP.
    #[must_use]
    pub fn is_xdp(&self) -> bool {
        matches!(self.hook, Hook::XdpNative | Hook::XdpGeneric)
    }

    /// Whether it is one of xvip's, by its name.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.name.as_deref().is_some_and(is_ours)
    }
}

/// Whether a program of this name is one of xvip's.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    name.starts_with("xvip")
}

/// A virtual router of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Router {
    /// Its name.
    pub name: String,
    /// Where its adverts and addresses live.
    pub interface: String,
    /// Its VRID.
    pub vrid: u8,
    /// The version of VRRP it speaks.
    pub version: u8,
    /// Time between its adverts.
    pub interval: Duration,
    /// Its VIPs.
    pub addresses: Vec<IpAddr>,
    /// Peers it speaks to, and whether they answer for their addresses; none: multicast.
    pub peers: Vec<(IpAddr, Seen<Answer>)>,
}

/// What asking for an address has brought, by ARP or by neighbour solicitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is no such interface, or it is down: nobody was asked.
    NoWire,
    /// It is not in a subnet of the interface: nobody was asked.
    Elsewhere,
    /// These said they have it; none: silence.
    From(Vec<Mac>),
}

/// An advert heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    /// Where it was heard.
    pub interface: String,
    /// Who sent it.
    pub source: IpAddr,
    /// Version of VRRP.
    pub version: u8,
    /// Its virtual router.
    pub vrid: u8,
    /// The sender's priority.
    pub priority: u8,
    /// Time between adverts, as it says.
    pub interval: Duration,
    /// The addresses it speaks for.
    pub addresses: Vec<IpAddr>,
}

/// A VIP of a virtual router.
#[derive(Debug, Clone, PartialEq)]
pub struct Vip {
    /// The virtual router.
    pub router: String,
    /// The address.
    pub address: IpAddr,
    /// The interface it belongs to.
    pub interface: String,
    /// That interface's own subnets.
    pub subnets: Vec<Subnet>,
    /// The interface of this host that has it, and whether xvip put it there.
    pub held: Option<(String, bool)>,
    /// Who answers for it.
    pub answers: Seen<Answer>,
}

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub listen: Vec<Listen>,
    /// Whether its health check speaks TLS.
    pub tls: bool,
    /// Why its health check cannot be made ready.
    pub check_fails: Option<String>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// A backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// How packets reach it.
    pub route: Seen<Way>,
    /// What one health check found, and how long the answer took.
    pub outcome: Option<(Outcome, Duration)>,
    /// Bytes of the largest packet on the way there, where a connection came about.
    pub path_mtu: Option<u32>,
    /// What it showed; none where its service speaks no TLS.
    pub certificate: Option<Seen<Certificate>>,
}

/// How packets reach a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The interface they leave by.
    pub interface: String,
    /// The router they are handed to.
    pub gateway: Option<IpAddr>,
    /// The address is this host's.
    pub local: bool,
}

/// A certificate that a backend showed, that the status page is to show, or of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The service's VIPs that it does not name; where nothing is asked for, none.
    pub lacks: Vec<IpAddr>,
    /// The names and addresses it has, where it lacks one.
    pub names: Vec<String>,
    /// When it begins to be valid, in seconds since the Unix epoch.
    pub not_before: Option<u64>,
    /// When it ceases to be valid, in seconds since the Unix epoch.
    pub not_after: Option<u64>,
}

/// A listening socket of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The program and its process id, where they could be seen.
    pub process: Option<(String, u32)>,
}

/// An address, and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The address itself, host bits included.
    pub address: IpAddr,
    /// 0..=32, or 128.
    pub prefix: u8,
}

impl Subnet {
    /// Whether `other` is in the same network.
    #[must_use]
    pub fn contains(&self, other: IpAddr) -> bool {
        let same = |bits: u32, differing: u128| {
            differing.checked_shr(bits.saturating_sub(self.prefix.into())).unwrap_or(0) == 0
        };
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same(32, (own.to_bits() ^ other.to_bits()).into()),
            (IpAddr::V6(own), IpAddr::V6(other)) => same(128, own.to_bits() ^ other.to_bits()),
            _ => false,
        }
    }
}

impl From<IpNet> for Subnet {
    fn from(net: IpNet) -> Self {
        Self { address: net.address, prefix: net.prefix }
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_holds_its_own() {
        for (subnet, prefix, other, holds) in [
            ("192.0.2.21", 24, "192.0.2.100", true),
            ("192.0.2.21", 24, "192.0.3.100", false),
            ("192.0.2.21", 32, "192.0.2.21", true),
            ("192.0.2.21", 32, "192.0.2.20", false),
            ("192.0.2.21", 0, "203.0.113.1", true),
            ("2001:db8::1", 64, "2001:db8::ffff:1", true),
            ("2001:db8::1", 64, "2001:db8:0:1::1", false),
            ("2001:db8::1", 0, "::1", true),
            ("192.0.2.21", 24, "::ffff:192.0.2.22", false),
        ] {
            let subnet = Subnet { address: subnet.parse().unwrap(), prefix };
            assert_eq!(subnet.contains(other.parse().unwrap()), holds, "{subnet} {other}");
        }
    }
}
