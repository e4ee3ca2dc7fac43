//! What good files mean: the defaults, the shipped file, every spelling TOML has for the same thing.

use lb_proto::units::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::*;

#[test]
fn the_shortest_file_gets_every_default() {
    let vip = IpAddr::from([192, 0, 2, 100]);
    let expected = Config {
        node: Node {
            name: "lb1".into(),
            interface: "eth0".into(),
            role: Role::Balancer,
            peer_port: 9911,
            datapath: Datapath::Auto,
            source_ports: 1024..=32767,
            source_addresses: Vec::new(),
            max_flows: 131_072,
            max_half_open: 32_768,
            cgroup: None,
        },
        metrics: Metrics { listen: ([127, 0, 0, 1], 9910).into(), password_file: None, tls: None },
        admin: Admin { socket: "/run/xvip/admin.sock".into(), read: Readers::Everyone },
        sync: None,
        flow_log: None,
        vrrp: vec![Vrrp {
            name: "k8s".into(),
            interface: "eth0".into(),
            virtual_router_id: 51.try_into().unwrap(),
            priority: 100,
            advert_interval: Duration::from_secs(1),
            preempt: false,
            preempt_delay: Duration::ZERO,
            unicast_source: None,
            unicast_peers: vec![],
            virtual_addresses: vec![IpNet { address: vip, prefix: 24 }],
            checksum: ChecksumForm::Rfc5798,
            version: Version::V3,
            password: None,
            auth: None,
            tracks: Vec::new(),
            notify: Vec::new(),
            sync_group: None,
        }],
        services: vec![Service {
            name: "apiserver".into(),
            listen: vec![std::net::SocketAddr::from((vip, 8443)).into()],
            local: Local::Prefer,
            balance: Balance::RoundRobin,
            hash_key: None,
            max_connections: 0,
            slow_start: None,
            drain_timeout: None,
            mode: ServiceMode::Snat,
            idle_timeout: Duration::from_secs(7200),
            allow: vec![],
            source_limit: None,
            health_check: HealthCheck {
                kind: CheckKind::Https(
                    HttpCheck { path: "/readyz".into(), host: None, expect_status: vec![200] },
                    TlsCheck::default(),
                ),
                port: None,
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(1),
                rise: 2,
                fall: 3,
            },
            backends: vec![Backend {
                name: "master1".into(),
                address: "192.0.2.31:6443".parse().unwrap(),
                weight: 1,
                max_connections: 0,
                duty: Duty::Serving,
            }],
        }],
    };
    assert_eq!(accept(BASE).config, expected);

    let mut by_tcp = expected;
    by_tcp.services[0].health_check.kind = CheckKind::Tcp;
    let without = changed("[service.health_check]\ntype = \"https\"\n", "");
    assert_eq!(accept(&without).config, by_tcp);
}

#[test]
fn the_name_is_the_hosts_in_lower_case() {
    let text = changed("name = \"lb1\"\n", "");
    let named = |host_name: &str| {
        let env = Env { host_name: host_name.into(), memory: 0 };
        parse(&text, "xvip.toml", &env).map(|loaded| loaded.config.node.name).map_err(|faults| faults.to_string())
    };
    assert_eq!(named("LB7.Example.net").unwrap(), "lb7.example.net");
    assert_eq!(
        named("my_host").unwrap_err(),
        r#"xvip.toml:1:1: the host's name "my_host" cannot be the name of the node, set name in [node] such as name = "lb1""#
    );
    assert_eq!(
        named("").unwrap_err(),
        r#"xvip.toml:1:1: [node] has no name and the host has none either, set name in [node] such as name = "lb1""#
    );
}

#[test]
fn the_shipped_file_says_what_its_comments_say() {
    let config = accept(SHIPPED).config;
    assert_eq!(config.node.name, "lb1");
    assert_eq!(config.vrrp[0].advert_interval, Duration::from_millis(100));
    assert_eq!(config.vrrp[0].unicast_peers, [IpAddr::from([192, 0, 2, 22])]);
    assert_eq!(config.services[0].backends.len(), 3);

    // What is shown as a comment is good as well.
    let whole = uncommented(SHIPPED);
    assert_ne!(whole, SHIPPED);
    let config = accept(&whole).config;
    let CheckKind::Https(http, tls) = &config.services[0].health_check.kind else {
        panic!("{config:?}");
    };
    assert_eq!(http.host.as_deref(), Some("lb.example.net"));
    assert_eq!(tls.server_name.as_deref(), Some("kubernetes"));
    assert!(tls.ca_file.is_some() && tls.client_certificate.is_some());
}

#[test]
fn the_shipped_file_has_every_key_and_no_other() {
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut title = String::new();
    for line in uncommented(SHIPPED).lines() {
        if line.starts_with('[') {
            title = line.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            shown.entry(title.clone()).or_default().insert(key.to_owned());
        }
    }
    for (title, keys) in &shown {
        assert_eq!(keys, &known(title), "{title}");
    }
    let tables = shown.keys().filter(|title| !title.contains('.')).cloned();
    assert_eq!(tables.collect::<BTreeSet<_>>(), known(""));
}

/// What the reader would take in the first table with this title, by its own words.
fn known(title: &str) -> BTreeSet<String> {
    let header = format!("{title}\n");
    let text = uncommented(SHIPPED).replacen(&header, &format!("{header}zzzz = 1\n"), 1);
    let faults = refuse(&text);
    let (_, list) = faults.split_once("known here: ").expect(title);
    let names = list.split(", ");
    let keys = names.filter(|name| name.starts_with('"') || title.is_empty());
    keys.map(|key| key.trim_matches('"').to_owned()).collect()
}

/// With every `# key = value` made a key, and every `# [table]` a table.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let key_and_value = line.strip_prefix("# ").filter(|rest| {
            rest.split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
                || rest.starts_with('[') && rest.ends_with(']')
        });
        key_and_value.unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn spellings_of_toml_do_not_matter() {
    let base = accept(BASE).config;
    let crlf = BASE.replace('\n', "\r\n");
    let marked = format!("\u{feff}{BASE}");
    let inline = r#"
        node = { name = "lb1", interface = "eth0" }
        vrrp = [{ name = "k8s", virtual_router_id = 0x33, virtual_addresses = ["192.0.2.100/24"] }]
        [[service]]
        "name" = 'apiserver'
        listen = ["192.0.2.100:8443"]
        health_check.type = "https"
        backend = [{ name = "master1", address = "192.0.2.31:6443" }]
    "#;
    for text in [crlf.as_str(), &marked, inline] {
        assert_eq!(accept(text).config, base, "{text}");
    }
}

#[test]
fn what_is_good_is_accepted() {
    let cases = [
        (
            "interface = \"eth0\"",
            "interface = \"eth0\"\ndatapath = \"xdp-generic\"\nmax_flows = 4194304\nmax_half_open = 1048576",
        ),
        ("interface = \"eth0\"", "interface = \"eth0\"\ndatapath = \"tc\""),
        ("interface = \"eth0\"", "interface = \"eth0\"\nsource_ports = \"10000-10063\""),
        ("interface = \"eth0\"", "interface = \"enp0s31f6.4094\""),
        ("[[vrrp]]", "[metrics]\nlisten = \"192.0.2.21:80\"\n[[vrrp]]"),
        ("id = 51", "id = 255\npriority = 254\nversion = 3\nadvert_interval = \"40s950ms\"\nchecksum = \"rfc9568\""),
        ("id = 51", "id = 1\npriority = 1\nadvert_interval = \"10ms\"\npreempt = true\npreempt_delay = \"1h\""),
        ("id = 51", "id = 51\nunicast_peers = []"),
        ("[[vrrp]]", "[metrics]\nlisten = \"[::]:9910\"\n[[vrrp]]"),
        ("[[vrrp]]", "[metrics]\npassword_file = \"/p\"\ntls_cert = \"/c\"\ntls_key = \"/k\"\n[[vrrp]]"),
        ("[[vrrp]]", "[metrics]\ntls_cert = \"/c\"\ntls_key = \"/k\"\ntls_client_ca = \"/a\"\n[[vrrp]]"),
        ("[[vrrp]]", "[metrics]\nlisten = \"[2001:db8::21]:80\"\n[[vrrp]]"),
        ("type = \"https\"", "type = \"https\"\nserver_name = \"2001:db8::100\"\nhost = \"[2001:db8::100]\""),
        ("type = \"https\"", "type = \"https\"\nhost = \"[2001:db8::100]:8443\""),
        ("[\"192.0.2.100/24\"]", "[\"192.0.2.100/32\", \"192.0.2.0/31\"]"),
        ("name = \"apiserver\"", "name = \"0-a.b\"\nidle_timeout = \"1h30m5s7ms\""),
        ("type = \"https\"", "type = \"tls\"\nserver_name = \"192.0.2.100\"\nrise = 1\nfall = 1"),
        ("type = \"https\"", "type = \"http\"\nhost = \"lb:8443\"\npath = \"/a?b=%20\"\nexpect_status = [100, 599]"),
        ("type = \"https\"", "interval = \"100ms\"\ntimeout = \"99ms\""),
        ("\"192.0.2.100:8443\"", "[\"192.0.2.100:8443\", \"0.0.0.0:4300\", \"127.0.0.1:8443\"]"),
        ("\"192.0.2.100:8443\"", "[\"0.0.0.0:8443\", \"192.0.2.100:8443\"]"),
        ("\"192.0.2.100:8443\"", "\"192.0.2.100:30000-32767\"\nlocal = \"spread\""),
        ("interface = \"eth0\"", "interface = \"eth0\"\ncgroup = \"/sys/fs/cgroup/\""),
        ("interface = \"eth0\"", "interface = \"eth0\"\nsource_ports = \"10000-20000\""),
        ("type = \"https\"", "port = 10256"),
        ("\"192.0.2.100:8443\"", "\"192.0.2.100:8443\"\nallow = [\"10.0.0.0/8\", \"198.51.100.7\", \"0.0.0.0/0\"]"),
        (
            "[service.health_check]",
            "[service.source_limit]\nconnections_per_second = 1\nburst = 3600\n[service.health_check]",
        ),
        (
            "[service.health_check]",
            "source_limit = { connections_per_second = 1000000, prefix_length = 1 }\n[service.health_check]",
        ),
        ("name = \"apiserver\"", "name = \"a\"\nbalance = \"source\"\nhash_key = \"x y\"\ndrain_timeout = \"168h\""),
        ("name = \"apiserver\"", "name = \"a\"\nbalance = \"maglev\"\nmax_connections = 4294967295"),
        ("name = \"apiserver\"", "name = \"a\"\nbalance = \"leastconn\"\nslow_start = \"1h\"\ndrain_timeout = \"1s\""),
        ("address = \"192.0.2.31:6443\"", "address = \"198.51.100.1:1\"\nweight = 256\nmax_connections = 4294967295"),
    ];
    for (from, to) in cases {
        accept(&changed(from, to));
    }
    // No [[vrrp]]: the VIPs are somebody else's.
    let (head, tail) = (BASE.find("[[vrrp]]").unwrap(), BASE.find("[[service]]").unwrap());
    accept(&format!("{}{}", &BASE[..head], &BASE[tail..]));
}

/// A node that only delivers: no virtual routers.
fn delivering(listen: &str) -> String {
    let (head, tail) = (BASE.find("[[vrrp]]").unwrap(), BASE.find("[[service]]").unwrap());
    let text = format!("{}{}", &BASE[..head], &BASE[tail..]);
    let text = text.replace("interface = \"eth0\"", "interface = \"eth0\"\nrole = \"backend\"\npeer_port = 9912");
    text.replace("listen = \"192.0.2.100:8443\"", &format!("listen = {listen}\nmode = \"dsr\""))
}

#[test]
fn a_node_may_only_deliver() {
    let config = accept(&delivering("\"192.0.2.100:8443\"")).config;
    assert_eq!((config.node.role, config.node.peer_port), (Role::Backend, 9912));
    assert_eq!(config.direct_services().count(), 1);
    accept(&delivering("[\"192.0.2.100:8443\", \"0.0.0.0:4300\", \"127.0.0.1:8443\"]"));
    assert_eq!(
        refuse(&delivering("[\"0.0.0.0:4300\", \"127.0.0.1:8443\"]")),
        "xvip.toml:9:11: listen 0.0.0.0:4300 names no VIP, and a node with role \"backend\" has no [[vrrp]] that does, \
         list the VIPs, such as [\"192.0.2.100:8443\"]"
    );
    // Each port of a range is kept, on the way to such a node too.
    let range = delivering("\"192.0.2.100:30000-32767\"").replace("\"192.0.2.31:6443\"", "\"192.0.2.31\"");
    accept(&range.replace("type = \"https\"", "port = 10256"));
}

#[test]
fn backends_without_a_port_are_checked_at_the_port_of_the_checks() {
    let text = changed("\"192.0.2.31:6443\"", "\"192.0.2.31\"").replace("type = \"https\"", "port = 10256");
    let service = &accept(&text).config.services[0];
    let backend = &service.backends[0];
    assert_eq!(backend.shown(), "192.0.2.31");
    assert_eq!(backend.checked_at(&service.health_check), "192.0.2.31:10256".parse().unwrap());
    let service = &accept(BASE).config.services[0];
    assert_eq!(service.backends[0].checked_at(&service.health_check), "192.0.2.31:6443".parse().unwrap());
}

#[test]
fn a_node_may_listen_for_its_own_clients_at_its_own_address() {
    let text = changed("virtual_router_id = 51", "virtual_router_id = 51\nunicast_source = \"192.0.2.21\"");
    let text = text.replace("\"192.0.2.100:8443\"", "[\"192.0.2.21:4300\", \"127.0.0.1:4300\"]");
    // A stacked node is a backend too.
    let config = accept(&text.replace("192.0.2.31:6443", "192.0.2.21:6443")).config;
    let shown: Vec<_> = config.services[0].listen.iter().map(Listen::to_string).collect();
    assert_eq!(shown, ["192.0.2.21:4300", "127.0.0.1:4300"]);
}

/// A virtual router of IPv6 beside that of IPv4, with the same VRID.
fn with_ipv6(keys: &str) -> String {
    changed("\n[[service]]", &format!("\n[[vrrp]]\nname = \"k8s6\"\nvirtual_router_id = 51\n{keys}\n\n[[service]]"))
}

#[test]
fn virtual_routers_of_both_families_may_share_a_vrid() {
    let cases = [
        ("virtual_addresses = [\"2001:db8::100/64\"]", "2001:db8::100/64"),
        ("virtual_addresses = [\"fe80::100/64\", \"2001:DB8:0:0::0100/128\"]", "fe80::100/64 2001:db8::100/128"),
        ("virtual_addresses = [\"2001:db8::/127\"]\nunicast_source = \"fe80::21\"", "2001:db8::/127"),
        (
            "virtual_addresses = [\"fd00::1/64\"]\nunicast_source = \"fd00::21\"\nunicast_peers = [\"fd00::22\", \"fe80::22\"]",
            "fd00::1/64",
        ),
    ];
    for (keys, vips) in cases {
        let config = accept(&with_ipv6(keys)).config;
        let nets: Vec<_> = config.vrrp[1].virtual_addresses.iter().map(IpNet::to_string).collect();
        assert_eq!(nets.join(" "), vips);
        assert_eq!(config.vrrp.iter().map(|vrrp| vrrp.family().to_string()).collect::<Vec<_>>(), ["IPv4", "IPv6"]);
    }
}

#[test]
fn services_of_both_families_live_side_by_side() {
    let six = r#"
[[service]]
name = "six"
listen = ["[2001:db8::100]:8443", "[::1]:8443", "[::]:4300"]
[service.health_check]
type = "tcp"
port = 6443
[[service.backend]]
name = "six1"
address = "[2001:db8::31]:6443"
[[service.backend]]
name = "six2"
address = "[2001:db8::32]"
"#;
    let text = with_ipv6("virtual_addresses = [\"2001:db8::100/64\"]");
    let text = text.replace("\"192.0.2.100:8443\"", "[\"192.0.2.100:8443\", \"0.0.0.0:4300\"]");
    let config = accept(&format!("{text}{six}")).config;
    let shown = |at: usize| config.services[at].listen.iter().map(Listen::to_string).collect::<Vec<_>>();
    assert_eq!(shown(0), ["192.0.2.100:8443", "0.0.0.0:4300"]);
    assert_eq!(config.services[1].backends[1].address, "[2001:db8::32]:0".parse().unwrap(), "keeps the client's port");
    assert_eq!(shown(1), ["[2001:db8::100]:8443", "[::1]:8443", "[::]:4300"], "everywhere is everywhere of a family");
}

#[test]
fn admission_is_read_with_its_defaults() {
    let text = changed(
        "[service.health_check]",
        "allow = [\"10.0.0.0/8\", \"192.0.2.7\"]\nsource_limit = { connections_per_second = 50 }\n[service.health_check]",
    );
    let service = accept(&text).config.services.remove(0);
    let allow: Vec<_> = service.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["10.0.0.0/8", "192.0.2.7/32"]);
    let limit = service.source_limit.unwrap();
    let rate = Some(Rate { connections_per_second: 50, burst: 50 });
    assert_eq!(limit, SourceLimit { rate, connections: 0, prefix_length: 32 });
    assert_eq!(limit.to_string(), "50 new connections a second for each /32, 50 at once");
    let spelled = limit.spelled(service.family());
    assert_eq!((spelled.interval, spelled.tolerance, spelled.connections), (20_000_000, 49 * 20_000_000, 0));
    let of = |limit: &str| {
        let text = changed("[service.health_check]", &format!("source_limit = {limit}\n[service.health_check]"));
        accept(&text).config.services.remove(0).source_limit.unwrap()
    };
    let both = of("{ connections_per_second = 50, connections = 400, prefix_length = 24 }");
    assert_eq!(both.to_string(), "50 new connections a second for each /24, 50 at once, 400 in all");
    let held = of("{ connections = 400 }");
    assert_eq!(held.to_string(), "400 connections for each /32");
    let spelled = held.spelled(service.family());
    assert_eq!((spelled.interval, spelled.tolerance, spelled.connections), (0, 0, 400));
    let six = BASE.replace("192.0.2.100/24", "2001:db8::100/64").replace("192.0.2.100:", "[2001:db8::100]:");
    let six = six.replace("192.0.2.31:", "[2001:db8::31]:");
    let six = six.replace("[service.health_check]", "source_limit.connections_per_second = 1\n[service.health_check]");
    assert_eq!(accept(&six).config.services[0].source_limit.unwrap().prefix_length, 64);
}
