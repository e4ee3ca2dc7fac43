//! The host as a whole: kernel, file systems, capabilities, settings, and programs that want the same addresses.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::bpf;
use crate::config::Config;
use crate::doctor::facts::{Host, KeyFile, Listener, Seen};
use crate::drivers::sync::SharedKey;
use crate::drivers::vrrp;

/// Programs that hold addresses or balance ports, by the name of their process.
const RIVALS: [&str; 5] = ["keepalived", "haproxy", "kube-vip", "ucarp", "vrrpd"];

pub(super) fn look() -> Host {
    Host {
        kernel: read("/proc/sys/kernel/osrelease"),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        realtime: fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1"),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        bpffs: statfs("/sys/fs/bpf").is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC),
        cgroup: read("/proc/self/mountinfo").map(|mounts| cgroup(&mounts)),
        capabilities: read("/proc/self/status").and_then(|status| capabilities(&status)),
        datapath_inside: !bpf::OBJECT.is_empty(),
        port_range: read("/proc/sys/net/ipv4/ip_local_port_range").and_then(|range| ports(&range)),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        processes: rivals(),
    }
}

/// The files of keys that a configuration names, read as the agent reads them.
pub(super) fn keys(config: &Config) -> Vec<KeyFile> {
    let of_router = |router: &crate::config::Vrrp| {
        let path = router.auth.as_ref()?.key_file.clone();
        let read = vrrp::keys(&router.name, &path).map_err(|error| error.to_string());
        let usable = read.map(|keys| {
            let (name, numbers) = (&router.name, keys.iter().map(|(number, _)| number.to_string()));
            format!("auth_key_file {} of {name}: keys {}", path.display(), numbers.collect::<Vec<_>>().join(", "))
        });
        Some(KeyFile { path, usable })
    };
    let of_sync = config.sync.as_ref().map(|sync| {
        let read = SharedKey::load(&sync.key_file).map_err(|error| error.to_string());
        let usable = read.map(|_| format!("sync.key_file {} holds a key", sync.key_file.display()));
        KeyFile { path: sync.key_file.clone(), usable }
    });
    config.vrrp.iter().filter_map(of_router).chain(of_sync).collect()
}

/// The higher of the values that a setting has for all interfaces and for this one, which is the one in force.
pub(super) fn setting(interface: &str, name: &str) -> Seen<u32> {
    let of = |interface: &str| number(&format!("/proc/sys/net/ipv4/conf/{interface}/{name}"));
    Ok(of("all")?.max(of(interface)?))
}

fn read(path: &str) -> Seen<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("{path} is not shown in this namespace")),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

fn number(path: &str) -> Seen<u32> {
    read(path)?.parse().map_err(|_| format!("{path} is no number"))
}

/// Where cgroup version 2 is mounted, by the lines of mountinfo (proc_pid_mountinfo(5)).
fn cgroup(mounts: &str) -> Option<String> {
    let of_line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let place = before.split(' ').nth(4)?;
        (after.split(' ').next() == Some("cgroup2")).then(|| place.to_owned())
    };
    mounts.lines().find_map(of_line)
}

fn capabilities(status: &str) -> Seen<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.ok_or_else(|| "/proc/self/status does not say".to_owned())
}

fn ports(range: &str) -> Seen<RangeInclusive<u16>> {
    let mut bounds = range.split_whitespace().map(str::parse);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Ok(first..=last),
        _ => Err("/proc/sys/net/ipv4/ip_local_port_range is no range".to_owned()),
    }
}

/// Processes of the same network namespace.
fn rivals() -> Seen<Vec<(String, u32)>> {
    let ours = fs::read_link("/proc/self/ns/net").map_err(|error| format!("/proc/self/ns/net: {error}"))?;
    let mut rivals = Vec::new();
    for (pid, directory) in processes()? {
        let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
        let name = name.trim();
        // Without permission to see its namespace it counts as one of ours: better one too many.
        let here = fs::read_link(directory.join("ns/net")).map_or(true, |netns| netns == ours);
        let known = rivals.iter().any(|(other, _)| other == name);
        if RIVALS.contains(&name) && here && !known {
            rivals.push((name.to_owned(), pid));
        }
    }
    Ok(rivals)
}

fn processes() -> Seen<Vec<(u32, PathBuf)>> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let mut processes: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path))
        })
        .collect();
    processes.sort();
    Ok(processes)
}

/// Listening TCP sockets of this network namespace at one of these ports.
pub(super) fn listeners(wanted: &[u16]) -> Seen<Vec<Listener>> {
    let mut found = listening(&read("/proc/net/tcp")?);
    // There only with IPv6.
    found.extend(listening(&read("/proc/net/tcp6").unwrap_or_default()));
    found.retain(|(address, _)| wanted.contains(&address.port()));
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let owners = owners(&found.iter().map(|(_, inode)| *inode).collect::<Vec<_>>())?;
    let owner = |inode: u64| owners.iter().find(|(of, ..)| *of == inode);
    let listener =
        |(address, inode)| Listener { address, process: owner(inode).map(|(_, name, pid)| (name.clone(), *pid)) };
    Ok(found.into_iter().map(listener).collect())
}

/// Address and inode of each listening socket in a table of sockets (Documentation/networking/proc_net_tcp.rst).
fn listening(table: &str) -> Vec<(SocketAddr, u64)> {
    const LISTEN: &str = "0A";
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let local = words.nth(1)?;
        let state = words.nth(1)?;
        let inode = words.nth(5)?.parse().ok()?;
        (state == LISTEN).then_some((address(local)?, inode))
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

/// `0100007F:1F90`: the address in words of the host's byte order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(octets) => IpAddr::from(octets),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}

/// Whose these sockets are, as far as this process may see: inode, program, process id.
fn owners(inodes: &[u64]) -> Seen<Vec<(u64, String, u32)>> {
    let mut owners = Vec::new();
    for (pid, directory) in processes()? {
        let Ok(descriptors) = fs::read_dir(directory.join("fd")) else { continue };
        for descriptor in descriptors.filter_map(Result::ok) {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
                owners.push((inode, name.trim().to_owned(), pid));
            }
        }
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_capabilities_and_ranges() {
        let mounts =
            "24 1 0:5 / /proc rw - proc proc rw\n31 24 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 none rw";
        assert_eq!(cgroup(mounts).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(cgroup("24 1 0:5 / /proc rw - proc proc rw"), None);
        assert_eq!(capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), Ok(0x1ff_ffff_ffff));
        assert!(capabilities("Name:\tx").is_err());
        assert_eq!(ports("32768\t60999"), Ok(32768..=60999));
        assert!(ports("32768").is_err());
    }

    #[test]
    fn listening_sockets_in_both_forms() {
        let v4 = |text: &str| u32::from_be_bytes(text.parse::<std::net::Ipv4Addr>().unwrap().octets()).swap_bytes();
        let line = |local: &str, state| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n"
            )
        };
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let table = [
            head.to_owned(),
            line(&format!("{:08X}:20FB", v4("192.0.2.100")), "0A"),
            line(&format!("{:08X}:20FB", v4("192.0.2.7")), "01"),
            line("00000000000000000000000000000000:20FB", "0A"),
            "garbage\n".to_owned(),
        ];
        if cfg!(target_endian = "little") {
            let expected = ["192.0.2.100:8443", "[::]:8443"].map(|text| (text.parse().unwrap(), 4711));
            assert_eq!(listening(&table.concat()), expected);
        }
    }

    #[test]
    fn our_own_listener_is_found_with_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let found = listeners(&[address.port()]).unwrap();
        let ours = found.iter().find(|listener| listener.address == address).unwrap();
        assert_eq!(ours.process.as_ref().map(|(_, pid)| *pid), Some(std::process::id()));
    }
}
