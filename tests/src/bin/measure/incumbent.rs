//! haproxy and keepalived on the same wire, set up as is usual in front of a control plane.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use xvip_tests::client::{Options, burst};
use xvip_tests::netns::Netns;
use xvip_tests::process::{Process, find_program};
use xvip_tests::topology::{BALANCERS, SERVERS, VIP, VIP_ADDRESS, has_vip};
use xvip_tests::wire::Port;

use crate::world::{Fault, Ground, Pair, at_rest};

/// Two nodes with haproxy and keepalived.
pub(crate) struct Incumbent {
    nodes: Vec<Node>,
    client: Netns,
    options: Options,
}

struct Node {
    netns: Netns,
    port: Port,
    haproxy: Process,
    keepalived: Process,
}

impl Incumbent {
    /// Starts both and waits until they are at rest; `advert_interval` in seconds, as keepalived reads it.
    pub(crate) fn start(ground: &Ground, advert_interval: &str) -> Result<Incumbent> {
        let (haproxy, keepalived) = (find_program("haproxy")?, find_program("keepalived")?);
        let mut nodes = Vec::new();
        for (index, (name, address, _)) in BALANCERS.into_iter().enumerate() {
            // Names apart from those of xvip's nodes: a namespace goes away in its own time.
            let role = format!("ha{name}{}", advert_interval.replace('.', "-"));
            let (netns, port) = ground.plug(&role, address)?;
            // haproxy has to listen at the VIP also where it is not.
            netns.sysctl("net/ipv4/ip_nonlocal_bind", "1")?;
            let dir = ground.run().dir();
            let file = |suffix: &str| dir.join(format!("{role}.{suffix}"));
            fs::write(file("cfg"), haproxy_config())?;
            fs::write(file("conf"), keepalived_config(index, advert_interval))?;
            let mut command = netns.command(&haproxy);
            command.arg("-db").arg("-f").arg(file("cfg"));
            let balancer = Process::spawn(ground.run(), &format!("{role}-haproxy"), command)?;
            let mut command = netns.command(&keepalived);
            command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(file("conf"));
            command.arg("--pid").arg(file("pid")).arg("--vrrp_pid").arg(file("vrrp.pid"));
            let router = Process::spawn(ground.run(), &format!("{role}-keepalived"), command)?;
            nodes.push(Node { netns, port, haproxy: balancer, keepalived: router });
        }
        let options = Options::https(ground.vip(), ground.ca_file());
        let mut pair = Incumbent { nodes, client: ground.client().clone(), options };
        at_rest(&mut pair).context("bringing up two nodes with haproxy and keepalived")?;
        Ok(pair)
    }
}

impl Pair for Incumbent {
    fn holder(&mut self) -> Result<usize, String> {
        let mut holder = None;
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let name = node.netns.role();
            if !node.haproxy.is_running() || !node.keepalived.is_running() {
                return Err(format!("on {name}, a process has ended"));
            }
            if has_vip(&node.netns) && holder.replace(index).is_some() {
                return Err("both hold the VIP".to_owned());
            }
        }
        let holder = holder.ok_or("nobody holds the VIP")?;
        // As many in a row as there are servers, each of which has its turn.
        let (log, _) =
            burst(&self.client, self.options.clone(), SERVERS.len() * 2, 1).map_err(|err| err.to_string())?;
        if log.iter().all(|attempt| attempt.outcome.is_ok()) {
            Ok(holder)
        } else {
            Err("not everybody is served".into())
        }
    }

    fn inflict(&mut self, fault: Fault, index: usize) -> Result<()> {
        let node = self.nodes.get_mut(index).context("no such node")?;
        match fault {
            Fault::Nothing => Ok(()),
            Fault::Terminated => node.keepalived.signal(Signal::SIGTERM),
            Fault::LinkCut => node.port.cut(),
            Fault::Killed => bail!("which of the processes is meant?"),
            Fault::SteppedDown => bail!("keepalived has no such command"),
        }
    }

    fn repair(&mut self, fault: Fault, index: usize) -> Result<()> {
        let node = self.nodes.get_mut(index).context("no such node")?;
        match fault {
            Fault::LinkCut => node.port.mend(),
            Fault::Nothing => Ok(()),
            Fault::Terminated | Fault::SteppedDown | Fault::Killed => bail!("a process is not started anew"),
        }
    }

    fn last_words(&self) -> String {
        let processes = self.nodes.iter().flat_map(|node| [&node.haproxy, &node.keepalived]);
        let words = processes.map(|process| format!("-- {} --\n{}", process.name(), process.log_tail(15)));
        words.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Incumbent {
    /// keepalived takes its addresses off when asked to end.
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.keepalived.signal(Signal::SIGTERM);
        }
        for node in &mut self.nodes {
            let _ = node.keepalived.wait(Duration::from_secs(5));
        }
    }
}

fn haproxy_config() -> String {
    let servers: String =
        SERVERS.iter().map(|(name, address)| format!("    server {name} {address}:6443 check\n")).collect();
    format!(
        "\
global
    maxconn 4000
defaults
    mode tcp
    option dontlognull
    retries 1
    timeout queue 20s
    timeout connect 5s
    timeout client 35s
    timeout server 35s
    timeout check 10s
frontend apiserver
    bind {VIP}
    default_backend apiserver
backend apiserver
    option httpchk GET /readyz
    http-check expect status 200
    balance roundrobin
    default-server check-ssl verify none inter 2s fall 3 rise 2
{servers}"
    )
}

fn keepalived_config(index: usize, advert_interval: &str) -> String {
    let (_, address, priority) = BALANCERS[index];
    let (_, peer, _) = BALANCERS[1 - index];
    // Both of one priority class and without preemption, as xvip's nodes are: what is compared is the move itself.
    format!(
        "\
global_defs {{
    router_id {address}
    vrrp_version 3
}}
vrrp_instance k8s {{
    state BACKUP
    nopreempt
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int {advert_interval}
    unicast_src_ip {address}
    unicast_peer {{
        {peer}
    }}
    virtual_ipaddress {{
        {VIP_ADDRESS}/24
    }}
}}
"
    )
}
