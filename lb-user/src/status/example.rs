//! A status with something of everything, for tests.

use super::*;

/// The time at which the example is looked at, in seconds since the Unix epoch.
pub(crate) const NOW: f64 = 1_700_007_500.0;

fn backend(name: &str, last: u8, state: &str, reason: &str, connections: u64) -> BackendStatus {
    BackendStatus {
        name: name.to_owned(),
        address: format!("192.0.2.{last}:6443"),
        state: state.to_owned(),
        since: NOW - 60.0 * f64::from(last),
        reason: reason.to_owned(),
        weight: 1,
        effective_weight: 1.0,
        max_connections: 1000,
        drain_deadline: None,
        connections,
        connections_total: connections * 10,
        local_connections_total: connections * 2,
        syns_refused_total: connections / 10,
        syns_unanswered_total: connections / 20,
        handshakes: Handshakes {
            seconds: 0.0002 * connections as f64,
            buckets: vec![
                HandshakeBucket { up_to: Some(0.0005), handshakes: connections },
                HandshakeBucket { up_to: None, handshakes: 1 },
            ],
        },
        bytes_in: connections * 1_000,
        bytes_out: connections * 20_000,
        packets_in: connections * 7,
        packets_out: connections * 9,
        source_ports: Some(SourcePorts { in_use: connections, resting: 3, capacity: 31_744 }),
        check_seconds: (state == "up").then_some(0.0042),
    }
}

fn packets(verdict: &str, reason: &str, packets: u64) -> PacketCount {
    PacketCount { verdict: verdict.to_owned(), reason: reason.to_owned(), packets }
}

fn event(before: f64, subject: &str, text: &str) -> Event {
    let empty = String::new;
    let (subject, text) = (subject.to_owned(), text.to_owned());
    Event { number: 0, at: NOW - before, subject, text, from: empty(), to: empty(), cause: empty() }
}

/// An agent that holds its VIP and has lost one of three backends.
pub(crate) fn example() -> Status {
    Status {
        node: "lb1".to_owned(),
        role: "balancer".to_owned(),
        version: "0.1.0".to_owned(),
        started_at: 1_700_000_000.0,
        starting: false,
        config: ConfigStatus {
            file: "/etc/xvip/xvip.toml".to_owned(),
            applied_at: NOW - 600.0,
            reloads: 2,
            reload_failures: 1,
            changes: vec!["apiserver/master2 drained".to_owned()],
            last_error: Some("/etc/xvip/xvip.toml:7:1: unknown key `prioritty`".to_owned()),
        },
        datapath: DatapathStatus {
            mode: "xdp".to_owned(),
            reason: "eth0 (veth) takes native programs".to_owned(),
            interface: "eth0".to_owned(),
            program_id: 42,
            tables: vec![
                TableStatus { table: "established".to_owned(), entries: 150, capacity: 262_144, bytes: 37_748_736 },
                TableStatus { table: "half_open".to_owned(), entries: 0, capacity: 65_536, bytes: 0 },
            ],
            bytes: 51_380_224,
            packets: vec![
                packets("forward", "established", 123_456),
                packets("pass", "not_vip", 99),
                packets("drop", "ip4_frag", 3),
                packets("drop", "no_backend", 1_200),
            ],
        },
        local: LocalStatus { attached: true, cgroup: Some("/sys/fs/cgroup".to_owned()), reason: String::new() },
        vrrp: vec![
            VrrpStatus {
                name: "k8s".to_owned(),
                state: "active".to_owned(),
                since: NOW - 7_490.0,
                reason: "no advert for 361 ms".to_owned(),
                sync_group: String::new(),
                virtual_router_id: 51,
                priority: 100,
                interface: "eth0".to_owned(),
                virtual_addresses: vec!["192.0.2.100/24".to_owned()],
                active_router: None,
                claims: Vec::new(),
            },
            VrrpStatus {
                name: "ingress".to_owned(),
                state: "backup".to_owned(),
                since: NOW - 90_000.0,
                reason: "192.0.2.22 has priority 200".to_owned(),
                sync_group: String::new(),
                virtual_router_id: 52,
                priority: 50,
                interface: "eth0".to_owned(),
                virtual_addresses: vec!["192.0.2.101/24".to_owned(), "192.0.2.102/24".to_owned()],
                active_router: Some("192.0.2.22".to_owned()),
                claims: Vec::new(),
            },
        ],
        sync: SyncStatus {
            shared: true,
            port: 9912,
            peers: vec![SyncPeerStatus {
                address: "192.0.2.22".to_owned(),
                state: "up".to_owned(),
                since: NOW - 3_600.0,
                heard: Some(NOW - 0.4),
                flows_sent: 1_200,
                flows_received: 17,
                lag_seconds: 0.0062,
                lags: Handshakes {
                    seconds: 7.3,
                    buckets: vec![
                        HandshakeBucket { up_to: Some(0.01), handshakes: 1_100 },
                        HandshakeBucket { up_to: None, handshakes: 3 },
                    ],
                },
                refused: vec![RefusedDatagrams { reason: "proof".to_owned(), datagrams: 4 }],
                ..SyncPeerStatus::default()
            }],
            flows_taken: 16,
            flows_skipped: vec![SkippedFlows { reason: "no_backend".to_owned(), flows: 1 }],
            ..SyncStatus::default()
        },
        services: vec![
            ServiceStatus {
                name: "apiserver".to_owned(),
                listen: "192.0.2.100:8443".to_owned(),
                balance: "roundrobin".to_owned(),
                max_connections: 0,
                local: "prefer".to_owned(),
                mode: "snat".to_owned(),
                remark: String::new(),
                allow: vec!["10.0.0.0/8".to_owned(), "192.0.2.0/24".to_owned()],
                source_limit: "50 new connections a second for each /32, 100 at once".to_owned(),
                fail_open: false,
                backends: vec![
                    backend("master1", 31, "up", "HTTP 200", 25),
                    backend("master2", 32, "up", "HTTP 200", 50),
                    backend("master3", 33, "down", "connection refused", 0),
                ],
                leaving: vec![LeavingStatus {
                    name: "master4".to_owned(),
                    address: "192.0.2.34:6443".to_owned(),
                    connections: 3,
                    drain_deadline: NOW + 90.0,
                }],
            },
            ServiceStatus {
                name: "web".to_owned(),
                listen: "192.0.2.101:443".to_owned(),
                balance: "leastconn".to_owned(),
                max_connections: 500,
                local: "prefer".to_owned(),
                mode: "snat".to_owned(),
                remark: String::new(),
                allow: vec![],
                source_limit: String::new(),
                fail_open: true,
                backends: vec![backend("web1", 41, "down", "timeout after 1 s", 0)],
                leaving: Vec::new(),
            },
        ],
        events: vec![
            event(7_490.0, "vrrp k8s", "backup -> active: no advert for 361 ms"),
            event(1_980.0, "backend apiserver/master3", "up -> down: connection refused"),
        ],
    }
}
