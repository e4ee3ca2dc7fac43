//! What was heard on the wire means for virtual routers and their VIPs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::list;
use crate::doctor::facts::{Advert, Answer, Device, Facts, Router, Vip};
use crate::doctor::finding::{About, Check, Finding, Subject};

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    for router in &facts.routers {
        let mut about = About::new(Subject::Router(router.name.clone()), findings);
        adverts(facts, router, &mut about);
        peers(router, &mut about);
        for vip in facts.vips.iter().filter(|vip| vip.router == router.name) {
            holder(facts, router, vip, &mut about);
            neighbours(facts, vip, &mut about);
        }
    }
}

/// What is heard on an interface, for somebody who has yet to choose a VRID.
pub(super) fn bystander(facts: &Facts, device: &Device, findings: &mut Vec<Finding>) {
    let mut about = About::new(Subject::Interface(device.name.clone()), findings);
    if let Some(why) = deaf(facts, &device.name) {
        return about.unseen(Check::Adverts, "adverts on the wire", why);
    }
    let here: Vec<_> = facts.adverts.iter().filter(|advert| advert.interface == device.name).collect();
    for advert in &here {
        let remedy = format!("choose another virtual_router_id than {}, or join this group", advert.vrid);
        about.note(Check::Adverts, heard(advert), remedy);
    }
    if here.is_empty() && device.ethernet && device.up {
        about.ok(Check::Adverts, format!("no virtual router heard in {:.1} s", facts.listened.as_secs_f64()));
    }
}

/// Why nothing could be heard on an interface.
fn deaf<'f>(facts: &'f Facts, interface: &str) -> Option<&'f str> {
    facts.deaf.iter().find(|(name, _)| name == interface).map(|(_, why)| why.as_str())
}

fn heard(advert: &Advert) -> String {
    let Advert { source, version, vrid, priority, addresses, .. } = advert;
    format!("{source} announces VRID {vrid} by VRRP version {version} with priority {priority} for {}", list(addresses))
}

/// Whether an advert speaks for the same group as a router of ours.
fn same_group(router: &Router, advert: &Advert) -> bool {
    let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
    advert.vrid == router.vrid && set(&advert.addresses) == set(&router.addresses)
}

fn adverts(facts: &Facts, router: &Router, about: &mut About<'_>) {
    if let Some(why) = deaf(facts, &router.interface) {
        return about.unseen(Check::Adverts, "adverts on the wire", why);
    }
    let all = &facts.adverts;
    let here = |advert: &&Advert| advert.interface == router.interface;
    let used: BTreeSet<u8> = all.iter().filter(here).map(|advert| advert.vrid).collect();
    let free = (1..=255_u8).rev().find(|vrid| !used.contains(vrid)).unwrap_or(u8::MAX);
    let change = |vrid: u8| {
        format!(
            "if it is another group, set virtual_router_id to one that is free, such as {free}, instead of {vrid}; if the same, list the same virtual_addresses"
        )
    };
    let siblings =
        |vrid: u8| facts.routers.iter().any(|other| other.vrid == vrid && other.interface == router.interface);
    let mut told = false;
    for advert in all.iter().filter(here) {
        let shared: Vec<_> = advert.addresses.iter().filter(|address| router.addresses.contains(address)).collect();
        if same_group(router, advert) {
            told = true;
            of_the_group(router, advert, about);
        } else if advert.vrid == router.vrid {
            told = true;
            about.problem(
                Check::Adverts,
                format!("{}, not for {}", heard(advert), list(&router.addresses)),
                change(router.vrid),
            );
        } else if !shared.is_empty() && !siblings(advert.vrid) {
            told = true;
            about.problem(
                Check::Adverts,
                format!("{}, and VRID {} here has {} too", heard(advert), router.vrid, list(shared)),
                "give both routers the same virtual_router_id, or each group its own virtual_addresses",
            );
        }
    }
    if !told {
        let seconds = facts.listened.as_secs_f64();
        about.ok(Check::Adverts, format!("nobody announces VRID {} or its VIPs ({seconds:.1} s heard)", router.vrid));
    }
}

/// A router of our own group.
fn of_the_group(router: &Router, advert: &Advert, about: &mut About<'_>) {
    let stranger = !router.peers.is_empty() && !router.peers.iter().any(|(peer, _)| *peer == advert.source);
    if advert.version != router.version {
        about.problem(
            Check::Adverts,
            format!("{}, and version {} is spoken here", heard(advert), router.version),
            format!(
                "let all routers of the group speak the same version (keepalived: vrrp_version {})",
                router.version
            ),
        );
    } else if stranger {
        about.warning(
            Check::Adverts,
            format!("{}, and it is not among unicast_peers", heard(advert)),
            "add it to unicast_peers, or stop it if it is an old router",
        );
    } else if advert.interval != router.interval {
        about.warning(
            Check::Adverts,
            format!("{}, every {:?}, not every {:?}", heard(advert), advert.interval, router.interval),
            "set the same advert_interval on all routers of the group",
        );
    } else {
        about.ok(Check::Adverts, heard(advert));
    }
}

fn peers(router: &Router, about: &mut About<'_>) {
    for (peer, answer) in &router.peers {
        match answer {
            Ok(Answer::From(macs)) if macs.is_empty() => about.warning(
                Check::Peers,
                format!("peer {peer} does not answer {} on {}", question(*peer), router.interface),
                "start its host, or correct unicast_peers",
            ),
            Ok(Answer::From(macs)) => about.ok(Check::Peers, format!("peer {peer} is at {}", list(macs))),
            Ok(Answer::Elsewhere) => about.warning(
                Check::Peers,
                format!("peer {peer} is in no subnet of {}", router.interface),
                "use peers in the same subnet, for adverts that have crossed a router are refused",
            ),
            // That there is no wire is said of the interface.
            Ok(Answer::NoWire) => {}
            Err(why) => about.unseen(Check::Peers, &format!("peer {peer}"), why),
        }
    }
}

/// By what an address is asked for.
const fn question(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour solicitations",
    }
}

/// Who has a VIP, and whether it should.
fn holder(facts: &Facts, router: &Router, vip: &Vip, about: &mut About<'_>) {
    let address = vip.address;
    let asked = question(address);
    if let Some((interface, false)) = &vip.held {
        about.problem(
            Check::Vip,
            format!("{address} is on {interface} of this host, and xvip has not put it there"),
            format!("stop what put it there, then run `ip address del {address}/PREFIX dev {interface}`"),
        );
    }
    let macs = match &vip.answers {
        // That it is in no subnet, or the interface is down, is said elsewhere.
        Ok(Answer::Elsewhere | Answer::NoWire) => return,
        Ok(Answer::From(macs)) => macs,
        Err(why) => return about.unseen(Check::Vip, &format!("who answers {asked} for {address}"), why),
    };
    let here = facts.adverts.iter().filter(|advert| advert.interface == router.interface && advert.priority > 0);
    let mut speakers = here.filter(|advert| same_group(router, advert)).map(|advert| advert.source);
    let ours = vip.held.as_ref().is_some_and(|(_, ours)| *ours);
    match (macs.as_slice(), speakers.next()) {
        ([], _) if ours => about.ok(Check::Vip, format!("{address} is held here by xvip, and by nobody else")),
        ([], _) if vip.held.is_some() => {}
        ([], _) => about.ok(Check::Vip, format!("nobody answers {asked} for {address}")),
        ([mac], Some(speaker)) if vip.held.is_none() => {
            about.ok(Check::Vip, format!("{address} is at {mac}, held by the router {speaker} of the group"));
        }
        (macs, _) if vip.held.is_some() => about.problem(
            Check::Vip,
            format!("{address} is on this host, and {} answers {asked} for it too", list(macs)),
            "find that host by its MAC (`bridge fdb`, the switch) and take the address from it",
        ),
        ([mac], None) => about.problem(
            Check::Vip,
            format!("{mac} answers {asked} for {address}, and no router of the group is heard"),
            "find that host by its MAC (`bridge fdb`, the switch) and take the address from it, or choose another VIP",
        ),
        (macs, Some(_)) => about.problem(
            Check::Vip,
            format!("{} all answer {asked} for {address}", list(macs)),
            "leave the address to the routers of the group, and take it from the others",
        ),
        (macs, None) => about.problem(
            Check::Vip,
            format!("{} all answer {asked} for {address}, and no router of the group is heard", list(macs)),
            "take the address from all of them, or choose another VIP",
        ),
    }
}

/// Other interfaces of this host that would answer ARP for a VIP.
fn neighbours(facts: &Facts, vip: &Vip, about: &mut About<'_>) {
    for other in &facts.others {
        let near = other.subnets.iter().any(|subnet| subnet.prefix > 0 && subnet.contains(vip.address));
        if near && vip.address.is_ipv4() && other.arp_ignore == Ok(0) && other.name != vip.interface {
            about.warning(
                Check::ArpIgnore,
                format!("{} is in the subnet of {} as well, and answers ARP for it", other.name, vip.address),
                format!("run `sysctl -w net.ipv4.conf.{}.arp_ignore=1` and keep it in /etc/sysctl.d", other.name),
            );
        }
    }
}
