//! What an interface means for the datapath.

use super::list;
use crate::bpf::Mode;
use crate::bpf::choose::{self, Choice, LARGEST_NATIVE};
use crate::config::Datapath;
use crate::doctor::facts::{Configuration, Device, Facts, Hook, Program};
use crate::doctor::finding::{About, Check, Finding, Subject};

/// `arp_ignore` that answers for no address (Documentation/networking/ip-sysctl.rst).
const ANSWERS_NEVER: u32 = 8;
/// `rp_filter` that is strict.
const STRICT: u32 = 1;

pub(super) fn judge(facts: &Facts, device: &Device, findings: &mut Vec<Finding>) {
    let mut about = About::new(Subject::Interface(device.name.clone()), findings);
    let asked = asked(facts, device);
    state(facts, device, &mut about);
    datapath(device, asked, &mut about);
    queues(facts, device, &mut about);
    offloads(device, asked, &mut about);
    mtu(device, asked, &mut about);
    place(device, &mut about);
    programs(device, asked, &mut about);
    settings(facts, device, &mut about);
}

/// What the device is to be for the configuration.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    /// There is none.
    Nothing,
    /// Virtual routers alone.
    Routers,
    /// The datapath, of this kind.
    Datapath(Datapath),
}

fn asked(facts: &Facts, device: &Device) -> Asked {
    match &facts.configuration {
        Configuration::Good { interface, datapath, .. } if *interface == device.name => Asked::Datapath(*datapath),
        Configuration::Good { .. } => Asked::Routers,
        Configuration::None | Configuration::Wrong(_) => Asked::Nothing,
    }
}

fn state(facts: &Facts, device: &Device, about: &mut About<'_>) {
    let kind = device.traits.kind.as_deref().unwrap_or("hardware");
    let driver = match &device.driver {
        Ok(driver) => format!("driver {driver}"),
        Err(_) => "no driver known".to_owned(),
    };
    let seen = format!("{kind}, {driver}, MTU {}", device.mtu);
    let configured = !matches!(facts.configuration, Configuration::None | Configuration::Wrong(_));
    match (device.ethernet, device.up) {
        (true, true) => about.ok(Check::Device, seen),
        (false, _) if configured => {
            about.problem(Check::Device, format!("{seen}, without Ethernet"), "choose an Ethernet interface");
        }
        (false, _) => about.note(Check::Device, format!("{seen}, without Ethernet"), "choose another for xvip"),
        (true, false) => about.problem(
            Check::Device,
            format!("{seen}, switched off or without carrier"),
            format!("run `ip link set {} up` and look at its cable", device.name),
        ),
    }
}

fn datapath(device: &Device, asked: Asked, about: &mut About<'_>) {
    if !device.ethernet || asked == Asked::Routers {
        return;
    }
    let Choice { mode, why } = choose::best(&device.traits);
    let seen = match (mode, device.traits.native_xdp) {
        (Mode::Native, None) => {
            "datapath xdp suits it if its driver runs XDP, which this kernel does not tell beforehand".to_owned()
        }
        _ => format!("datapath {} suits it: {why}", mode.label()),
    };
    let auto = r#"set node.datapath = "auto""#;
    if let (Some(program), false) = (device.traits.foreign_xdp, device.traits.has_tcx) {
        return about.problem(
            Check::Datapath,
            format!("no datapath can be attached: another XDP program, number {program}, is on it, and the kernel has no tcx"),
            "remove the other program (`bpftool net` names it) or use Linux 6.6 or newer",
        );
    }
    match (asked, mode) {
        (Asked::Datapath(Datapath::Tc), _) if !device.traits.has_tcx => {
            about.problem(Check::Datapath, "TC is asked for, and the kernel has no tcx", "use Linux 6.6 or newer");
        }
        (Asked::Datapath(Datapath::Tc), Mode::Native) => {
            about.note(Check::Datapath, format!("TC is asked for; {seen}"), auto);
        }
        (Asked::Datapath(Datapath::Xdp), _) if device.traits.native_xdp == Some(false) => {
            about.problem(Check::Datapath, "native XDP is asked for, which the driver does not run", auto);
        }
        (Asked::Datapath(Datapath::Xdp), Mode::Tc) => {
            about.warning(Check::Datapath, format!("native XDP is asked for; {seen}"), auto);
        }
        (Asked::Datapath(Datapath::XdpGeneric), Mode::Native | Mode::Tc) => {
            about.note(Check::Datapath, format!("generic XDP is asked for; {seen}"), auto);
        }
        _ => about.ok(Check::Datapath, seen),
    }
}

fn queues(facts: &Facts, device: &Device, about: &mut About<'_>) {
    let cpus = facts.host.cpus;
    match &device.queues {
        Ok(queues) if device.traits.kind.is_none() && *queues < cpus => about.note(
            Check::Queues,
            format!("{} for {cpus} CPUs", receive(*queues)),
            format!("run `ethtool -L {} combined {cpus}` if the card has more (`ethtool -l`)", device.name),
        ),
        Ok(queues) => about.ok(Check::Queues, receive(*queues)),
        // Most virtual devices have no answer to this.
        Err(_) => {}
    }
}

fn receive(queues: u32) -> String {
    format!("{queues} receive queue{}", if queues == 1 { "" } else { "s" })
}

fn offloads(device: &Device, asked: Asked, about: &mut About<'_>) {
    let offloads = match &device.offloads {
        Ok(offloads) => offloads,
        Err(why) => return about.unseen(Check::Offloads, "offloads", why),
    };
    let named = [
        (offloads.rx_checksum, "rx checksum"),
        (offloads.tx_checksum, "tx checksum"),
        (offloads.tso, "TSO"),
        (offloads.gro, "GRO"),
        (offloads.lro, "LRO"),
        (device.traits.joins, "hardware GRO"),
    ];
    let on: Vec<_> = named.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
    let seen = if on.is_empty() { "no offloads".to_owned() } else { format!("offloads: {}", list(on)) };
    let name = &device.name;
    let native = matches!(asked, Asked::Datapath(Datapath::Xdp))
        || asked != Asked::Routers && choose::best(&device.traits).mode == Mode::Native;
    if offloads.lro {
        about.warning(
            Check::Offloads,
            seen,
            format!("run `ethtool -K {name} lro off`, as on every host that forwards"),
        );
    } else if native && device.traits.joins {
        about.note(Check::Offloads, seen, format!("run `ethtool -K {name} rx-gro-hw off` if native XDP is refused"));
    } else if native && device.traits.kind.as_deref() == Some("veth") && asked != Asked::Nothing {
        let remedy =
            "run `ethtool -K PEER tx off gro on` at its other end, for XDP sees frames as they were handed over";
        about.note(Check::Offloads, seen, remedy);
    } else {
        about.ok(Check::Offloads, seen);
    }
}

fn mtu(device: &Device, asked: Asked, about: &mut About<'_>) {
    if asked == Asked::Datapath(Datapath::Xdp) && device.mtu > LARGEST_NATIVE {
        about.problem(
            Check::Mtu,
            format!("MTU {} with native XDP, which takes {LARGEST_NATIVE} at most", device.mtu),
            format!("set node.datapath = \"auto\" or run `ip link set {} mtu {LARGEST_NATIVE}`", device.name),
        );
    }
}

/// Where the device stands among others.
fn place(device: &Device, about: &mut About<'_>) {
    if let Some((master, kind)) = &device.master {
        let kind = kind.as_deref().unwrap_or("device");
        about.warning(
            Check::Master,
            format!("it is part of {master}, a {kind}"),
            format!("name {master} as the interface if the addresses are there"),
        );
    }
    if let Some(vlan) = device.vlan {
        about.ok(Check::Vlan, format!("it carries VLAN {vlan}"));
    }
}

fn programs(device: &Device, asked: Asked, about: &mut About<'_>) {
    for program in &device.programs {
        match program {
            Ok(program) => one_program(program, asked, about),
            Err(why) => about.unseen(Check::Programs, "all programs", why),
        }
    }
    if device.programs.is_empty() {
        about.ok(Check::Programs, "no programs or filters");
    }
}

fn one_program(program: &Program, asked: Asked, about: &mut About<'_>) {
    let (hook, ingress) = match program.hook {
        Hook::XdpNative => ("native XDP", true),
        Hook::XdpGeneric => ("generic XDP", true),
        Hook::Tcx { ingress: true } => ("tcx ingress", true),
        Hook::Tcx { ingress: false } => ("tcx egress", false),
        Hook::Filter { ingress: true } => ("traffic control filter, ingress", true),
        Hook::Filter { ingress: false } => ("traffic control filter, egress", false),
    };
    let id = program.id.map_or_else(String::new, |id| format!(" with id {id}"));
    let Some(name) = &program.name else {
        return about.unseen(Check::Programs, &format!("the name of the program{id} ({hook})"), "not permitted");
    };
    if program.is_ours() {
        return about.ok(Check::Programs, format!("xvip's own program{id} ({hook})"));
    }
    let seen = match program.id {
        Some(_) => format!("program {name:?}{id} of somebody else ({hook})"),
        None => format!("filters of kind {name} of somebody else ({hook})"),
    };
    let displaced = "find its owner with `bpftool net` and remove it, or set node.datapath = \"auto\"";
    let beside =
        "make sure that it lets the traffic of the VIPs and backends pass; xvip runs beside it and displaces nobody";
    match asked {
        Asked::Datapath(Datapath::Xdp | Datapath::XdpGeneric) if program.is_xdp() => {
            about.problem(Check::Programs, seen, displaced);
        }
        Asked::Datapath(_) | Asked::Routers if ingress => about.warning(Check::Programs, seen, beside),
        _ => about.note(Check::Programs, seen, beside),
    }
}

fn settings(facts: &Facts, device: &Device, about: &mut About<'_>) {
    let name = &device.name;
    match &device.arp_ignore {
        Ok(ANSWERS_NEVER) => about.problem(
            Check::ArpIgnore,
            "arp_ignore is 8: the host answers ARP for none of its addresses",
            format!("run `sysctl -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.{name}.arp_ignore=0`"),
        ),
        Ok(value) => {
            about.ok(Check::ArpIgnore, format!("arp_ignore is {value}: it answers ARP for addresses of {name}"))
        }
        Err(why) => about.unseen(Check::ArpIgnore, "arp_ignore", why),
    }
    let homes = facts.others.iter().filter(|other| !other.subnets.is_empty()).map(|other| &other.name);
    let homes: Vec<_> =
        homes.chain(facts.devices.iter().map(|device| &device.name).filter(|other| *other != name)).collect();
    match &device.rp_filter {
        Ok(STRICT) if !homes.is_empty() => about.note(
            Check::RpFilter,
            format!("rp_filter is 1 (strict), and there are other ways out: {}", list(homes.iter().take(4))),
            format!(
                "run `sysctl -w net.ipv4.conf.{name}.rp_filter=2` if clients come in here and are answered elsewhere"
            ),
        ),
        Ok(value) => about.ok(Check::RpFilter, format!("rp_filter is {value}")),
        Err(why) => about.unseen(Check::RpFilter, "rp_filter", why),
    }
}
