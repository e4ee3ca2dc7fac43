//! `vrrp_sync_group`: instances that move together.

use super::super::note::{Notes, Place, nearest};
use super::router::{Router, entries, interface};
use super::script::{Scripts, Track};
use super::{Statement, words};

/// A `vrrp_sync_group` of at least two routers.
#[derive(Debug, Clone)]
pub(in crate::import) struct Group {
    pub(in crate::import) place: Place,
    pub(in crate::import) name: String,
    /// Positions among the routers, each in one group.
    pub(in crate::import) members: Vec<usize>,
}

/// The groups of a configuration whose routers are known. What a group tracks becomes its first member's: what keeps one from
/// its addresses keeps all.
pub(super) fn read(
    tree: &[Statement], routers: &mut [Router], scripts: &mut Scripts<'_>, notes: &mut Notes,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for statement in tree.iter().filter(|statement| statement.word(0) == "vrrp_sync_group") {
        let (place, name) = (&statement.place, statement.word(1).to_owned());
        if name.is_empty() {
            notes.fault(place, "vrrp_sync_group is without a name");
        }
        let mut members = Vec::new();
        let mut tracks: Vec<(String, Track)> = Vec::new();
        for line in statement.within() {
            match line.word(0) {
                "group" => {
                    for entry in entries(line) {
                        members.extend(entry.words.iter().map(|word| (entry.place.clone(), word.clone())));
                    }
                }
                keyword @ ("track_script" | "track_interface") => {
                    for entry in entries(line) {
                        let track = match keyword {
                            "track_script" => scripts.track(&entry, notes),
                            _ => Some(interface(&entry, notes)),
                        };
                        tracks.extend(track.map(|track| (format!("{keyword} {}", entry.text()), track)));
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
            heed(tracks, None, &[], routers, notes);
        } else if members.len() < 2 {
            notes.lost(place, statement.text(), "a group of fewer than two holds nothing together");
            heed(tracks, None, &members, routers, notes);
        } else {
            heed(tracks, Some(&name), &members, routers, notes);
            groups.push(Group { place: place.clone(), name, members });
        }
    }
    groups
}

/// Has the first member track what the group does, but what one of them heeds as much already.
fn heed(
    tracks: Vec<(String, Track)>, group: Option<&String>, members: &[usize], routers: &mut [Router], notes: &mut Notes,
) {
    for (text, track) in tracks {
        let as_much =
            |other: &Track| other.what == track.what && (other.weight.is_none() || other.weight == track.weight);
        let of_members = members.iter().filter_map(|member| routers.get(*member)).flat_map(|router| &router.tracks);
        if of_members.into_iter().any(as_much) {
            continue;
        }
        match members.first().and_then(|first| routers.get_mut(*first)) {
            Some(first) => first.tracks.push(Track { group: group.cloned(), ..track }),
            None => notes.lost(&track.place, text, "its vrrp_sync_group is not carried over"),
        }
    }
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
