//! What the doctor says: findings, each with what was seen, why it matters and what to do about it.

use std::fmt;

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; or it could not be looked at.
    Note,
    /// It works, and something will go wrong or be slow.
    Warning,
    /// It does not work like this.
    Problem,
}

impl Severity {
    /// As it is printed.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What is looked at. Each has one label, for programs, and one reason why it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// The configuration by itself, and whether the host has what it names.
    Configuration,
    /// A file of keys that it names.
    Keys,
    /// The files of the status page that it names.
    Page,
    /// What this binary holds.
    Build,
    /// Version of the kernel.
    Kernel,
    /// The kernel's own type information.
    Btf,
    /// Whether softirqs of the kernel can interrupt each other.
    Realtime,
    /// The kernel's compiler for BPF.
    Jit,
    /// The file system that programs are pinned in.
    Bpffs,
    /// cgroup version 2.
    Cgroup,
    /// What this process may do.
    Capabilities,
    /// Source ports and the kernel's own.
    SourcePorts,
    /// Other balancers and routers on this host.
    Processes,
    /// Kind, driver and state of an interface.
    Device,
    /// Which datapath suits it.
    Datapath,
    /// Receive and transmit queues.
    Queues,
    /// Work that the card does for the kernel.
    Offloads,
    /// The largest packet.
    Mtu,
    /// An interface that is part of another.
    Master,
    /// A VLAN's interface.
    Vlan,
    /// Programs on the interface.
    Programs,
    /// Reverse path filter.
    RpFilter,
    /// For which addresses the host answers ARP, and where.
    ArpIgnore,
    /// Virtual routers heard on the wire.
    Adverts,
    /// The other routers of a group.
    Peers,
    /// Who has a VIP.
    Vip,
    /// Who listens where a service or the agent wants to be.
    Listeners,
    /// How packets reach a backend.
    Route,
    /// Whether a backend answers.
    Reachable,
    /// The largest packet on the way to a backend.
    PathMtu,
    /// The certificate of a backend.
    Certificate,
}

impl Check {
    /// As in JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Keys => "keys",
            Self::Page => "page",
            Self::Build => "build",
            Self::Kernel => "kernel",
            Self::Btf => "btf",
            Self::Realtime => "realtime",
            Self::Jit => "jit",
            Self::Bpffs => "bpffs",
            Self::Cgroup => "cgroup",
            Self::Capabilities => "capabilities",
            Self::SourcePorts => "source_ports",
            Self::Processes => "processes",
            Self::Device => "device",
            Self::Datapath => "datapath",
            Self::Queues => "queues",
            Self::Offloads => "offloads",
            Self::Mtu => "mtu",
            Self::Master => "master",
            Self::Vlan => "vlan",
            Self::Programs => "programs",
            Self::RpFilter => "rp_filter",
            Self::ArpIgnore => "arp_ignore",
            Self::Adverts => "adverts",
            Self::Peers => "peers",
            Self::Vip => "vip",
            Self::Listeners => "listeners",
            Self::Route => "route",
            Self::Reachable => "reachable",
            Self::PathMtu => "path_mtu",
            Self::Certificate => "certificate",
        }
    }

    /// Why it matters, in one sentence.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Configuration => "The agent refuses a configuration that is wrong or does not fit the host.",
            Self::Keys => "Without its keys the agent does not start; on another node with others it is not believed.",
            Self::Page => {
                "Without the files of its status page the agent does not start; browsers tell of a certificate that is over."
            }
            Self::Build => "The agent loads the kernel side from its own binary.",
            Self::Kernel => "The datapath uses what Linux has since 5.15, on a veth since 5.18, and by TC since 6.6.",
            Self::Realtime => "The datapath's room for half-made things is one for each processor.",
            Self::Btf => "The kernel takes the datapath's types only if it has its own.",
            Self::Jit => "Without the compiler each packet is handled by an interpreter several times slower.",
            Self::Bpffs => "Programs and tables are pinned there, so that they outlive the agent.",
            Self::Cgroup => "The node's own connections to a VIP are translated by programs on a cgroup version 2.",
            Self::Capabilities => "The agent loads programs, sets addresses and speaks raw VRRP and ARP.",
            Self::SourcePorts => "A port that both the balancer and a socket of the host use mixes two connections.",
            Self::Processes => "Two programs that manage the same addresses and ports work against each other.",
            Self::Device => "Clients and backends are reached through this interface.",
            Self::Datapath => "The datapath that does not suit the device is slow, or is refused.",
            Self::Queues => "Each receive queue is served by one CPU at a time.",
            Self::Offloads => "Native XDP sees what the driver delivers: joined segments are refused or switched off.",
            Self::Mtu => "A packet larger than the interface takes is lost.",
            Self::Master => "Packets of a port or member belong to the device above it, which has the addresses.",
            Self::Vlan => "Frames with another tag, or none, pass by this interface.",
            Self::Programs => "Programs on one interface see packets before or instead of each other.",
            Self::RpFilter => {
                "With a strict filter the host drops packets that came in another way than answers leave."
            }
            Self::ArpIgnore => "Whoever answers ARP for a VIP gets its packets.",
            Self::Adverts => "Routers with the same VRID in one network take each other for one group.",
            Self::Peers => "A router that does not hear its peer becomes active beside it.",
            Self::Vip => "An address that two hosts have is reached now on one, now on the other.",
            Self::Listeners => "Packets to a service reach the datapath and not a socket of the host.",
            Self::Route => "Backends and clients are reached through the one interface of the datapath.",
            Self::Reachable => "Connections go to backends that pass their health check.",
            Self::PathMtu => "Packets that are larger get there only if routers on the way say so by ICMP.",
            Self::Certificate => "Clients verify that the certificate names the address they dialled.",
        }
    }
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The configuration file.
    Configuration,
    /// The host as a whole.
    Host,
    /// An interface, by name.
    Interface(String),
    /// A virtual router, by name.
    Router(String),
    /// A service, by name.
    Service(String),
    /// A backend, by service and name.
    Backend(String, String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => write!(f, "configuration"),
            Self::Host => write!(f, "host"),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Router(name) => write!(f, "virtual router {name}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Backend(service, name) => write!(f, "backend {name} of {service}"),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// What was looked at.
    pub check: Check,
    /// How much it matters.
    pub severity: Severity,
    /// What was seen.
    pub seen: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do; none where nothing is to be done.
    pub remedy: Option<String>,
}

/// Findings about one subject, as they are made.
#[derive(Debug)]
pub(super) struct About<'f> {
    subject: Subject,
    findings: &'f mut Vec<Finding>,
}

impl<'f> About<'f> {
    pub(super) fn new(subject: Subject, findings: &'f mut Vec<Finding>) -> Self {
        Self { subject, findings }
    }

    pub(super) fn ok(&mut self, check: Check, seen: impl Into<String>) {
        self.add(Severity::Ok, check, seen.into(), None);
    }

    pub(super) fn note(&mut self, check: Check, seen: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Note, check, seen.into(), Some(remedy.into()));
    }

    pub(super) fn warning(&mut self, check: Check, seen: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, check, seen.into(), Some(remedy.into()));
    }

    pub(super) fn problem(&mut self, check: Check, seen: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Problem, check, seen.into(), Some(remedy.into()));
    }

    /// It could not be looked at: never a problem, and never silent.
    pub(super) fn unseen(&mut self, check: Check, what: &str, why: &str) {
        self.note(check, format!("could not look at {what}: {why}"), "run the doctor as root, outside containers");
    }

    fn add(&mut self, severity: Severity, check: Check, seen: String, remedy: Option<String>) {
        let subject = self.subject.clone();
        self.findings.push(Finding { subject, check, severity, seen, why: check.why(), remedy });
    }
}
