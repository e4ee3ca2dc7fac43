//! `virtual_server`: keepalived as a balancer, by IPVS.

use std::net::IpAddr;

use super::super::note::{Notes, Place};
use super::Statement;

/// A `virtual_server` of TCP at an address and port.
#[derive(Debug, Clone)]
pub(in crate::import) struct VirtualServer {
    pub(in crate::import) place: Place,
    pub(in crate::import) address: IpAddr,
    pub(in crate::import) port: u16,
    pub(in crate::import) balance: &'static str,
    pub(in crate::import) servers: Vec<RealServer>,
    /// How the first of them that is asked by HTTP is asked.
    pub(in crate::import) request: Option<Request>,
}

/// A `real_server`.
#[derive(Debug, Clone)]
pub(in crate::import) struct RealServer {
    pub(in crate::import) place: Place,
    pub(in crate::import) address: IpAddr,
    pub(in crate::import) port: u16,
    pub(in crate::import) weight: u16,
}

/// `HTTP_GET` or `SSL_GET`.
#[derive(Debug, Clone)]
pub(in crate::import) struct Request {
    pub(in crate::import) tls: bool,
    pub(in crate::import) path: Option<String>,
    pub(in crate::import) status: Option<u16>,
}

const BALANCED: &str = "a service has balance = \"roundrobin\", \"leastconn\", \"source\" or \"maglev\"";
const CHECKED: &str = "a service has one way of checking, that of [service.health_check]";
const SENT: &str = "packets go to backends with addresses changed (mode = \"snat\"); mode = \"dsr\" is as DR is, and wants the VIP on them";
const OTHER: &str = "IPVS is not used, and xvip has no such setting";

/// Those that can be carried over; beside another balancer, `balancer`, none.
pub(super) fn read(tree: &[Statement], balancer: bool, notes: &mut Notes) -> Vec<VirtualServer> {
    let mut all = Vec::new();
    for statement in tree.iter().filter(|statement| statement.word(0) == "virtual_server") {
        let lost = |why: &str, notes: &mut Notes| notes.lost(&statement.place, statement.text(), why);
        if balancer {
            lost("a balancer by IPVS; write it as [[service]] where it is of TCP", notes);
            continue;
        }
        let Some((address, port)) = at(statement, 1) else {
            lost("it is at no address and port; write it as [[service]] where it is of TCP", notes);
            continue;
        };
        let protocol = statement.within().iter().find(|line| line.word(0) == "protocol");
        if protocol.is_some_and(|line| !line.word(1).eq_ignore_ascii_case("TCP")) {
            lost("xvip forwards TCP", notes);
            continue;
        }
        all.push(virtual_server(statement, address, port, notes));
    }
    all
}

fn virtual_server(statement: &Statement, address: IpAddr, port: u16, notes: &mut Notes) -> VirtualServer {
    let (place, balance) = (statement.place.clone(), "roundrobin");
    let mut server = VirtualServer { place, address, port, balance, servers: Vec::new(), request: None };
    for line in statement.within() {
        let lost = |why: &str, notes: &mut Notes| notes.lost(&line.place, line.text(), why);
        match (line.word(0), line.word(1)) {
            ("protocol", _) => {}
            ("lb_algo" | "lvs_sched", algorithm) => {
                server.balance = match algorithm {
                    "rr" | "wrr" => "roundrobin",
                    "lc" | "wlc" => "leastconn",
                    "sh" | "mh" => "source",
                    other => {
                        let near =
                            if matches!(other, "sed" | "nq" | "lblc" | "lblcr") { "leastconn" } else { "roundrobin" };
                        lost(&format!("{BALANCED}; \"{near}\" is written"), notes);
                        near
                    }
                };
            }
            ("lb_kind" | "lvs_method", _) => lost(SENT, notes),
            ("persistence_timeout", "0") => {}
            ("persistence_timeout" | "persistence_granularity", _) => {
                lost("balance = \"source\" keeps a client at its backend", notes);
            }
            ("sorry_server", _) => lost("xvip has no spare backends", notes),
            ("delay_loop" | "retry" | "delay_before_retry" | "warmup", _) => lost(CHECKED, notes),
            ("real_server", _) => real_server(line, &mut server, notes),
            _ => lost(OTHER, notes),
        }
    }
    server
}

fn real_server(statement: &Statement, server: &mut VirtualServer, notes: &mut Notes) {
    let lost = |line: &Statement, why: &str, notes: &mut Notes| notes.lost(&line.place, line.text(), why);
    let Some((address, port)) = at(statement, 1) else {
        return lost(statement, "a backend has an address and a port here", notes);
    };
    if address.is_ipv4() != server.address.is_ipv4() {
        return lost(statement, "packets keep their IP version on the way", notes);
    }
    let mut real = RealServer { place: statement.place.clone(), address, port, weight: 1 };
    for line in statement.within() {
        match line.word(0) {
            "weight" => match line.word(1).parse::<u16>() {
                Ok(weight @ 0..=256) => real.weight = weight,
                _ => {
                    lost(line, "a weight is 0 to 256; 256 is written", notes);
                    real.weight = 256;
                }
            },
            kind @ ("SSL_GET" | "HTTP_GET") => {
                let url = line.within().iter().find(|line| line.word(0) == "url");
                let of = |key: &str| {
                    let found = url.into_iter().flat_map(Statement::within).find(|line| line.word(0) == key);
                    found.map(|line| line.word(1).to_owned())
                };
                let path = of("path").filter(|path| path.starts_with('/'));
                let status = of("status_code").and_then(|status| status.parse().ok());
                let status = status.filter(|status| (100..600).contains(status));
                server.request.get_or_insert(Request { tls: kind == "SSL_GET", path, status });
            }
            "TCP_CHECK" => {}
            "inhibit_on_failure" => lost(line, "a backend that fails takes no new connections", notes),
            keyword if keyword.ends_with("_CHECK") => lost(line, CHECKED, notes),
            _ => lost(line, OTHER, notes),
        }
    }
    server.servers.push(real);
}

/// An address and a port from 1 up.
fn at(statement: &Statement, from: usize) -> Option<(IpAddr, u16)> {
    let port: u16 = statement.word(from + 1).parse().ok()?;
    Some((statement.word(from).parse().ok()?, port)).filter(|(_, port)| *port > 0)
}
