//! What haproxy's servers become: backends.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::haproxy::{Server, Where};
use super::super::name::Names;
use super::super::note::{Notes, Place};
use super::Known;

/// Port of API servers, where nothing says another.
pub(in crate::import) const API_PORT: u16 = 6443;

/// A `[[service.backend]]`.
#[derive(Debug)]
pub(in crate::import) struct Backend {
    /// Where it stands, if it stands somewhere.
    pub(in crate::import) place: Option<Place>,
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

/// Addresses that stand for some that are not known, of those for documentation (RFC 5737, RFC 3849).
pub(in crate::import) fn stand_ins(four: bool) -> impl Iterator<Item = IpAddr> {
    (11..=210_u8).map(move |last| match four {
        true => Ipv4Addr::new(192, 0, 2, last).into(),
        // ::11, ::12, as people count.
        false => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, (u16::from(last / 10) << 4) | u16::from(last % 10)).into(),
    })
}

/// The backends of a service that listens at `port`, `None` being several, and is of one IP version.
pub(super) fn backends(
    back: &str, servers: &[&Server], port: Option<u16>, known: &Known, four: bool, open: &mut Vec<String>,
    notes: &mut Notes,
) -> Vec<Backend> {
    // A spare one may stand aside where another serves.
    let serves = |server: &Server| {
        let options = &server.options;
        !options.backup && !options.disabled && options.weight != Some(0) && !at_vip(server, known)
    };
    let others = servers.iter().any(|server| serves(server));
    let named: BTreeSet<IpAddr> = servers
        .iter()
        .filter_map(|server| match server.address {
            Where::Ip(address) => Some(address),
            _ => None,
        })
        .collect();
    let mut free =
        stand_ins(four).filter(|at| !named.contains(at) && !known.vips.contains(at) && !known.own.contains(at));
    let mut names = Names::default();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut backends = Vec::new();
    for server in servers {
        let place = &server.place;
        let (address, unknown) = match address(server, free.next(), known, notes) {
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
        let spare = options.backup && others;
        if options.backup {
            let why = match spare {
                true => {
                    "xvip has no spare backends: it has weight 0, which takes no new connections, until it is given another"
                }
                false => "xvip has no spare backends: it takes its share, as no other server does",
            };
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
            place: Some(place.clone()),
            name,
            address,
            weight: if options.disabled || spare { Some(0) } else { options.weight.filter(|weight| *weight != 1) },
            max_connections: options.maxconn.filter(|count| *count > 0),
            remarks,
            open: unknown.clone(),
        });
        open.extend(unknown);
    }
    backends
}

/// Whether connections to it would come back.
fn at_vip(server: &Server, known: &Known) -> bool {
    matches!(server.address, Where::Ip(address) if known.vips.contains(&address))
}

/// Its address, or one that stands for it and what to say of that.
fn address(
    server: &Server, stand_in: Option<IpAddr>, known: &Known, notes: &mut Notes,
) -> Option<(IpAddr, Option<String>)> {
    let (place, name) = (&server.place, &server.name);
    let unknown = |why: String| Some((stand_in?, Some(why)));
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
        Where::Ip(address) if at_vip(server, known) => {
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
