//! What is broken or unknown: one message with file and line, and nothing is written.

use super::*;

#[track_caller]
fn refused(haproxy: &str, keepalived: &str, expected: &str) {
    let notes = match import(haproxy, keepalived) {
        Ok(imported) => panic!("{expected:?} was expected, and this was written:\n{}", imported.text),
        Err(notes) => notes,
    };
    let faults: Vec<_> = notes.iter().filter(|note| note.kind == Kind::Fault).map(Note::to_string).collect();
    assert!(faults.iter().any(|fault| fault.contains(expected)), "no {expected:?} in {faults:#?}");
}

#[test]
fn of_haproxy() {
    for (text, expected) in [
        ("mode tcp\n", "haproxy.cfg:1: \"mode\" stands before any section"),
        ("fronted a\n", "did you mean \"frontend\"?"),
        ("frontend a\n bind \"x\n", "haproxy.cfg:2: a double quote is not closed"),
        ("frontend a\n bind 'x\n", "haproxy.cfg:2: a single quote is not closed"),
        ("frontend a\n bind \"${NONE}:80\"\n", "haproxy.cfg:2: the variable NONE has no value here"),
        ("frontend a\n bind ${VIP}:80\n", "haproxy.cfg:2: the variable VIP has no value here"),
        ("listen a\n server m1 192.0.2.$X:80\n", "haproxy.cfg:2: the variable X has no value here"),
        ("frontend a\n bind \"${A\"\n", "haproxy.cfg:2: ${A is not closed"),
        ("frontend a\n bind \\xzz\n", "haproxy.cfg:2: \\x is not followed"),
        ("global\n .if defined(X)\n", "haproxy.cfg:2: .if is not evaluated"),
        ("global\n deamon\n", "haproxy.cfg:2: \"deamon\" is no keyword of global; did you mean \"daemon\"?"),
        (
            "listen a\n blance source\n",
            "haproxy.cfg:2: \"blance\" is no keyword of this section; did you mean \"balance\"?",
        ),
        ("listen a\n option tcplgo\n", "did you mean \"tcplog\"?"),
        ("listen a\n timeout clinet 1s\n", "did you mean \"client\"?"),
        ("listen a\n timeout client 1w\n", "haproxy.cfg:2: timeout client \"1w\" is not a time"),
        ("listen a\n mode udp\n", "haproxy.cfg:2: mode \"udp\" is unknown"),
        ("listen a\n bind :80\n balance none\n server a 192.0.2.1:80\n", "haproxy.cfg:3: balance \"none\" is unknown"),
        ("listen a\n bind 192.0.2.300:80\n", "haproxy.cfg:2: \"192.0.2.300\" is neither an address nor a host name"),
        ("listen a\n bind :80000\n", "haproxy.cfg:2: \"80000\" is not a port"),
        ("listen a\n bind :90-80\n", "haproxy.cfg:2: \"90-80\" is not a port"),
        ("listen a\n bind :80 tranparent\n", "did you mean \"transparent\"?"),
        ("listen a\n bind\n", "haproxy.cfg:2: bind is without an address"),
        ("listen a\n server\n", "haproxy.cfg:2: a server has a name and an address"),
        ("listen a\n server a 192.0.2.1:80 chek\n", "did you mean \"check\"?"),
        (
            "listen a\n server a 192.0.2.1:80 weight 300\n",
            "haproxy.cfg:2: weight \"300\" is not a number from 0 to 256",
        ),
        ("listen a\n server a 192.0.2.1:80 inter\n", "haproxy.cfg:2: inter is without its value"),
        (
            "listen a\n server a 192.0.2.1:80\n server a 192.0.2.2:80\n",
            "haproxy.cfg:3: server \"a\" is already in haproxy.cfg:2",
        ),
        ("frontend a\n server a 192.0.2.1:80\n", "haproxy.cfg:2: server does not belong in a frontend"),
        ("backend a\n bind :80\n", "haproxy.cfg:2: bind does not belong in a backend"),
        ("frontend a\n bind :80\n default_backend b\n", "haproxy.cfg:3: there is no backend \"b\""),
        ("backend a\nbackend a\n", "haproxy.cfg:2: backend \"a\" is already in haproxy.cfg:1"),
        ("listen a from b\n", "haproxy.cfg:1: there is no section \"defaults b\""),
        ("listen\n", "haproxy.cfg:1: listen is without a name"),
        ("listen a\n http-check expct\n", "did you mean \"expect\"?"),
        ("listen a\n http-check expect status x\n", "haproxy.cfg:2: status is without its numbers"),
        (
            "listen a\n bind :8000-9000\n server a 192.0.2.1 check port 70\nlisten s\n mode http\n bind :8404\n stats enable\n",
            "haproxy.cfg:4: listen 0.0.0.0:8404 is a service's in haproxy.cfg:2, choose another port or address (what",
        ),
        ("global\n daemon\n", "haproxy.cfg:1: no frontend leads to a backend"),
        ("listen a\n bind :80 ssl crt x\n server a 192.0.2.1:80\n", "haproxy.cfg:1: no frontend leads to a backend"),
    ] {
        refused(text, "", expected);
    }
}

#[test]
fn of_keepalived() {
    for (text, expected) in [
        (
            "vrrp_instnace a {\n}\n",
            "keepalived.conf:1: \"vrrp_instnace\" is unknown here; did you mean \"vrrp_instance\"?",
        ),
        ("vrrp_instance a {\n interface eth0\n", "keepalived.conf:1: the block vrrp_instance a { is not closed"),
        ("vrrp_sync_group {\n}\n", "keepalived.conf:1: vrrp_sync_group is without a name"),
        ("vrrp_sync_group a {\n grup {\n }\n}\n", "keepalived.conf:2: \"grup\" is no keyword of vrrp_sync_group"),
        ("}\n", "keepalived.conf:1: } closes no block"),
        ("{\n}\n", "keepalived.conf:1: { is without a keyword"),
        ("global_defs {\n router_id \"a\n}\n", "keepalived.conf:2: a \" is not closed"),
        ("global_defs {\n rooter_id a\n}\n", "did you mean \"router_id\"?"),
        ("global_defs {\n}\n", "keepalived.conf:1: keepalived's file has no vrrp_instance"),
        ("include other.conf\n", "keepalived.conf:1: other.conf is included"),
        ("include\n", "keepalived.conf:1: include has one file"),
        (
            "vrrp_instance a {\n virtual_ipaddress {\n ~SEQ(1,2)\n }\n}\n",
            "keepalived.conf:3: ~SEQ(1,2) is not read here",
        ),
        ("vrrp_script a {\n}\n", "keepalived.conf:1: vrrp_script a is without its script"),
        ("vrrp_script a {\n script x\n intervall 1\n}\n", "did you mean \"interval\"?"),
    ] {
        refused("", text, expected);
    }
    for (lines, expected) in [
        (" priority 300", "keepalived.conf:4: priority \"300\" is not a number from 1 to 255"),
        (" virtual_router_id x", "keepalived.conf:4: virtual_router_id \"x\" is not a number"),
        (" advert_int x", "keepalived.conf:4: advert_int \"x\" is not a number of seconds"),
        (" state ACTIVE", "keepalived.conf:4: state \"ACTIVE\" is not MASTER or BACKUP"),
        (" unicast_peer {\n 192.0.2.300\n }", "keepalived.conf:5: \"192.0.2.300\" is not an IP address"),
        (" virtual_ipaddress {\n 192.0.2.1/33\n }", "keepalived.conf:5: \"192.0.2.1/33\" has a wrong prefix length"),
        (" prioritty 5", "did you mean \"priority\"?"),
        (" interface this-name-is-too-long", "has 21 bytes, the kernel allows 15"),
    ] {
        refused("", &keepalived_with(lines), expected);
    }
    refused("", "vrrp_instance a {\n virtual_router_id 1\n}\n", "vrrp_instance a has no address in virtual_ipaddress");
    refused(
        "",
        "vrrp_instance a {\n virtual_ipaddress {\n 192.0.2.1\n }\n}\n",
        "vrrp_instance a is without a virtual_router_id",
    );
}

#[test]
fn a_broken_file_is_told_of_alone() {
    let notes = import("global\n daemon\nlisten a\n blance x\n", "").unwrap_err();
    assert!(notes.iter().all(|note| note.kind == Kind::Fault), "{notes:?}");
}

/// Faults of the result are told with the lines that they come from.
#[test]
fn of_what_would_be_written() {
    let served = |binds: &str| format!("listen a\n{binds} server b 192.0.2.31:6443 check\n");
    let two = |first: &str, second: &str| {
        let front = |name: &str, bind: &str| format!("frontend {name}\n bind {bind}\n default_backend b\n");
        front("a", first) + &front("c", second) + "backend b\n server b 192.0.2.31:6443 check\n"
    };
    let many: String = (0..129).map(|n| format!(" server s{n} 10.0.1.{n}:6443 check\n")).collect();
    for (haproxy, keepalived, expected) in [
        (
            two("192.0.2.100:80", "192.0.2.100:80"),
            String::new(),
            "haproxy.cfg:5: 192.0.2.100:80 is already listened at in haproxy.cfg:2, choose",
        ),
        (two("*:80", "192.0.2.100:80"), String::new(), "haproxy.cfg:5: 192.0.2.100:80 is already"),
        (
            served(" bind 192.0.2.100:80\n bind 192.0.2.100:79-80\n"),
            String::new(),
            "haproxy.cfg:3: 192.0.2.100:79-80 is already listened at in haproxy.cfg:2",
        ),
        (
            served(" bind *:9910\n"),
            String::new(),
            "haproxy.cfg:2: listen 127.0.0.1:9910 is a service's in haproxy.cfg:2",
        ),
        (
            format!("listen a\n bind :80\n{many}"),
            String::new(),
            "haproxy.cfg:131: this service has more than 128 backends",
        ),
        (
            String::new(),
            keepalived_with(" virtual_ipaddress {\n 192.0.2.100/24\n }"),
            "keepalived.conf:8: 192.0.2.100 is already a virtual address in keepalived.conf:5",
        ),
        (
            String::new(),
            keepalived_with("") + &keepalived_with("").replace("k8s", "other").replace(".100", ".101"),
            "keepalived.conf:9: virtual_router_id 51 is taken on \"eth0\" in keepalived.conf:1",
        ),
        (
            String::new(),
            keepalived_with(" unicast_peer {\n 192.0.2.22\n 2001:db8::22\n }"),
            "keepalived.conf:6: peer 2001:db8::22 is IPv6, the virtual addresses are IPv4",
        ),
        (
            String::new(),
            keepalived_with(" virtual_ipaddress {\n 192.0.2.0/24\n }"),
            "keepalived.conf:5: virtual_addresses \"192.0.2.0/24\" is the network address",
        ),
    ] {
        refused(&haproxy, &keepalived, expected);
    }
    let secret = keepalived_with(" authentication {\n auth_pass s\u{e9}cret\n }");
    if let Err(notes) = import("", &secret) {
        assert!(!notes.iter().any(|note| note.text.contains("cret")), "{notes:?}");
    }
}
