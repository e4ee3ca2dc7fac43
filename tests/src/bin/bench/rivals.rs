//! haproxy and nftables on a node of their own, set up as those do who want them fast.

use std::fs;
use std::net::SocketAddrV4;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use xvip_tests::netns::Netns;
use xvip_tests::process::{Process, find_program};
use xvip_tests::topology::SERVERS;

use crate::ground::PORT;

/// haproxy at `vip`; every processor has a thread.
pub(crate) fn haproxy(netns: &Netns, vip: SocketAddrV4, threads: usize) -> Result<Process> {
    let program = find_program("haproxy")?;
    more_ports(netns)?;
    let config = netns.run().dir().join(format!("{}.cfg", netns.role()));
    fs::write(&config, haproxy_config(vip, threads)).with_context(|| format!("writing {}", config.display()))?;
    let mut command = netns.command(program);
    command.arg("-db").arg("-f").arg(&config);
    Process::spawn(netns.run(), netns.role(), command)
}

fn haproxy_config(vip: SocketAddrV4, threads: usize) -> String {
    let servers: String =
        SERVERS.iter().map(|(name, address)| format!("    server {name} {address}:{PORT} check\n")).collect();
    format!(
        "\
global
    nbthread {threads}
    maxconn 8000
defaults
    mode tcp
    retries 3
    option redispatch
    timeout queue 20s
    timeout connect 5s
    timeout client 35s
    timeout server 35s
    timeout check 5s
frontend apiserver
    bind {vip} backlog 4096
    default_backend apiserver
backend apiserver
    balance roundrobin
    default-server inter 2s fall 3 rise 2
{servers}"
    )
}

/// The kernel's own translation at `vip`.
pub(crate) fn nftables(netns: &Netns, vip: SocketAddrV4) -> Result<()> {
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/eth0/send_redirects", "0"),
    ] {
        netns.sysctl(key, value)?;
    }
    let mut nft: Command = netns.command(find_program("nft")?);
    let output = nft.arg(nftables_rules(vip)).output().context("starting nft")?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    // Else two minutes of closed connections fill the table.
    netns.sysctl("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "20")
}

fn nftables_rules(vip: SocketAddrV4) -> String {
    let places: Vec<_> =
        SERVERS.iter().enumerate().map(|(place, (_, address))| format!("{place} : {address}")).collect();
    let addresses: Vec<_> = SERVERS.iter().map(|(_, address)| *address).collect();
    format!(
        "table ip nat {{
            chain in {{
                type nat hook prerouting priority dstnat;
                ip daddr {} tcp dport {} dnat to numgen inc mod {} map {{ {} }} : {PORT};
            }}
            chain out {{
                type nat hook postrouting priority srcnat;
                ip daddr {{ {} }} masquerade;
            }}
        }}",
        vip.ip(),
        vip.port(),
        places.len(),
        places.join(", "),
        addresses.join(", "),
    )
}

/// What everybody sets who opens thousands of connections a second.
pub(crate) fn more_ports(netns: &Netns) -> Result<()> {
    netns.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
    netns.sysctl("net/ipv4/tcp_tw_reuse", "1")
}

/// The first line that a program says of its version.
pub(crate) fn version(program: &str) -> Option<String> {
    let output = Command::new(find_program(program).ok()?).arg("-v").output().ok()?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned();
    // Behind it haproxy has the address of its site.
    Some(line.split(" - ").next().unwrap_or(&line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_named() {
        let vip = "192.0.2.101:8443".parse().unwrap();
        let (config, rules) = (haproxy_config(vip, 2), nftables_rules(vip));
        for (_, address) in SERVERS {
            assert!(config.contains(&format!(" {address}:6443 check")));
            assert!(rules.contains(&format!(" : {address}")));
        }
        assert!(rules.contains("mod 3 map { 0 : 192.0.2.31, 1 : "), "{rules}");
    }
}
