//! Every refusal of a section, with its exact words.

use super::*;

/// What is replaced in `BASE`, by what, and the faults, one per line, without `xvip.toml:`.
type Case = (&'static str, &'static str, &'static str);

#[rustfmt::skip]
const NODE: &[Case] = &[
    (r#"interface = "eth0""#, "",
     r#"1:1: [node] has no interface, add interface = "eth0""#),
    ("[node]\nname = \"lb1\"\ninterface = \"eth0\"\n", "",
     r#"1:1: [node] has no interface, add interface = "eth0""#),
    (r#"interface = "eth0""#, "interface = 3",
     r#"3:13: interface is an integer, write a string such as "eth0""#),
    (r#"interface = "eth0""#, r#"interface = "averylonginterface""#,
     r#"3:13: interface "averylonginterface" has 18 bytes, the kernel allows 15, write it as `ip link` shows it"#),
    (r#"interface = "eth0""#, r#"interface = "eth/0""#,
     r#"3:13: interface "eth/0" has the character '/', write it as `ip link` shows it"#),
    (r#"interface = "eth0""#, r#"interface = "eth 0""#,
     r#"3:13: interface "eth 0" has the character ' ', write it as `ip link` shows it"#),
    (r#"interface = "eth0""#, r#"interface = """#,
     r#"3:13: interface "" is not an interface, write it as `ip link` shows it"#),
    (r#""lb1""#, r#""LB1""#,
     r#"2:8: name "LB1" has upper case letters, write "lb1""#),
    (r#""lb1""#, r#""lb_1""#,
     r#"2:8: name "lb_1" has the character '_', use a-z, 0-9, - and ., beginning with a letter or digit"#),
    (r#""lb1""#, r#""-lb""#,
     r#"2:8: name "-lb" begins with a sign, use a-z, 0-9, - and ., beginning with a letter or digit"#),
    (r#""lb1""#, r#""""#,
     "2:8: name is empty, use a-z, 0-9, - and ., beginning with a letter or digit"),
    (r#""lb1""#, r#""aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa""#,
     r#"2:8: name "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" has 64 bytes, shorten it to 63"#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\ndatapath = \"dpdk\"",
     r#"4:12: datapath "dpdk" is unknown, use "auto", "xdp", "xdp-generic" or "tc""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\ndatapath = true",
     r#"4:12: datapath is a boolean, write a string such as "auto""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_ports = \"1024\"",
     r#"4:16: source_ports "1024" is not a range of ports, write it such as "1024-32767""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_ports = \"80-2000\"",
     r#"4:16: source_ports "80-2000" has ports that belong to the host's services, begin at 1024 or above"#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_ports = \"2000-2062\"",
     r#"4:16: source_ports "2000-2062" has fewer than 64 ports, widen it, each backend can have that many connections from one VIP"#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_ports = \"3000-2000\"",
     r#"4:16: source_ports "3000-2000" ends before it begins, write it such as "1024-32767""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_ports = \"20000-70000\"",
     r#"4:16: source_ports "20000-70000" is not a range of ports, write it such as "1024-32767""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_ports = \"8000-9000\"",
     "4:16: source_ports contains port 8443 of the service in line 13, choose a range without it"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_ports = 1024",
     r#"4:16: source_ports is an integer, write a string such as "1024-32767""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_addresses = [\"192.0.2.110\", \"2001:db8::1\"]",
     "4:21: no [[vrrp]] carries the source address 192.0.2.110, add it to virtual_addresses, so that it is where the VIPs are\n\
      4:36: no [[vrrp]] carries the source address 2001:db8::1, add it to virtual_addresses, so that it is where the VIPs are"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_addresses = [\"192.0.2.100\", \"192.0.2.100\"]",
     "4:21: source address 192.0.2.100 is where the service in line 13 listens, choose an address besides the VIPs, which are used anyway\n\
      4:36: source address 192.0.2.100 is listed twice, list it once"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_addresses = [\"192.0.2.31\"]",
     "4:21: source address 192.0.2.31 is the backend's in line 20, choose an address of its own\n\
      4:21: no [[vrrp]] carries the source address 192.0.2.31, add it to virtual_addresses, so that it is where the VIPs are"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nsource_addresses = \"192.0.2.110\"",
     r#"4:20: source_addresses is a string, write a list such as ["192.0.2.110"]"#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nmax_flows = 1000",
     "4:13: max_flows is 1000, write a whole number from 1024 to 4194304"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nmax_half_open = 512",
     "4:17: max_half_open is 512, write a whole number from 1024 to 1048576"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nmax_flows = 5000000",
     "4:13: max_flows is 5000000, write a whole number from 1024 to 4194304"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nmax_flows = 1e6",
     "4:13: max_flows is a float, write a whole number from 1024 to 4194304"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nmax_flows = \"131072\"",
     "4:13: max_flows is a string, write a whole number from 1024 to 4194304"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\ninterfaces = \"eth1\"",
     r#"4:1: unknown key "interfaces" in [node], did you mean "interface"?"#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nDatapath = \"auto\"",
     r#"4:1: unknown key "Datapath" in [node], did you mean "datapath"?"#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\ncolour = \"blue\"",
     r#"4:1: unknown key "colour" in [node], known here: "cgroup", "datapath", "interface", "max_flows", "max_half_open", "name", "peer_port", "role", "source_addresses", "source_ports""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\ncgroup = \"unified\"",
     r#"4:10: cgroup "unified" is a relative path, write the whole path such as "/sys/fs/cgroup""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\ncgroup = \"\"",
     r#"4:10: cgroup "" is a relative path, write the whole path such as "/sys/fs/cgroup""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\ncgroup = 2",
     r#"4:10: cgroup is an integer, write a string such as "/sys/fs/cgroup""#),
    ("[[vrrp]]", "[metrics]\nlisten = \"9910\"\n[[vrrp]]",
     r#"6:10: listen "9910" is not an address and port, write address:port such as "127.0.0.1:9910""#),
    ("[[vrrp]]", "[metrics]\nlisten = \"::\"\n[[vrrp]]",
     r#"6:10: listen "::" is an IPv6 address without a port, write it in brackets and add the port such as "[::]:9910""#),
    ("[[vrrp]]", "[metrics]\nlisten = \"[fe80::1]:9910\"\n[[vrrp]]",
     r#"6:10: listen "[fe80::1]:9910" is a link-local address, write an address that is good beyond the link"#),
    ("[[vrrp]]", "[metrics]\nlisten = \"0.0.0.0:0\"\n[[vrrp]]",
     r#"6:10: listen "0.0.0.0:0" has port 0, write a port from 1 to 65535"#),
    ("[[vrrp]]", "[metrics]\nlisten = \"192.0.2.100:8443\"\n[[vrrp]]",
     "6:10: listen 192.0.2.100:8443 is a service's in line 14, choose another port or address"),
    ("[[vrrp]]", "[metrics]\npassword_file = \"page.passwords\"\n[[vrrp]]",
     r#"6:17: password_file "page.passwords" is a relative path, write the whole path such as "/etc/xvip/page.passwords""#),
    ("[[vrrp]]", "[metrics]\ntls_cert = \"/etc/xvip/page.crt\"\n[[vrrp]]",
     "6:12: tls_cert stands without tls_key, add tls_key"),
    ("[[vrrp]]", "[metrics]\ntls_key = \"/etc/xvip/page.key\"\n[[vrrp]]",
     "6:11: tls_key stands without tls_cert, add tls_cert"),
    ("[[vrrp]]", "[metrics]\ntls_client_ca = \"/etc/xvip/page.clients.crt\"\n[[vrrp]]",
     "6:17: tls_client_ca stands without tls_cert and tls_key, add both: certificates are shown over TLS alone"),
    ("[[vrrp]]", "[metric]\nlisten = \"0.0.0.0:9910\"\n[[vrrp]]",
     "5:2: unknown table [metric], did you mean [metrics]?"),
    ("[[vrrp]]", "[tracing]\n[[vrrp]]",
     "5:2: unknown table [tracing], known here: [admin], [flow_log], [metrics], [node], [[service]], [sync], [[vrrp]], [[vrrp_sync_group]]"),
    ("[[vrrp]]", "[[metrics]]\n[[vrrp]]",
     "5:1: metrics is a list of tables, write it once as [metrics]"),
    ("[[vrrp]]", "[node.metrics]\n[[vrrp]]",
     r#"5:7: unknown table "metrics" in [node], known here: "cgroup", "datapath", "interface", "max_flows", "max_half_open", "name", "peer_port", "role", "source_addresses", "source_ports""#),
    ("[[vrrp]]", "[admin]\nsocket = \"admin.sock\"\n[[vrrp]]",
     r#"6:10: socket "admin.sock" is a relative path, write the whole path such as "/run/xvip/admin.sock""#),
    ("[[vrrp]]", "[admin]\nsocket = \"/run/\"\n[[vrrp]]",
     r#"6:10: socket "/run/" is a directory, name a file such as "/run/xvip/admin.sock""#),
    ("[[vrrp]]", "[admin]\nsocket = \"/sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss\"\n[[vrrp]]",
     r#"6:10: socket "/sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss…" has 108 bytes, choose a path of at most 102"#),
    ("[[vrrp]]", "[admin]\nsocket = \"/run/a\\u0000b\"\n[[vrrp]]",
     r#"6:10: socket "/run/a\0b" has the character '\0', remove it"#),
    ("[node]", "interface = \"eth0\"\n[node]",
     r#"1:1: unknown key "interface" outside of any table, known here: [admin], [flow_log], [metrics], [node], [[service]], [sync], [[vrrp]], [[vrrp_sync_group]]"#),
    ("[node]\n", "datapaht = 1\n[node]\n",
     r#"1:1: unknown key "datapaht" outside of any table, known here: [admin], [flow_log], [metrics], [node], [[service]], [sync], [[vrrp]], [[vrrp_sync_group]]"#),
    ("[node]\nname = \"lb1\"\ninterface = \"eth0\"", r#"node = "lb1""#,
     "1:8: node is a string, write it once as [node]"),
];

#[rustfmt::skip]
const VRRP: &[Case] = &[
    ("name = \"k8s\"\n", "",
     r#"5:1: [[vrrp]] has no name, add name = "k8s""#),
    ("virtual_router_id = 51\n", "",
     "5:1: [[vrrp]] has no virtual_router_id, add virtual_router_id = 51"),
    ("virtual_addresses = [\"192.0.2.100/24\"]\n", "",
     r#"5:1: [[vrrp]] has no virtual_addresses, add virtual_addresses = ["192.0.2.100/24"]"#),
    ("[[vrrp]]", "[vrrp]",
     "5:1: vrrp is a table, begin each with [[vrrp]]"),
    ("[[vrrp]]", "[[vrrps]]",
     "5:3: unknown table [[vrrps]], did you mean [[vrrp]]?"),
    ("virtual_router_id = 51", "virtual_router_id = 0",
     "7:21: virtual_router_id is 0, write a whole number from 1 to 255"),
    ("virtual_router_id = 51", "virtual_router_id = 256",
     "7:21: virtual_router_id is 256, write a whole number from 1 to 255"),
    ("virtual_router_id = 51", r#"virtual_router_id = "51""#,
     "7:21: virtual_router_id is a string, write a whole number from 1 to 255"),
    ("virtual_router_id = 51", "virtual_router_id = 51.0",
     "7:21: virtual_router_id is a float, write a whole number from 1 to 255"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nprioriti = 100",
     r#"8:1: unknown key "prioriti" in [[vrrp]], did you mean "priority"?"#),
    ("virtual_router_id = 51", "virtual_router_id = 51\npriority = 0",
     "8:12: priority is 0, write a whole number from 1 to 255"),
    ("virtual_router_id = 51", "virtual_router_id = 51\npriority = 256",
     "8:12: priority is 256, write a whole number from 1 to 255"),
    ("virtual_router_id = 51", "virtual_router_id = 51\npriority = -1",
     "8:12: priority is -1, write a whole number from 1 to 255"),
    ("virtual_router_id = 51", "virtual_router_id = 51\npriority = \"100\"",
     "8:12: priority is a string, write a whole number from 1 to 255"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nversion = 2\nadvert_interval = \"1500ms\"",
     "9:19: advert_interval \"1500ms\" is not of whole seconds, as version 2 has them, write \"1s\""),
    ("virtual_router_id = 51", "virtual_router_id = 51\nversion = 2\nchecksum = \"rfc9568\"",
     "9:12: checksum has no meaning for version 2, where there is but one form, remove it, or set version = 3 on all routers with this virtual_router_id"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nversion = 2\nauth_key_file = \"/k\"",
     "9:17: auth_key_file has no meaning for version 2, whose packets have no room for it, remove it, or set version = 3 on all routers with this virtual_router_id"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nversion = 2\nauth_pass = \"123456789\"",
     "9:13: auth_pass has 9 bytes, of which 8 travel, write the first 8, which are what other routers compare too"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nauth_pass = \"secret\"",
     "8:13: auth_pass belongs to version 2, version 3 has no passwords, remove it; among xvip nodes auth_key_file authenticates adverts"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nauth_key_file = \"vrrp.key\"",
     "8:17: auth_key_file \"vrrp.key\" is a relative path, write the whole path such as \"/etc/xvip/vrrp.key\""),
    ("virtual_router_id = 51", "virtual_router_id = 51\nnotify = [\"on-vrrp\"]",
     "8:10: the command \"on-vrrp\" is not the whole path of a program, write one such as [\"/usr/local/bin/program\", \"argument\"], no shell"),
    ("virtual_router_id = 51", "virtual_router_id = 51\ntrack = [{ weight = 3 }]",
     "8:10: [[vrrp.track]] has 0 of interface, file and command, write exactly one, and a [[vrrp.track]] for each of several"),
    ("virtual_router_id = 51", "virtual_router_id = 51\ntrack = [{ file = \"/f\", weight = 0 }]",
     "8:34: weight 0 changes nothing, write another number, or remove it, so that the virtual router is in fault while it is bad"),
    ("virtual_router_id = 51", "virtual_router_id = 51\ntrack = [{ file = \"/f\", interface = \"eth1\" }]",
     "8:10: [[vrrp.track]] has 2 of interface, file and command, write exactly one, and a [[vrrp.track]] for each of several"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nversion = 4",
     "8:11: version is 4, write a whole number from 2 to 3"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nversion = \"3\"",
     "8:11: version is a string, write a whole number from 2 to 3"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"1\"",
     r#"8:19: advert_interval "1" has no unit, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = 1",
     r#"8:19: advert_interval is an integer, write a string such as "1s""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"1.5s\"",
     r#"8:19: advert_interval "1.5s" is not a duration, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"-1s\"",
     r#"8:19: advert_interval "-1s" is not a duration, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"\"",
     r#"8:19: advert_interval "" is not a duration, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"1sec\"",
     r#"8:19: advert_interval "1sec" is not a duration, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"s\"",
     r#"8:19: advert_interval "s" is not a duration, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"5ms\"",
     r#"8:19: advert_interval "5ms" is too short, write "10ms" or more"#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"41s\"",
     r#"8:19: advert_interval "41s" is too long, write "40s950ms" or less"#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"105ms\"",
     r#"8:19: advert_interval "105ms" is not in steps of 10ms, write "100ms""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"1s1s\"",
     r#"8:19: advert_interval "1s1s" has its units out of order, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nadvert_interval = \"1s1m\"",
     r#"8:19: advert_interval "1s1m" has its units out of order, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\npreempt_delay = \"20000000000000000000s\"",
     r#"8:17: preempt_delay "20000000000000000000s" is too long, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\npreempt_delay = \"10000000000000000h\"",
     r#"8:17: preempt_delay "10000000000000000h" is too long, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\npreempt_delay = \"2h\"",
     r#"8:17: preempt_delay "2h" is too long, write "1h" or less"#),
    ("virtual_router_id = 51", "virtual_router_id = 51\npreempt = \"yes\"",
     "8:11: preempt is a string, write true or false"),
    ("virtual_router_id = 51", "virtual_router_id = 51\npreempt = 1",
     "8:11: preempt is an integer, write true or false"),
    ("virtual_router_id = 51", "virtual_router_id = 51\ninterface = \"eth0:1\"",
     r#"8:13: interface "eth0:1" has the character ':', write it as `ip link` shows it"#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_source = \"fe80::1\"",
     "8:18: unicast_source fe80::1 is IPv6, the virtual addresses are IPv4, write this router's IPv4 address"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_peers = [\"192.0.2.22\", \"2001:db8::22\"]",
     "8:32: peer 2001:db8::22 is IPv6, the virtual addresses are IPv4, write the other router's IPv4 address"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_source = \"fe80::1%eth0\"",
     r#"8:18: unicast_source "fe80::1%eth0" is not an IP address, write one such as "192.0.2.22" or "2001:db8::22""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_source = \"lb1\"",
     r#"8:18: unicast_source "lb1" is not an IP address, write one such as "192.0.2.22" or "2001:db8::22""#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_source = \"192.0.2.21/24\"",
     r#"8:18: unicast_source "192.0.2.21/24" has a prefix length, write the address alone"#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_source = \"192.0.2.100\"",
     "8:18: unicast_source 192.0.2.100 is a virtual address, write this router's own address"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_peers = \"192.0.2.22\"",
     r#"8:17: unicast_peers is a string, write a list such as ["192.0.2.22"]"#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_peers = [22]",
     r#"8:18: unicast_peers is an integer, write strings such as ["192.0.2.22"]"#),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_peers = [\"192.0.2.22\", \"192.0.2.23\", \"192.0.2.22\"]",
     "8:46: peer 192.0.2.22 is listed before in line 8, list it once"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_peers = [\"192.0.2.100\"]",
     "8:18: peer 192.0.2.100 is a virtual address, write the other router's own address"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_peers = [\"224.0.0.18\", \"192.0.2.256\"]",
     "8:18: unicast_peers \"224.0.0.18\" is a multicast address, write an address that one host of the network has\n8:32: unicast_peers \"192.0.2.256\" is not an IP address, write one such as \"192.0.2.22\" or \"2001:db8::22\""),
    ("virtual_router_id = 51", "virtual_router_id = 51\nunicast_source = \"192.0.2.21\"\nunicast_peers = [\"192.0.2.22\", \"192.0.2.21\"]",
     "9:32: peer 192.0.2.21 is the unicast_source itself, list only the other routers"),
    ("virtual_router_id = 51", "virtual_router_id = 51\nchecksum = \"rfc3768\"",
     r#"8:12: checksum "rfc3768" is unknown, use "rfc5798" or "rfc9568""#),
    (r#"["192.0.2.100/24"]"#, "[]",
     r#"8:21: virtual_addresses is empty, write at least one such as ["192.0.2.100/24"]"#),
    (r#"["192.0.2.100/24"]"#, r#""192.0.2.100/24""#,
     r#"8:21: virtual_addresses is a string, write a list such as ["192.0.2.100/24"]"#),
    (r#"["192.0.2.100/24"]"#, r#"["192.0.2.100"]"#,
     r#"8:22: virtual_addresses "192.0.2.100" has no prefix length, add that of its subnet such as "192.0.2.100/24""#),
    (r#"["192.0.2.100/24"]"#, r#"["192.0.2.100/33"]"#,
     r#"8:22: virtual_addresses "192.0.2.100/33" has a wrong prefix length, write 1 to 32 such as "192.0.2.100/24""#),
    (r#"["192.0.2.100/24"]"#, r#"["192.0.2.100/0"]"#,
     r#"8:22: virtual_addresses "192.0.2.100/0" has a wrong prefix length, write 1 to 32 such as "192.0.2.100/24""#),
    (r#"["192.0.2.100/24"]"#, r#"["192.0.2.0/24"]"#,
     r#"8:22: virtual_addresses "192.0.2.0/24" is the network address of its subnet, choose another address of the subnet"#),
    (r#"["192.0.2.100/24"]"#, r#"["192.0.2.255/24"]"#,
     r#"8:22: virtual_addresses "192.0.2.255/24" is the broadcast address of its subnet, choose another address of the subnet"#),
    (r#"["192.0.2.100/24"]"#, r#"["2001:db8::1/64"]"#,
     "12:10: no [[vrrp]] carries 192.0.2.100, add it to virtual_addresses, or listen at one of them or, for this node's own clients, at 127.0.0.1, 0.0.0.0 or the unicast_source"),
    (r#"["192.0.2.100/24"]"#, r#"["192.0.2.100/24", "192.0.2.101/24", "2001:db8::1/64"]"#,
     "8:58: virtual address 2001:db8::1/64 is IPv6, the first is IPv4, make a [[vrrp]] for each family, which may share the virtual_router_id"),
    (r#"["192.0.2.100/24"]"#, r#"["2001:db8::1"]"#,
     r#"8:22: virtual_addresses "2001:db8::1" has no prefix length, add that of its subnet such as "2001:db8::1/64""#),
    (r#"["192.0.2.100/24"]"#, r#"["2001:db8::1/129"]"#,
     r#"8:22: virtual_addresses "2001:db8::1/129" has a wrong prefix length, write 1 to 128 such as "2001:db8::1/64""#),
    (r#"["192.0.2.100/24"]"#, r#"["2001:db8::/64"]"#,
     r#"8:22: virtual_addresses "2001:db8::/64" is the subnet-router anycast address of its subnet, choose another address of the subnet"#),
    (r#"["192.0.2.100/24"]"#, r#"["ff02::12/128", "::1/128", "::/0", "::ffff:192.0.2.100/128"]"#,
     "8:22: virtual_addresses \"ff02::12\" is a multicast address, write an address that one host of the network has\n8:38: virtual_addresses \"::1\" is a loopback address, write an address that one host of the network has\n8:49: virtual_addresses \"::\" is not the address of a host, write an address that one host of the network has\n8:57: virtual_addresses \"::ffff:192.0.2.100\" is an IPv4 address written as IPv6, write an address that one host of the network has"),
    (r#"["192.0.2.100/24"]"#, r#"["127.0.0.1/8"]"#,
     r#"8:22: virtual_addresses "127.0.0.1" is a loopback address, write an address that one host of the network has"#),
    (r#"["192.0.2.100/24"]"#, r#"["vip/24"]"#,
     r#"8:22: virtual_addresses "vip" is not an IP address, write one such as "192.0.2.22" or "2001:db8::22""#),
    (r#"["192.0.2.100/24"]"#, r#"["192.0.2.100/24", "192.0.2.100/32"]"#,
     "8:40: 192.0.2.100 is already a virtual address in line 8, list it once"),
    (r#"["192.0.2.100/24"]"#, r#"["192.0.2.101/24"]"#,
     "12:10: no [[vrrp]] carries 192.0.2.100, add it to virtual_addresses, or listen at one of them or, for this node's own clients, at 127.0.0.1, 0.0.0.0 or the unicast_source"),
    ("[[service]]", "[[vrrp]]\nname = \"k8s\"\nvirtual_router_id = 51\nvirtual_addresses = [\"192.0.2.101/24\", \"192.0.2.100/24\"]\n\n[[service]]",
     "11:8: name \"k8s\" is taken by the [[vrrp]] in line 6, choose another\n12:21: virtual_router_id 51 is taken on \"eth0\" in line 7, choose another from 1 to 255\n13:40: 192.0.2.100 is already a virtual address in line 8, list it once"),
];

#[rustfmt::skip]
const SERVICE: &[Case] = &[
    ("name = \"apiserver\"\n", "",
     r#"10:1: [[service]] has no name, add name = "apiserver""#),
    ("listen = \"192.0.2.100:8443\"\n", "",
     r#"10:1: [[service]] has no listen, add listen = "192.0.2.100:8443""#),
    (r#""192.0.2.100:8443""#, r#""192.0.2.100""#,
     r#"12:10: listen "192.0.2.100" has no port, write address:port such as "192.0.2.100:8443""#),
    (r#""192.0.2.100:8443""#, r#""192.0.2.100:0""#,
     r#"12:10: listen "192.0.2.100:0" has port 0, write a port from 1 to 65535"#),
    (r#""192.0.2.100:8443""#, r#""192.0.2.100:8450-8443""#,
     r#"12:10: listen "192.0.2.100:8450-8443" has a range that ends before it begins, write it such as "192.0.2.100:30000-32767""#),
    (r#""192.0.2.100:8443""#, r#""192.0.2.100:0-8443""#,
     r#"12:10: listen "192.0.2.100:0-8443" has a wrong range of ports, write it such as "192.0.2.100:30000-32767""#),
    (r#""192.0.2.100:8443""#, r#""192.0.2.100:8443-""#,
     r#"12:10: listen "192.0.2.100:8443-" has a wrong range of ports, write it such as "192.0.2.100:30000-32767""#),
    (r#""192.0.2.100:8443""#, r#"["192.0.2.100:8443-8450", "192.0.2.100:8450-8460"]"#,
     "12:36: 192.0.2.100:8450-8460 is already listened at in line 12, choose another port or address"),
    (r#""192.0.2.100:8443""#, r#""192.0.2.100:1-16385""#,
     "12:10: more than 16384 listen addresses in all services together, list fewer ports, each of a range counts, or spread the services over more nodes"),
    (r#""192.0.2.100:8443""#, r#""0.0.0.0:1-8193""#,
     "12:10: more than 16384 listen addresses in all services together, list fewer ports, each of a range counts, or spread the services over more nodes"),
    (r#""192.0.2.100:8443""#, r#""192.0.2.100:65536""#,
     r#"12:10: listen "192.0.2.100:65536" has a wrong port, write a port from 1 to 65535"#),
    (r#""192.0.2.100:8443""#, r#""224.0.0.1:8443""#,
     r#"12:10: listen "224.0.0.1:8443" is a multicast address, write an address that one host of the network has"#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"0.0.0.0:8443\"\nlocal = \"nearest\"",
     r#"13:9: local "nearest" is unknown, use "prefer" or "spread""#),
    (r#""192.0.2.100:8443""#, r#""[2001:db8::1]""#,
     r#"12:10: listen "[2001:db8::1]" is an IPv6 address without a port, write it in brackets and add the port such as "[2001:db8::1]:8443""#),
    (r#""192.0.2.100:8443""#, r#"["192.0.2.100:8443", "[::]:8443"]"#,
     "12:31: listen [::]:8443 is IPv6, the service listens at IPv4 in line 12, list it in a service of its own"),
    (r#""192.0.2.100:8443""#, r#""[fe80::1]:8443""#,
     r#"12:10: listen "[fe80::1]:8443" is a link-local address, write an address that is good beyond the link"#),
    (r#""192.0.2.100:8443""#, r#"["192.0.2.100:8443", "[2001:db8::1]:8443"]"#,
     "12:31: listen [2001:db8::1]:8443 is IPv6, the service listens at IPv4 in line 12, list it in a service of its own\n12:31: no [[vrrp]] carries 2001:db8::1, add it to virtual_addresses, or listen at one of them or, for this node's own clients, at 127.0.0.1, 0.0.0.0 or the unicast_source"),
    (r#""192.0.2.100:8443""#, r#""lb.example.net:8443""#,
     r#"12:10: listen "lb.example.net:8443" has no IP address before its port, write address:port such as "192.0.2.100:8443""#),
    (r#""192.0.2.100:8443""#, r#"":8443""#,
     r#"12:10: listen ":8443" has no IP address before its port, write address:port such as "192.0.2.100:8443""#),
    (r#""192.0.2.100:8443""#, "8443",
     r#"12:10: listen is an integer, write strings such as "192.0.2.100:8443""#),
    (r#""192.0.2.100:8443""#, "[]",
     r#"12:10: listen is empty, write at least one such as ["192.0.2.100:8443"]"#),
    (r#""192.0.2.100:8443""#, r#"["192.0.2.100:8443", 8444]"#,
     r#"12:31: listen is an integer, write strings such as "192.0.2.100:8443""#),
    (r#""192.0.2.100:8443""#, r#"["192.0.2.100:8443", "192.0.2.100:8443"]"#,
     "12:31: 192.0.2.100:8443 is already listened at in line 12, choose another port or address"),
    (r#""192.0.2.100:8443""#, r#"["192.0.2.100:8443", "192.0.2.99:8443"]"#,
     "12:31: no [[vrrp]] carries 192.0.2.99, add it to virtual_addresses, or listen at one of them or, for this node's own clients, at 127.0.0.1, 0.0.0.0 or the unicast_source"),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nbalance = \"rr\"",
     r#"13:11: balance "rr" is unknown, use "roundrobin", "leastconn", "source" or "maglev""#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nbalance = \"source\"\nslow_start = \"30s\"",
     r#"14:14: slow_start is not for balance = "source", whose clients would move, remove it, or choose "roundrobin" or "leastconn""#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nslow_start = \"500ms\"",
     r#"13:14: slow_start "500ms" is too short, write "1s" or more"#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nslow_start = 30",
     r#"13:14: slow_start is an integer, write a string such as "30s""#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\ndrain_timeout = \"0s\"",
     r#"13:17: drain_timeout "0s" is too short, write "1s" or more"#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\ndrain_timeout = \"169h\"",
     r#"13:17: drain_timeout "169h" is too long, write "168h" or less"#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nmax_connections = -1",
     "13:19: max_connections is -1, write a whole number from 0 to 4294967295"),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nhash_key = \"\"",
     "13:12: hash_key is empty, write any words, the same on all nodes, or leave it out"),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nhash_key = 7",
     r#"13:12: hash_key is an integer, write a string such as "any words""#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nmode = \"nat\"",
     r#"13:8: mode "nat" is unknown, use "snat" or "dsr""#),
    (r#""192.0.2.31:6443""#, "\"192.0.2.31:6443\"\n[[service.backend]]\nname = \"b\"\naddress = \"192.0.2.31:6444\"\n[[service]]\nname = \"d\"\nlisten = \"192.0.2.100:1\"\nmode = \"dsr\"\nbackend = [{ name = \"a\", address = \"192.0.2.31:1\" }, { name = \"b\", address = \"192.0.2.31:2\" }]",
     "27:78: address 192.0.2.31:2 is on the node of the backend in line 27, and mode is \"dsr\", a packet forwarded there does not say for which of the two: keep one, or use mode = \"snat\""),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"127.0.0.1:8443\"\nmode = \"dsr\"",
     "13:8: mode \"dsr\" is for packets, and this service is found by this node's own clients alone, listen at a VIP, or leave mode out"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nrole = \"backend\"",
     "4:8: role is \"backend\", and no service has mode \"dsr\": there is nothing to deliver, set mode = \"dsr\" where the balancers do, or remove the role\n6:1: [[vrrp]] elects who holds VIPs, and a node with role \"backend\" holds none, remove it, or the role"),
    (r#"interface = "eth0""#, "interface = \"eth0\"\nrole = \"server\"",
     r#"4:8: role "server" is unknown, use "balancer" or "backend""#),
    (r#"interface = "eth0""#, "interface = \"eth0\"\npeer_port = 0",
     "4:13: peer_port is 0, write a whole number from 1 to 65535"),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nidle_timeout = 7200",
     r#"13:16: idle_timeout is an integer, write a string such as "2h""#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nidle_timeout = \"0s\"",
     r#"13:16: idle_timeout "0s" is too short, write "1s" or more"#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nidle_timeout = \"8760h\"",
     r#"13:16: idle_timeout "8760h" is too long, write "168h" or less"#),
    (r#"listen = "192.0.2.100:8443""#, "listen = \"192.0.2.100:8443\"\nport = 8443",
     r#"13:1: unknown key "port" in [[service]], known here: "allow", [[service.backend]], "balance", "drain_timeout", "hash_key", [service.health_check], "idle_timeout", "listen", "local", "max_connections", "mode", "name", "slow_start", [service.source_limit]"#),
    ("[[service]]", "[[services]]",
     "10:3: unknown table [[services]], did you mean [[service]]?\n14:2: service is a table, begin each with [[service]]"),
    ("[[service.backend]]", "[[service.backends]]",
     "10:1: this service has no backends, add at least one [[service.backend]] with name and address\n17:11: unknown table \"backends\" in [[service]], did you mean [[service.backend]]?"),
    ("[[service.backend]]", "[service.backend]",
     "17:1: backend is a table, begin each with [[service.backend]]"),
    ("[service.health_check]", "[service.healthcheck]",
     r#"14:10: unknown table "healthcheck" in [[service]], did you mean [service.health_check]?"#),
    ("[service.health_check]", "[[service.health_check]]",
     "14:1: health_check is a list of tables, write it once as [service.health_check]"),
    ("\n[[service.backend]]\nname = \"master1\"\naddress = \"192.0.2.31:6443\"\n", "",
     "10:1: this service has no backends, add at least one [[service.backend]] with name and address"),
    ("name = \"master1\"\n", "",
     r#"17:1: [[service.backend]] has no name, add name = "master1""#),
    ("address = \"192.0.2.31:6443\"\n", "",
     r#"17:1: [[service.backend]] has no address, add address = "192.0.2.31:6443""#),
    (r#""master1""#, r#""Master1""#,
     r#"18:8: name "Master1" has upper case letters, write "master1""#),
    (r#""master1""#, r#""Master_1""#,
     r#"18:8: name "Master_1" has the character 'M', use a-z, 0-9, - and ., beginning with a letter or digit"#),
    (r#""192.0.2.31:6443""#, r#""192.0.2.31""#,
     r#"19:11: address "192.0.2.31" has no port, write address:port such as "192.0.2.31:6443", or, to keep the client's, set port in [service.health_check]"#),
    (r#""192.0.2.31:6443""#, r#""master1:6443""#,
     r#"19:11: address "master1:6443" has no IP address before its port, write address:port such as "192.0.2.31:6443""#),
    (r#""192.0.2.31:6443""#, r#""127.0.0.1:6443""#,
     r#"19:11: address "127.0.0.1:6443" is a loopback address, write an address that one host of the network has"#),
    (r#""192.0.2.31:6443""#, r#""224.0.0.1:6443""#,
     r#"19:11: address "224.0.0.1:6443" is a multicast address, write an address that one host of the network has"#),
    (r#""192.0.2.31:6443""#, r#""255.255.255.255:6443""#,
     r#"19:11: address "255.255.255.255:6443" is the broadcast address, write an address that one host of the network has"#),
    (r#""192.0.2.31:6443""#, r#""0.0.0.0:6443""#,
     r#"19:11: address "0.0.0.0:6443" is not the address of a host, write an address that one host of the network has"#),
    (r#""192.0.2.31:6443""#, r#""240.0.0.1:6443""#,
     r#"19:11: address "240.0.0.1:6443" is a reserved address, write an address that one host of the network has"#),
    (r#""192.0.2.31:6443""#, r#""192.0.2.100:6443""#,
     "19:11: address 192.0.2.100 is a VIP (line 8), packets would come back to us, write the backend's own address"),
    (r#""192.0.2.31:6443""#, r#""2001:db8::1""#,
     r#"19:11: address "2001:db8::1" is an IPv6 address without a port, write it in brackets and add the port such as "[2001:db8::1]:6443""#),
    (r#""192.0.2.31:6443""#, r#""[2001:db8::31]:6443""#,
     "19:11: address [2001:db8::31]:6443 is IPv6, the service listens at IPv4 in line 12, give the backend one of the service's family"),
    (r#""192.0.2.31:6443""#, r#""[fe80::31]:6443""#,
     r#"19:11: address "[fe80::31]:6443" is a link-local address, write an address that is good beyond the link"#),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\nweight = 257",
     "20:10: weight is 257, write a whole number from 0 to 256"),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\nweight = -1",
     "20:10: weight is -1, write a whole number from 0 to 256"),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\nweight = 0",
     "20:10: every backend of this service has weight 0, give at least one a weight from 1 to 256"),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\nmax_connections = -1",
     "20:19: max_connections is -1, write a whole number from 0 to 4294967295"),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\nmax_connections = 4294967296",
     "20:19: max_connections is 4294967296, write a whole number from 0 to 4294967295"),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\nwieght = 2",
     r#"20:1: unknown key "wieght" in [[service.backend]], did you mean "weight"?"#),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\n[[service.backend]]\nname = \"master2\"\naddress = \"192.0.2.31:6443\"",
     "22:11: address 192.0.2.31:6443 is already a backend of this service in line 19, remove one of the two"),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\n[[service.backend]]\nname = \"master1\"\naddress = \"192.0.2.32:6443\"",
     r#"21:8: name "master1" is taken by the backend in line 18, choose another"#),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\n[[service]]\nname = \"apiserver\"\nlisten = \"192.0.2.100:8443\"\n[[service.backend]]\nname = \"x\"\naddress = \"192.0.2.31:6443\"",
     "21:8: name \"apiserver\" is taken by the [[service]] in line 11, choose another\n22:10: 192.0.2.100:8443 is already listened at in line 12, choose another port or address"),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\n[[service]]\nname = \"b\"\nlisten = \"0.0.0.0:8000-9000\"\n[[service.backend]]\nname = \"x\"\naddress = \"192.0.2.31:6443\"",
     "22:10: 0.0.0.0:8000-9000 is already listened at in line 12, choose another port or address"),
    (r#"address = "192.0.2.31:6443""#, "address = \"192.0.2.31:6443\"\n[[service]]\n[[service.backend]]",
     "20:1: [[service]] has no name, add name = \"apiserver\"\n20:1: [[service]] has no listen, add listen = \"192.0.2.100:8443\"\n21:1: [[service.backend]] has no name, add name = \"master1\"\n21:1: [[service.backend]] has no address, add address = \"192.0.2.31:6443\""),
];

#[rustfmt::skip]
const HEALTH_CHECK: &[Case] = &[
    (r#"type = "https""#, r#"type = "icmp""#,
     r#"15:8: type "icmp" is unknown, use "tcp", "tls", "http" or "https""#),
    (r#"type = "https""#, r#"type = "HTTPS""#,
     r#"15:8: type "HTTPS" is unknown, use "tcp", "tls", "http" or "https""#),
    (r#"type = "https""#, "type = \"tcp\"\npath = \"/readyz\"",
     r#"16:8: path has no meaning for this type of check, remove it or use it with type = "http" or "https""#),
    (r#"type = "https""#, "path = \"/readyz\"\nexpect_status = [200]",
     "15:8: path has no meaning for this type of check, remove it or use it with type = \"http\" or \"https\"\n16:17: expect_status has no meaning for this type of check, remove it or use it with type = \"http\" or \"https\""),
    (r#"type = "https""#, "type = \"tls\"\nhost = \"x\"",
     r#"16:8: host has no meaning for this type of check, remove it or use it with type = "http" or "https""#),
    (r#"type = "https""#, "type = \"http\"\nca_file = \"/etc/xvip/ca.pem\"\nserver_name = \"x\"",
     "16:11: ca_file has no meaning for this type of check, remove it or use it with type = \"tls\" or \"https\"\n17:15: server_name has no meaning for this type of check, remove it or use it with type = \"tls\" or \"https\""),
    (r#"type = "https""#, "type = \"https\"\npath = \"readyz\"",
     r#"16:8: path "readyz" does not begin with /, begin it with / such as "/readyz""#),
    (r#"type = "https""#, "type = \"https\"\npath = \"/ready z\"",
     r#"16:8: path "/ready z" has the character ' ', write it percent-encoded or leave it out"#),
    (r#"type = "https""#, "type = \"https\"\npath = \"/a\\r\\nb\"",
     r#"16:8: path "/a\r\nb" has the character '\r', write it percent-encoded or leave it out"#),
    (r#"type = "https""#, "type = \"https\"\npath = \"/é\"",
     r#"16:8: path "/é" has the character 'é', write it percent-encoded or leave it out"#),
    (r#"type = "https""#, "type = \"https\"\nexpect_status = []",
     "16:17: expect_status is empty, write at least one status such as [200]"),
    (r#"type = "https""#, "type = \"https\"\nexpect_status = 200",
     "16:17: expect_status is an integer, write a list such as [200]"),
    (r#"type = "https""#, "type = \"https\"\nexpect_status = [99, 600, \"200\"]",
     "16:18: expect_status is 99, write a whole number from 100 to 599\n16:22: expect_status is 600, write a whole number from 100 to 599\n16:27: expect_status is a string, write a whole number from 100 to 599"),
    (r#"type = "https""#, "type = \"https\"\nexpect_status = [200, 200]",
     "16:23: expect_status has 200 twice, list it once"),
    (r#"type = "https""#, "type = \"https\"\nhost = \"a b\"",
     r#"16:8: host "a b" is not a host name, write one such as "lb.example.net" or "192.0.2.100:8443""#),
    (r#"type = "https""#, "type = \"https\"\nserver_name = \"a_b!\"",
     r#"16:15: server_name "a_b!" is not a server name, write a DNS name such as "lb.example.net" or an IP address"#),
    (r#"type = "https""#, "type = \"https\"\nserver_name = \"[::1]\"",
     r#"16:15: server_name "[::1]" is not a server name, write a DNS name such as "lb.example.net" or an IP address"#),
    (r#"type = "https""#, "type = \"https\"\nhost = \"2001:db8::100\"",
     r#"16:8: host "2001:db8::100" is not a host name, write one such as "lb.example.net" or "192.0.2.100:8443""#),
    (r#"type = "https""#, "type = \"https\"\nca_file = \"ca.pem\"",
     r#"16:11: ca_file "ca.pem" is a relative path, write the whole path such as "/etc/xvip/ca.pem""#),
    (r#"type = "https""#, "type = \"https\"\nclient_certificate = \"/etc/xvip/client.crt\"",
     "16:22: client_certificate is without client_key, set both or neither"),
    (r#"type = "https""#, "type = \"https\"\nclient_key = \"/etc/xvip/client.key\"",
     "16:14: client_key is without client_certificate, set both or neither"),
    (r#"type = "https""#, r#"interval = "1s""#,
     r#"15:12: timeout "1s" is not shorter than interval "1s", shorten timeout or lengthen interval"#),
    (r#"type = "https""#, "interval = \"2s\"\ntimeout = \"3s\"",
     r#"16:11: timeout "3s" is not shorter than interval "2s", shorten timeout or lengthen interval"#),
    (r#"type = "https""#, r#"timeout = "2s""#,
     r#"15:11: timeout "2s" is not shorter than interval "2s", shorten timeout or lengthen interval"#),
    (r#"type = "https""#, r#"interval = "50ms""#,
     r#"15:12: interval "50ms" is too short, write "100ms" or more"#),
    (r#"type = "https""#, r#"interval = "2h""#,
     r#"15:12: interval "2h" is too long, write "1h" or less"#),
    (r#"type = "https""#, r#"timeout = "0ms""#,
     r#"15:11: timeout "0ms" is too short, write "1ms" or more"#),
    (r#"type = "https""#, r#"interval = "2""#,
     r#"15:12: interval "2" has no unit, write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#),
    (r#"type = "https""#, "rise = 0",
     "15:8: rise is 0, write a whole number from 1 to 1000"),
    (r#"type = "https""#, "fall = 0",
     "15:8: fall is 0, write a whole number from 1 to 1000"),
    (r#"type = "https""#, "rise = 1.0",
     "15:8: rise is a float, write a whole number from 1 to 1000"),
    (r#"type = "https""#, "port = 0",
     "15:8: port is 0, write a whole number from 1 to 65535"),
    (r#"type = "https""#, "port = \"6443\"",
     "15:8: port is a string, write a whole number from 1 to 65535"),
    (r#"type = "https""#, "retries = 3",
     r#"15:1: unknown key "retries" in [service.health_check], known here: "ca_file", "client_certificate", "client_key", "expect_status", "fall", "host", "interval", "path", "port", "rise", "server_name", "timeout", "type""#),
    (r#"type = "https""#, r#"intervall = "2s""#,
     r#"15:1: unknown key "intervall" in [service.health_check], did you mean "interval"?"#),
];

#[test]
fn wrong_nodes() {
    all(NODE);
}

#[test]
fn wrong_virtual_routers() {
    all(VRRP);
}

#[test]
fn wrong_services() {
    all(SERVICE);
}

#[test]
fn wrong_health_checks() {
    all(HEALTH_CHECK);
}

/// A `[[vrrp]]` of IPv6 beside that of IPv4.
#[test]
fn wrong_virtual_routers_of_ipv6() {
    let with = |keys: &str| {
        let table = format!("\n[[vrrp]]\nname = \"k8s6\"\nvirtual_router_id = 51\n{keys}\n\n[[service]]");
        refuse(&changed("\n[[service]]", &table)).replace("xvip.toml:", "")
    };
    let vip = r#"virtual_addresses = ["2001:db8::100/64"]"#;
    for (keys, faults) in [
        (
            format!("{vip}\nunicast_source = \"2001:db8::21\""),
            "14:18: unicast_source 2001:db8::21 is not link-local, as that of adverts by multicast has to be, leave it out, write an fe80:: address, or list unicast_peers",
        ),
        (
            format!("{vip}\nunicast_source = \"192.0.2.21\"\nunicast_peers = [\"192.0.2.22\"]"),
            "14:18: unicast_source 192.0.2.21 is IPv4, the virtual addresses are IPv6, write this router's IPv6 address\n\
             15:18: peer 192.0.2.22 is IPv4, the virtual addresses are IPv6, write the other router's IPv6 address",
        ),
        (
            format!("{vip}\nchecksum = \"rfc9568\""),
            "14:12: checksum has no meaning over IPv6, where there is but one form, remove it",
        ),
        (
            format!("{vip}\nunicast_peers = [\"2001:db8::100\"]"),
            "14:18: peer 2001:db8::100 is a virtual address, write the other router's own address",
        ),
        (
            format!(
                "{vip}\n[[vrrp]]\nname = \"x\"\nvirtual_router_id = 51\nvirtual_addresses = [\"2001:db8::101/64\"]"
            ),
            "16:21: virtual_router_id 51 is taken on \"eth0\" in line 12, choose another from 1 to 255",
        ),
    ] {
        assert_eq!(with(&keys), faults, "{keys}");
    }
}

/// Text of `count` tables made by `table` from 1 up.
fn many(count: usize, table: impl Fn(usize) -> String) -> String {
    (1..=count).map(table).collect()
}

#[test]
fn too_many() {
    let backend = |n| format!("[[service.backend]]\nname = \"b{n}\"\naddress = \"198.51.100.1:{n}\"\n");
    let service = |n| {
        let backend = backend(n);
        format!("[[service]]\nname = \"s{n}\"\nlisten = \"192.0.2.100:{n}\"\n{backend}")
    };
    let full = |n| format!("{}{}", service(n), (1002..=1128).map(backend).collect::<String>());
    accept(&format!("{BASE}{}{}", many(127, backend), many(511, service)));
    let vips = |count| {
        let vips: Vec<_> = (100..100 + count).map(|n| format!("\"192.0.2.{n}/24\"")).collect();
        changed("[\"192.0.2.100/24\"]", &format!("[\n{}]", vips.join(",\n")))
    };
    accept(&vips(64));
    let cases = [
        (
            format!("{BASE}{}", many(128, backend)),
            "xvip.toml:401:1: this service has more than 128 backends, remove some or split the service",
        ),
        (format!("{BASE}{}", many(512, service)), "xvip.toml:3086:1: there are more than 512 services, remove some"),
        (
            format!("{BASE}{}", (1..=64).map(full).collect::<String>()),
            "xvip.toml:24787:11: more than 8192 backends in all services together, spread the services over more nodes",
        ),
        (vips(65), "xvip.toml:73:1: virtual_addresses has more than 64, move some to another [[vrrp]]"),
    ];
    for (text, fault) in cases {
        assert_eq!(refuse(&text), fault);
    }
}

#[test]
fn too_many_places_to_listen_at() {
    let head = "node.interface = \"eth0\"\n[[service]]\nname = \"s\"\nlisten = [\n";
    let tail = "]\n[[service.backend]]\nname = \"b\"\naddress = \"198.51.100.1:6443\"\n";
    let ports = |count| many(count, |n| format!("\"192.0.2.100:{}\",\n", 2000 + n));
    let vips = |count| many(count, |n| format!("\"10.0.{}.{}:443\",\n", n / 250, 1 + n % 250));
    accept(&format!("{head}{}\"192.0.2.101:1-16000\"{tail}", ports(384)));
    accept(&format!("{head}{}{tail}", vips(256)));
    assert_eq!(
        refuse(&format!("{head}\"192.0.2.101:1-16000\",\n{}{tail}", ports(385))),
        "xvip.toml:390:1: more than 16384 listen addresses in all services together, list fewer ports, each of a range counts, or spread the services over more nodes"
    );
    assert_eq!(
        refuse(&format!("{head}{}{tail}", vips(257))),
        "xvip.toml:261:1: more than 256 VIPs in all services together, spread the services over more nodes"
    );
}

/// What a node's own connections would meet on their way to a backend, its health or the metrics.
#[test]
fn in_the_way() {
    let stacked = changed("virtual_router_id = 51", "virtual_router_id = 51\nunicast_source = \"192.0.2.31\"");
    let listening = |at: &str| stacked.replace("\"192.0.2.100:8443\"", at);
    accept(&listening("[\"192.0.2.31:8443\", \"0.0.0.0:6443\"]"));
    assert_eq!(
        refuse(&listening("\"192.0.2.31:6443-6444\"")),
        "xvip.toml:20:11: address 192.0.2.31:6443 is where the service in line 13 listens, let the service listen at another port"
    );
    let checked = |at: &str| listening(at).replace("type = \"https\"", "port = 6445");
    accept(&checked("\"192.0.2.100:6445\""));
    for at in ["0.0.0.0:6445", "192.0.2.31:6000-7000"] {
        let text = checked(&format!("\"{at}\"")).replace("192.0.2.31:6443", "192.0.2.31:5443");
        assert_eq!(
            refuse(&text),
            "xvip.toml:16:8: port 6445 of health checks is one where the service in line 13 listens, choose another, or let the service listen at another"
        );
    }
    // A backend that keeps the client's port is asked for at any.
    accept(&checked("\"0.0.0.0:6445\"").replace("192.0.2.31:6443", "192.0.2.31"));
    for (metrics, at) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("192.0.2.31", "192.0.2.31")] {
        let text = listening(&format!("\"{at}:9910\""))
            .replace("[[vrrp]]", &format!("[metrics]\nlisten = \"{metrics}:9910\"\n[[vrrp]]"));
        assert_eq!(
            refuse(&text),
            format!("xvip.toml:6:10: listen {metrics}:9910 is a service's in line 15, choose another port or address")
        );
    }
    accept(&listening("\"192.0.2.100:9910\"").replace("[[vrrp]]", "[metrics]\nlisten = \"0.0.0.0:9910\"\n[[vrrp]]"));
}

#[test]
fn no_service() {
    let head = "node.interface = \"eth0\"\n";
    let missing =
        "xvip.toml:1:1: there is no [[service]], add one with name, listen and at least one [[service.backend]]";
    assert_eq!(refuse(head), missing);
    assert_eq!(refuse(&format!("{head}service = []")), missing);
    assert_eq!(
        refuse(&format!("{head}service = 3")),
        "xvip.toml:2:11: service is an integer, begin each with [[service]]"
    );
    assert_eq!(
        refuse(&format!("{head}service = [3]")),
        "xvip.toml:2:12: service is a list of other things than tables, begin each with [[service]]"
    );
}

#[test]
fn all_faults_are_told_at_once_and_in_order() {
    let text = BASE.replace("eth0", "eth/0").replace("192.0.2.31", "192.0.2").replace("51", "0");
    let text = text.replacen("type", "typ", 1);
    assert_eq!(
        refuse(&text),
        "\
xvip.toml:3:13: interface \"eth/0\" has the character '/', write it as `ip link` shows it
xvip.toml:7:21: virtual_router_id is 0, write a whole number from 1 to 255
xvip.toml:15:1: unknown key \"typ\" in [service.health_check], did you mean \"type\"?
xvip.toml:19:11: address \"192.0.2:6443\" has no IP address before its port, write address:port such as \"192.0.2.31:6443\""
    );
}

fn all(cases: &[Case]) {
    for (from, to, faults) in cases {
        let text = changed(from, to);
        let got = refuse(&text).replace("xvip.toml:", "");
        assert_eq!(got, *faults, "{text}");
    }
}

#[test]
fn source_addresses_are_where_the_vips_are() {
    let with = |sources: &str, router: &str| {
        let node = format!("interface = \"eth0\"\nsource_addresses = {sources}\n");
        changed("interface = \"eth0\"\n", &node).replacen("[[service]]", &format!("{router}[[service]]"), 1)
    };
    let other = "[[vrrp]]\nname = \"other\"\nvirtual_router_id = 52\nvirtual_addresses = [\"192.0.2.110/24\"]\n\n";
    assert_eq!(
        refuse(&with("[\"192.0.2.110\"]", other)),
        "xvip.toml:4:21: source address 192.0.2.110 is not where the VIPs of the [[vrrp]] in line 6 are while another node \
         holds those, move all VIPs of its family to one [[vrrp]], or remove it"
    );
    let six = "[[vrrp]]\nname = \"six\"\nvirtual_router_id = 52\nvirtual_addresses = [\"2001:db8::110/64\"]\n\n";
    accept(&with("[\"2001:db8::110\"]", six));
    let both =
        with("[\"192.0.2.110\"]", "").replacen("[\"192.0.2.100/24\"]", "[\"192.0.2.100/24\", \"192.0.2.110/24\"]", 1);
    let addresses = accept(&both).config.node.source_addresses;
    assert_eq!(addresses, [std::net::IpAddr::from([192, 0, 2, 110])]);
    let nine: Vec<_> = (101..110).map(|last| format!("192.0.2.{last}")).collect();
    let carried: Vec<_> = nine.iter().map(|address| format!("{address}/24")).collect();
    let many = with(&format!("{nine:?}"), "").replacen(
        "[\"192.0.2.100/24\"]",
        &format!("[\"192.0.2.100/24\", {}", format!("{carried:?}").trim_start_matches('[')),
        1,
    );
    assert_eq!(refuse(&many), "xvip.toml:4:141: source_addresses has more than 8 of IPv4, remove some");
}
