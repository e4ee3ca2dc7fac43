//! What is said where it would be easy to say nothing: defaults, limits, what only one of two can be, what is for others.

use super::mistakes::says;
use super::*;

/// A script, and a router that tracks it.
fn tracking(script: &str, entry: &str) -> String {
    format!("vrrp_script chk {{\n{script}\n}}\n")
        + &keepalived_with(&format!(" priority 100\n track_script {{\n  {entry}\n }}"))
}

/// What is left to fill in.
fn open(haproxy: &str, keepalived: &str) -> String {
    import(haproxy, keepalived).unwrap_or_else(|notes| panic!("{notes:?}")).open.join("\n")
}

fn backends(config: &config::Config) -> String {
    let backends = config.services.iter().flat_map(|service| &service.backends);
    backends.map(|backend| format!("{}*{}", backend.address, backend.weight)).collect::<Vec<_>>().join(" ")
}

fn command(config: &config::Config) -> Vec<String> {
    match &config.vrrp[0].tracks[0].what {
        config::Tracked::Command(command) => command.words.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_script_is_divided_as_keepalived_divides_it() {
    for (script, expected) in [
        (
            r#"script "/bin/bash -c 'ping -c 1 10.0.0.1 >/dev/null'""#,
            vec!["/bin/bash", "-c", "ping -c 1 10.0.0.1 >/dev/null"],
        ),
        (r#"script "/bin/sh -c \"ping a\" b\\ c""#, vec!["/bin/sh", "-c", "ping a", "b c"]),
        ("script /bin/x interval 2 weight -20", vec!["/bin/x"]),
        ("script {\n \"/bin/sh\" \"-c\" \"ping -c1 10.0.0.1\"\n}", vec!["/bin/sh", "-c", "ping -c1 10.0.0.1"]),
    ] {
        let config = config("", &tracking(script, "chk"));
        assert_eq!(
            (command(&config), config.vrrp[0].tracks[0].weight),
            (expected.iter().map(ToString::to_string).collect(), None)
        );
    }
    let expected = "keepalived.conf:2: mistake: keepalived ignores \"interval 2 weight -20\" behind the script";
    says("", &tracking("script /bin/x interval 2 weight -20", "chk"), expected);
    let line = "vrrp_script chk { script \"/bin/x\" interval 2 }\n".to_owned() + &keepalived_with("");
    says("", &line, "keepalived.conf:1: mistake: keepalived ignores \"interval 2\" behind the script");
    says("", &tracking(r#"script "/bin/x 'y""#, "chk"), "keepalived.conf:2: a ' within the script is not closed");
}

#[test]
fn what_guards_a_balancer_is_not_tracked() {
    let haproxy = "listen api\n bind 192.0.2.100:8443\n server m1 192.0.2.31:6443 check\nlisten stats\n bind :8404\n stats enable\n";
    let becomes = |script: &str, text: &str| {
        let keepalived = tracking(script, "chk");
        let content = |path: &str| (path == "/x.sh" && !text.is_empty()).then(|| text.to_owned());
        let imported = convert(&input(haproxy, &keepalived).unwrap(), &content).unwrap();
        let notes = imported.notes.iter().map(|note| format!("{note}\n")).collect::<String>();
        (imported.text.contains("[[vrrp.track]]"), imported.open.join("\n"), notes)
    };
    for (script, text, expected) in [
        ("script \"/usr/bin/killall -0 nginx\"", "", "asks whether nginx runs"),
        ("script /x.sh", "#!/bin/sh\npidof envoy\n", "asks whether envoy runs"),
        ("script \"/bin/bash /x.sh\"", "#!/bin/sh\npgrep traefik\n", "asks whether traefik runs"),
        ("script /x.sh", "#!/bin/sh\n[ -e /x ] || systemctl stop keepalived\n", "it is about keepalived itself"),
        ("script /x.sh", "#!/bin/sh\nkill $(pidof keepalived)\n", "it is about keepalived itself"),
        ("script \"/usr/bin/nc -z 127.0.0.1 8443\"", "", "it asks for port 8443, where haproxy listens"),
        ("script \"/bin/sh -c '</dev/tcp/127.0.0.1/8443'\"", "", "it asks for port 8443"),
        ("script /x.sh", "#!/bin/sh\nss -ltn | grep :8443\n", "it asks for port 8443"),
        ("script \"/usr/bin/curl -sf http://192.0.2.100:8404/x\"", "", "it asks for port 8404"),
    ] {
        let (tracked, _, notes) = becomes(script, text);
        assert!(!tracked && notes.contains(expected), "{script}: {notes}");
    }
    for (script, text, expected) in [
        ("script \"/usr/bin/ping -c 1 198.51.100.1\"", "", ""),
        ("script /x.sh", "#!/bin/sh\n# not on 8443\nping -c 1 198.51.100.1\n", ""),
        (
            "script \"/usr/bin/curl -sf http://198.51.100.1:8443/\"",
            "",
            "it asks for port 8443, where haproxy listens: if it",
        ),
        ("script /etc/other.sh", "", "/etc/other.sh is not here to look into: if it"),
    ] {
        let (tracked, open, _) = becomes(script, text);
        assert!(tracked && open.contains(expected) && open.is_empty() == expected.is_empty(), "{script}: {open}");
    }
}

#[test]
fn what_a_script_says_besides() {
    for (script, entry, expected) in [
        ("script /bin/x\nuser nobody", "chk", "keepalived.conf:3: not carried over: user nobody"),
        ("script /bin/x\ninit_fail", "chk", "keepalived.conf:3: not carried over: init_fail"),
        ("script /bin/x\nrise 2 fall 3", "chk", "keepalived.conf:3: mistake: keepalived ignores \"fall 3\""),
        ("script /bin/x", "chk weight -5 other", "keepalived.conf:9: mistake: keepalived ignores \"other\""),
        ("script /bin/x", "chk other", "keepalived.conf:9: mistake: keepalived ignores \"other\""),
    ] {
        says("", &tracking(script, entry), expected);
    }
    let turned = open("", &tracking("script /bin/x", "chk weight -20 reverse"));
    assert!(turned.contains("keepalived.conf:9): keepalived turns weight -20 round (reverse)"), "{turned}");
    let text = tracking("script /x.sh", "chk");
    let content = "#!/bin/sh\ncurl --silent \\\n  --fail \\\n  https://198.51.100.9/x\n";
    let imported = convert(&input("", &text).unwrap(), &|_| Some(content.to_owned())).unwrap();
    assert!(!imported.notes.iter().any(|note| note.kind == Kind::Mistake), "{:?}", imported.notes);
}

#[test]
fn checks_have_ports_that_haproxy_names() {
    let ports = |haproxy: &str| {
        let config = config(haproxy, "");
        let service = &config.services[0];
        (service.health_check.port.map(|port| port.get()), service.backends[0].address.port())
    };
    let split = |binds: &str, options: &str| {
        format!("frontend f\n{binds} default_backend b\nbackend b\n server n1 192.0.2.41 {options}\n")
    };
    assert_eq!(ports(&split(" bind *:80\n bind *:443\n", "check")), (Some(80), 0));
    assert_eq!(ports(&split(" bind *:80,*:443\n", "check port 10256")), (Some(10256), 0));
    assert_eq!(ports(&split(" bind *:443\n", "check")), (None, 443));
    assert_eq!(ports("listen a\n bind *:6443,*:8443\n server n1 192.0.2.41 check\n"), (Some(6443), 0));
    let range = split(" bind *:30000-30010\n", "check");
    assert_eq!(ports(&range), (Some(30000), 0));
    assert!(open(&range, "").contains("health_check.port of f (haproxy.cfg:1): a port at which every backend answers"));
    assert!(!open(&split(" bind *:80\n bind *:443\n", "check"), "").contains("health_check"));
}

#[test]
fn a_service_is_checked_in_one_way() {
    let two = |first: &str, second: &str| {
        format!(
            "listen a\n bind :6443\n option httpchk GET /readyz\n http-check expect status 200\n \
             server m1 192.0.2.31:6443 check {first}\n server m2 192.0.2.32:6443 check {second}\n"
        )
    };
    for (first, second, expected) in [
        (
            "port 81",
            "port 82",
            "haproxy.cfg:6: not carried over: port of server m2: a service has one way of checking: that of m1",
        ),
        (
            "",
            "port 82",
            "haproxy.cfg:6: not carried over: port of server m2: a service has one way of checking: that of m1",
        ),
        ("check-ssl", "", "haproxy.cfg:6: not carried over: check-ssl of server m2"),
        (
            "check-ssl ca-file /a",
            "check-ssl verify none",
            "haproxy.cfg:6: not carried over: ca-file and verify of server m2",
        ),
        ("check-ssl crt /a", "check-ssl crt /b", "haproxy.cfg:6: not carried over: crt of server m2"),
        ("rise 2000", "rise 2000", "haproxy.cfg:5: not carried over: rise 2000 of server m1: 1000 is the most"),
        ("fall 2000", "fall 2000", "haproxy.cfg:5: not carried over: fall 2000 of server m1: 1000 is the most"),
        (
            "",
            "slowstart 2h",
            "haproxy.cfg:6: not carried over: slowstart 7200 s of server m2: it is 1s to 1h: 3600 s is written",
        ),
    ] {
        says(&two(first, second), "", expected);
    }
    let same = notes(&two("check-ssl verify none", "check-ssl verify none"), "");
    assert!(!same.contains("not carried over"), "{same}");
    says(&haproxy_with("", " timeout tunnel 30d"), "", "haproxy.cfg:6: not carried over: timeout tunnel 2592000 s");
    let expects = |first: &str, second: &str| {
        haproxy_with("", &format!(" option httpchk GET /\n http-check expect {first}\n http-check expect {second}"))
    };
    says(
        &expects("status 204", "status 200"),
        "",
        "haproxy.cfg:7: not carried over: http-check expect: one list of statuses is looked at, that of haproxy.cfg:8",
    );
    says(
        &expects("status 204", "string ok"),
        "",
        "haproxy.cfg:8: not carried over: http-check expect: one list of statuses is looked at, that of haproxy.cfg:7",
    );
    let own = "defaults\n option httpchk GET /\n http-check expect status 204\nlisten a\n bind :6443\n http-check expect status 200\n server m1 192.0.2.31:6443 check\n";
    assert!(!notes(own, "").contains("http-check expect"), "{}", notes(own, ""));
}

#[test]
fn spare_servers_stand_aside() {
    let spare = " server m2 192.0.2.32:6443 check backup";
    says(
        &haproxy_with("", spare),
        "",
        "haproxy.cfg:6: not carried over: backup of server m2: xvip has no spare backends: it has weight 0",
    );
    assert_eq!(backends(&config(&haproxy_with("", spare), "")), "192.0.2.32:6443*0 192.0.2.31:6443*1");
    let only = "listen a\n bind :80\n server m1 192.0.2.31:80 check backup\n";
    says(only, "", "it takes its share, as no other server does");
    assert_eq!(backends(&config(only, "")), "192.0.2.31:80*1");
}

#[test]
fn lines_for_other_nodes() {
    let lines = " @lb2 priority 100\n @^lb1 nopreempt\n @lb2 auth_pass secret";
    let notes = notes("", &keepalived_with(lines));
    for expected in [
        "keepalived.conf:4: not carried over: @lb2 priority 100: it is for other nodes than lb1",
        "keepalived.conf:5: not carried over: @^lb1 nopreempt: it is for other nodes than lb1",
        "keepalived.conf:6: not carried over: @lb2 auth_pass ...: it is for",
        "keepalived.conf:4: mistake: no line is for lb1, and this one is for another",
    ] {
        assert!(notes.contains(expected), "no {expected:?} in\n{notes}");
    }
    let notes = super::notes("", &keepalived_with(" @lb1 priority 100\n @lb2 priority 90"));
    assert!(notes.contains("@lb2 priority 90") && !notes.contains("mistake"), "{notes}");
}

#[test]
fn api_servers_are_those_that_are_known() {
    let alone = |lines: &str| {
        let keepalived = keepalived_with(lines);
        (backends(&config("", &keepalived)), open("", &keepalived).lines().count())
    };
    let three = "192.0.2.21:6443*1 192.0.2.11:6443*1 192.0.2.12:6443*1";
    for source in [" priority 100\n mcast_src_ip 192.0.2.21", " priority 100\n unicast_src_ip 192.0.2.21"] {
        // And the port.
        assert_eq!(alone(source), (three.to_owned(), 3), "{source}");
    }
    let peers = " priority 100\n unicast_src_ip 192.0.2.21\n unicast_peer {\n 192.0.2.22\n }";
    assert_eq!(alone(peers), ("192.0.2.21:6443*1 192.0.2.22:6443*1".to_owned(), 1));
}

#[test]
fn a_page_is_what_leads_nowhere_else() {
    let api = haproxy_with("", "");
    let conditional =
        api.clone() + "frontend st\n bind *:443\n use_backend api if { req.ssl_sni -i k8s }\n stats enable\n";
    says(&conditional, "", "haproxy.cfg:8: not carried over: frontend st: it leads to no backend");
    assert!(!import(&conditional, "").unwrap().text.contains("[metrics]"));
    let behind = api.clone()
        + "frontend st\n bind 192.0.2.9:9000\n bind *:9001\n bind 127.0.0.1:9002\n default_backend stb\nbackend stb\n stats auth a:secret\n stats admin if TRUE\n";
    let notes = notes(&behind, "");
    for expected in [
        "haproxy.cfg:14: mistake: the password of the statistics page at 192.0.2.9:9000 and 0.0.0.0:9001 travels in the clear, and who reads it",
        "haproxy.cfg:10: not carried over: the page at 0.0.0.0:9001: there is one status page, and it is at 192.0.2.9:9000",
        "haproxy.cfg:11: not carried over: the page at 127.0.0.1:9002: there is one",
    ] {
        assert!(notes.contains(expected), "no {expected:?} in\n{notes}");
    }
    assert!(
        !notes.contains("secret") && import(&behind, "").unwrap().text.contains("# listen = \"192.0.2.9:9000\""),
        "{notes}"
    );
    assert!(!notes.contains("backend stb: no frontend"), "{notes}");
}

#[test]
fn a_priority_that_nobody_wrote() {
    let expected = "keepalived.conf:4: mistake: state MASTER without a priority is priority 255 for keepalived";
    says("", &keepalived_with(" state MASTER"), expected);
    assert_eq!(config("", &keepalived_with(" state MASTER")).vrrp[0].priority, 254);
    let usual = open("", &keepalived_with(" state BACKUP"));
    assert!(usual.contains("priority of k8s (keepalived.conf:1): 100 is keepalived's"), "{usual}");
    assert!(!open("", &keepalived_with(" priority 100")).contains("priority"));
}

#[test]
fn names_are_of_the_version_that_is_listened_at() {
    let services = |bind: &str, servers: &str| {
        let text = format!("listen api\n bind {bind}\n{servers}");
        let config = config(&text, "");
        let shown = |service: &config::Service| {
            let backends = service.backends.iter().map(|backend| backend.address.to_string()).collect::<Vec<_>>();
            format!("{} > {}", service.listen[0], backends.join(" "))
        };
        (config.services.iter().map(shown).collect::<Vec<_>>().join("; "), notes(&text, ""))
    };
    let named = " server a a.example.net:6443 check\n server b b.example.net:6443 check\n";
    let (written, _) = services("[2001:db8::100]:6443", named);
    assert_eq!(written, "[2001:db8::100]:6443 > [2001:db8::11]:6443 [2001:db8::12]:6443");
    let (written, said) = services(":::6443 v4v6", named);
    assert_eq!(written, "0.0.0.0:6443 > 192.0.2.11:6443 192.0.2.12:6443");
    assert!(said.contains("haproxy.cfg:2: not carried over: [::]:6443 (IPv6): no server has an address"), "{said}");
    let (written, said) = services(":::6443 v4v6", &(named.to_owned() + " server c 2001:db8::11:6443 check\n"));
    assert_eq!(written, "[::]:6443 > [2001:db8::12]:6443 [2001:db8::13]:6443 [2001:db8::11]:6443");
    assert!(said.contains("0.0.0.0:6443 (IPv4): no server has an address"), "{said}");
    let (written, _) = services(
        "localhost:6443,ipv6@localhost:6444",
        " server a 192.0.2.31:6443 check\n server b 2001:db8::31:6443 check\n",
    );
    assert_eq!(written, "127.0.0.1:6443 > 192.0.2.31:6443; [::1]:6444 > [2001:db8::31]:6443");
}

#[test]
fn what_is_left_to_fill_in_is_told_apart() {
    let service = |name: &str, port: u16| {
        format!("listen {name}\n bind 192.0.2.100:{port}\n server boot boot.example.net:{port} check\n")
    };
    let both = open(&(service("api", 6443) + &service("mcs", 22623)), "");
    assert!(
        both.contains("address of boot of api (haproxy.cfg:3)")
            && both.contains("address of boot of mcs (haproxy.cfg:6)"),
        "{both}"
    );
    let device = open("", &keepalived_with(" virtual_ipaddress {\n 192.0.2.101/24 dev eth9\n }"));
    assert!(device.contains("virtual_addresses of k8s: 192.0.2.101 is at eth9 in keepalived.conf:5"), "{device}");
}

#[test]
fn link_local_addresses_are_not_served() {
    let six = |addresses: &str| {
        format!("vrrp_instance a {{\n virtual_router_id 1\n virtual_ipaddress {{\n{addresses}\n }}\n}}\n")
    };
    let config = config("", &six("fe80::1/64\n2001:db8::100/64"));
    assert_eq!(config.services[0].listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["[2001:db8::100]:6443"]);
    assert_eq!(config.vrrp[0].virtual_addresses.len(), 2);
    says("", &six("fe80::1/64"), "no VIP is good beyond its link");
    let bound = "listen a\n bind [fe80::1]:80,[2001:db8::100]:80\n server b 2001:db8::31:80 check\n";
    says(bound, "", "haproxy.cfg:2: not carried over: bind [fe80::1]:80");
}

#[test]
fn variables_in_addresses_need_no_quotes() {
    let text = "listen api\n bind ${VIP}:8443\n server m1 $M1:6443 check\n server m2 ${M1}2:6443 check\n";
    let environment = |name: &str| match name {
        "VIP" => Some("192.0.2.100".to_owned()),
        "M1" => Some("192.0.2.3".to_owned()),
        _ => None,
    };
    let tree = haproxy::parse(text, "haproxy.cfg", environment).unwrap();
    let input = Input { haproxy: Some(tree), sources: vec!["haproxy.cfg".to_owned()], ..Input::default() };
    let text = convert(&input, &|_| None).unwrap().text;
    assert!(["192.0.2.100:8443", "192.0.2.3:6443", "192.0.2.32:6443"].iter().all(|at| text.contains(at)), "{text}");
}

#[test]
fn keywords_without_counterpart_stop_nothing() {
    let haproxy = "global\n debug\ndefaults\n monitor-uri /x\nfrontend hc\n bind :8080\n acl dead nbsrv(be) lt 1\n monitor-uri /health\n monitor fail if dead\n\
                   frontend sni\n bind :9443\n use_backend %[req.ssl_sni,lower]\n\
                   frontend g\n bind :8443\n use_backend be unless FALSE\nbackend be\n server m1 192.0.2.31:6443 check\n";
    let keepalived = "global_defs {\n lvs_process_name x\n lvs_flush_onstop\n}\n".to_owned()
        + &keepalived_with(" v3_checksum_as_v2\n timer_expired_backup\n vmac_garp_intvl 5")
        + "vrrp_instance none {\n virtual_router_id 7\n no_virtual_ipaddress\n}\n";
    let notes = notes(haproxy, &keepalived);
    for expected in [
        "haproxy.cfg:2: not carried over: debug",
        "haproxy.cfg:9: not carried over: monitor fail if dead",
        "haproxy.cfg:12: not carried over: use_backend %[req.ssl_sni,lower]: xvip decides",
        "haproxy.cfg:10: not carried over: frontend sni: it leads to no backend",
        "keepalived.conf:2: not carried over: lvs_process_name x",
        "keepalived.conf:3: not carried over: lvs_flush_onstop",
        "not carried over: v3_checksum_as_v2",
        "not carried over: timer_expired_backup",
        "not carried over: vmac_garp_intvl 5",
        "not carried over: vrrp_instance none: it has no addresses",
    ] {
        assert!(notes.contains(expected), "no {expected:?} in\n{notes}");
    }
    assert_eq!(config(haproxy, &keepalived).services.len(), 1);
}

#[test]
fn what_a_group_tracks() {
    let router = |name: &str, id: u8| {
        format!("vrrp_instance {name} {{\n virtual_router_id {id}\n virtual_ipaddress {{\n 192.0.2.{id}/24\n }}\n}}\n")
    };
    let group = |members: &str, of_a: &str| {
        let text = "vrrp_script chk {\n script /bin/x\n}\nvrrp_script gone {\n script \"/bin/killall -0 haproxy\"\n}\nvrrp_sync_group g {\n group {\n".to_owned()
            + members
            + "\n }\n track_script {\n chk\n gone\n missing\n }\n track_interface {\n eth1 weight -5\n }\n}\n";
        text + &router("a", 1).replacen('{', &format!("{{\n{of_a}"), 1) + &router("b", 2)
    };
    let text = group("a\nb", "");
    let notes = notes("", &text);
    for expected in [
        "keepalived.conf:4: not carried over: vrrp_script gone: it asks whether haproxy runs",
        "keepalived.conf:15: mistake: track_script missing is defined by no vrrp_script",
    ] {
        assert!(notes.contains(expected), "no {expected:?} in\n{notes}");
    }
    assert!(!notes.contains("is tracked by no"), "{notes}");
    let tracked = |text: &str| {
        let of = |track: &config::Track| (format!("{:?}", track.what).contains("eth1"), track.weight);
        config("", text).vrrp.iter().map(|router| router.tracks.iter().map(of).collect()).collect::<Vec<Vec<_>>>()
    };
    assert_eq!(tracked(&text), [vec![(false, None), (true, Some(-5))], vec![]], "the first heeds it for all");
    let shown = import("", &text).unwrap().text;
    assert_eq!(shown.matches("# Of vrrp_sync_group g: what keeps one member").count(), 2, "{shown}");
    let twice = group("b\na", "track_interface {\n eth1\n}\n");
    assert_eq!(tracked(&twice), [vec![(true, None)], vec![(false, None)]], "what a member tracks counts once");
    let less = group("b\na", "track_interface {\n eth1 weight -3\n}\n");
    let expected = [vec![(true, Some(-3))], vec![(false, None), (true, Some(-5))]];
    assert_eq!(tracked(&less), expected, "another weight is another thing");
    says(
        "",
        &group("", ""),
        "keepalived.conf:17: not carried over: track_interface eth1 weight -5: its vrrp_sync_group",
    );
    assert_eq!(tracked(&group("b", ""))[1], [(false, None), (true, Some(-5))], "no group, and tracked all the same");
}

#[test]
fn a_balancer_by_ipvs_becomes_a_service() {
    let real =
        |last: u8, check: &str| format!(" real_server 192.0.2.{last} 6443 {{\n  weight {last}\n  {check}\n }}\n");
    let text = keepalived_with(" priority 100")
        + "virtual_server 192.0.2.100 8443 {\n delay_loop 6\n lb_algo wlc\n lb_kind DR\n persistence_timeout 0\n protocol TCP\n"
        + &real(31, "SSL_GET {\n   url {\n    path /healthz\n    status_code 200\n   }\n  }")
        + &real(32, "TCP_CHECK {\n   connect_port 6443\n  }")
        + "}\nvirtual_server 192.0.2.100 53 {\n protocol UDP\n}\nvirtual_server fwmark 1 {\n}\n";
    let config = config("", &text);
    assert_eq!(backends(&config), "192.0.2.31:6443*31 192.0.2.32:6443*32");
    let service = &config.services[0];
    assert_eq!((config.services.len(), service.listen[0].to_string()), (1, "192.0.2.100:8443".to_owned()));
    assert_eq!(service.balance, config::Balance::LeastConn);
    let config::CheckKind::Https(http, _) = &service.health_check.kind else { panic!("{service:?}") };
    assert_eq!((http.path.as_str(), http.expect_status.as_slice()), ("/healthz", [200].as_slice()));
    for expected in [
        "lb_kind DR: packets go",
        "delay_loop 6: a service",
        "192.0.2.100 53: xvip forwards TCP",
        "fwmark 1: it is at no address",
    ] {
        says("", &text, expected);
    }
    assert!(!import("", &text).unwrap().text.contains("carried no balancer"));
    assert_eq!(open("", &text), "");
}

#[test]
fn one_thing_a_line() {
    for (lines, expected) in [
        (
            " virtual_ipaddress {\n 192.0.2.101/24 192.0.2.102/24\n }",
            "keepalived.conf:5: mistake: one address a line: keepalived ignores 192.0.2.102/24",
        ),
        (
            " virtual_ipaddress {\n 192.0.2.101/24 foo\n }",
            "keepalived.conf:5: mistake: keepalived ignores \"foo\", which is no option",
        ),
        (" track_interface { eth1 eth2 }", "keepalived.conf:4: mistake: keepalived ignores \"eth2\""),
        (" state BACKUP interface eth1", "keepalived.conf:4: mistake: keepalived ignores \"interface eth1\""),
        (" priority 5 nopreempt", "keepalived.conf:4: mistake: keepalived ignores \"nopreempt\""),
        (" priority 5\n priority 6", "keepalived.conf:5: mistake: priority is 5 in a line before, and this one counts"),
        (" virtual_router_id 52", "keepalived.conf:4: mistake: virtual_router_id is 51 in a line before"),
    ] {
        says("", &keepalived_with(lines), expected);
    }
    assert_eq!(config("", &keepalived_with(" priority 5\n priority 6")).vrrp[0].priority, 6);
    let twice = keepalived_with("") + &keepalived_with("").replace("51", "52");
    says("", &twice, "keepalived.conf:9: mistake: vrrp_instance k8s is in keepalived.conf:1 already");
    assert_eq!(config("", &twice).vrrp.len(), 1);
}

#[test]
fn text_that_is_none_matters_where_it_is_used() {
    let text = |comment: &str, address: &str| {
        format!(
            "listen a\n # f{comment}r alle\n description f{comment}r\n bind {address}:80\n server b 192.0.2.31:80 check\n"
        )
    };
    assert_eq!(config(&text("\u{fffd}", ""), "").services.len(), 1);
    says(&text("", "\u{fffd}"), "", "haproxy.cfg:4: the line is not UTF-8");
    assert_eq!(config("", &keepalived_with(" # f\u{fffd}r")).vrrp.len(), 1);
    says("", &keepalived_with(" interface \u{fffd}"), "keepalived.conf:4: the line is not UTF-8");
    // A file that is not there has no lines.
    assert_eq!(Place { file: "a.cfg".into(), line: 0 }.to_string(), "a.cfg");
}

#[test]
fn what_is_written_twice_does_not_hide_the_rest() {
    let notes = import("global\n daemon\nlisten a\n bind 192.0.2.100:80,192.0.2.100:80-81\n timeout tunnel 3h\n server b 192.0.2.31:80 check\n", "").unwrap_err();
    assert!(
        notes.iter().any(|note| note.kind == Kind::Lost) && notes.iter().any(|note| note.kind == Kind::Fault),
        "{notes:?}"
    );
}

#[test]
fn connections_can_be_shared() {
    let haproxy = haproxy_with("", "");
    let shared = |keepalived: &str| shared_with(&import(&haproxy, keepalived).unwrap().text).join(" ");
    assert_eq!(shared(&keepalived_with("")), "192.0.2.22", "adverts to everybody name nobody");
    let named = keepalived_with(" unicast_src_ip 192.0.2.1\n unicast_peer {\n  192.0.2.2\n  192.0.2.3\n }");
    assert_eq!(shared(&named), "192.0.2.2 192.0.2.3");
    let six = "vrrp_instance six {\n interface eth0\n virtual_router_id 52\n unicast_src_ip fe80::1\n unicast_peer {\n  fe80::2\n }\n virtual_ipaddress {\n  fe80::64/64\n  2001:db8::64/64\n }\n}\n";
    assert_eq!(shared(&(named + six)), "192.0.2.22", "link-local addresses need an interface");
    assert_eq!(shared(""), "", "one balancer has nobody to share with");
}
