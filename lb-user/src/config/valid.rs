//! The configuration as the agent uses it: typed, complete, every default filled in.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_ebpf::abi;
use lb_proto::family::Family;
use lb_proto::units::Version;
use lb_proto::wire::vrrp::v2::Password;

use super::{Keys, Listen, Track};

/// A whole configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// Where metrics and probes are served.
    pub metrics: Metrics,
    /// Where the commands reach the agent.
    pub admin: Admin,
    /// Virtual routers this node takes part in; none where the VIPs are somebody else's.
    pub vrrp: Vec<Vrrp>,
    /// What is balanced.
    pub services: Vec<Service>,
    /// With whom flows are shared; `None`: with nobody.
    pub sync: Option<Sync>,
    /// Where connections are logged; `None`: nowhere.
    pub flow_log: Option<FlowLog>,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Shown in status and used to name pinned objects; `[a-z0-9.-]`, at most 63 bytes.
    pub name: String,
    /// The interface where client and backend traffic enters.
    pub interface: String,
    /// What the node is for.
    pub role: Role,
    /// UDP port at which agents ask each other, the same on all nodes.
    pub peer_port: u16,
    /// Which datapath to attach.
    pub datapath: Datapath,
    /// Ports the balancer may use as its own towards backends; kept free of the host's sockets.
    pub source_ports: RangeInclusive<u16>,
    /// Source addresses towards backends besides the VIP; they are where the VIPs are.
    pub source_addresses: Vec<IpAddr>,
    /// Established flows the connection table holds; each takes two entries.
    pub max_flows: u32,
    /// Handshakes under way that the half-open table holds; each takes two entries, and the oldest are pushed out.
    pub max_half_open: u32,
    /// Whose processes are the node's own clients; `None`: the root of the cgroup v2 hierarchy.
    pub cgroup: Option<PathBuf>,
}

/// `node.datapath`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datapath {
    /// What serves the device best.
    Auto,
    /// Native XDP or nothing.
    Xdp,
    /// Generic XDP, on every device, at a price.
    XdpGeneric,
    /// TC (tcx), on every device.
    Tc,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Address of /metrics, /healthz, /readyz and the status page.
    pub listen: SocketAddr,
    /// Who may change things by the status page; `None`: nobody.
    pub password_file: Option<PathBuf>,
    /// What TLS is served with; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
}

/// `metrics.tls_cert`, `metrics.tls_key` and `metrics.tls_client_ca`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that lead to its authority, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Whose certificates are those of administrators, PEM; `None`: nobody's.
    pub client_authorities: Option<PathBuf>,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket, mode 0660.
    pub socket: PathBuf,
    /// Who may look without being able to change anything.
    pub read: Readers,
}

impl Admin {
    /// The socket that only tells, beside the other one: `admin.sock` and `admin-read.sock`.
    #[must_use]
    pub fn read_socket(&self) -> PathBuf {
        read_socket(&self.socket)
    }
}

/// The socket that only tells which belongs to the admin socket at `socket`.
#[must_use]
pub fn read_socket(socket: &Path) -> PathBuf {
    let mut name = socket.file_stem().unwrap_or_default().to_owned();
    name.push("-read");
    if let Some(extension) = socket.extension() {
        name.push(".");
        name.push(extension);
    }
    socket.with_file_name(name)
}

/// `admin.read`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Everyone on the host.
    Everyone,
    /// Root and the socket's group.
    Group,
    /// There is no such socket.
    Nobody,
}

/// `[flow_log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowLog {
    /// Where the lines go.
    pub to: LogTo,
    /// Lines in a second, at most.
    pub max_lines_per_second: u32,
}

/// `flow_log.path`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTo {
    /// To the end of this file, which is opened anew at each reload.
    File(PathBuf),
    /// To standard output.
    Stdout,
}

/// `[sync]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// The file with the key that the balancers share.
    pub key_file: PathBuf,
    /// UDP port, the same on all balancers.
    pub port: u16,
    /// The other balancers.
    pub peers: BTreeSet<IpAddr>,
    /// Our addresses towards them, one of a family at most; the kernel chooses where there is none.
    pub sources: Vec<IpAddr>,
}

/// `[[vrrp]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vrrp {
    /// Name in status, logs and metrics.
    pub name: String,
    /// Interface the adverts and the addresses live on.
    pub interface: String,
    /// VRID, 1..=255.
    pub virtual_router_id: NonZeroU8,
    /// 1..=254.
    pub priority: u8,
    /// 10 ms..=40.95 s in steps of 10 ms (RFC 9568 section 5.2.7).
    pub advert_interval: Duration,
    /// Whether a higher priority takes the VIP from a living Active router.
    pub preempt: bool,
    /// How long to wait before preempting.
    pub preempt_delay: Duration,
    /// Source of our adverts; `None`: the interface's primary address.
    pub unicast_source: Option<IpAddr>,
    /// Peers; empty: multicast.
    pub unicast_peers: Vec<IpAddr>,
    /// The VIPs, with the prefix length they are configured with; they, the source and the peers are of one family.
    pub virtual_addresses: Vec<IpNet>,
    /// Which checksum our adverts carry; both are accepted.
    pub checksum: ChecksumForm,
    /// Which version of the protocol it speaks and hears.
    pub version: Version,
    /// What adverts of version 2 carry, and must.
    pub password: Option<Password>,
    /// What adverts of version 3 are authenticated with; `None`: those of anybody are believed.
    pub auth: Option<Auth>,
    /// What it heeds besides adverts.
    pub tracks: Vec<Track>,
    /// Program and arguments run at every transition; empty: none.
    pub notify: Vec<String>,
    /// The `[[vrrp_sync_group]]` it is a member of.
    pub sync_group: Option<String>,
}

/// How the adverts of a virtual router are authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Where the keys are.
    pub key_file: PathBuf,
    /// What it says; none before it was read, which is not the configuration's work.
    pub keys: Keys,
    /// Where the numbers of adverts are kept, so that none is used twice.
    pub journal: PathBuf,
}

impl Vrrp {
    /// The family of the virtual router, which is that of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        self.virtual_addresses.first().map_or(Family::V4, |net| net.family())
    }
}

/// An address with the prefix length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpNet {
    /// The address itself, host bits included.
    pub address: IpAddr,
    /// 0..=32, or 0..=128 for IPv6.
    pub prefix: u8,
}

impl IpNet {
    /// The family of the address.
    #[must_use]
    pub fn family(self) -> Family {
        Family::of(self.address)
    }

    /// First address of the network.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() & !(self.host_bits() as u32)).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !self.host_bits()).into()),
        }
    }

    /// Last address of the network; over IPv4 its broadcast address.
    #[must_use]
    pub fn last(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() | self.host_bits() as u32).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() | self.host_bits()).into()),
        }
    }

    /// Whether `address` is in the network.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.family() == Family::of(address) && Self { address, ..self }.network() == self.network()
    }

    /// The bits that tell the hosts of the network apart. A prefix longer than an address counts as all of it.
    fn host_bits(self) -> u128 {
        let width: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let count = width.saturating_sub(self.prefix.into());
        1_u128.checked_shl(count).map_or(u128::MAX, |bit| bit - 1)
    }
}

impl std::fmt::Display for IpNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// How the VRRPv3 checksum over IPv4 is computed; the specifications differ and so do the peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumForm {
    /// With a pseudo-header (RFC 5798; keepalived 2.2 and FRR 8 accept only this).
    Rfc5798,
    /// Over the VRRP message alone (RFC 9568).
    Rfc9568,
}

impl Config {
    /// Services whose packets nodes forward to each other.
    pub fn direct_services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().filter(|service| service.mode == ServiceMode::Dsr)
    }
}

/// `[[service]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name in status, logs and metrics.
    pub name: String,
    /// VIP:port, and places for this node's own clients; one or more.
    pub listen: Vec<Listen>,
    /// Which backend this node's own clients get.
    pub local: Local,
    /// How a new connection chooses its backend.
    pub balance: Balance,
    /// What the hash of clients is keyed with; the same on all nodes.
    pub hash_key: Option<String>,
    /// Established connections of all backends together; 0: no limit.
    pub max_connections: u32,
    /// How long the share of a backend that returns grows; `None`: it has the whole at once.
    pub slow_start: Option<Duration>,
    /// How long established connections stay after their backend takes no new ones; `None`: until they end.
    pub drain_timeout: Option<Duration>,
    /// How packets reach the backends.
    pub mode: ServiceMode,
    /// Established flows silent for longer are forgotten.
    pub idle_timeout: Duration,
    /// How backends are probed.
    pub health_check: HealthCheck,
    /// Who may open connections; empty: everyone. This node's own clients always may.
    pub allow: Vec<IpNet>,
    /// How many connections a source may open and have; `None`: any number.
    pub source_limit: Option<SourceLimit>,
    /// Who serves.
    pub backends: Vec<Backend>,
}

impl Service {
    /// The family of the service, which is that of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        self.listen.first().map_or(Family::V4, |listen| Family::of(listen.address))
    }
}

/// `[service.source_limit]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLimit {
    /// How fast a source may open connections; `None`: as it likes.
    pub rate: Option<Rate>,
    /// Established connections that it may have; 0: any number.
    pub connections: u32,
    /// Addresses that begin with so many same bits are one source.
    pub prefix_length: u8,
}

/// `connections_per_second` and `burst` of `[service.source_limit]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// New connections of a source, over time.
    pub connections_per_second: u32,
    /// So many at once.
    pub burst: u32,
}

impl std::fmt::Display for SourceLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, connections, prefix_length } = self;
        let Some(Rate { connections_per_second, burst }) = rate else {
            return write!(f, "{connections} connections for each /{prefix_length}");
        };
        write!(f, "{connections_per_second} new connections a second for each /{prefix_length}, {burst} at once")?;
        if *connections > 0 { write!(f, ", {connections} in all") } else { Ok(()) }
    }
}

impl SourceLimit {
    /// As the datapath has it.
    #[must_use]
    pub fn spelled(self, family: Family) -> abi::SourceLimit {
        let interval = self.rate.map_or(0, |rate| 1_000_000_000 / u64::from(rate.connections_per_second.max(1)));
        let ahead = self.rate.map_or(0, |rate| rate.burst.saturating_sub(1));
        let before = if family == Family::V4 { 96 } else { 0 };
        abi::SourceLimit {
            interval,
            tolerance: interval.saturating_mul(ahead.into()),
            mask: abi::mask(before + self.prefix_length),
            connections: self.connections,
            pad: 0,
        }
    }
}

/// `service.balance`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Weighted round robin.
    RoundRobin,
    /// The fewest connections for the weight.
    LeastConn,
    /// By the client's address.
    Source,
    /// By the client's address and port.
    Maglev,
}

impl Balance {
    /// As in the file.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundrobin",
            Self::LeastConn => "leastconn",
            Self::Source => "source",
            Self::Maglev => "maglev",
        }
    }

    /// Whether a hash decides, so that a client's backend follows from its address.
    #[must_use]
    pub const fn is_hashed(self) -> bool {
        matches!(self, Self::Source | Self::Maglev)
    }
}

/// `service.local`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// The one on this node while it is ready, else another.
    Prefer,
    /// In turn, as everybody.
    Spread,
}

impl Local {
    /// As in the file.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Prefer => "prefer",
            Self::Spread => "spread",
        }
    }
}

/// `service.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceMode {
    /// With the VIP for their source: there is nothing to do on the backends.
    Snat,
    /// As the client sent them: the backends' own nodes translate, and answer the client themselves.
    Dsr,
}

impl ServiceMode {
    /// As in the file.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Snat => "snat",
            Self::Dsr => "dsr",
        }
    }
}

/// `node.role`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Balances, and serves backends of its own.
    Balancer,
    /// Serves its own backends what balancers forward to them, and forwards nothing.
    Backend,
}

impl Role {
    /// As in the file.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Backend => "backend",
        }
    }
}

/// `[service.health_check]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// Where it is asked; `None`: at the backend's own port.
    pub port: Option<NonZeroU16>,
    /// Start of one check to the start of the next.
    pub interval: Duration,
    /// For the whole check: connect, handshake, answer. Shorter than `interval`.
    pub timeout: Duration,
    /// Successes that bring a backend up.
    pub rise: u32,
    /// Failures that take a backend down.
    pub fall: u32,
}

/// `service.health_check.type`, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// The connection opens.
    Tcp,
    /// The TLS handshake completes.
    Tls(TlsCheck),
    /// An HTTP answer with an expected status.
    Http(HttpCheck),
    /// The same over TLS.
    Https(HttpCheck, TlsCheck),
}

/// What an HTTP check asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// Path and query.
    pub path: String,
    /// Value of the Host header; `None`: the backend's address.
    pub host: Option<String>,
    /// Statuses that mean "ready".
    pub expect_status: Vec<u16>,
}

/// What a TLS check verifies and presents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsCheck {
    /// PEM file of accepted authorities; `None`: the certificate is not verified.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the certificate and key presented to the backend.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Name asked for (SNI) and verified; `None`: the backend's address.
    pub server_name: Option<String>,
}

/// The largest [`Backend::weight`].
pub const MOST_WEIGHT: u16 = 256;

/// `[[service.backend]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Name in status, logs and metrics.
    pub name: String,
    /// Where it listens; port 0: connections keep the port that the client asked for.
    pub address: SocketAddr,
    /// Share of new connections, up to [`MOST_WEIGHT`]; 0: none.
    pub weight: u16,
    /// 0: no limit.
    pub max_connections: u32,
    /// Whether a command has taken it out; no file says so.
    pub duty: Duty,
}

/// What a command has made of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Duty {
    /// Nothing: its weight and its health decide.
    #[default]
    Serving,
    /// It takes no new connections and keeps those it has, until `drain_timeout`.
    Drained,
    /// It takes no new connections, and those it has are reset.
    Disabled,
}

impl Backend {
    /// Its share of new connections before its health is asked; a hashed service deals its places by `weight` all the
    /// same, so that nobody else's clients move.
    #[must_use]
    pub fn taken_weight(&self) -> u16 {
        if self.duty == Duty::Serving { self.weight } else { 0 }
    }

    /// As in the file.
    #[must_use]
    pub fn shown(&self) -> String {
        super::shown_address(self.address)
    }

    /// Where it is asked whether it is ready; validation sees to it that there is a port.
    #[must_use]
    pub fn checked_at(&self, check: &HealthCheck) -> SocketAddr {
        SocketAddr::new(self.address.ip(), check.port.map_or(self.address.port(), NonZeroU16::get))
    }
}
