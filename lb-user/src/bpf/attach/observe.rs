//! What is to be known of a device before a mode is chosen, as the kernel says it.

use std::fs;
use std::path::Path;

use aya::util::KernelVersion;
use tracing::warn;

use super::choose::Facts;
use super::{Device, is_link, link};
use crate::ethtool;
use crate::netlink::{has_vlans, members, mtu, runs_xdp, xdp_program};

/// The feature by which a device joins segments so that they can be parted again, as ethtool names it.
const JOINS: &str = "rx-gro-hw";
/// The feature by which it joins them for good.
const JOINS_FOR_GOOD: &str = "rx-lro";
/// The feature by which it takes VLAN tags out of frames.
const HIDES_TAGS: &str = "rx-vlan-hw-parse";
/// The first kernel with tcx.
const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// What is known of a device; what cannot be found out counts as not there. An XDP program that `is_ours` by its number
/// is no obstacle. Blocks for as long as the kernel takes to answer.
pub(crate) fn facts(device: &Device, is_ours: impl Fn(u32) -> bool) -> Facts {
    let features = ethtool::features(&device.name).unwrap_or_default();
    let has = |name| features.iter().any(|feature| feature == name);
    let foreign_xdp = match xdp_program(device.index) {
        Ok(program) => program.filter(|id| !is_ours(*id)),
        Err(error) => {
            warn!("cannot see whether an XDP program is on {}: {error}", device.name);
            None
        }
    };
    Facts {
        kind: device.kind.clone(),
        driver: ethtool::driver(&device.name).map(|driver| driver.name).ok(),
        native_xdp: runs_xdp(device.index).ok().flatten(),
        joins: has(JOINS),
        joins_for_good: joins_for_good(device, has(JOINS_FOR_GOOD)),
        hides_tags: has(HIDES_TAGS) && has_vlans(device.index).unwrap_or_default(),
        foreign_xdp,
        has_tcx: has_tcx(),
        mtu: mtu(device.index).unwrap_or_default(),
    }
}

/// A bond says that it does what any of its wires may do; what they do counts.
fn joins_for_good(device: &Device, says_so: bool) -> bool {
    let wire_joins = |wire: &String| {
        ethtool::features(wire).is_ok_and(|features| features.iter().any(|feature| feature == JOINS_FOR_GOOD))
    };
    match device.kind.as_deref() {
        Some("bond" | "team") => says_so && members(device.index).is_ok_and(|wires| wires.iter().any(wire_joins)),
        _ => says_so,
    }
}

/// Whether the kernel has tcx.
pub(super) fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= TCX)
}

/// The program of another node's agent on a device, whichever way it is attached: one that is pinned beside
/// `directory`.
pub(super) fn rival(device: &Device, directory: &Path) -> Option<u32> {
    let by_tc = link::programs_of_tc(device.index).unwrap_or_default();
    let by_xdp = xdp_program(device.index).ok().flatten();
    let nodes = directory.parent().and_then(|all| fs::read_dir(all).ok());
    let others: Vec<_> = nodes.into_iter().flatten().flatten().map(|node| node.path()).collect();
    let of_others = |id: &u32| others.iter().any(|node| node != directory && is_ours(*id, node));
    by_tc.into_iter().chain(by_xdp).find(of_others)
}

/// Whether a link that is pinned below `directory` is of this program.
pub(super) fn is_ours(program: u32, directory: &Path) -> bool {
    let mut entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.any(|path| is_link(&path) && link::read(&path).is_ok_and(|link| link.program_id == program))
}

/// Programs before `program` in the order of TC; none where the kernel does not tell.
pub(super) fn ahead(ifindex: u32, program: u32) -> Vec<String> {
    let programs = link::programs_of_tc(ifindex).unwrap_or_default();
    let ours = programs.iter().position(|other| *other == program).unwrap_or_default();
    programs[..ours].iter().map(|other| format!("program {other}")).collect()
}
