//! What a scrape says: names, shape, values, and which series exist.

mod shipped;

use lb_proto::units::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::time::Duration;

use super::defs::{ALL, Kind};
use super::*;
use crate::clock;
use crate::config::{
    Admin, Backend, Balance, CheckKind, ChecksumForm, Config, Datapath, HealthCheck, IpNet, Local, Node, Role, Service,
    ServiceMode, Vrrp,
};
use crate::status::example::{NOW, example};

const VIP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100));

fn config(backends: &[&str], instances: &[&str]) -> Config {
    let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, 100));
    let over_ipv6 = IpNet { address: VIP_V6, prefix: 64 };
    Config {
        node: Node {
            name: "lb1".to_owned(),
            interface: "eth0".to_owned(),
            role: Role::Balancer,
            peer_port: 9911,
            datapath: Datapath::Auto,
            source_ports: 1024..=2047,
            source_addresses: Vec::new(),
            max_flows: 1000,
            max_half_open: 1000,
            cgroup: None,
        },
        metrics: crate::config::Metrics { listen: ([127, 0, 0, 1], 0).into(), password_file: None, tls: None },
        admin: Admin { socket: "/run/xvip/admin.sock".into(), read: crate::config::Readers::Everyone },
        sync: None,
        flow_log: None,
        vrrp: instances
            .iter()
            .map(|name| Vrrp {
                name: (*name).to_owned(),
                interface: "eth0".to_owned(),
                virtual_router_id: NonZeroU8::MIN,
                priority: 100,
                advert_interval: Duration::from_millis(100),
                preempt: false,
                preempt_delay: Duration::ZERO,
                unicast_source: None,
                unicast_peers: vec![],
                virtual_addresses: match *name {
                    "k8s6" => vec![over_ipv6],
                    _ => vec![IpNet { address, prefix: 24 }],
                },
                checksum: ChecksumForm::Rfc9568,
                version: Version::V3,
                password: None,
                auth: None,
                tracks: Vec::new(),
                notify: Vec::new(),
                sync_group: None,
            })
            .collect(),
        services: vec![Service {
            name: "apiserver".to_owned(),
            listen: vec![std::net::SocketAddr::from((address, 8443)).into()],
            local: Local::Prefer,
            balance: Balance::RoundRobin,
            hash_key: None,
            max_connections: 0,
            slow_start: None,
            drain_timeout: None,
            mode: ServiceMode::Snat,
            idle_timeout: Duration::from_secs(7200),
            allow: vec![],
            source_limit: None,
            health_check: HealthCheck {
                kind: CheckKind::Tcp,
                port: None,
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(1),
                rise: 2,
                fall: 3,
            },
            backends: backends
                .iter()
                .map(|name| Backend {
                    name: (*name).to_owned(),
                    address: ([192, 0, 2, 31], 6443).into(),
                    weight: 1,
                    max_connections: 0,
                    duty: Default::default(),
                })
                .collect(),
        }],
    }
}

struct Scraper {
    metrics: Metrics,
    status: watch::Sender<Arc<Status>>,
    exposition: Exposition,
}

impl Scraper {
    fn new() -> Self {
        let metrics = Metrics::new();
        metrics.configure(&config(&["master1", "master2", "master3"], &["k8s", "k8s6"]));
        let (status, receiver) = watch::channel(Arc::new(example()));
        let exposition = Exposition::new(&metrics, receiver, Heartbeat::new(clock::now()));
        Self { metrics, status, exposition }
    }

    fn text(&self) -> String {
        self.exposition.render().unwrap()
    }

    fn samples(&self) -> BTreeMap<String, f64> {
        parse(&self.text()).1
    }
}

/// Families (name to kind) and samples (series to value) of a text, with every rule of the format checked on the way.
fn parse(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
    assert!(text.ends_with('\n'));
    let mut families = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let (name, words) = help
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
            .unwrap_or_else(|| panic!("not a HELP line: {help}"));
        assert!(words.ends_with('.') && !words.ends_with(".."), "{help}");
        let kind = lines.next().unwrap_or_default();
        let kind = kind
            .strip_prefix(&format!("# TYPE {name} "))
            .unwrap_or_else(|| panic!("not the TYPE line of {name}: {kind}"));
        let twice = families.insert(name.to_owned(), kind.to_owned());
        assert_eq!(twice, None, "{name} appears twice");

        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let base = series.split('{').next().unwrap();
            let suffix = base.strip_prefix(name).unwrap();
            match kind {
                "histogram" => assert!(["_sum", "_count", "_bucket"].contains(&suffix), "{line}"),
                "counter" => assert!(base.ends_with("_total") && suffix.is_empty(), "{line}"),
                "gauge" => assert!(suffix.is_empty(), "{line}"),
                _ => panic!("{kind}"),
            }
            let twice = samples.insert(series.to_owned(), value.parse().unwrap());
            assert_eq!(twice, None, "{series} appears twice");
        }
    }
    (families, samples)
}

/// Names and labels are public interface: a change here breaks dashboards and alerts.
#[test]
fn names_are_stable() {
    let defined: Vec<String> =
        ALL.iter().map(|d| format!("{:?} {}{{{}}}", d.kind, d.name, d.labels.join(","))).collect();
    assert_eq!(
        defined,
        [
            "Gauge xvip_backend_up{service,backend}",
            "Gauge xvip_backend_state{service,backend,state}",
            "Counter xvip_backend_transitions_total{service,backend,to}",
            "Gauge xvip_backend_weight{service,backend}",
            "Gauge xvip_backend_effective_weight{service,backend}",
            "Gauge xvip_backend_max_connections{service,backend}",
            "Gauge xvip_backend_drain_deadline_timestamp_seconds{service,backend}",
            "Gauge xvip_backend_connections{service,backend}",
            "Counter xvip_backend_connections_total{service,backend}",
            "Counter xvip_backend_syn_retries_total{service,backend,reason}",
            "Histogram xvip_backend_handshake_duration_seconds{service,backend}",
            "Counter xvip_local_connections_total{service,backend}",
            "Gauge xvip_local_attached{}",
            "Counter xvip_backend_bytes_total{service,backend,direction}",
            "Counter xvip_backend_packets_total{service,backend,direction}",
            "Gauge xvip_backend_source_ports{service,backend,state}",
            "Gauge xvip_service_max_connections{service}",
            "Gauge xvip_service_fail_open{service}",
            "Histogram xvip_health_check_duration_seconds{service,backend}",
            "Counter xvip_health_check_total{service,backend,result}",
            "Gauge xvip_vrrp_state{router,state}",
            "Gauge xvip_vrrp_state_timestamp_seconds{router}",
            "Gauge xvip_vrrp_priority{router}",
            "Counter xvip_vrrp_transitions_total{router,to}",
            "Counter xvip_vrrp_adverts_total{router,direction}",
            "Counter xvip_vrrp_advert_errors_total{router,reason}",
            "Counter xvip_vrrp_lease_lapses_total{router}",
            "Counter xvip_gratuitous_arp_total{router,address}",
            "Counter xvip_unsolicited_na_total{router,address}",
            "Counter xvip_vip_claims_total{router,address}",
            "Counter xvip_datapath_packets_total{verdict,reason}",
            "Gauge xvip_datapath_info{mode,interface}",
            "Gauge xvip_connection_table_entries{table}",
            "Gauge xvip_connection_table_capacity{table}",
            "Gauge xvip_connection_table_bytes{table}",
            "Gauge xvip_datapath_bytes{}",
            "Gauge xvip_sync_peer_up{peer}",
            "Counter xvip_sync_flows_total{peer,direction}",
            "Counter xvip_sync_ended_flows_total{peer,direction}",
            "Counter xvip_sync_bytes_total{peer,direction}",
            "Counter xvip_sync_datagrams_total{peer,direction}",
            "Counter xvip_sync_tables_total{peer,direction}",
            "Counter xvip_sync_resyncs_total{peer}",
            "Gauge xvip_sync_backlog_datagrams{peer}",
            "Histogram xvip_sync_lag_seconds{peer}",
            "Counter xvip_sync_refused_datagrams_total{peer,reason}",
            "Counter xvip_sync_stranger_datagrams_total{}",
            "Counter xvip_sync_adopted_flows_total{result}",
            "Counter xvip_sync_dropped_batches_total{}",
            "Counter xvip_sync_lost_events_total{}",
            "Counter xvip_config_reloads_total{result}",
            "Gauge xvip_config_last_reload_successful{}",
            "Gauge xvip_config_applied_timestamp_seconds{}",
            "Gauge xvip_config_unsaved_changes{}",
            "Counter xvip_events_total{}",
            "Gauge xvip_ready{}",
            "Gauge xvip_heartbeat_age_seconds{}",
            "Counter xvip_process_cpu_seconds_total{}",
            "Gauge xvip_process_resident_memory_bytes{}",
            "Gauge xvip_process_open_fds{}",
            "Gauge xvip_process_max_fds{}",
            "Gauge xvip_start_time_seconds{}",
            "Gauge xvip_agent_predecessor_info{ended}",
            "Gauge xvip_node_info{node,role}",
            "Gauge xvip_build_info{version}",
        ]
    );
}

#[test]
fn definitions_follow_the_conventions() {
    let names: BTreeSet<_> = ALL.iter().map(|d| d.name).collect();
    assert_eq!(names.len(), ALL.len());
    for d in ALL {
        assert!(d.name.starts_with("xvip_"), "{}", d.name);
        assert_eq!(d.kind == Kind::Counter, d.name.ends_with("_total"), "{}", d.name);
        assert!(!d.help.ends_with('.'), "{}", d.name);
        assert!(!d.help.contains(['\n', '\\']), "{}", d.name);
    }
}

#[test]
fn every_definition_is_scraped_with_its_kind() {
    let scraper = Scraper::new();
    scraper.metrics.health_checked("apiserver", "master1", "success", Duration::from_millis(4));
    scraper.metrics.advert_rejected("k8s", "checksum");
    let (families, _) = parse(&scraper.text());
    let expected = ALL.iter().map(|d| (d.name.to_owned(), format!("{:?}", d.kind).to_lowercase())).collect();
    assert_eq!(families, expected);
}

#[test]
fn the_status_shows_in_the_samples() {
    let samples = Scraper::new().samples();
    for (series, value) in [
        (r#"xvip_backend_up{service="apiserver",backend="master1"}"#, 1.0),
        (r#"xvip_backend_up{service="apiserver",backend="master3"}"#, 0.0),
        (r#"xvip_backend_weight{service="apiserver",backend="master1"}"#, 1.0),
        (r#"xvip_backend_effective_weight{service="apiserver",backend="master1"}"#, 1.0),
        (r#"xvip_backend_max_connections{service="apiserver",backend="master1"}"#, 1000.0),
        (r#"xvip_backend_drain_deadline_timestamp_seconds{service="apiserver",backend="master4"}"#, NOW + 90.0),
        (r#"xvip_service_max_connections{service="web"}"#, 500.0),
        (r#"xvip_backend_connections{service="apiserver",backend="master2"}"#, 50.0),
        (r#"xvip_backend_connections_total{service="apiserver",backend="master2"}"#, 500.0),
        (r#"xvip_local_connections_total{service="apiserver",backend="master2"}"#, 100.0),
        ("xvip_local_attached", 1.0),
        (r#"xvip_backend_bytes_total{service="apiserver",backend="master1",direction="in"}"#, 25_000.0),
        (r#"xvip_backend_bytes_total{service="apiserver",backend="master1",direction="out"}"#, 500_000.0),
        (r#"xvip_backend_packets_total{service="apiserver",backend="master1",direction="in"}"#, 175.0),
        (r#"xvip_backend_packets_total{service="apiserver",backend="master1",direction="out"}"#, 225.0),
        (r#"xvip_service_fail_open{service="apiserver"}"#, 0.0),
        (r#"xvip_service_fail_open{service="web"}"#, 1.0),
        (r#"xvip_vrrp_state{router="k8s",state="active"}"#, 1.0),
        (r#"xvip_vrrp_state{router="k8s",state="backup"}"#, 0.0),
        (r#"xvip_vrrp_state{router="k8s",state="initialize"}"#, 0.0),
        (r#"xvip_vrrp_state{router="k8s",state="fault"}"#, 0.0),
        (r#"xvip_vrrp_state{router="ingress",state="backup"}"#, 1.0),
        (r#"xvip_datapath_packets_total{verdict="reply",reason="no_backend"}"#, 1_200.0),
        (r#"xvip_datapath_packets_total{verdict="reply",reason="table_full"}"#, 0.0),
        (r#"xvip_backend_state{service="apiserver",backend="master3",state="down"}"#, 1.0),
        (r#"xvip_backend_state{service="apiserver",backend="master3",state="up"}"#, 0.0),
        // Without the bucket of everything Prometheus works out no quantile.
        (r#"xvip_backend_handshake_duration_seconds_bucket{le="+Inf",service="apiserver",backend="master1"}"#, 26.0),
        (r#"xvip_backend_handshake_duration_seconds_count{service="apiserver",backend="master1"}"#, 26.0),
        (r#"xvip_sync_lag_seconds_bucket{le="+Inf",peer="192.0.2.22"}"#, 1_103.0),
        (r#"xvip_vrrp_priority{router="k8s"}"#, 100.0),
        (r#"xvip_vrrp_state_timestamp_seconds{router="k8s"}"#, NOW - 7_490.0),
        ("xvip_config_unsaved_changes", 1.0),
        (r#"xvip_node_info{node="lb1",role="balancer"}"#, 1.0),
        (r#"xvip_datapath_info{mode="xdp",interface="eth0"}"#, 1.0),
        (r#"xvip_connection_table_entries{table="established"}"#, 150.0),
        (r#"xvip_connection_table_capacity{table="half_open"}"#, 65_536.0),
        (r#"xvip_config_reloads_total{result="applied"}"#, 2.0),
        (r#"xvip_config_reloads_total{result="refused"}"#, 1.0),
        ("xvip_config_last_reload_successful", 0.0),
        ("xvip_start_time_seconds", 1_700_000_000.0),
        ("xvip_config_applied_timestamp_seconds", 1_700_006_900.0),
        (r#"xvip_agent_predecessor_info{ended="none"}"#, 1.0),
        (r#"xvip_build_info{version="0.1.0"}"#, 1.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
}

#[test]
fn a_new_status_replaces_the_old_one_whole() {
    let scraper = Scraper::new();
    let mut status = example();
    status.services.remove(1);
    status.services[0].backends.remove(0);
    status.datapath.program_id = 0;
    scraper.status.send_replace(Arc::new(status));
    let text = scraper.text();
    parse(&text);
    for gone in ["web", "xvip_datapath_info", r#"xvip_backend_up{service="apiserver",backend="master1""#] {
        assert!(!text.contains(gone), "{gone}");
    }
}

#[test]
fn events_are_counted() {
    let scraper = Scraper::new();
    let metrics = scraper.metrics.clone();
    metrics.health_checked("apiserver", "master1", "success", Duration::from_millis(250));
    metrics.health_checked("apiserver", "master1", "success", Duration::from_secs(9));
    metrics.health_checked("apiserver", "master1", "timeout", Duration::from_millis(500));
    metrics.advert_sent("k8s");
    metrics.advert_received("k8s");
    metrics.advert_received("k8s");
    metrics.advert_rejected("k8s", "checksum");
    metrics.announced("k8s", Ipv4Addr::new(192, 0, 2, 100).into());
    metrics.announced("k8s6", VIP_V6);
    metrics.lease_lapsed("k8s");
    metrics.vrrp_transition("k8s", "active");
    metrics.backend_transition("apiserver", "master1", "lost");

    let samples = scraper.samples();
    for (series, value) in [
        (r#"xvip_health_check_total{service="apiserver",backend="master1",result="success"}"#, 2.0),
        (r#"xvip_health_check_total{service="apiserver",backend="master1",result="timeout"}"#, 1.0),
        (r#"xvip_health_check_duration_seconds_count{service="apiserver",backend="master1"}"#, 3.0),
        (r#"xvip_health_check_duration_seconds_sum{service="apiserver",backend="master1"}"#, 9.75),
        (r#"xvip_health_check_duration_seconds_bucket{le="0.25",service="apiserver",backend="master1"}"#, 1.0),
        (r#"xvip_health_check_duration_seconds_bucket{le="5.0",service="apiserver",backend="master1"}"#, 2.0),
        (r#"xvip_health_check_duration_seconds_bucket{le="+Inf",service="apiserver",backend="master1"}"#, 3.0),
        (r#"xvip_backend_transitions_total{service="apiserver",backend="master1",to="lost"}"#, 1.0),
        (r#"xvip_backend_transitions_total{service="apiserver",backend="master1",to="up"}"#, 0.0),
        (r#"xvip_vrrp_adverts_total{router="k8s",direction="sent"}"#, 1.0),
        (r#"xvip_vrrp_adverts_total{router="k8s",direction="received"}"#, 2.0),
        (r#"xvip_vrrp_advert_errors_total{router="k8s",reason="checksum"}"#, 1.0),
        (r#"xvip_vrrp_lease_lapses_total{router="k8s"}"#, 1.0),
        (r#"xvip_gratuitous_arp_total{router="k8s",address="192.0.2.100"}"#, 1.0),
        (r#"xvip_unsolicited_na_total{router="k8s6",address="2001:db8::100"}"#, 1.0),
        (r#"xvip_vrrp_transitions_total{router="k8s",to="active"}"#, 1.0),
        (r#"xvip_vrrp_transitions_total{router="k8s",to="backup"}"#, 0.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
}

#[test]
fn series_follow_the_configuration() {
    let scraper = Scraper::new();
    let metrics = &scraper.metrics;
    metrics.health_checked("apiserver", "master1", "success", Duration::ZERO);
    metrics.health_checked("apiserver", "master2", "success", Duration::ZERO);
    metrics.advert_rejected("k8s", "checksum");

    metrics.configure(&config(&["master2", "master4"], &["other"]));
    // Late events of what is gone, and names nobody configured.
    metrics.health_checked("apiserver", "master1", "success", Duration::ZERO);
    metrics.health_checked("apiserver", "unheard", "success", Duration::ZERO);
    metrics.advert_sent("k8s");
    metrics.advert_rejected("k8s", "checksum");
    metrics.announced("other", Ipv4Addr::new(192, 0, 2, 99).into());

    let events: BTreeMap<String, f64> = scraper
        .samples()
        .into_iter()
        .filter(|(series, _)| {
            ["xvip_health", "xvip_vrrp_a", "xvip_vrrp_t", "xvip_grat", "xvip_unso"]
                .iter()
                .any(|family| series.starts_with(family))
                && !series.contains("_bucket")
                && !series.contains("_sum")
        })
        .collect();
    let expected = [
        (r#"xvip_gratuitous_arp_total{router="other",address="192.0.2.100"}"#, 0.0),
        (r#"xvip_health_check_duration_seconds_count{service="apiserver",backend="master2"}"#, 1.0),
        (r#"xvip_health_check_duration_seconds_count{service="apiserver",backend="master4"}"#, 0.0),
        (r#"xvip_health_check_total{service="apiserver",backend="master2",result="success"}"#, 1.0),
        (r#"xvip_health_check_total{service="apiserver",backend="master4",result="success"}"#, 0.0),
        (r#"xvip_vrrp_advert_errors_total{router="other",reason="checksum"}"#, 0.0),
        (r#"xvip_vrrp_adverts_total{router="other",direction="received"}"#, 0.0),
        (r#"xvip_vrrp_adverts_total{router="other",direction="sent"}"#, 0.0),
        (r#"xvip_vrrp_transitions_total{router="other",to="active"}"#, 0.0),
        (r#"xvip_vrrp_transitions_total{router="other",to="backup"}"#, 0.0),
        (r#"xvip_vrrp_transitions_total{router="other",to="fault"}"#, 0.0),
        (r#"xvip_vrrp_transitions_total{router="other",to="initialize"}"#, 0.0),
    ];
    assert_eq!(events, expected.into_iter().map(|(s, v)| (s.to_owned(), v)).collect());
}

#[test]
fn label_values_are_escaped() {
    let scraper = Scraper::new();
    let mut status = example();
    status.datapath.interface = "a\"b\\c\nd".to_owned();
    scraper.status.send_replace(Arc::new(status));
    let text = scraper.text();
    assert!(text.contains(r#"interface="a\"b\\c\nd"} 1"#), "{text}");
    parse(&text);
}
