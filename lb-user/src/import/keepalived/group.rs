//! `vrrp_sync_group`: instances that move together.

use super::super::note::{Notes, Place, nearest};
use super::router::{Router, entries};
use super::script::Scripts;
use super::{Statement, words};

/// A `vrrp_sync_group` of at least two routers.
#[derive(Debug, Clone)]
pub(in crate::import) struct Group {
    pub(in crate::import) place: Place,
    pub(in crate::import) name: String,
    /// Positions among the routers, each in one group.
    pub(in crate::import) members: Vec<usize>,
}

/// The groups of a configuration whose routers are known.
pub(super) fn read(tree: &[Statement], routers: &[Router], scripts: &mut Scripts<'_>, notes: &mut Notes) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for statement in tree.iter().filter(|statement| statement.word(0) == "vrrp_sync_group") {
        let (place, name) = (&statement.place, statement.word(1).to_owned());
        if name.is_empty() {
            notes.fault(place, "vrrp_sync_group is without a name");
        }
        let mut members = Vec::new();
        for line in statement.within() {
            match line.word(0) {
                "group" => {
                    for entry in entries(line) {
                        members.extend(entry.words.iter().map(|word| (entry.place.clone(), word.clone())));
                    }
                }
                keyword @ ("track_script" | "track_interface") => {
                    for entry in entries(line) {
                        // What has no place in a configuration is noted as such.
                        if keyword == "track_interface" || scripts.track(&entry, notes).is_some() {
                            let why = words::group(keyword).unwrap_or_default();
                            notes.lost(&entry.place, format!("{keyword} {}", entry.text()), why);
                        }
                    }
                }
                keyword => match words::group(keyword) {
                    Some(why) => notes.lost(&line.place, line.text(), why),
                    None => {
                        let near = nearest(keyword, words::groups());
                        notes.fault(&line.place, format!("\"{keyword}\" is no keyword of vrrp_sync_group{near}"));
                    }
                },
            }
        }
        let members = known(&members, routers, &groups, notes);
        let owner = members.iter().filter_map(|member| routers.get(*member)).find(|router| router.priority == u8::MAX);
        if let Some(owner) = owner {
            let why = format!(
                "vrrp_instance {} has priority 255, which claims without waiting for anybody; give it 254 and add the \
                 [[vrrp_sync_group]]",
                owner.name
            );
            notes.lost(place, statement.text(), why);
        } else if members.len() < 2 {
            notes.lost(place, statement.text(), "a group of fewer than two holds nothing together");
        } else {
            groups.push(Group { place: place.clone(), name, members });
        }
    }
    groups
}

/// The members that are routers and in no group yet.
fn known(members: &[(Place, String)], routers: &[Router], groups: &[Group], notes: &mut Notes) -> Vec<usize> {
    let mut found = Vec::new();
    for (place, name) in members {
        let Some(member) = routers.iter().position(|router| router.name == *name) else {
            let near = nearest(name, routers.iter().map(|router| router.name.as_str()));
            notes.mistake(place, format!("there is no vrrp_instance {name}, and keepalived ignores it here{near}"));
            continue;
        };
        if let Some(first) = groups.iter().find(|group| group.members.contains(&member)) {
            let group = &first.name;
            let what = format!("vrrp_instance {name} is in vrrp_sync_group {group} already, and can be in one alone");
            notes.mistake(place, what);
        } else if found.contains(&member) {
            notes.mistake(place, format!("vrrp_instance {name} is listed twice"));
        } else {
            found.push(member);
        }
    }
    found
}
