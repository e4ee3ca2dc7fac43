//! What haproxy's frontends and backends become: services.

mod backend;
mod check;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::haproxy::{Bind, Kind, Mode, Proxy, Server, Where};
use super::keepalived::Router;
use super::name::Names;
use super::note::{Notes, Place, nearest};

pub(super) use backend::{API_PORT, Backend, stand_ins};
pub(super) use check::{Check, is_path};

/// Below this, what a control plane's clients hold open in silence is cut.
const SHORT: Duration = Duration::from_secs(3600);
/// The most that an idle_timeout can be.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a service was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A frontend of haproxy.
    Proxy,
    /// A `virtual_server` of keepalived.
    Ipvs,
    /// VIPs without a balancer.
    Vips,
}

/// A `[[service]]`.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) source: Source,
    /// Where that stands.
    pub(super) place: Place,
    pub(super) name: String,
    /// As the configuration has them, and whence.
    pub(super) listen: Vec<(String, Option<Place>)>,
    pub(super) balance: &'static str,
    pub(super) max_connections: Option<u32>,
    /// `None`: the default.
    pub(super) idle: Option<Duration>,
    pub(super) slow_start: Option<Duration>,
    pub(super) check: Check,
    pub(super) backends: Vec<Backend>,
    /// What stands above it.
    pub(super) remarks: Vec<String>,
    /// What nobody but the administrator knows.
    pub(super) open: Vec<String>,
}

/// What haproxy's files become.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) services: Vec<Service>,
    /// Where the status page is, and whence.
    pub(super) page: Option<(String, Place)>,
}

/// The addresses that keepalived's files name.
pub(super) struct Known {
    pub(super) vips: BTreeSet<IpAddr>,
    pub(super) own: BTreeSet<IpAddr>,
}

impl Known {
    pub(super) fn of(routers: &[Router]) -> Known {
        Known {
            vips: routers.iter().flat_map(Router::vips).collect(),
            own: routers.iter().filter_map(|router| router.source).collect(),
        }
    }
}

/// The ports where these listen, first and last.
pub(super) fn ports(proxies: &[Proxy]) -> Vec<(u16, u16)> {
    let binds = proxies.iter().flat_map(|proxy| &proxy.binds);
    binds.filter(|bind| bind.first > 0).map(|bind| (bind.first, bind.last)).collect()
}

pub(super) fn services(proxies: &[Proxy], known: &Known, notes: &mut Notes) -> Services {
    let mut all = Services::default();
    let mut names = Names::default();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for front in proxies.iter().filter(|proxy| proxy.kind != Kind::Backend) {
        let title = title(front);
        if front.settings.disabled {
            notes.lost(&front.place, title, "it is disabled");
            continue;
        }
        let Some(back) = back(front, proxies, notes) else {
            match (front.settings.stats.on || front.settings.monitor) && front.routes.is_empty() {
                true => page(front, front, known, &mut all.page, notes),
                false => notes.lost(&front.place, title, "it leads to no backend"),
            }
            continue;
        };
        used.insert(&back.name);
        if back.servers.is_empty() && back.settings.stats.on && front.routes.iter().all(|(.., always)| *always) {
            page(front, back, known, &mut all.page, notes);
            continue;
        }
        if let Some(why) = impossible(front, back) {
            notes.lost(&front.place, title, why);
            continue;
        }
        if front.settings.mode == Mode::Http {
            notes.lost(
                &front.place,
                format!("mode http of {}", front.name),
                "its requests are forwarded as TCP, whatever is in them",
            );
        }
        all.services.extend(both_families(front, back, known, &mut names, notes));
    }
    for back in proxies.iter().filter(|proxy| proxy.kind == Kind::Backend && !used.contains(proxy.name.as_str())) {
        notes.lost(&back.place, title(back), "no frontend that is carried over leads to it");
    }
    let taken = |port: &str| all.services.iter().flat_map(|service| &service.listen).any(|(at, _)| at.ends_with(port));
    if let Some((at, place)) = &all.page
        && at.rfind(':').is_some_and(|colon| taken(&at[colon..]))
    {
        notes.lost(
            place,
            format!("the page at {at}"),
            "a service listens at its port; metrics.listen stays at 127.0.0.1:9910",
        );
        all.page = None;
    }
    all
}

fn title(proxy: &Proxy) -> String {
    let kind = match proxy.kind {
        Kind::Frontend => "frontend",
        Kind::Backend => "backend",
        Kind::Listen => "listen",
    };
    format!("{kind} {}", proxy.name)
}

/// Where its connections go, whatever is in them.
fn back<'p>(front: &'p Proxy, proxies: &'p [Proxy], notes: &mut Notes) -> Option<&'p Proxy> {
    for (place, name, _) in front.routes.iter().filter(|(.., always)| !always) {
        let condition = if name.contains("%[") { "" } else { " on a condition" };
        notes.lost(place, format!("use_backend {name}{condition}"), "xvip decides by addresses and ports alone");
    }
    let always = front.routes.iter().find(|(.., always)| *always).map(|(place, name, _)| (place, name));
    let named = always.or(front.settings.default_backend.as_ref().map(|(place, name)| (place, name)));
    let Some((place, name)) = named else {
        return Some(front).filter(|front| !front.servers.is_empty());
    };
    let others = || proxies.iter().filter(|proxy| proxy.kind != Kind::Frontend);
    let back = others().find(|proxy| proxy.name == *name);
    if back.is_none() {
        let near = nearest(name, others().map(|proxy| proxy.name.as_str()));
        notes.fault(place, format!("there is no backend \"{name}\"{near}"));
    }
    back
}

/// Why packets cannot do what this proxy does.
fn impossible(front: &Proxy, back: &Proxy) -> Option<&'static str> {
    if front.binds.iter().any(|bind| bind.ssl) {
        return Some("it ends TLS, and xvip hands TLS on as it is: give the certificate to the backends");
    }
    if back.servers.iter().any(|server| server.options.ssl.is_some()) {
        return Some(
            "it begins TLS towards its servers (ssl), and xvip changes no byte: let clients speak TLS themselves",
        );
    }
    if front.settings.mode == Mode::Other || back.settings.mode == Mode::Other {
        return Some("its mode is neither tcp nor http");
    }
    back.servers.is_empty().then_some("its backend has no servers")
}

/// The status page in the place of haproxy's, which `back` serves.
fn page(front: &Proxy, back: &Proxy, known: &Known, page: &mut Option<(String, Place)>, notes: &mut Notes) {
    let (stats, behind) = (&front.settings.stats, &back.settings.stats);
    let binds = front.binds.iter().filter_map(|bind| match bind.address {
        Where::Ip(address) => Some((address, bind)),
        _ => None,
    });
    let binds: Vec<_> = binds.collect();
    let Some((&(address, bind), others)) = binds.split_first() else {
        return notes.lost(&front.place, title(front), "its page is at no address and port");
    };
    let open = binds.iter().filter(|(address, bind)| !address.is_loopback() && !bind.ssl);
    let open: Vec<_> = open.map(|(_, bind)| shown(bind)).collect();
    if !open.is_empty() {
        let open = open.join(" and ");
        match (stats.password.as_ref().or(behind.password.as_ref()), stats.admin.as_ref().or(behind.admin.as_ref())) {
            (Some(place), admin) => {
                let more = if admin.is_some() { ", and who reads it may switch servers off" } else { "" };
                let what = format!("the password of the statistics page at {open} travels in the clear{more}");
                notes.mistake(place, what);
            }
            (None, Some(place)) => {
                notes.mistake(place, format!("whoever reaches {open} may switch servers off without a password"));
            }
            (None, None) => {}
        }
    }
    if page.is_some() {
        return notes.lost(&front.place, title(front), "there is one status page, and it has another's place already");
    }
    let everywhere = if address.is_ipv4() { IpAddr::from([0_u8; 4]) } else { IpAddr::from([0_u8; 16]) };
    let address = if known.vips.contains(&address) {
        notes.lost(
            &bind.place,
            format!("the page at {address} alone"),
            "the page is of each node, and a VIP of one: it is at every address",
        );
        everywhere
    } else {
        address
    };
    for (_, other) in others {
        let why = format!("there is one status page, and it is at {}", SocketAddr::new(address, bind.first));
        notes.lost(&other.place, format!("the page at {}", shown(other)), why);
    }
    if bind.ssl {
        notes.lost(&bind.place, format!("TLS of the page at {}", shown(bind)), "the page is served in the clear");
    }
    *page = Some((SocketAddr::new(address, bind.first).to_string(), front.place.clone()));
}

/// As a configuration has it.
fn shown(bind: &Bind) -> String {
    let address = match bind.address {
        Where::Ip(address @ IpAddr::V6(_)) => format!("[{address}]"),
        _ => bind.address.text(),
    };
    match bind.first == bind.last {
        true => format!("{address}:{}", bind.first),
        false => format!("{address}:{}-{}", bind.first, bind.last),
    }
}

/// A service for each family that its addresses and servers have both.
fn both_families(front: &Proxy, back: &Proxy, known: &Known, names: &mut Names, notes: &mut Notes) -> Vec<Service> {
    let binds = listened(front, known, notes);
    if binds.is_empty() {
        notes.lost(&front.place, title(front), "nothing of where it listens can be carried over");
        return Vec::new();
    }
    let mut services = Vec::new();
    let mut said = BTreeSet::new();
    let has = |four: bool| {
        let of_family = |server: &Server| matches!(server.address, Where::Ip(address) if address.is_ipv4() == four);
        back.servers.iter().any(of_family)
    };
    let both = binds.iter().any(is_ipv4) && !binds.iter().all(is_ipv4);
    for four in [true, false] {
        let binds: Vec<_> = binds.iter().filter(|bind| is_ipv4(bind) == four).collect();
        if binds.is_empty() {
            continue;
        }
        // Names may be of either: they are taken for IPv4 where nothing says another.
        if both && !has(four) && (!four || has(false)) && names_any(back) {
            let why = "no server has an address of this IP version, and those with names are in the service of the other; \
                       write one for it too if they have it";
            for bind in &binds {
                notes.lost(&bind.place, format!("{} ({})", shown(bind), family(four)), why);
            }
            continue;
        }
        let is_of_family = |server: &&Server| match server.address {
            Where::Ip(address) => address.is_ipv4() == four,
            _ => true,
        };
        let of_family: Vec<_> = back.servers.iter().filter(is_of_family).collect();
        if of_family.is_empty() {
            let why = "packets keep their IP version on the way, and no server has this one";
            for bind in &binds {
                notes.lost(&bind.place, format!("{} ({})", shown(bind), family(four)), why);
            }
            continue;
        }
        let suffix = if services.is_empty() { "" } else { "-v6" };
        let name = names.unique(&format!("{}{suffix}", front.name), "service");
        let mut service = service(front, back, &binds, &of_family, known, name, notes);
        if service.backends.iter().all(|backend| backend.weight == Some(0)) {
            notes.lost(&front.place, title(front), "none of its servers takes connections");
            continue;
        }
        said.extend(of_family.iter().map(|server| &server.name));
        service.listen.dedup_by(|a, b| a.0 == b.0);
        services.push(service);
    }
    for server in back.servers.iter().filter(|server| !services.is_empty() && !said.contains(&server.name)) {
        let why = "a service is of one IP version, and this one listens at the other";
        notes.lost(&server.place, format!("server {}", server.name), why);
    }
    services
}

fn family(four: bool) -> &'static str {
    if four { "IPv4" } else { "IPv6" }
}

/// Whether a server has a name for its address.
fn names_any(back: &Proxy) -> bool {
    back.servers.iter().any(|server| matches!(server.address, Where::Name(_)))
}

fn is_ipv4(bind: &Bind) -> bool {
    matches!(bind.address, Where::Ip(IpAddr::V4(_)))
}

/// Where it listens, of what packets can come to.
fn listened(front: &Proxy, known: &Known, notes: &mut Notes) -> Vec<Bind> {
    let mut binds = Vec::new();
    for bind in &front.binds {
        let place = &bind.place;
        let Where::Ip(address) = bind.address else {
            let why = match bind.address {
                Where::Name(_) => "it is a host's name; write the VIP",
                _ => "xvip forwards TCP over IP",
            };
            notes.lost(place, format!("bind {}", bind.address.text()), why);
            continue;
        };
        if bind.accept_proxy {
            notes.lost(
                place,
                "accept-proxy",
                "xvip reads no PROXY header, and servers would take it for data: who sends it has to stop",
            );
        }
        if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
            notes.lost(
                place,
                format!("bind {}", shown(bind)),
                "a service listens at addresses that are good beyond their link",
            );
            continue;
        }
        if address.is_unspecified() && address.is_ipv6() && bind.both {
            binds.push(Bind { address: Where::Ip([0, 0, 0, 0].into()), ..bind.clone() });
        }
        let is_known = known.vips.is_empty() || known.vips.contains(&address) || known.own.contains(&address);
        if address.is_unspecified() && !known.vips.is_empty() {
            let why = "only VIPs are served to other hosts; a node's own addresses are to its own clients";
            notes.lost(place, format!("{} for other hosts at this node's own addresses", shown(bind)), why);
        } else if !is_known && !address.is_loopback() {
            notes.lost(place, shown(bind), "no vrrp_instance carries this address, and it is no unicast_src_ip");
            continue;
        } else if known.own.contains(&address) {
            notes.lost(
                place,
                format!("{} for other hosts", shown(bind)),
                "at its own address a node serves its own clients; other hosts use the VIP",
            );
        }
        binds.push(bind.clone());
    }
    binds
}

fn service(
    front: &Proxy, back: &Proxy, binds: &[&Bind], servers: &[&Server], known: &Known, name: String, notes: &mut Notes,
) -> Service {
    let mut remarks = Vec::new();
    if name != front.name {
        remarks.push(format!("{} in haproxy's file; names here have a-z, 0-9, - and .", front.name));
    }
    let port = match binds {
        [bind] if bind.first == bind.last => Some(bind.first),
        _ => None,
    };
    let mut open = Vec::new();
    let four = binds.iter().all(|bind| is_ipv4(bind));
    let backends = backend::backends(&back.name, servers, port, known, four, &mut open, notes);
    let everywhere = binds.iter().any(|bind| matches!(bind.address, Where::Ip(address) if address.is_unspecified()));
    if everywhere && known.vips.is_empty() {
        open.push("the VIP: other hosts are served at VIPs alone, so write them here in place of 0.0.0.0 or ::, or add their [[vrrp]]".to_owned());
    }
    let balance = balance(back, notes);
    let slow = servers.iter().filter_map(|server| server.options.slow_start).max().filter(|time| !time.is_zero());
    let slow_start = slow.filter(|_| balance != "source").map(|time| time.clamp(Duration::from_secs(1), SHORT));
    let bounded = servers
        .iter()
        .find(|server| server.options.slow_start == slow && slow_start.is_some_and(|time| Some(time) != slow));
    if let (Some(server), Some(slow), Some(written)) = (bounded, slow, slow_start) {
        let why = format!("it is 1s to 1h: {} s is written", written.as_secs());
        notes.lost(&server.place, format!("slowstart {} s of server {}", slow.as_secs_f64(), server.name), why);
    }
    Service {
        source: Source::Proxy,
        place: front.place.clone(),
        name,
        listen: binds.iter().map(|bind| (shown(bind), Some(bind.place.clone()))).collect(),
        balance,
        max_connections: front.settings.maxconn.filter(|count| *count > 0),
        idle: idle(front, back, notes),
        slow_start,
        check: check::check(back, servers, binds, notes),
        backends,
        remarks,
        open,
    }
}

fn balance(back: &Proxy, notes: &mut Notes) -> &'static str {
    let Some((place, algorithm)) = &back.settings.balance else { return "roundrobin" };
    let bare = algorithm.split('(').next().unwrap_or_default();
    match bare {
        "roundrobin" | "static-rr" => "roundrobin",
        "leastconn" => "leastconn",
        "source" => {
            let what = "balance source sends all clients behind one address, a NAT's or a proxy's, to one server; with few \
                        clients some servers get none. roundrobin suits API servers, which keep nothing of a client";
            notes.mistake(place, what);
            "source"
        }
        "random" => {
            notes.lost(place, format!("balance {algorithm}"), "leastconn takes its place");
            "leastconn"
        }
        "first" | "uri" | "url_param" | "hdr" | "rdp-cookie" | "hash" | "log-hash" | "sticky" => {
            notes.lost(
                place,
                format!("balance {algorithm}"),
                "xvip has roundrobin, which is written, leastconn, source and maglev",
            );
            "roundrobin"
        }
        _ => {
            let near = nearest(bare, ["roundrobin", "static-rr", "leastconn", "source", "random", "first"]);
            notes.fault(place, format!("balance \"{algorithm}\" is unknown{near}"));
            "roundrobin"
        }
    }
}

/// The time of silence, if it is one that does no harm.
fn idle(front: &Proxy, back: &Proxy, notes: &mut Notes) -> Option<Duration> {
    let tunnel = back.settings.tunnel.as_ref().or(front.settings.tunnel.as_ref());
    let both = [
        front.settings.client.as_ref().map(|time| ("client", time)),
        back.settings.server.as_ref().map(|time| ("server", time)),
    ];
    let times: Vec<_> = match tunnel {
        Some(tunnel) => vec![("tunnel", tunnel)],
        None => both.into_iter().flatten().collect(),
    };
    // 0 is no limit.
    let times: Vec<_> = times.into_iter().filter(|(_, time)| !time.value.is_zero()).collect();
    for (name, time) in times.iter().filter(|(_, time)| time.value < SHORT) {
        let what = format!(
            "timeout {name} {} s cuts connections that are silent for so long, among them watches, kubectl exec, attach and \
             port-forward; idle_timeout is 2h instead",
            time.value.as_secs_f64()
        );
        notes.mistake(&time.place, what);
    }
    let (name, least) = times.into_iter().min_by_key(|(_, time)| time.value).filter(|(_, time)| time.value >= SHORT)?;
    if least.value > LONGEST {
        let what = format!("timeout {name} {} s", least.value.as_secs_f64());
        notes.lost(&least.place, what, "a connection may be silent for 7 days at most, which is what is written");
    }
    Some(least.value.min(LONGEST))
}
