//! What haproxy's servers become: backends.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::haproxy::{Server, Where};
use super::super::name::Names;
use super::super::note::Notes;
use super::Known;

/// Port of API servers, where nothing says another.
pub(in crate::import) const API_PORT: u16 = 6443;

/// A `[[service.backend]]`.
#[derive(Debug)]
pub(in crate::import) struct Backend {
    pub(in crate::import) name: String,
    /// As the configuration has it.
    pub(in crate::import) address: String,
    /// `None`: 1.
    pub(in crate::import) weight: Option<u16>,
    pub(in crate::import) max_connections: Option<u32>,
    /// What stands above it.
    pub(in crate::import) remarks: Vec<String>,
    /// What nobody but the administrator knows.
    pub(in crate::import) open: Option<String>,
}

/// An address that stands for one that is not known: the `number`th of those for documentation (RFC 5737).
pub(in crate::import) fn stand_in(number: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, u8::try_from(number % 200).unwrap_or_default().saturating_add(11)).into()
}

/// The backends of a service that listens at `port`, `None` being several.
pub(super) fn backends(
    back: &str, servers: &[&Server], port: Option<u16>, known: &Known, open: &mut Vec<String>, notes: &mut Notes,
) -> Vec<Backend> {
    let mut names = Names::default();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut backends = Vec::new();
    for server in servers {
        let place = &server.place;
        let (address, unknown) = match address(server, backends.len(), known, notes) {
            Some(found) => found,
            None => continue,
        };
        let address = match server.port.or(port) {
            Some(port) => SocketAddr::new(address, port).to_string(),
            None if address.is_ipv4() => address.to_string(),
            None => format!("[{address}]"),
        };
        if !taken.insert(address.clone()) {
            notes.mistake(place, format!("server {}: {address} is a server of {back} already; left out", server.name));
            continue;
        }
        let options = &server.options;
        if !options.check && !options.disabled {
            let what =
                format!("server {} has no check: clients are sent to it dead or alive; xvip checks it", server.name);
            notes.mistake(place, what);
        }
        if options.backup {
            let why = "xvip has no spare backends: it takes its share like the others; remove it if it must not";
            notes.lost(place, format!("backup of server {}", server.name), why);
        }
        if options.disabled {
            notes.lost(
                place,
                format!("disabled of server {}", server.name),
                "it has weight 0, which takes no new connections",
            );
        }
        if let Some(place) = &options.proxy_protocol {
            let why = "backends get no PROXY header, and must not wait for one; with mode = \"dsr\" they see the client's address";
            notes.lost(place, format!("send-proxy of server {}", server.name), why);
        }
        let name = names.unique(&server.name, "backend");
        let remarks = if name == server.name { Vec::new() } else { vec![format!("{} in haproxy's file", server.name)] };
        backends.push(Backend {
            name,
            address,
            weight: if options.disabled { Some(0) } else { options.weight.filter(|weight| *weight != 1) },
            max_connections: options.maxconn.filter(|count| *count > 0),
            remarks,
            open: unknown.clone(),
        });
        open.extend(unknown);
    }
    backends
}

/// Its address, and what to say where that is not known.
fn address(server: &Server, number: usize, known: &Known, notes: &mut Notes) -> Option<(IpAddr, Option<String>)> {
    let (place, name) = (&server.place, &server.name);
    let unknown = |why: String| Some((stand_in(number), Some(why)));
    match &server.address {
        Where::Name(host) => unknown(format!("the address of {host}, backends are not found by name")),
        Where::Other(text) => {
            notes.lost(
                place,
                format!("server {name} at {text}"),
                "a backend has an address, and a port or the client's",
            );
            None
        }
        Where::Ip(address) if known.vips.contains(address) => {
            notes.mistake(
                place,
                format!("server {name} is at the VIP {address}: connections would come back; left out"),
            );
            None
        }
        Where::Ip(address) if address.is_loopback() || address.is_unspecified() => {
            let own = known.own.iter().find(|own| own.is_ipv4() == address.is_ipv4());
            match own {
                Some(own) => {
                    notes.lost(
                        place,
                        format!("server {name} at {address}"),
                        format!("a backend has an address that every balancer reaches: it is written as {own}"),
                    );
                    Some((*own, None))
                }
                None if address.is_ipv4() => unknown(format!("this node's own address, in place of {address}")),
                None => {
                    notes.lost(
                        place,
                        format!("server {name} at {address}"),
                        "a backend has an address that every balancer reaches",
                    );
                    None
                }
            }
        }
        Where::Ip(IpAddr::V6(address)) if address.is_unicast_link_local() => {
            notes.lost(
                place,
                format!("server {name} at {address}"),
                "a backend has an address that is good beyond its link",
            );
            None
        }
        Where::Ip(address) => Some((*address, None)),
    }
}
