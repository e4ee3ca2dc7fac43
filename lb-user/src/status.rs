//! What `xvip status --json` prints: the public shape of the agent's state.

#[cfg(test)]
pub(crate) mod example;
mod happened;
mod render;
mod show;
mod sync;
mod watch;
pub(crate) mod words;

pub use happened::events;
pub use render::{Rates, render, render_live};
pub(crate) use render::{clean, table};
pub use show::show;
pub use sync::{RefusedDatagrams, SkippedFlows, SyncPeerStatus, SyncStatus};

use serde::{Deserialize, Serialize};

/// Everything the agent knows about itself, at one moment.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// `node.name`
    pub node: String,
    /// `balancer`, or `backend`: it holds no VIP and only delivers to its own backends.
    #[serde(default = "balancer")]
    pub role: String,
    /// Version of the agent.
    pub version: String,
    /// Seconds since the Unix epoch at which the agent started.
    pub started_at: f64,
    /// Whether its health checks are still being made ready; backends are used unchecked until then.
    #[serde(default)]
    pub starting: bool,
    /// When the serving configuration was applied, and what became of the last attempt to replace it.
    pub config: ConfigStatus,
    /// How packets are handled.
    pub datapath: DatapathStatus,
    /// How this node's own clients are served.
    pub local: LocalStatus,
    /// One per `[[vrrp]]`, in the order of the file.
    pub vrrp: Vec<VrrpStatus>,
    /// Flows shared with other balancers.
    #[serde(default)]
    pub sync: SyncStatus,
    /// One per `[[service]]`, in the order of the file.
    pub services: Vec<ServiceStatus>,
    /// The newest state changes, oldest first.
    pub events: Vec<Event>,
}

fn balancer() -> String {
    "balancer".to_owned()
}

impl Status {
    /// Whether the datapath is in the packets' way; kernel program ids start at 1.
    #[must_use]
    pub fn attached(&self) -> bool {
        self.datapath.program_id != 0
    }
}

/// The serving configuration.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ConfigStatus {
    /// File it was read from.
    pub file: String,
    /// Seconds since the Unix epoch.
    pub applied_at: f64,
    /// Reloads applied since the start.
    pub reloads: u64,
    /// Reloads refused since the start.
    pub reload_failures: u64,
    /// The first fault of the last refused reload, until one succeeds.
    pub last_error: Option<String>,
    /// What commands have changed since it was applied, oldest first; the next reload and the next start know nothing of it.
    #[serde(default)]
    pub changes: Vec<String>,
}

/// How packets are handled.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct DatapathStatus {
    /// `xdp` (native), `xdp-generic` or `tc`.
    pub mode: String,
    /// Why this one.
    pub reason: String,
    /// Interface it is attached to.
    pub interface: String,
    /// Kernel id of the attached program; 0: none.
    pub program_id: u32,
    /// Entries in use, by table: `established`, `half_open`, and with `_ipv6` the same of IPv6; `limited_sources`, whose new
    /// connections are limited; `full_sources`, which have as many as they may; `allowed`, prefixes of allow lists.
    pub tables: Vec<TableStatus>,
    /// Bytes of memory that these and all other tables take together; 0: the kernel does not tell.
    #[serde(default)]
    pub bytes: u64,
    /// Packets by verdict and reason, zero rows left out.
    pub packets: Vec<PacketCount>,
}

/// The connect hooks, which translate this node's own connections.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct LocalStatus {
    /// Whether they are attached.
    pub attached: bool,
    /// The cgroup they are attached to.
    pub cgroup: Option<String>,
    /// Why they are not attached; empty while they are.
    pub reason: String,
}

/// A table that fills with connections, or with the configuration.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct TableStatus {
    /// Its name.
    pub table: String,
    /// Entries in use; a flow has two.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u64,
    /// Bytes of memory it takes, as the kernel counts them; 0: it does not tell (Linux before 6.4).
    #[serde(default)]
    pub bytes: u64,
}

/// A row of the packet counters.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PacketCount {
    /// `pass`, `forward`, `reply` or `drop`.
    pub verdict: String,
    /// Closed set of the datapath.
    pub reason: String,
    /// Since the tables were made.
    pub packets: u64,
}

/// A virtual router.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct VrrpStatus {
    /// `vrrp.name`
    pub name: String,
    /// `active`, `backup`, `initialize` or `fault`.
    pub state: String,
    /// Seconds since the Unix epoch at which it entered this state.
    pub since: f64,
    /// Why it entered this state.
    pub reason: String,
    /// The sync group it is a member of; empty: none.
    #[serde(default)]
    pub sync_group: String,
    /// VRID.
    pub virtual_router_id: u8,
    /// Configured priority.
    pub priority: u8,
    /// Interface.
    pub interface: String,
    /// Address/prefix, as configured.
    pub virtual_addresses: Vec<String>,
    /// The Active router's address as last heard, when that is another.
    pub active_router: Option<String>,
    /// Other hosts that said they have an address of it while this node held it; those heard of in the last ten minutes.
    #[serde(default)]
    pub claims: Vec<ClaimStatus>,
}

/// A service.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ServiceStatus {
    /// `service.name`
    pub name: String,
    /// Address:port or a range of ports; several separated by `, `.
    pub listen: String,
    /// `roundrobin`, `leastconn`, `source` or `maglev`.
    pub balance: String,
    /// Established connections that all backends together may have; 0: any number.
    #[serde(default)]
    pub max_connections: u32,
    /// `prefer` or `spread`: which backend this node's own clients get.
    pub local: String,
    /// `snat` or `dsr`.
    #[serde(default)]
    pub mode: String,
    /// What keeps the service from being what it should be on this node, and what to do; empty otherwise.
    #[serde(default)]
    pub remark: String,
    /// Who may open connections, as configured; empty: everyone.
    #[serde(default)]
    pub allow: Vec<String>,
    /// How many connections a source may open, in words; empty: any number.
    #[serde(default)]
    pub source_limit: String,
    /// All backends failed their checks and all are used all the same.
    pub fail_open: bool,
    /// In the order of the file.
    pub backends: Vec<BackendStatus>,
    /// Backends that are configured no more and keep their connections for a while.
    #[serde(default)]
    pub leaving: Vec<LeavingStatus>,
}

/// A backend that was removed from the configuration.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct LeavingStatus {
    /// What it was called.
    pub name: String,
    /// Address:port.
    pub address: String,
    /// Established connections now.
    pub connections: u64,
    /// When they are reset, in seconds since the Unix epoch.
    pub drain_deadline: f64,
}

/// A backend.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackendStatus {
    /// `backend.name`
    pub name: String,
    /// Address:port.
    pub address: String,
    /// `up`, `down`, `draining` or `disabled`.
    pub state: String,
    /// Seconds since the Unix epoch at which it entered this state.
    pub since: f64,
    /// Why it is in this state, in words.
    pub reason: String,
    /// Configured weight.
    pub weight: u16,
    /// The weight now: less than configured during a slow start.
    #[serde(default)]
    pub effective_weight: f64,
    /// Established connections it may have; 0: any number.
    #[serde(default)]
    pub max_connections: u32,
    /// When the connections are reset that it still has, in seconds since the Unix epoch; none while it takes new ones, and
    /// where no `drain_timeout` is configured.
    #[serde(default)]
    pub drain_deadline: Option<f64>,
    /// Established connections now.
    pub connections: u64,
    /// Connections established since the tables were made.
    pub connections_total: u64,
    /// Connections of this node's own clients since then, translated by the connect hooks; not among the others.
    pub local_connections_total: u64,
    /// SYNs that went on to another backend because this one refused them.
    #[serde(default)]
    pub syns_refused_total: u64,
    /// SYNs that went on to another backend because this one did not answer.
    #[serde(default)]
    pub syns_unanswered_total: u64,
    /// How long it takes from a SYN to its SYN-ACK.
    #[serde(default)]
    pub handshakes: Handshakes,
    /// Bytes from clients, Ethernet payload.
    pub bytes_in: u64,
    /// Bytes to clients, Ethernet payload.
    pub bytes_out: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Source ports towards the backend; absent where it needs none.
    #[serde(default)]
    pub source_ports: Option<SourcePorts>,
    /// Duration of the last health check in seconds.
    pub check_seconds: Option<f64>,
}

/// Source ports towards a backend, of all source addresses together.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub struct SourcePorts {
    /// Of connections that are open or opening.
    pub in_use: u64,
    /// Of connections that are over, whose ports rest before they are used again.
    pub resting: u64,
    /// All there are.
    pub capacity: u64,
}

impl SourcePorts {
    /// Those that a new connection gets at once.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.in_use).saturating_sub(self.resting)
    }
}

/// Times from SYN to SYN-ACK, measured by the datapath.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Default)]
pub struct Handshakes {
    /// All together.
    pub seconds: f64,
    /// By their time, shortest first.
    pub buckets: Vec<HandshakeBucket>,
}

/// Handshakes that took longer than the bucket before says.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct HandshakeBucket {
    /// And at most so many seconds; none: however long.
    pub up_to: Option<f64>,
    /// How many.
    pub handshakes: u64,
}

/// A host that says it has a virtual address which this node holds.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ClaimStatus {
    /// The address.
    pub address: String,
    /// The host's Ethernet address.
    pub mac: String,
    /// Seconds since the Unix epoch at which it last said so.
    pub at: f64,
    /// How often it was heard.
    pub times: u64,
}

/// A state change.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Event {
    /// Counts up from 1 while the agent runs.
    #[serde(default)]
    pub number: u64,
    /// Seconds since the Unix epoch.
    pub at: f64,
    /// What changed, e.g. `backend master1`.
    pub subject: String,
    /// In words.
    pub text: String,
    /// The state before; empty where there are no states.
    #[serde(default)]
    pub from: String,
    /// The state it has brought.
    #[serde(default)]
    pub to: String,
    /// What brought it about, in words.
    #[serde(default)]
    pub cause: String,
}
