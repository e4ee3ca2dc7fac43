//! What the host as a whole means for the agent.

use super::list;
use crate::doctor::facts::{Configuration, Facts, Host};
use crate::doctor::finding::{About, Check, Finding, Subject};

/// Major and minor version of the oldest kernel, of the oldest where the interface is a veth, of the oldest that was tried, and
/// of the first with tcx.
const OLDEST: (u32, u32) = (5, 15);
const OLDEST_VETH: (u32, u32) = (5, 18);
const TRIED: (u32, u32) = (6, 1);
const TCX: (u32, u32) = (6, 6);

/// Capabilities of the agent, by bit (linux/capability.h). Who has CAP_SYS_ADMIN has those that were split off it.
const NEEDED: [(u32, &str); 4] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
const SYS_ADMIN: u32 = 21;
const FIRST_SPLIT_OFF: u32 = 38;

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    let host = &facts.host;
    let mut about = About::new(Subject::Host, findings);
    if !host.datapath_inside {
        let seen = "this binary has no datapath inside, it was built with XVIP_EBPF_STUB=1";
        about.problem(Check::Build, seen, "build it with `cargo xtask build`");
    }
    kernel(facts, &mut about);
    match host.btf {
        true => about.ok(Check::Btf, "the kernel shows its types"),
        false => about.problem(
            Check::Btf,
            "there is no /sys/kernel/btf/vmlinux",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions' kernels are",
        ),
    }
    if host.realtime {
        about.warning(
            Check::Realtime,
            "this is a PREEMPT_RT kernel, on which two packets may share a place that is meant for one",
            "use a kernel without it; nothing here needs one",
        );
    }
    match &host.jit {
        Ok(0) => about.warning(
            Check::Jit,
            "net.core.bpf_jit_enable is 0",
            "run `sysctl -w net.core.bpf_jit_enable=1` and keep it in /etc/sysctl.d",
        ),
        Ok(_) => about.ok(Check::Jit, "BPF programs are compiled"),
        Err(why) => about.unseen(Check::Jit, "net.core.bpf_jit_enable", why),
    }
    match host.bpffs {
        true => about.ok(Check::Bpffs, "/sys/fs/bpf is a BPF file system"),
        false => about.note(
            Check::Bpffs,
            "/sys/fs/bpf is no BPF file system",
            "leave it to the agent, which mounts one if it may, or run `mount -t bpf bpf /sys/fs/bpf`",
        ),
    }
    match &host.cgroup {
        Ok(Some(place)) => about.ok(Check::Cgroup, format!("cgroup version 2 is mounted at {place}")),
        Ok(None) => about.warning(
            Check::Cgroup,
            "cgroup version 2 is not mounted",
            "run `mount -t cgroup2 none /sys/fs/cgroup/unified`, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
        Err(why) => about.unseen(Check::Cgroup, "mounts", why),
    }
    capabilities(host, &mut about);
    source_ports(facts, &mut about);
    processes(facts, &mut about);
}

fn kernel(facts: &Facts, about: &mut About<'_>) {
    let release = match &facts.host.kernel {
        Ok(release) => release,
        Err(why) => return about.unseen(Check::Kernel, "the kernel's version", why),
    };
    let veth = facts.devices.iter().any(|device| device.traits.kind.as_deref() == Some("veth"));
    let oldest = if veth { OLDEST_VETH } else { OLDEST };
    let seen = format!("Linux {release}");
    match version(release) {
        Some(version) if version < oldest => {
            about.problem(Check::Kernel, seen, format!("use Linux {}.{} or newer", oldest.0, oldest.1));
        }
        Some(version) if version < TRIED => {
            let remedy = format!("use Linux {}.{} or newer, or try it out before you rely on it", TRIED.0, TRIED.1);
            about.warning(Check::Kernel, format!("{seen}, on which xvip has not been tried"), remedy);
        }
        Some(version) if version < TCX => {
            let remedy =
                format!("use Linux {}.{} or newer for datapath \"tc\" and for backends on the balancers", TCX.0, TCX.1);
            about.note(Check::Kernel, format!("{seen}, which has no tcx"), remedy);
        }
        Some(_) => about.ok(Check::Kernel, seen),
        None => about.note(Check::Kernel, format!("{seen}, which is no version"), "make sure it is 5.15 or newer"),
    }
}

/// The first two numbers of a release such as `6.18.5-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn capabilities(host: &Host, about: &mut About<'_>) {
    let bits = match &host.capabilities {
        Ok(bits) => *bits,
        Err(why) => return about.unseen(Check::Capabilities, "the capabilities of this process", why),
    };
    let has = |bit: u32| bits >> bit & 1 == 1;
    let lacks = |bit: u32| !(has(bit) || bit >= FIRST_SPLIT_OFF && has(SYS_ADMIN));
    let lacking: Vec<_> = NEEDED.iter().filter(|(bit, _)| lacks(*bit)).map(|(_, name)| *name).collect();
    match lacking.is_empty() {
        true => about.ok(Check::Capabilities, "this process may do all that the agent does"),
        false => about.note(
            Check::Capabilities,
            format!("this process lacks {}", list(&lacking)),
            "run the agent as root or with them, as config/xvip.service does, and the doctor too to see all there is",
        ),
    }
}

fn source_ports(facts: &Facts, about: &mut About<'_>) {
    let Configuration::Good { source_ports, .. } = &facts.configuration else { return };
    let kernel = match &facts.host.port_range {
        Ok(range) => range,
        Err(why) => return about.unseen(Check::SourcePorts, "net.ipv4.ip_local_port_range", why),
    };
    let (first, last) = (source_ports.start().max(kernel.start()), source_ports.end().min(kernel.end()));
    let (ours, kernels) = (format!("{}-{}", source_ports.start(), source_ports.end()), range(kernel));
    match first <= last {
        true => about.note(
            Check::SourcePorts,
            format!("source ports {ours} meet net.ipv4.ip_local_port_range {kernels} at {first}-{last}"),
            "leave it to the agent, which reserves them while it runs, or choose others in node.source_ports",
        ),
        false => {
            about.ok(Check::SourcePorts, format!("source ports {ours} keep clear of the kernel's own, {kernels}"));
        }
    }
}

fn range(range: &std::ops::RangeInclusive<u16>) -> String {
    format!("{}-{}", range.start(), range.end())
}

fn processes(facts: &Facts, about: &mut About<'_>) {
    let processes = match &facts.host.processes {
        Ok(processes) => processes,
        Err(why) => return about.unseen(Check::Processes, "processes", why),
    };
    for (name, pid) in processes {
        let seen = format!("{name} runs here, process {pid}");
        let remedy = format!("stop and disable {name} before xvip takes its addresses and ports over");
        // What haproxy is in the way of shows by its sockets.
        match name != "haproxy" && !facts.routers.is_empty() {
            true => about.warning(Check::Processes, seen, remedy),
            false => about.note(Check::Processes, seen, remedy),
        }
    }
    if processes.is_empty() {
        about.ok(Check::Processes, "no other balancer or router runs here that is known by name");
    }
}
