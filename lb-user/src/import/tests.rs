//! What files become: whole configurations, every mistake, every refusal, and any text at all.

mod any;
mod golden;
mod mistakes;
mod refusals;
mod said;

use super::*;

/// Reads two texts, an empty one standing for no file, as on a host called lb1.
fn input(haproxy: &str, keepalived: &str) -> Result<Input, Vec<Note>> {
    let mut input = Input::default();
    if !haproxy.is_empty() {
        input.haproxy = Some(haproxy::parse(haproxy, "haproxy.cfg", |_| None)?);
        input.sources.push("haproxy.cfg".to_owned());
    }
    if !keepalived.is_empty() {
        input.keepalived = Some(keepalived::parse(keepalived, "keepalived.conf", "lb1")?);
        input.sources.push("keepalived.conf".to_owned());
    }
    Ok(input)
}

/// What the two become, with a script that is nowhere.
fn import(haproxy: &str, keepalived: &str) -> Result<Imported, Vec<Note>> {
    convert(&input(haproxy, keepalived)?, &|_| None)
}

/// The configuration that is written, as xvip reads it.
fn config(haproxy: &str, keepalived: &str) -> config::Config {
    let imported = import(haproxy, keepalived).unwrap_or_else(|notes| panic!("{notes:?}"));
    let env = config::Env { host_name: "lb1".to_owned(), memory: 0 };
    config::parse(&imported.text, "xvip.toml", &env).unwrap_or_else(|faults| panic!("{faults}")).config
}

/// Whom connections are shared with once the lines of `[sync]` are read.
fn shared_with(text: &str) -> Vec<String> {
    let keys = ["[sync]", "key_file = ", "peers = "];
    let text =
        keys.iter().fold(text.to_owned(), |text, key| text.replacen(&format!("\n# {key}"), &format!("\n{key}"), 1));
    let env = config::Env { host_name: "lb1".to_owned(), memory: 0 };
    let config = config::parse(&text, "xvip.toml", &env).unwrap_or_else(|faults| panic!("{faults}: {text}")).config;
    config.sync.map(|sync| sync.peers.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

/// The notes of two files, one a line.
fn notes(haproxy: &str, keepalived: &str) -> String {
    let notes = import(haproxy, keepalived).map_or_else(|notes| notes, |imported| imported.notes);
    notes.iter().map(|note| format!("{note}\n")).collect()
}

/// A frontend and a backend with these lines in it.
fn haproxy_with(front: &str, back: &str) -> String {
    format!(
        "frontend api\n bind :8443\n{front}\n default_backend api\nbackend api\n{back}\n server m1 192.0.2.31:6443 check\n"
    )
}

/// A router with these lines in it.
fn keepalived_with(lines: &str) -> String {
    format!(
        "vrrp_instance k8s {{\n interface eth0\n virtual_router_id 51\n{lines}\n virtual_ipaddress {{\n 192.0.2.100/24\n }}\n}}\n"
    )
}
