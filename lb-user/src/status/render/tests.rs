//! The rendered status, compared whole.

use super::super::example::{NOW, example};
use super::*;

#[test]
fn the_example_as_a_whole() {
    assert_eq!(render(&example(), NOW, false, usize::MAX), WHOLE);
}

const WHOLE: &str = "\
node      lb1, xvip 0.1.0, up 2h 5m
config    /etc/xvip/xvip.toml, applied 10m 0s ago
          changed by command, until the next reload or start: apiserver/master2 drained
          the last reload was refused: /etc/xvip/xvip.toml:7:1: unknown key `prioritty`
datapath  xdp on eth0: eth0 (veth) takes native programs
local     own connections translated, hooks on /sys/fs/cgroup
tables    established: 150 of 262144 entries, 36.0 MiB
          49.0 MiB with all others

VRRP     STATE   FOR    PRIORITY  ADDRESSES                      ACTIVE      WHY
k8s      active  2h 4m       100  192.0.2.100/24                 this node   no advert for 361 ms
ingress  backup  1d 1h        50  192.0.2.101/24 192.0.2.102/24  192.0.2.22  192.0.2.22 has priority 200

SYNC        STATE  FOR    HEARD   SENT  RECEIVED    LAG  REFUSED
192.0.2.22  up     1h 0m  0s ago  1200        17  6.2ms        4
          flows of others without a place here: 1 no_backend; configure all balancers alike

SERVICE   apiserver, 192.0.2.100:8443, roundrobin
allow     10.0.0.0/8 192.0.2.0/24
limit     50 new connections a second for each /32, 100 at once
BACKEND  ADDRESS          STATE     FOR     CONNS  SHARE  CHECK  WHY
master1  192.0.2.31:6443  up        31m 0s     25    33%  4.2ms  HTTP 200
master2  192.0.2.32:6443  up        32m 0s     50    67%  4.2ms  HTTP 200
master3  192.0.2.33:6443  down      33m 0s      0     0%      -  connection refused
master4  192.0.2.34:6443  draining  -           3      -      -  removed from the configuration; connections are reset in 1m 30s

SERVICE   web, 192.0.2.101:443, leastconn, at most 500 connections
          EVERY BACKEND FAILS ITS CHECKS; all are used all the same
BACKEND  ADDRESS          STATE  FOR     CONNS  SHARE  CHECK  WHY
web1     192.0.2.41:6443  down   41m 0s      0      -      -  timeout after 1 s

DROPPED     PACKETS
ip4_frag          3
no_backend     1200

EVENTS
2h 4m ago   vrrp k8s                   backup -> active: no advert for 361 ms
33m 0s ago  backend apiserver/master3  up -> down: connection refused
";

#[test]
fn lines_fit_the_terminal() {
    for width in [40, 60, 80, 100, 120, 200] {
        let text = render(&example(), NOW, false, width);
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
    // What matters most goes last.
    assert!(render(&example(), NOW, false, 80).contains("master1  192.0.2.31:6443  up"));
    for narrow in [render(&example(), NOW, false, 40), render(&example(), NOW, false, 1)] {
        assert!(narrow.contains("BACKEND  STATE     CONNS  WHY\nmaster1  up           25  HTTP 200\n"), "{narrow}");
        assert!(narrow.contains('…'));
    }
}

#[test]
fn rates_are_of_the_time_in_between() {
    let (before, mut after) = (example(), example());
    after.services[0].backends[0].connections_total += 50;
    after.services[0].backends[1].connections_total = 0;
    let rates = Rates::between(&before, &after, 2.0).unwrap();
    let text = render_live(&after, Some(&rates), NOW, false, 120);
    assert!(text.contains("CONNS  NEW/S  SHARE"), "{text}");
    assert!(text.contains("master1  192.0.2.31:6443  up        31m 0s     25     25"), "{text}");
    assert!(text.contains("master2  192.0.2.32:6443  up        32m 0s     50      -"), "{text}");
    assert!(Rates::between(&before, &after, 0.0).is_none());
    after.started_at += 1.0;
    assert!(Rates::between(&before, &after, 1.0).is_none());
}

#[test]
fn colour_changes_nothing_but_colour() {
    let plain = render(&example(), NOW, false, 110);
    let mut coloured = render(&example(), NOW, true, 110);
    assert!(!plain.contains('\x1b'));
    assert!(coloured.contains("\x1b[32mup\x1b[0m"));
    assert!(coloured.contains("\x1b[1;31mdown\x1b[0m"));
    for code in ["0", "1", "2", "32", "1;31", "33"] {
        coloured = coloured.replace(&format!("\x1b[{code}m"), "");
    }
    assert_eq!(coloured, plain);
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let mut status = example();
    let evil = "\x1b]0;owned\x07\r\nup";
    status.node = evil.to_owned();
    status.services[0].backends[0].reason = evil.to_owned();
    status.vrrp[0].state = evil.to_owned();
    status.events[0].text = evil.to_owned();
    status.datapath.reason = evil.to_owned();
    status.config.last_error = Some(evil.to_owned());
    let text = render(&status, NOW, false, usize::MAX);
    assert_eq!(text.matches("\u{fffd}]0;owned\u{fffd}\u{fffd}\u{fffd}up").count(), 6);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn an_agent_with_nothing() {
    let mut status = example();
    status.vrrp.clear();
    status.sync = crate::status::SyncStatus::default();
    status.services.clear();
    status.events.clear();
    status.config.last_error = None;
    status.config.changes.clear();
    status.datapath.program_id = 0;
    status.datapath.reason = "eth0 does not exist".to_owned();
    status.datapath.tables.clear();
    status.datapath.bytes = 0;
    status.datapath.packets.clear();
    status.local =
        crate::status::LocalStatus { attached: false, cgroup: None, reason: "no cgroup v2 is mounted".to_owned() };
    assert_eq!(
        render(&status, NOW, false, usize::MAX),
        "node      lb1, xvip 0.1.0, up 2h 5m\n\
         config    /etc/xvip/xvip.toml, applied 10m 0s ago\n\
         datapath  not attached: eth0 does not exist\n\
         local     own connections not translated: no cgroup v2 is mounted\n"
    );
}

#[test]
fn who_shares_nothing_is_told_what_that_means() {
    let mut status = example();
    status.sync = crate::status::SyncStatus::default();
    let text = render(&status, NOW, false, usize::MAX);
    let line = "\nSYNC      flows are not shared: connections do not survive a move of the VIP; see [sync]\n";
    assert!(text.contains(line), "{text}");
}
