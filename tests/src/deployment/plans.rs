//! The four deployments of `tests/deployments`.

use super::Kind::{Balancer, Other, Server, Stacked};
use super::Plan;

/// Two balancers in front of three API servers.
pub const EXTERNAL_PAIR: Plan = Plan {
    name: "external-pair",
    vip: "192.168.56.10:8443",
    everywhere: true,
    hosts: &[
        ("lb1", "192.168.56.11", Balancer),
        ("lb2", "192.168.56.12", Balancer),
        ("master1", "192.168.56.21", Server),
        ("master2", "192.168.56.22", Server),
        ("master3", "192.168.56.23", Server),
        ("client", "192.168.56.50", Other),
    ],
};

/// A balancer on each of three control-plane nodes, which leave the VIP where it is.
pub const STACKED_NOPREEMPT: Plan = Plan {
    name: "stacked-nopreempt",
    vip: "192.168.238.100:4300",
    everywhere: true,
    hosts: &[
        ("master", "192.168.238.130", Stacked),
        ("node1", "192.168.238.131", Stacked),
        ("node2", "192.168.238.132", Stacked),
        ("client", "192.168.238.50", Other),
    ],
};

/// A VIP at the API servers' own port.
pub const VIP_ONLY: Plan = Plan {
    name: "vip-only",
    vip: "10.0.1.234:6443",
    everywhere: false,
    hosts: &[
        ("master1", "10.0.1.11", Stacked),
        ("master2", "10.0.1.12", Stacked),
        ("master3", "10.0.1.13", Stacked),
        ("client", "10.0.1.50", Other),
    ],
};

/// A balancer on each of three control-plane nodes, which keeps a client with its API server; workers beside them.
pub const STACKED_WORKERS: Plan = Plan {
    name: "stacked-workers",
    vip: "10.10.10.100:8443",
    everywhere: true,
    hosts: &[
        ("master1", "10.10.10.11", Stacked),
        ("master2", "10.10.10.12", Stacked),
        ("master3", "10.10.10.13", Stacked),
        ("worker1", "10.10.10.21", Other),
        ("worker2", "10.10.10.22", Other),
        ("client", "10.10.10.50", Other),
    ],
};
