//! What was understood, as a configuration with comments.

use std::net::IpAddr;
use std::time::Duration;

use super::keepalived::{Group, Router, Track, Tracked};
use super::name::Names;
use super::note::Place;
use super::service::{Check, Service, Services, Source};
use super::toml::{Origins, Toml, list, quoted, time};

/// What stands before words about something that only the administrator knows.
pub(super) const MARK: &str = "CHANGE:";
/// What the line with the place of the page begins with: haproxy has the port as long as it runs.
pub(super) const PAGE: &str = "# listen = ";
/// Where a key is looked for that nodes share.
const SYNC_KEY: &str = "/etc/xvip/sync.key";

/// All of it.
#[derive(Debug)]
pub(super) struct Plan<'p> {
    /// The files it comes from.
    pub(super) sources: &'p [String],
    pub(super) routers: &'p [Router],
    pub(super) groups: &'p [Group],
    pub(super) services: &'p Services,
}

/// What was written.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// What is open in it.
    pub(super) open: Vec<String>,
    /// Which lines of the files its parts come from.
    pub(super) origins: Origins,
}

/// The configuration.
pub(super) fn render(plan: &Plan<'_>) -> Rendered {
    let mut out = Writer { toml: Toml::default(), open: Vec::new() };
    out.head(plan);
    out.node(plan.routers);
    out.page(plan.services.page.as_ref());
    let mut names = Names::default();
    let interface = plan.routers.iter().find_map(|router| router.interface.as_deref());
    let routers: Vec<_> = plan.routers.iter().map(|router| names.unique(&router.name, "vrrp")).collect();
    for (router, name) in plan.routers.iter().zip(&routers) {
        out.router(router, name, interface);
    }
    let mut names = Names::default();
    for group in plan.groups {
        out.group(group, &names.unique(&group.name, "group"), &routers);
    }
    out.sync(plan.routers);
    for service in &plan.services.services {
        out.service(service);
    }
    let (text, origins) = out.toml.finish();
    Rendered { text, open: out.open, origins }
}

struct Writer {
    toml: Toml,
    open: Vec<String>,
}

impl Writer {
    fn head(&mut self, plan: &Plan<'_>) {
        let version = env!("CARGO_PKG_VERSION");
        self.toml.comment(&format!("Made by `xvip import`, version {version}, from {}.", plan.sources.join(" and ")));
        self.toml.comment("");
        self.toml.comment(&format!("Lines behind {MARK} need what no file says. `xvip check` says whether this file is good, `xvip doctor` whether it suits the host, config/xvip.toml in the sources what each key means."));
    }

    /// Something that only the administrator knows, above the key it is about.
    fn open(&mut self, key: &str, text: &str) {
        self.toml.comment(&format!("{MARK} {text}"));
        self.open.push(super::note::shown(&format!("{key}: {text}")));
    }

    fn node(&mut self, routers: &[Router]) {
        self.toml.gap();
        self.toml.line("[node]");
        self.toml.comment("Unlike on the other nodes. Default: the host's name.");
        self.toml.line("# name = \"lb1\"");
        match routers.iter().find_map(|router| router.interface.as_ref()) {
            Some(interface) => {
                let router = routers.iter().find(|router| router.interface.is_some());
                self.toml.origin(router.map(|router| &router.place));
                self.toml.text("interface", interface);
                self.toml.origin(None);
            }
            None => {
                self.open("node.interface", "the interface where clients and backends come in, as `ip link` shows it");
                self.toml.text("interface", "eth0");
            }
        }
    }

    fn page(&mut self, page: Option<&(String, Place)>) {
        let Some((at, place)) = page else { return };
        self.toml.gap();
        self.toml.line("[metrics]");
        self.toml.comment(&format!("In the place of the page of {place}: status at /, /metrics for Prometheus, /healthz and /readyz. It can only be read, by whoever reaches it. haproxy has this port as long as it runs: take the # away when it has ended, then `systemctl reload xvip`."));
        self.toml.origin(Some(place));
        self.toml.line(&format!("{PAGE}{}", quoted(at)));
        self.toml.origin(None);
    }

    fn router(&mut self, router: &Router, name: &str, node_interface: Option<&str>) {
        self.toml.gap();
        let from = Some(&router.place);
        self.toml.origin(from);
        self.toml.comment(&format!("vrrp_instance {} of {}", router.name, router.place));
        self.toml.line("[[vrrp]]");
        self.toml.text("name", name);
        let interface = router.interface.as_deref();
        if let Some(interface) = interface.filter(|_| interface != node_interface) {
            self.toml.text("interface", interface);
        }
        self.toml.key("virtual_router_id", &router.id.to_string());
        self.toml.comment("The node with the highest takes the VIPs; another one on each node.");
        if router.usual_priority {
            self.open(&format!("priority of {name} ({})", router.place), "100 is keepalived's, for its file has none");
        }
        self.toml.key("priority", &router.priority.to_string());
        match router.version {
            2 => {
                self.toml.comment("As keepalived speaks it, so that nodes can be replaced one by one. When no keepalived is left: version = 3 and advert_interval = \"100ms\" on all nodes at once, without auth_pass; a silent node is then replaced within half a second.");
                self.toml.key("version", "2");
            }
            _ => self.toml.key("version", "3"),
        }
        self.toml.key("advert_interval", &time(router.advert));
        if let Some(password) = &router.password {
            self.toml.text("auth_pass", password);
        }
        self.toml.key("preempt", if router.preempt { "true" } else { "false" });
        if let Some(delay) = router.preempt_delay {
            self.toml.key("preempt_delay", &time(delay));
        }
        if let Some(source) = router.source {
            self.toml.comment("This node's own address; another one on each node.");
            self.toml.text("unicast_source", &source.to_string());
        }
        if !router.peers.is_empty() {
            let peers: Vec<_> = router.peers.iter().map(|(place, at)| (at.to_string(), Some(place.clone()))).collect();
            self.toml.comment("The other nodes; other ones on each node.");
            self.toml.texts("unicast_peers", &peers, false, from);
        }
        for open in &router.open {
            self.open(&format!("virtual_addresses of {name}"), open);
        }
        let addresses = router.addresses.iter();
        let addresses: Vec<_> =
            addresses.map(|(place, address, prefix)| (format!("{address}/{prefix}"), Some(place.clone()))).collect();
        self.toml.texts("virtual_addresses", &addresses, false, from);
        if !router.excluded.is_empty() {
            let excluded: Vec<_> =
                router.excluded.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
            self.toml.comment(&format!("Not advertised by keepalived, and not here: {}. Give them a [[vrrp]] of their own, on all nodes at once.", excluded.join(", ")));
        }
        for track in &router.tracks {
            self.track(track, name);
        }
    }

    /// `routers` has the names that the configuration gives them.
    fn group(&mut self, group: &Group, name: &str, routers: &[String]) {
        self.toml.gap();
        self.toml.origin(Some(&group.place));
        self.toml.comment(&format!(
            "vrrp_sync_group {} of {}; all advertise the lowest of their priorities",
            group.name, group.place
        ));
        self.toml.line("[[vrrp_sync_group]]");
        self.toml.text("name", name);
        let members = group.members.iter().filter_map(|member| routers.get(*member)).map(String::as_str);
        self.toml.key("members", &list(members));
    }

    /// `[sync]` in lines that are not read yet: keepalived has no part in it, and no file has the key.
    fn sync(&mut self, routers: &[Router]) {
        if routers.is_empty() {
            return;
        }
        self.toml.gap();
        self.toml.origin(None);
        self.toml.comment("Connections live through a move of the VIP between nodes that share a key. When no keepalived is left: make one, copy it to all nodes, take the # away from these lines, then `systemctl reload xvip`.");
        self.toml.line("# [sync]");
        self.toml.line(&format!("# key_file = {}", quoted(SYNC_KEY)));
        let peers = || routers.iter().flat_map(|router| &router.peers).map(|(_, peer)| peer);
        let is_link_local = |peer: &IpAddr| matches!(peer, IpAddr::V6(six) if six.is_unicast_link_local());
        if peers().next().is_none() || peers().any(is_link_local) {
            self.toml.comment("The other nodes; other ones on each node.");
            self.toml.line("# peers = [\"192.0.2.22\"]");
        }
    }

    /// `router` is the name that the configuration gives to whose it is.
    fn track(&mut self, track: &Track, router: &str) {
        self.toml.gap();
        self.toml.origin(Some(&track.place));
        for open in &track.open {
            self.open(&format!("[[vrrp.track]] of {router} ({})", track.place), open);
        }
        if let Some(group) = &track.group {
            self.toml
                .comment(&format!("Of vrrp_sync_group {group}: what keeps one member from its addresses keeps all."));
        }
        self.toml.line("[[vrrp.track]]");
        match &track.what {
            Tracked::Interface(name) => self.toml.text("interface", name),
            Tracked::Command { words, interval, timeout, rise, fall } => {
                let bounded = |at: &Duration| {
                    time(
                        Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
                            .clamp(Duration::from_millis(100), Duration::from_secs(3600)),
                    )
                };
                self.toml.key("command", &list(words.iter().map(String::as_str)));
                self.toml.key("interval", &bounded(interval));
                self.toml.key("timeout", &bounded(timeout));
                self.toml.key("rise", &rise.min(&100).to_string());
                self.toml.key("fall", &fall.min(&100).to_string());
            }
        }
        if let Some(weight) = track.weight {
            self.toml.key("weight", &weight.to_string());
        }
    }

    fn service(&mut self, service: &Service) {
        self.toml.gap();
        let from = Some(&service.place);
        self.toml.origin(from);
        match service.source {
            Source::Proxy => self.toml.comment(&format!("{} of {}", service.name, service.place)),
            Source::Ipvs => self.toml.comment(&format!("virtual_server of {}", service.place)),
            Source::Vips => self.toml.comment("The VIPs carried no balancer: clients reached the API server of the node that held them. Now they go to every ready one, and a node's own clients to its own first."),
        }
        self.toml.line("[[service]]");
        for remark in &service.remarks {
            self.toml.comment(remark);
        }
        self.toml.text("name", &service.name);
        for open in &service.open {
            if !service.backends.iter().any(|backend| backend.open.as_ref() == Some(open)) {
                self.open(&format!("listen of {}", known_by(&service.name, from)), open);
            }
        }
        self.toml.texts("listen", &service.listen, true, from);
        self.toml.text("balance", service.balance);
        if let Some(count) = service.max_connections {
            self.toml.comment("Further connections are refused; haproxy lets them wait.");
            self.toml.key("max_connections", &count.to_string());
        }
        if let Some(time_) = service.slow_start {
            self.toml.key("slow_start", &time(time_));
        }
        self.toml.key("idle_timeout", &time(service.idle.unwrap_or(Duration::from_secs(7200))));
        self.check(service);
        for backend in &service.backends {
            self.toml.gap();
            self.toml.origin(backend.place.as_ref().or(from));
            self.toml.line("[[service.backend]]");
            for remark in &backend.remarks {
                self.toml.comment(remark);
            }
            self.toml.text("name", &backend.name);
            if let Some(open) = &backend.open {
                let of = format!("{} of {}", backend.name, known_by(&service.name, backend.place.as_ref()));
                self.open(&format!("address of {of}"), open);
            }
            self.toml.text("address", &backend.address);
            if let Some(weight) = backend.weight {
                self.toml.key("weight", &weight.to_string());
            }
            if let Some(count) = backend.max_connections {
                self.toml.key("max_connections", &count.to_string());
            }
        }
    }

    fn check(&mut self, service: &Service) {
        let check: &Check = &service.check;
        self.toml.gap();
        self.toml.line("[service.health_check]");
        for remark in &check.remarks {
            self.toml.comment(remark);
        }
        self.toml.text("type", check.kind);
        if let Some(port) = check.port {
            if let Some(open) = &check.open {
                self.open(&format!("health_check.port of {}", known_by(&service.name, Some(&service.place))), open);
            }
            self.toml.key("port", &port.to_string());
        }
        if let Some(path) = &check.path {
            self.toml.text("path", path);
            let statuses: Vec<_> = check.statuses.iter().map(ToString::to_string).collect();
            self.toml.key("expect_status", &format!("[{}]", statuses.join(", ")));
        }
        if let Some(host) = &check.host {
            self.toml.text("host", host);
        }
        self.toml.key("interval", &time(check.interval));
        self.toml.key("timeout", &time(check.timeout));
        self.toml.key("rise", &check.rise.to_string());
        self.toml.key("fall", &check.fall.to_string());
        if let Some(file) = &check.ca_file {
            self.toml.text("ca_file", file);
        }
        if let Some(file) = &check.certificate {
            self.toml.comment("haproxy has both in one file.");
            self.toml.key("client_certificate", &quoted(file));
            self.toml.key("client_key", &quoted(file));
        }
        if let Some(name) = &check.server_name {
            self.toml.text("server_name", name);
        }
    }
}

/// A name, and where what has it stands.
fn known_by(name: &str, place: Option<&Place>) -> String {
    place.map_or_else(|| name.to_owned(), |place| format!("{name} ({place})"))
}
