//! What the harness reads of `xvip status --json`: only what the documentation promises, and the few fields it shows besides.

use serde::Deserialize;

/// The agent's state.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// `balancer` or `backend`.
    #[serde(default)]
    pub role: String,
    /// When the agent started, in seconds since the Unix epoch.
    #[serde(default)]
    pub started_at: f64,
    /// Whether its health checks are still being made ready.
    #[serde(default)]
    pub starting: bool,
    /// The serving configuration.
    #[serde(default)]
    pub config: Config,
    /// How packets are handled.
    pub datapath: Datapath,
    /// How the node's own clients are served.
    #[serde(default)]
    pub local: Local,
    /// Virtual routers.
    #[serde(default)]
    pub vrrp: Vec<Vrrp>,
    /// Connections shared with other balancers.
    #[serde(default)]
    pub sync: Sync,
    /// Services.
    #[serde(default)]
    pub services: Vec<Service>,
    /// The newest state changes, oldest first.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// The serving configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Config {
    /// Reloads applied since the start.
    pub reloads: u64,
    /// Reloads refused since the start.
    pub reload_failures: u64,
    /// The first fault of the last refused reload, until one succeeds.
    pub last_error: Option<String>,
    /// What commands have changed since the file was applied.
    #[serde(default)]
    pub changes: Vec<String>,
}

/// How packets are handled.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Datapath {
    /// `xdp`, `xdp-generic` or `tc`.
    pub mode: String,
    /// Why this one.
    #[serde(default)]
    pub reason: String,
    /// The kernel's number of the program.
    #[serde(default)]
    pub program_id: u32,
    /// Packets by verdict and reason.
    #[serde(default)]
    pub packets: Vec<PacketCount>,
    /// Tables that fill.
    #[serde(default)]
    pub tables: Vec<Table>,
}

/// A table that fills.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Table {
    /// Name.
    pub table: String,
    /// Entries in use.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u64,
    /// Memory it takes.
    #[serde(default)]
    pub bytes: u64,
}

/// The connect hooks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Local {
    /// Whether they are attached.
    pub attached: bool,
    /// Where.
    pub cgroup: Option<String>,
    /// Why not.
    pub reason: String,
}

/// A row of the packet counters.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct PacketCount {
    /// `pass`, `forward`, `reply` or `drop`.
    pub verdict: String,
    /// Closed set of the datapath.
    pub reason: String,
    /// Packets so far.
    pub packets: u64,
}

/// A host that says it has a virtual address.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Claim {
    /// The address.
    pub address: String,
    /// Where it is said to be.
    pub mac: String,
    /// How often.
    pub times: u64,
}

/// Connections shared with other balancers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Sync {
    /// One for each other balancer.
    pub peers: Vec<SyncPeer>,
}

/// Another balancer.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct SyncPeer {
    /// `up` or `down`.
    pub state: String,
    /// Tables that it told as a whole.
    pub tables_received: u64,
}

/// A virtual router.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Vrrp {
    /// Name.
    pub name: String,
    /// `active`, `backup`, `initialize` or `fault`.
    pub state: String,
    /// When it came to be so, in seconds since the Unix epoch.
    #[serde(default)]
    pub since: f64,
    /// Configured priority.
    pub priority: u8,
    /// Why it is in this state.
    #[serde(default)]
    pub reason: String,
    /// Address/prefix.
    #[serde(default)]
    pub virtual_addresses: Vec<String>,
    /// Who holds them, as last heard, when that is another.
    #[serde(default)]
    pub active_router: Option<String>,
    /// Others that said they have its addresses.
    #[serde(default)]
    pub claims: Vec<Claim>,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Service {
    /// Name.
    pub name: String,
    /// What keeps it from being what it should be.
    #[serde(default)]
    pub remark: String,
    /// All backends failed and all are used all the same.
    #[serde(default)]
    pub fail_open: bool,
    /// Backends in the order of the file.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// Backends that were removed and keep their connections for a while.
    #[serde(default)]
    pub leaving: Vec<Leaving>,
}

/// A backend that was removed from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Leaving {
    /// What it was called.
    pub name: String,
    /// Established connections.
    pub connections: u64,
}

/// A backend.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Backend {
    /// Name.
    pub name: String,
    /// Address:port.
    pub address: String,
    /// `up`, `down`, `draining` or `disabled`.
    pub state: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Established connections.
    #[serde(default)]
    pub connections: u64,
    /// Connections since the tables were made.
    #[serde(default)]
    pub connections_total: u64,
    /// The same of the node's own clients.
    #[serde(default)]
    pub local_connections_total: u64,
}

/// A state change.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Event {
    /// Seconds since the Unix epoch.
    pub at: f64,
    /// What changed.
    pub subject: String,
    /// In words.
    pub text: String,
}

impl Status {
    /// State of the first virtual router, empty where there is none.
    pub fn vrrp_state(&self) -> &str {
        self.vrrp.first().map_or("", |vrrp| vrrp.state.as_str())
    }

    /// Whether the first virtual router is the active one.
    pub fn is_active(&self) -> bool {
        self.vrrp_state() == "active"
    }

    /// A table of the datapath by name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.datapath.tables.iter().find(|table| table.table == name)
    }

    /// Whether there are virtual routers, and all are active ones.
    pub fn holds_all(&self) -> bool {
        !self.vrrp.is_empty() && self.vrrp.iter().all(|vrrp| vrrp.state == "active")
    }

    /// A backend of the first service by name.
    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.services.first()?.backends.iter().find(|backend| backend.name == name)
    }

    /// Whether there are services, and all their backends are up.
    pub fn all_up(&self) -> bool {
        let mut backends = self.services.iter().flat_map(|service| &service.backends);
        !self.services.is_empty() && backends.all(|backend| backend.state == "up")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_promised_fields_alone() {
        let text = r#"{"node":"lb1","datapath":{"mode":"xdp"},
            "vrrp":[{"name":"k8s","state":"active","priority":110,"virtual_addresses":["192.0.2.100/24"],"news":1}],
            "services":[{"name":"apiserver","listen":"192.0.2.100:8443","balance":"roundrobin","backends":[
              {"name":"master1","address":"192.0.2.31:6443","state":"up","weight":1,"connections":3,"reason":"200"}]}]}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert!(status.is_active() && status.all_up());
        assert_eq!(status.backend("master1").map(|backend| backend.connections), Some(3));
        assert!(status.backend("master2").is_none());
    }
}
