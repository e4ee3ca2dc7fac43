//! Every refusal of `service.allow` and `[service.source_limit]`, with its exact words.

use super::*;

/// What follows the line of `listen`, and the faults, one per line, without `xvip.toml:`.
const CASES: &[(&str, &str)] = &[
    ("allow = []", "13:9: allow is empty, list who may connect or leave it out, which is everyone"),
    (r#"allow = "10.0.0.0/8""#, r#"13:9: allow is a string, write a list such as ["10.0.0.0/8"]"#),
    ("allow = [10]", r#"13:10: allow is an integer, write strings such as ["10.0.0.0/8"]"#),
    (
        r#"allow = ["10.0.0.1/8"]"#,
        r#"13:10: allow "10.0.0.1/8" has bits behind its prefix, write "10.0.0.0/8", or "10.0.0.1" for the host alone"#,
    ),
    (
        r#"allow = ["10.0.0.0/33"]"#,
        r#"13:10: allow "10.0.0.0/33" has a wrong prefix length, write 0 to 32 such as "10.0.0.0/24""#,
    ),
    (
        r#"allow = ["10.0.0.0/255.0.0.0"]"#,
        r#"13:10: allow "10.0.0.0/255.0.0.0" has a wrong prefix length, write 0 to 32 such as "10.0.0.0/24""#,
    ),
    (
        r#"allow = ["office"]"#,
        r#"13:10: allow "office" is not a network, write one such as "10.0.0.0/8" or "2001:db8::/32""#,
    ),
    (
        r#"allow = ["::ffff:10.0.0.0"]"#,
        r#"13:10: allow "::ffff:10.0.0.0" is an IPv4 address written as IPv6, write it as 10.0.0.0, in a service of IPv4"#,
    ),
    (
        "allow = [\n\"10.0.0.0/8\",\n\"10.0.0.0/8\"]",
        "15:1: allow has 10.0.0.0/8 twice, first in line 14, remove one of the two",
    ),
    (
        r#"allow = ["2001:db8::/32"]"#,
        "13:10: allow 2001:db8::/32 is IPv6, the service listens at IPv4 in line 12, give prefixes of the service's family",
    ),
    (
        "source_limit = {}",
        "13:16: [service.source_limit] has no connections_per_second, add connections_per_second = 100",
    ),
    ("source_limit = { connections = 0 }", "13:32: connections is 0, write a whole number from 1 to 4294967295"),
    (
        "source_limit = { connections = 100, burst = 5 }",
        "13:45: burst is about connections_per_second, which is not given, add connections_per_second = 100 or remove burst",
    ),
    ("source_limit = 50", "13:16: source_limit is an integer, write it once as [service.source_limit]"),
    (
        "source_limit = { connections_per_second = 0 }",
        "13:43: connections_per_second is 0, write a whole number from 1 to 1000000",
    ),
    (
        "source_limit = { connections_per_second = 0.5 }",
        "13:43: connections_per_second is a float, write a whole number from 1 to 1000000",
    ),
    (
        "source_limit = { connections_per_second = 1, burst = 0 }",
        "13:54: burst is 0, write a whole number from 1 to 4294967295",
    ),
    (
        "source_limit = { connections_per_second = 2, burst = 7201 }",
        "13:54: burst is 7201, more than 2 in an hour, write 7200 or less",
    ),
    (
        "source_limit = { connections_per_second = 1, prefix_length = 64 }",
        "13:62: prefix_length is 64, write a whole number from 1 to 32",
    ),
    (
        "source_limit = { connections_per_second = 1, prefix_length = 0 }",
        "13:62: prefix_length is 0, write a whole number from 1 to 32",
    ),
    (
        "source_limit = { connections_per_minute = 1, connections_per_second = 1 }",
        r#"13:18: unknown key "connections_per_minute" in [service.source_limit], did you mean "connections_per_second"?"#,
    ),
];

#[test]
fn every_fault_has_its_words() {
    for (more, faults) in CASES {
        let text = changed("8443\"\n\n", &format!("8443\"\n{more}\n\n"));
        assert_eq!(refuse(&text).replace("xvip.toml:", ""), *faults, "{text}");
    }
}

#[test]
fn a_crowd_is_refused_at_the_first_too_many() {
    let prefixes: Vec<_> = (0..1025).map(|at| format!("\"10.{}.{}.0/24\"", at / 256, at % 256)).collect();
    let text = changed("8443\"\n\n", &format!("8443\"\nallow = [\n{}\n]\n\n", prefixes.join(",\n")));
    assert_eq!(refuse(&text), "xvip.toml:1038:1: allow has more than 1024 prefixes, name larger networks");
    let services: String = (0..17)
        .map(|number| {
            let port = 9000 + number;
            let allow = prefixes[..1024].join(", ");
            format!(
                "[[service]]\nname = \"s{port}\"\nlisten = \"192.0.2.100:{port}\"\nallow = [{allow}]\n\
                 backend = [{{ name = \"b\", address = \"192.0.2.31:6443\" }}]\n"
            )
        })
        .collect();
    let faults = refuse(&format!("{BASE}{services}"));
    assert!(
        faults.ends_with("allow has more than 16384 prefixes in all services together, name larger networks"),
        "{faults}"
    );
    assert_eq!(faults.lines().count(), 1);
}
