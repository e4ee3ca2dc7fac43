//! The kernel's own NAT: a namespace whose nftables rules say what xvip does, and a wire to it.

use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use lb_ebpf::cases::checksum;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, setsockopt, sockopt};
use nix::unistd::read;
use xvip::sock::frame::hear;
use xvip_tests::capture::Sender;
use xvip_tests::netns::Netns;
use xvip_tests::run::Run;
use xvip_tests::wire::{finish_frames, set_gro};

/// The node's end of the wire.
const DEVICE: &str = "eth0";
/// Ours.
const WIRE: &str = "wire";
/// How long a frame may take that is certain to be answered.
const PATIENCE: PollTimeout = PollTimeout::MAX;
/// EtherType and protocol fields of a question that the node's stack answers at once.
const ECHO: [u8; 2] = [0x7e, 0x57];

/// What the node is, in the words of `ip`; `sixth` of the stories' addresses are below 2001:db8::.
const LINKS: [&str; 16] = [
    "link set eth0 address 02:00:00:00:00:11 addrgenmode none",
    "address add 192.0.2.21/24 dev eth0",
    "address add 192.0.2.100/32 dev eth0",
    "address add 2001:db8::c0:0:2:15/128 dev eth0 nodad",
    "address add 2001:db8::c0:0:2:64/128 dev eth0 nodad",
    "link set eth0 up",
    "neighbour add 192.0.2.1 lladdr 02:00:00:00:00:22 nud permanent dev eth0",
    "neighbour add 192.0.2.31 lladdr 02:00:00:00:01:00 nud permanent dev eth0",
    "neighbour add 2001:db8::c0:0:2:1 lladdr 02:00:00:00:00:22 nud permanent dev eth0",
    "neighbour add 2001:db8::c0:0:2:1f lladdr 02:00:00:00:01:00 nud permanent dev eth0",
    "route add default via 192.0.2.1",
    "-6 route add 2001:db8::c0:0:2:0/112 dev eth0",
    "-6 route add default via 2001:db8::c0:0:2:1 dev eth0",
    "link show eth0",
    "-4 route show",
    "-6 route show",
];

/// Conntrack looks at no checksum and no window, takes up no connection in the middle, and forgets soon: what is compared is
/// the translation. The node's own errors are not limited. Fragments that wait for others do so until the end.
const SETTINGS: [(&str, &str); 21] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/eth0/send_redirects", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/eth0/rp_filter", "0"),
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv4/ipfrag_time", "3600"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/icmp/ratelimit", "0"),
    ("net/ipv6/auto_flowlabels", "0"),
    ("net/ipv6/ip6frag_time", "3600"),
    ("net/netfilter/nf_conntrack_frag6_timeout", "3600"),
    ("net/netfilter/nf_conntrack_checksum", "0"),
    ("net/netfilter/nf_conntrack_tcp_be_liberal", "1"),
    ("net/netfilter/nf_conntrack_tcp_loose", "0"),
    ("net/netfilter/nf_conntrack_tcp_timeout_established", "30"),
    ("net/netfilter/nf_conntrack_tcp_timeout_syn_sent", "30"),
    ("net/netfilter/nf_conntrack_tcp_timeout_syn_recv", "30"),
    ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "30"),
    ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "30"),
    ("net/netfilter/nf_conntrack_tcp_timeout_unacknowledged", "30"),
];

const RULES: &str = "
table inet nat {
    chain untracked {
        type filter hook prerouting priority raw;
        icmp type { echo-request, echo-reply } notrack
    }
    chain to_backend {
        type nat hook prerouting priority dstnat;
        ip daddr 192.0.2.100 tcp dport 8443 dnat ip to 192.0.2.31:6443
        ip6 daddr 2001:db8::c0:0:2:64 tcp dport 8443 dnat ip6 to [2001:db8::c0:0:2:1f]:6443
    }
    chain from_vip {
        type nat hook postrouting priority srcnat;
        ip daddr 192.0.2.31 tcp dport 6443 snat ip to 192.0.2.100:30000-60000
        ip6 daddr 2001:db8::c0:0:2:1f tcp dport 6443 snat ip6 to [2001:db8::c0:0:2:64]:30000-60000
    }
}
";

/// The namespace, and our end of the wire to it.
pub(crate) struct Nat {
    _node: Netns,
    _outside: Netns,
    sender: Sender,
    heard: OwnedFd,
    questions: u64,
    buffer: Vec<u8>,
}

impl Nat {
    /// Makes it, with its rules.
    pub(crate) fn new(run: &Arc<Run>) -> Result<Self> {
        let (node, outside) = (Netns::create(run, "nat")?, Netns::create(run, "wire")?);
        outside.ip(&format!("link add {WIRE} type veth peer name {DEVICE} netns {}", node.path().display()))?;
        outside.ip(&format!("link set {WIRE} addrgenmode none"))?;
        outside.ip(&format!("link set {WIRE} up"))?;
        for words in LINKS {
            node.ip(words)?;
        }
        finish_frames(&node, DEVICE)?;
        set_gro(&node, DEVICE, false)?;
        let rules = node.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
        let mut rules = rules.context("the program `nft` is needed: install the package nftables")?;
        rules.stdin.take().context("nft has a standard input")?.write_all(RULES.as_bytes())?;
        ensure!(rules.wait()?.success(), "nft takes no such rules");
        for (key, value) in SETTINGS {
            node.sysctl(key, value)?;
        }
        let heard = outside.enter(|| -> Result<OwnedFd> {
            let all = libc::ETH_P_ALL as u16;
            let socket = hear(if_nametoindex(WIRE)?, all, SockFlag::SOCK_NONBLOCK)?;
            setsockopt(&socket, sockopt::RcvBufForce, &(4 << 20))?;
            ignore_outgoing(&socket)?;
            Ok(socket)
        })??;
        let sender = Sender::open(&outside, WIRE)?;
        Ok(Self { _node: node, _outside: outside, sender, heard, questions: 0, buffer: vec![0; 65_536] })
    }

    /// Sends a frame to the node; returns all that came out of it because of that.
    ///
    /// A question behind it, which the node answers, tells when everything has come: packets do not overtake each other.
    pub(crate) fn pass(&mut self, frame: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.questions += 1;
        let question = question(self.questions);
        self.sender.send(frame)?;
        self.sender.send(&question)?;
        let mut came = Vec::new();
        loop {
            let length = match read(&self.heard, &mut self.buffer) {
                Ok(length) => length,
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    let ready = poll(&mut [PollFd::new(self.heard.as_fd(), PollFlags::POLLIN)], PATIENCE)?;
                    ensure!(ready > 0, "the node answers no echo request");
                    continue;
                }
                Err(error) => bail!("listening: {error}"),
            };
            let frame = &self.buffer[..length];
            if frame.get(34..36) == Some(&[0, 0]) && frame.get(38..40) == Some(&ECHO) {
                if frame.get(42..50) == Some(&self.questions.to_be_bytes()) {
                    return Ok(came);
                }
            } else if !is_of_the_link(frame) {
                came.push(frame.to_vec());
            }
        }
    }
}

/// An echo request to the node's own address, with a number.
fn question(number: u64) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0x11, 2, 0, 0, 0, 0, 0x22, 8, 0];
    let mut ip = vec![0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 21];
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut icmp = vec![8, 0, 0, 0, ECHO[0], ECHO[1], 0, 1];
    icmp.extend(number.to_be_bytes());
    let sum = checksum(&[&icmp]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(icmp);
    frame
}

/// What the kernel says by itself: groups joined, routers and neighbours looked for.
fn is_of_the_link(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([8, 0]) => frame.get(23) == Some(&2),
        // Behind a hop-by-hop header, or neighbour discovery.
        Some([0x86, 0xdd]) => {
            frame.get(20) == Some(&0) && frame.get(..2) == Some(&[0x33, 0x33])
                || frame.get(20) == Some(&58) && matches!(frame.get(54), Some(130..=143))
        }
        _ => true,
    }
}

/// Does not hear what is sent.
fn ignore_outgoing(socket: &OwnedFd) -> std::io::Result<()> {
    // linux/if_packet.h
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a live value of the length given, and the kernel only reads it.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
