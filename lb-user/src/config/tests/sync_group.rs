//! `[[vrrp_sync_group]]`: who is told of it, and every refusal.

use super::*;

const SECOND: &str = r#"
[[vrrp]]
name = "back"
virtual_router_id = 52
virtual_addresses = ["192.0.2.101/24"]
"#;

fn with(groups: &str) -> String {
    format!("{BASE}{SECOND}{groups}")
}

fn refused(groups: &str) -> String {
    let faults = parse(&with(groups), "xvip.toml", &Env::default()).unwrap_err().to_string();
    // The lines of the base are no matter here.
    faults.lines().map(|line| line.splitn(4, ':').last().unwrap().trim()).collect::<Vec<_>>().join("\n")
}

#[test]
fn members_know_their_group() {
    let groups = |text: &str| {
        let config = accept(text).config;
        config.vrrp.into_iter().map(|router| router.sync_group.unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(
        groups(&with("[[vrrp_sync_group]]\nname = \"both\"\nmembers = [\"back\", \"k8s\"]\n")),
        ["both", "both"]
    );
    assert_eq!(groups(&with("")), ["", ""]);
}

#[test]
fn what_no_group_can_be_is_refused() {
    for (groups, expected) in [
        (r#"members = ["k8s", "back"]"#, r#"[[vrrp_sync_group]] has no name, add name = "both""#),
        (r#"name = "g""#, r#"[[vrrp_sync_group]] has no members, add members = ["k8s", "k8s-v6"]"#),
        ("name = \"g\"\nmembers = []", "members is empty, name at least two, or remove the group"),
        (
            "name = \"g\"\nmembers = [\"k8s\"]",
            "members has one virtual router, which moves alone anyway, name at least two, or remove the group",
        ),
        (
            "name = \"g\"\nmembers = [\"k8s\", \"front\"]",
            r#"member "front" is the name of no [[vrrp]], use some of ["k8s", "back"]"#,
        ),
        (
            "name = \"g\"\nmembers = [\"k8s\", \"back\", \"k8s\"]",
            r#"member "k8s" is in a [[vrrp_sync_group]] already, in line 27, name it once: it can move with one group alone"#,
        ),
        (
            "name = \"g\"\nmembers = [\"k8s\", \"back\"]\n[[vrrp_sync_group]]\nname = \"g\"\nmembers = [\"k8s\", \"other\"]",
            "name \"g\" is taken by the [[vrrp_sync_group]] in line 26, choose another\n\
             member \"k8s\" is in a [[vrrp_sync_group]] already, in line 27, name it once: it can move with one group alone\n\
             member \"other\" is the name of no [[vrrp]], use some of [\"k8s\", \"back\"]",
        ),
        (
            "name = \"g\"\ngroup = [\"k8s\", \"back\"]",
            "[[vrrp_sync_group]] has no members, add members = [\"k8s\", \"k8s-v6\"]\nunknown",
        ),
    ] {
        let refused = refused(&format!("[[vrrp_sync_group]]\n{groups}\n"));
        assert!(refused.starts_with(expected) || refused == expected, "{groups}:\n{refused}");
    }
    let owner = with("[[vrrp_sync_group]]\nname = \"g\"\nmembers = [\"k8s\", \"back\"]\n").replacen(
        "virtual_router_id = 52",
        "virtual_router_id = 52\npriority = 255",
        1,
    );
    let refused = parse(&owner, "xvip.toml", &Env::default()).unwrap_err().to_string();
    assert!(
        refused.contains("member \"back\" has priority 255, which claims without waiting for anybody"),
        "{refused}"
    );
}
