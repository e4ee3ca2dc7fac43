//! Tests of the configuration as a whole.

mod admission;
mod files;
mod flow_log;
mod good;
mod host;
mod mutated;
mod sync;
mod sync_group;
mod wrong;

use super::*;

/// The file we ship.
const SHIPPED: &str = include_str!("../../../config/xvip.toml");

/// As short as it gets, with one of each table.
const BASE: &str = r#"[node]
name = "lb1"
interface = "eth0"

[[vrrp]]
name = "k8s"
virtual_router_id = 51
virtual_addresses = ["192.0.2.100/24"]

[[service]]
name = "apiserver"
listen = "192.0.2.100:8443"

[service.health_check]
type = "https"

[[service.backend]]
name = "master1"
address = "192.0.2.31:6443"
"#;

fn here() -> Env {
    Env { host_name: "host".into(), memory: 0 }
}

fn accept(text: &str) -> Loaded {
    parse(text, "xvip.toml", &here()).unwrap_or_else(|faults| panic!("refused:\n{faults}\n{text}"))
}

/// The faults as they are shown.
fn refuse(text: &str) -> String {
    match parse(text, "xvip.toml", &here()) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(faults) => faults.to_string(),
    }
}

/// `BASE` with one place changed.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} is not one place");
    BASE.replacen(from, to, 1)
}
