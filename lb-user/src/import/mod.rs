//! `xvip import`: haproxy.cfg and keepalived.conf in, a configuration and what is to be said about it out.
//!
//! ```text
//!  haproxy.cfg ────> haproxy (tree, proxies) ──────> service ──┐
//!                                              ^ its VIPs      ├──> render ──> config::parse ──> text
//!  keepalived.conf ─> keepalived (tree, routers) ──────────────┘
//!                     every step: notes with file and line
//! ```
//! Only `files` and `command` do I/O. What is written was read back as a configuration before.

mod command;
mod files;
pub mod haproxy;
pub mod keepalived;
mod name;
mod note;
mod render;
mod service;
#[cfg(test)]
mod tests;
mod toml;

use std::net::{IpAddr, SocketAddr};

pub use command::{ImportArgs, run};
pub use note::{Kind, Note, Place};

use keepalived::{Router, Vrrp};
use note::Notes;
use service::{Backend, Check, Known, Service, Services};

use crate::config;

/// What the result is called where it is at fault.
const RESULT: &str = "what would be written";

/// A configuration that `xvip check` takes, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The configuration.
    pub text: String,
    /// Lines that were not carried over, and mistakes, in the order of the files.
    pub notes: Vec<Note>,
    /// What is left to fill in, as the file says too.
    pub open: Vec<String>,
}

/// Files as they were read.
#[derive(Debug, Default)]
pub struct Input {
    /// Of haproxy; `None`: there is none.
    pub haproxy: Option<haproxy::Tree>,
    /// Of keepalived; `None`: there is none.
    pub keepalived: Option<keepalived::Tree>,
    /// What the files are called.
    pub sources: Vec<String>,
}

/// Makes a configuration of what was read; `content` has the text of a file that a script of keepalived names, where it is known.
///
/// # Errors
/// What is to be said about the files when nothing can be written: a fault at least.
pub fn convert(input: &Input, content: &dyn Fn(&str) -> Option<String>) -> Result<Imported, Vec<Note>> {
    let mut notes = Notes::default();
    let vrrp = input.keepalived.as_deref().map(|tree| keepalived::read(tree, content, &mut notes));
    let proxies = input.haproxy.as_ref().map(|tree| haproxy::read(tree, &mut notes));
    if notes.has_faults() {
        return Err(notes.into_faults());
    }
    let whole = |line| Place { file: input.sources.first().map_or("", String::as_str).into(), line };
    if vrrp.as_ref().is_some_and(|vrrp| vrrp.routers.is_empty()) {
        notes.fault(&whole(1), "keepalived's file has no vrrp_instance, and nothing else of it can be carried over");
        return Err(notes.sorted());
    }
    let Vrrp { routers, groups } = vrrp.unwrap_or_default();
    let services = match &proxies {
        Some(proxies) => service::services(proxies, &Known::of(&routers), &mut notes),
        None => Services { services: alone(&routers), page: None },
    };
    if notes.has_faults() {
        return Err(notes.into_faults());
    }
    if services.services.is_empty() {
        let place = proxies.iter().flatten().next().map_or_else(|| whole(1), |proxy| proxy.place.clone());
        notes.fault(
            &place,
            "no frontend leads to a backend in a way that packets can be forwarded, so there is no service to write",
        );
        return Err(notes.sorted());
    }
    let plan = render::Plan { sources: &input.sources, routers: &routers, groups: &groups, services: &services };
    let (text, open) = render::render(&plan);
    // The host's name, and nothing else of the host, may make a difference; it is that of the node where it runs.
    let env = config::Env { host_name: "node".to_owned(), memory: 0 };
    // With the line of the page, too, which is for later.
    let later = text.replacen(render::PAGE, render::PAGE.trim_start_matches("# "), 1);
    if let Some(faults) = [&text, &later].into_iter().find_map(|text| config::parse(text, RESULT, &env).err()) {
        for fault in faults.iter() {
            let place = Place { file: RESULT.into(), line: fault.line };
            let line = text.lines().nth(fault.line.saturating_sub(1)).unwrap_or_default().trim();
            notes.fault(&place, format!("{line}: {}, {}", fault.what, fault.remedy));
        }
        return Err(notes.into_faults());
    }
    Ok(Imported { text, notes: notes.sorted(), open })
}

/// The services of VIPs without a balancer: the API servers of the nodes themselves, one for each IP version.
fn alone(routers: &[Router]) -> Vec<Service> {
    let mut services = Vec::new();
    for four in [true, false] {
        let of_family = |address: &&IpAddr| address.is_ipv4() == four;
        let vips: Vec<_> =
            routers.iter().flat_map(|router| &router.addresses).map(|(address, _)| address).filter(of_family).collect();
        if vips.is_empty() {
            continue;
        }
        let router =
            routers.iter().find(|router| router.addresses.iter().any(|(address, _)| address.is_ipv4() == four));
        let nodes: Vec<IpAddr> =
            router.iter().flat_map(|router| router.source.iter().chain(&router.peers).copied()).collect();
        let known = !nodes.is_empty();
        let nodes = match (known, four) {
            (true, _) => nodes,
            (false, true) => (0..3).map(service::stand_in).collect(),
            (false, false) => (0x11..0x14).map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])).collect(),
        };
        let backends = nodes.into_iter().enumerate().map(|(number, address)| Backend {
            name: format!("master{}", number + 1),
            address: SocketAddr::new(address, service::API_PORT).to_string(),
            weight: None,
            max_connections: None,
            remarks: Vec::new(),
            open: (!known)
                .then(|| "the address of a control-plane node, and a [[service.backend]] for each of them".to_owned()),
        });
        services.push(Service {
            place: None,
            name: if four { "apiserver" } else { "apiserver-v6" }.to_owned(),
            listen: vips.into_iter().map(|vip| SocketAddr::new(*vip, service::API_PORT).to_string()).collect(),
            balance: "roundrobin",
            max_connections: None,
            idle: None,
            slow_start: None,
            check: Check::default(),
            backends: backends.collect(),
            remarks: Vec::new(),
            open: vec!["the port of the API servers, here and below, where it is another than 6443".to_owned()],
        });
    }
    services
}
