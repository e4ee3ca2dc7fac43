//! Whole files: what is below `testdata` becomes the `xvip.toml` and `notes.txt` beside it, byte by byte.
//!
//! `xvip import --haproxy haproxy.cfg --keepalived keepalived.conf --config-id lb1 > xvip.toml 2> notes.txt` in its
//! directory makes them anew.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::super::{command, files};
use super::*;

/// Imports what is in a directory; `suffix` stands before the dots of what differs between nodes.
#[track_caller]
fn becomes(name: &str, haproxy: bool, suffix: &str) -> config::Config {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/testdata").join(name);
    let text = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let here = format!("{}/", directory.display());
    let mut input = Input::default();
    if haproxy {
        input.haproxy = Some(haproxy::parse(&text("haproxy.cfg"), "haproxy.cfg", |_| None).unwrap());
        input.sources.push("haproxy.cfg".to_owned());
    }
    let keepalived = format!("keepalived{suffix}.conf");
    let mut includes = files::Includes::default();
    let mut reader = keepalived::Reader::new("lb1", |pattern: &str, from: &str| {
        let files = includes.load(pattern, &format!("{here}{from}"))?;
        Ok(files.into_iter().map(|(name, text)| (name.replace(&here, ""), text)).collect())
    });
    reader.read(&text(&keepalived), &keepalived);
    let (tree, notes) = reader.finish();
    assert!(!notes.has_faults());
    input.keepalived = Some(tree);
    input.sources.push(keepalived.clone());
    let result = convert(&input, &|program| files::script(program, &directory.join(&keepalived)));
    let said = command::said(&result);
    let imported = result.unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(imported.text, text(&format!("xvip{suffix}.toml")), "{name}{suffix}");
    assert_eq!(said, text(&format!("notes{suffix}.txt")), "{name}{suffix}");
    assert!(!shared_with(&imported.text).is_empty(), "{name}{suffix}");
    let env = config::Env { host_name: "lb1".to_owned(), memory: 0 };
    config::parse(&imported.text, "xvip.toml", &env).unwrap_or_else(|faults| panic!("{faults}")).config
}

#[test]
fn an_external_pair() {
    let config = becomes("external-pair", true, "");
    assert_eq!(config.node.interface, "ens160");
    assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:9910", "haproxy has the other port for now");
    let router = &config.vrrp[0];
    assert!(router.preempt && router.unicast_peers.is_empty());
    assert_eq!(router.version, lb_proto::units::Version::V2);
    let service = &config.services[0];
    assert_eq!(service.listen[0].to_string(), "0.0.0.0:8443");
    assert!(service.backends.iter().all(|backend| backend.max_connections == 1000));
    assert_eq!(service.backends.len(), 3);
    assert_eq!(service.idle_timeout.as_secs(), 7200);
}

#[test]
fn a_stacked_one_without_preemption() {
    let config = becomes("stacked-nopreempt", true, "");
    let router = &config.vrrp[0];
    assert!(!router.preempt);
    assert_eq!(
        router.unicast_peers,
        ["192.168.238.131", "192.168.238.132"].map(|peer| peer.parse::<IpAddr>().unwrap())
    );
    let config::CheckKind::Https(http, _) = &config.services[0].health_check.kind else { panic!("{config:?}") };
    assert_eq!((http.path.as_str(), http.expect_status.as_slice()), ("/healthz", [200].as_slice()));
}

#[test]
fn a_vip_alone() {
    let config = becomes("vip-only", false, "");
    assert_eq!(config.vrrp[0].virtual_addresses[0].to_string(), "10.0.1.234/32");
    assert_eq!(config.services[0].listen[0].to_string(), "10.0.1.234:6443");
}

#[test]
fn three_nodes_of_one_group() {
    let nodes = ["-master1", "-master2", "-master3"].map(|node| becomes("stacked-workers", true, node));
    let routers = nodes.map(|config| config.vrrp.into_iter().next().unwrap());
    assert_eq!(routers.each_ref().map(|router| router.priority), [120, 110, 100]);
    for router in &routers {
        assert_eq!(router.advert_interval.as_secs(), 3);
        let others = routers.iter().filter_map(|other| other.unicast_source);
        assert!(others.filter(|other| Some(*other) != router.unicast_source).eq(router.unicast_peers.iter().copied()));
    }
}

#[test]
fn several_services_and_routers() {
    let config = becomes("several", true, "");
    assert_eq!((config.vrrp.len(), config.services.len()), (2, 4));
    assert_eq!(config.vrrp[0].tracks.len(), 2);
    assert!(config.vrrp.iter().all(|router| router.sync_group.as_deref() == Some("api")), "{:?}", config.vrrp);
}
