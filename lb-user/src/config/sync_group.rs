//! The keys of `[[vrrp_sync_group]]`: virtual routers that hold their addresses all together or not at all.

use std::collections::BTreeMap;

use super::reader::{List, Section};
use super::report::{At, Report, wrong};
use super::vrrp::{self, earlier};
use super::{Vrrp, values};

/// A `[[vrrp_sync_group]]`, not compared with the virtual routers yet.
pub(super) struct Draft {
    name: Option<At<String>>,
    members: List<String>,
}

pub(super) fn read(section: &Section<'_>) -> Draft {
    let name = section.key("name", r#""both""#).required().text(values::name).value();
    let members = section.key("members", r#"["k8s", "k8s-v6"]"#).required();
    let given = members.given();
    let members = members.texts(values::name);
    section.finish();
    if given.is_some() && members.whole && members.items.len() < 2 {
        let what = match members.items.len() {
            0 => "members is empty",
            _ => "members has one virtual router, which moves alone anyway",
        };
        section.report.add(members.at, wrong(what, "name at least two, or remove the group"));
    }
    Draft { name, members }
}

/// Each name is taken once, each member is a virtual router, of one group, that leaves it to the group when to claim.
pub(super) fn check(groups: &[Draft], routers: &[vrrp::Draft], report: &Report<'_>) {
    let mut names = BTreeMap::new();
    let mut members = BTreeMap::new();
    let router = |name: &str| routers.iter().find(|router| router.name.as_ref().is_some_and(|its| its.value == name));
    for group in groups {
        if let Some(name) = &group.name
            && let Some(first) = earlier(&mut names, &name.value, name.at)
        {
            let what =
                format!("name {:?} is taken by the [[vrrp_sync_group]] in line {}", name.value, report.line(first));
            report.add(name.at, wrong(what, "choose another"));
        }
        for member in &group.members.items {
            if let Some(first) = earlier(&mut members, &member.value, member.at) {
                let line = report.line(first);
                let what = format!("member {:?} is in a [[vrrp_sync_group]] already, in line {line}", member.value);
                report.add(member.at, wrong(what, "name it once: it can move with one group alone"));
                continue;
            }
            let Some(found) = router(&member.value) else {
                // With a bad name among them nobody knows what they are called.
                if routers.iter().all(|router| router.name.is_some()) {
                    let what = format!("member {:?} is the name of no [[vrrp]]", member.value);
                    report.add(member.at, wrong(what, known(routers)));
                }
                continue;
            };
            if found.built.as_ref().is_some_and(|router| router.priority == u8::MAX) {
                let what =
                    format!("member {:?} has priority 255, which claims without waiting for anybody", member.value);
                report.add(member.at, wrong(what, "give it 254, or remove it from the group"));
            }
        }
    }
}

fn known(routers: &[vrrp::Draft]) -> String {
    let names: Vec<_> = routers.iter().filter_map(|router| router.name.as_ref()).map(|name| &name.value).collect();
    match names.is_empty() {
        true => "remove it, there is no [[vrrp]]".to_owned(),
        false => format!("use some of {names:?}"),
    }
}

/// Tells the virtual routers of their groups.
pub(super) fn assign(groups: &[Draft], routers: &mut [Vrrp]) {
    for group in groups {
        for router in routers.iter_mut() {
            if group.members.items.iter().any(|member| member.value == router.name) {
                router.sync_group = group.name.as_ref().map(|name| name.value.clone());
            }
        }
    }
}
