//! The keys of `[node]`, `[metrics]` and `[admin]`.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::reader::{Got, List, Section};
use super::report::{At, Wrong, quote, wrong};
use super::{Admin, Datapath, Env, Metrics, Node, Readers, Role, TlsFiles, values};

/// Longest path a Unix socket can be bound to: `sun_path` less its final NUL, and room for the name of the one that only tells.
const LONGEST_SOCKET: usize = 102;
/// What a flow takes in the tables that are there from the start: two entries of IPv4, their buckets, and its share of what is
/// for handshakes of both IP versions.
const BYTES_OF_FLOW: u64 = 576;

/// Fewest flows and handshakes a table is for.
const FEWEST: u32 = 1024;
/// What suits a control plane, where there is memory enough.
const MOST_USUAL: u32 = 131_072;

/// Flows the tables hold by default: as many as a 24th of the host's memory has room for, in powers of two, so that small
/// differences in what the host says of its memory make none here.
fn usual_flows(memory: u64) -> u32 {
    if memory == 0 {
        return MOST_USUAL;
    }
    let room = (memory / 24 / BYTES_OF_FLOW).checked_ilog2().map_or(0, |log| 1_u64 << log);
    u32::try_from(room).map_or(MOST_USUAL, |room| room.clamp(FEWEST, MOST_USUAL))
}

/// `[node]`, with what other sections are compared with.
pub(super) struct Draft {
    pub(super) interface: Option<At<String>>,
    /// `None`: bad.
    pub(super) role: Option<At<Role>>,
    /// `None`: the default, or bad.
    pub(super) chosen_ports: Option<At<RangeInclusive<u16>>>,
    pub(super) source_addresses: List<IpAddr>,
    pub(super) built: Option<Node>,
}

pub(super) fn read(section: &Section<'_>, env: &Env) -> Draft {
    let name = match section.key("name", r#""lb1""#).text(values::name) {
        Got::Absent(at) => from_host(env).map_err(|wrong| section.report.add(at, wrong)).ok(),
        got => got.value().map(|name| name.value),
    };
    let interface = section.key("interface", r#""eth0""#).required().text(values::interface).value();
    let role = |text: &str| values::choice(text, &[("balancer", Role::Balancer), ("backend", Role::Backend)], &[]);
    let role = section.key("role", r#""balancer""#).text(role).or(Role::Balancer);
    let peer_port = section.key("peer_port", "9911").integer(1..=u16::MAX).or(9911);
    let datapath = section.key("datapath", r#""auto""#).text(datapath).or(Datapath::Auto);
    let ports = section.key("source_ports", r#""1024-32767""#).text(values::port_range);
    let ports = ports.optional();
    let sources = section.key("source_addresses", r#"["192.0.2.110"]"#).texts(values::host_address);
    let max_flows = section.key("max_flows", "131072").integer(1024..=4_194_304).or(usual_flows(env.memory));
    let usual_handshakes = max_flows.as_ref().map_or(FEWEST, |flows| flows.value / 4).clamp(FEWEST, MOST_USUAL / 4);
    let max_half_open = section.key("max_half_open", "32768").integer(FEWEST..=1_048_576).or(usual_handshakes);
    let cgroup = |text: &str| values::directory(text, "/sys/fs/cgroup");
    let cgroup = section.key("cgroup", r#""/sys/fs/cgroup""#).text(cgroup).optional();
    section.finish();

    let chosen_ports = ports.clone().flatten();
    let build = || {
        Some(Node {
            name: name?,
            interface: interface.clone()?.value,
            role: role?.value,
            peer_port: peer_port?.value,
            datapath: datapath?.value,
            source_ports: ports?.map_or(1024..=32767, |ports| ports.value),
            source_addresses: sources.values()?,
            max_flows: max_flows?.value,
            max_half_open: max_half_open?.value,
            cgroup: cgroup?.map(|cgroup| cgroup.value),
        })
    };
    let built = build();
    Draft { interface, role, chosen_ports, source_addresses: sources, built }
}

/// `[metrics]`, with what other sections are compared with.
pub(super) struct MetricsDraft {
    pub(super) listen: Option<At<SocketAddr>>,
    pub(super) built: Option<Metrics>,
}

pub(super) fn metrics(section: &Section<'_>) -> MetricsDraft {
    const LONGEST: usize = 4095;
    let default = SocketAddr::from(([127, 0, 0, 1], 9910));
    let listen = section.key("listen", r#""127.0.0.1:9910""#).text(values::listen_socket).or(default);
    let file = |name, example: &'static str| {
        let key = section.key(name, example);
        key.text(|text| values::path(text, LONGEST, example.trim_matches('"'))).optional()
    };
    let passwords = file("password_file", r#""/etc/xvip/page.passwords""#);
    let (certificate, key) = (file("tls_cert", r#""/etc/xvip/page.crt""#), file("tls_key", r#""/etc/xvip/page.key""#));
    let authorities = file("tls_client_ca", r#""/etc/xvip/page.clients.crt""#);
    section.finish();
    let tls = match (certificate, key) {
        (Some(Some(certificate)), Some(Some(key))) => authorities.map(|authorities| {
            let client_authorities = authorities.map(|file| file.value);
            Some(TlsFiles { certificate: certificate.value, key: key.value, client_authorities })
        }),
        (Some(None), Some(None)) => match authorities {
            Some(Some(one)) => {
                let what = "tls_client_ca stands without tls_cert and tls_key";
                section.report.add(one.at, wrong(what, "add both: certificates are shown over TLS alone"));
                None
            }
            authorities => authorities.map(|_| None),
        },
        (Some(Some(one)), Some(None)) => {
            section.report.add(one.at, wrong("tls_cert stands without tls_key", "add tls_key"));
            None
        }
        (Some(None), Some(Some(one))) => {
            section.report.add(one.at, wrong("tls_key stands without tls_cert", "add tls_cert"));
            None
        }
        _ => None,
    };
    let build = || {
        let password_file = passwords?.map(|file| file.value);
        Some(Metrics { listen: listen?.value, password_file, tls: tls? })
    };
    let built = build();
    MetricsDraft { listen, built }
}

pub(super) fn admin(section: &Section<'_>) -> Option<Admin> {
    const DEFAULT: &str = "/run/xvip/admin.sock";
    let path = |text: &str| values::path(text, LONGEST_SOCKET, DEFAULT);
    let socket = section.key("socket", r#""/run/xvip/admin.sock""#).text(path).or(DEFAULT.into());
    let readers = [("everyone", Readers::Everyone), ("group", Readers::Group), ("nobody", Readers::Nobody)];
    let read = |text: &str| values::choice(text, &readers, &[]);
    let read = section.key("read", r#""everyone""#).text(read).or(Readers::Everyone);
    section.finish();
    Some(Admin { socket: socket?.value, read: read?.value })
}

fn datapath(text: &str) -> Result<Datapath, Wrong> {
    let choices =
        [("auto", Datapath::Auto), ("xdp", Datapath::Xdp), ("xdp-generic", Datapath::XdpGeneric), ("tc", Datapath::Tc)];
    values::choice(text, &choices, &[])
}

fn from_host(env: &Env) -> Result<String, Wrong> {
    const REMEDY: &str = r#"set name in [node] such as name = "lb1""#;
    if env.host_name.is_empty() {
        return Err(wrong("[node] has no name and the host has none either", REMEDY));
    }
    values::name(&env.host_name.to_ascii_lowercase()).map_err(|_| {
        let host = quote(&env.host_name);
        wrong(format!("the host's name {host} cannot be the name of the node"), REMEDY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_fit_the_host() {
        const MIB: u64 = 1 << 20;
        let expected = [(0, 131_072), (MIB, 1024), (256 * MIB, 16_384), (512 * MIB, 32_768), (4096 * MIB, 131_072)];
        for (memory, flows) in expected {
            assert_eq!(usual_flows(memory), flows, "{memory}");
        }
        assert_eq!(usual_flows(2000 * MIB), usual_flows(1990 * MIB));
        assert_eq!(usual_flows(u64::MAX), MOST_USUAL);
    }
}
