//! Every mistake that is found, and what is written all the same.

use std::time::Duration;

use super::*;

#[track_caller]
pub(super) fn says(haproxy: &str, keepalived: &str, expected: &str) {
    let notes = notes(haproxy, keepalived);
    assert!(notes.lines().any(|line| line.contains(expected)), "no {expected:?} in\n{notes}");
}

#[test]
fn of_haproxy() {
    for (front, back, expected) in [
        (" timeout client 10m", "", "haproxy.cfg:3: mistake: timeout client 600 s cuts connections"),
        ("", " timeout server 30000", "haproxy.cfg:6: mistake: timeout server 30 s cuts"),
        ("", " timeout tunnel 5m\n timeout server 1s", "haproxy.cfg:6: mistake: timeout tunnel 300 s cuts"),
        ("", " balance source", "haproxy.cfg:6: mistake: balance source sends all clients behind one address"),
        ("", " option ssl-hello-chk", "haproxy.cfg:6: mistake: option ssl-hello-chk takes any answer"),
        (
            "",
            " option httpchk GET /healthz\n option ssl-hello-chk",
            "haproxy.cfg:7: mistake: option ssl-hello-chk replaces",
        ),
        ("", " option httpchk GET /healthz", "haproxy.cfg:6: mistake: option httpchk asks in the clear where TLS"),
        ("", " option httpchk GET /\n http-check expect status 200,403", "haproxy.cfg:7: mistake: errors"),
        ("", " option httpchk GET /\n http-check expect ! status 500", "haproxy.cfg:7: mistake: errors"),
        ("", " server m2 192.0.2.32:6443", "haproxy.cfg:6: mistake: server m2 has no check"),
        ("", " server m2 192.0.2.31:6443 check", "mistake: server m1: 192.0.2.31:6443 is a server of api already"),
        ("", " default-server inter 1s", "mistake: a check that only connects passes"),
    ] {
        says(&haproxy_with(front, back), "", expected);
    }
    let page = |lines: &str| haproxy_with("", "") + "listen stats\n mode http\n" + lines;
    let open = page(" bind *:1080\n stats auth a:secret\n stats admin if TRUE\n");
    says(
        &open,
        "",
        "mistake: the password of the statistics page at 0.0.0.0:1080 travels in the clear, and who reads it",
    );
    assert!(!notes(&open, "").contains("secret"), "{}", notes(&open, ""));
    says(&page(" bind *:1080\n stats admin if TRUE\n"), "", "mistake: whoever reaches 0.0.0.0:1080 may switch");
    let inside = notes(&page(" bind 127.0.0.1:1080\n stats auth a:b\n"), "");
    assert!(!inside.contains("mistake: the password"), "{inside}");
    says(
        &haproxy_with("", " server m2 192.0.2.100:6443 check"),
        &keepalived_with(""),
        "mistake: server m2 is at the VIP",
    );
}

#[test]
fn of_keepalived() {
    for (lines, expected) in [
        (" track_script {\n  chk\n }", "keepalived.conf:5: mistake: track_script chk is defined by no vrrp_script"),
        (" state MASTER\n nopreempt", "keepalived.conf:5: mistake: nopreempt has no effect with state MASTER"),
        (" unicast_peer {\n 192.0.2.22,\n 192.0.2.23\n }", "keepalived.conf:5: mistake: the sign after 192.0.2.22"),
        (" unicast_src_ip 192.0.2.21\n unicast_peer {\n 192.0.2.21\n }", "mistake: 192.0.2.21 is this node itself"),
        (" unicast_peer {\n 192.0.2.22\n 192.0.2.22\n }", "mistake: 192.0.2.22 is listed twice"),
        (" authentication {\n auth_type PASS\n auth_pass 123456789\n }", "mistake: auth_pass has 9 characters"),
        (" nopreempt\n preempt_delay 5", "keepalived.conf:5: mistake: preempt_delay has no effect with nopreempt"),
        (" advert_int 0.5", "keepalived.conf:4: mistake: advert_int 0.5 is none that version 2 can say"),
        (" advert_int 60", "mistake: advert_int 60 is none that version 2 can say; carried over as 40 s"),
    ] {
        says("", &keepalived_with(lines), expected);
    }
    let tracked = |script: &str| script.to_owned() + &keepalived_with(" track_script {\n  chk\n }");
    for (script, expected) in [
        ("script \"killall -0 haproxy\"", "keepalived.conf:2: mistake: chk: a process that is there may hang"),
        ("script \"curl -sk https://localhost:6443/\"", "keepalived.conf:2: mistake: chk: curl without --fail"),
        ("script \"/bin/x\"\ninterval 5\nfall 4", "keepalived.conf:1: mistake: chk: 20 s pass before"),
    ] {
        says("", &tracked(&format!("vrrp_script chk {{\n{script}\n}}\n")), expected);
    }
    let fine = notes("", &tracked("vrrp_script chk {\nscript \"curl -sfk https://localhost:6443/readyz\"\n}\n"));
    assert!(!fine.contains("mistake"), "{fine}");
    says(
        "",
        &("vrrp_script chk {\nscript /bin/x\n}\n".to_owned() + &keepalived_with("")),
        "mistake: vrrp_script chk is tracked by no",
    );
}

#[test]
fn of_groups() {
    let router = |name: &str, lines: &str| {
        let id = 51 + name.len();
        format!(
            "vrrp_instance {name} {{\n virtual_router_id {id}\n{lines}\n virtual_ipaddress {{\n 192.0.2.{id}/24\n }}\n}}\n"
        )
    };
    let group = |name: &str, lines: &str| format!("vrrp_sync_group {name} {{\n{lines}\n}}\n");
    let three = router("A", "") + &router("BB", "") + &router("CCC", "");
    let members = |text: &str| {
        let routers = config("", &(text.to_owned() + &three)).vrrp.into_iter();
        routers.map(|router| router.sync_group.unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(members(&group("VG_1", "group {\n CCC\n A\n}")), ["vg-1", "", "vg-1"]);
    assert_eq!(members(&group("x", "group {\n BB A\n}\nglobal_tracking")), ["x", "x", ""]);
    for (lines, expected) in [
        ("group {\n A\n B\n}", "keepalived.conf:4: mistake: there is no vrrp_instance B"),
        ("group {\n A\n}", "keepalived.conf:1: not carried over: vrrp_sync_group x: a group of fewer than two"),
        ("group {\n A\n A\n}", "keepalived.conf:4: mistake: vrrp_instance A is listed twice"),
        ("group {\n A\n BB\n}\ntrack_file {\n f\n}", "keepalived.conf:6: not carried over: track_file"),
        ("group {\n A\n BB\n}\nnotify_master /bin/x", "keepalived.conf:6: not carried over: notify_master /bin/x"),
    ] {
        says("", &(group("x", lines) + &three), expected);
    }
    let two = group("x", "group {\n A\n BB\n}") + &group("y", "group {\n BB\n CCC\n}");
    says("", &(two.clone() + &three), "keepalived.conf:9: mistake: vrrp_instance BB is in vrrp_sync_group x already");
    assert_eq!(members(&two), ["x", "x", ""]);
    let owned = group("x", "group {\n A\n BB\n}") + &router("A", " priority 255") + &router("BB", "");
    says("", &owned, "not carried over: vrrp_sync_group x: vrrp_instance A has priority 255");
    assert!(config("", &owned).vrrp.iter().all(|router| router.sync_group.is_none()));
}

#[test]
fn a_script_is_looked_into() {
    let text =
        "vrrp_script chk {\n script /etc/check.sh\n}\n".to_owned() + &keepalived_with(" track_script {\n  chk\n }");
    let input = input("", &text).unwrap();
    let content = "#!/bin/sh\n# curl -f is better\ncurl --silent https://localhost:6443/ || exit 1\n";
    let imported = convert(&input, &|path| (path == "/etc/check.sh").then(|| content.to_owned())).unwrap();
    let notes: String = imported.notes.iter().map(|note| format!("{note}\n")).collect();
    assert!(notes.contains("curl without --fail") && notes.contains("asks for an API server"), "{notes}");
    // Of a script that nobody can look into, it is not known what it is for.
    assert_eq!(config("", &text).vrrp[0].tracks.len(), 1);
}

#[test]
fn what_is_meant_is_written() {
    let config = |back: &str| config(&haproxy_with("", back), "").services.remove(0);
    assert_eq!(config(" timeout tunnel 3h\n timeout server 30s").idle_timeout, Duration::from_secs(3 * 3600));
    assert_eq!(config(" timeout server 30s").idle_timeout, Duration::from_secs(7200));
    let kind = |back: &str| config(back).health_check.kind;
    assert_eq!(kind(""), config::CheckKind::Tcp);
    assert!(matches!(kind(" default-server check-ssl verify none"), config::CheckKind::Tls(_)));
    assert!(matches!(kind(" option ssl-hello-chk"), config::CheckKind::Tls(_)));
    let newer = " option httpchk\n http-check connect ssl sni api.example.net\n http-check send meth GET uri /livez hdr Host x.example\n http-check expect status 200-202";
    let config::CheckKind::Https(http, tls) = kind(newer) else { panic!() };
    assert_eq!((http.path.as_str(), http.host.as_deref()), ("/livez", Some("x.example")));
    assert_eq!((http.expect_status, tls.server_name.as_deref()), (vec![200, 201, 202], Some("api.example.net")));
    let older = r" option httpchk GET /readyz HTTP/1.1\r\nHost:\ x.example\r\nA:\ b";
    let config::CheckKind::Https(http, _) = kind(older) else { panic!() };
    assert_eq!((http.path.as_str(), http.host.as_deref()), ("/readyz", Some("x.example")));
    let times = config(" timeout check 700ms\n default-server inter 1500 rise 5 fall 6").health_check;
    let expected = (Duration::from_millis(1500), Duration::from_millis(700), 5, 6);
    assert_eq!((times.interval, times.timeout, times.rise, times.fall), expected);
}

#[test]
fn addresses_are_those_of_packets() {
    let listens = |bind: &str, keepalived: &str| {
        let haproxy =
            format!("listen api\n bind {bind}\n server a 192.0.2.31:6443 check\n server b 2001:db8::31:6443 check\n");
        let services = import(&haproxy, keepalived).map(|_| config(&haproxy, keepalived).services);
        let shown =
            |service: config::Service| service.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        services.map(|services| services.into_iter().map(shown).collect::<Vec<_>>()).unwrap_or_default()
    };
    let router = keepalived_with(" unicast_src_ip 192.0.2.21\n unicast_peer {\n 192.0.2.22\n }");
    assert_eq!(listens("192.0.2.100:80,127.0.0.1:81", &router), ["192.0.2.100:80 127.0.0.1:81"]);
    assert_eq!(listens("192.0.2.21:80", &router), ["192.0.2.21:80"]);
    assert_eq!(listens("192.0.2.99:80", &router), [""; 0]);
    assert_eq!(listens("*:80-90", &router), ["0.0.0.0:80-90"]);
    assert_eq!(listens(":::80 v4v6", ""), ["0.0.0.0:80", "[::]:80"]);
    assert_eq!(listens(":::80 v6only", ""), ["[::]:80"]);
    assert_eq!(listens("ipv6@2001:db8::100:80", ""), ["[2001:db8::100]:80"]);
    assert_eq!(listens("/run/a.sock,192.0.2.100:80", ""), ["192.0.2.100:80"]);
}
