//! Wires between namespaces: one Ethernet segment, its ports, and the ways to break them.
//!
//! A port is a veth pair whose bridge side is set up so that frames reach the other side as from a real NIC: checksums finished,
//! segments at wire size, and GRO on, without which frames redirected out of the device by XDP are lost.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::netns::Netns;
use crate::run::Run;

const BRIDGE: &str = "br0";
const ELSEWHERE: &str = "br1";

/// An Ethernet segment: a bridge in a namespace of its own, and a second one for whoever is parted from it.
#[derive(Debug)]
pub struct Lan {
    netns: Netns,
}

impl Lan {
    /// Makes an empty segment; `role` names its namespace.
    pub fn create(run: &Arc<Run>, role: &str) -> Result<Lan> {
        let netns = Netns::create(run, role)?;
        for bridge in [BRIDGE, ELSEWHERE] {
            netns.ip(&format!("link add {bridge} type bridge forward_delay 0"))?;
            netns.ip(&format!("link set {bridge} up"))?;
        }
        // There only with br_netfilter; then bridged frames would pass the host's packet filter.
        let key = "net/bridge/bridge-nf-call-iptables";
        if Path::new("/proc/sys").join(key).exists() {
            netns.sysctl(key, "0")?;
        }
        Ok(Lan { netns })
    }

    /// The namespace of the bridge, e.g. to listen to all traffic on `br0`.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Plugs `device` of `netns` in; `address` with prefix length, or empty for none.
    pub fn attach(&self, netns: &Netns, device: &str, address: &str) -> Result<Port> {
        // A link name holds 15 bytes; the role alone would do but for a namespace with two ports.
        let name: String = format!("{}.{device}", netns.role()).chars().take(15).collect();
        self.netns.ip(&format!("link add {name} type veth peer name {device} netns {}", netns.path().display()))?;
        finish_frames(&self.netns, &name)?;
        self.netns.ip(&format!("link set {name} master {BRIDGE} up"))?;
        if !address.is_empty() {
            netns.ip(&format!("address add {address} dev {device}"))?;
        }
        netns.ip(&format!("link set {device} up"))?;
        Ok(Port { lan: self.netns.clone(), name })
    }

    /// Parts these ports from all others; among themselves they still talk. Their links stay up: nobody is told.
    pub fn partition(&self, ports: &[&Port]) -> Result<()> {
        ports.iter().try_for_each(|port| port.plug_into(ELSEWHERE))
    }

    /// Puts parted ports back.
    pub fn heal(&self, ports: &[&Port]) -> Result<()> {
        ports.iter().try_for_each(|port| port.plug_into(BRIDGE))
    }
}

/// The bridge's end of a wire.
#[derive(Debug)]
pub struct Port {
    lan: Netns,
    name: String,
}

impl Port {
    /// Name of the bridge's end.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cuts the wire: the other end loses its carrier.
    pub fn cut(&self) -> Result<()> {
        self.lan.ip(&format!("link set {} down", self.name)).map(drop)
    }

    /// Mends a cut wire.
    pub fn mend(&self) -> Result<()> {
        self.lan.ip(&format!("link set {} up", self.name)).map(drop)
    }

    /// Takes the port out of the bridge: nothing passes, and the other end is not told.
    pub fn silence(&self) -> Result<()> {
        self.lan.ip(&format!("link set {} nomaster", self.name)).map(drop)
    }

    /// Ends a silence.
    pub fn unsilence(&self) -> Result<()> {
        self.plug_into(BRIDGE)
    }

    /// Switches generic receive offload of the bridge's end on or off. Without it, what XDP redirects out of the other end is lost.
    pub fn set_gro(&self, on: bool) -> Result<()> {
        set_gro(&self.lan, &self.name, on)
    }

    fn plug_into(&self, bridge: &str) -> Result<()> {
        self.lan.ip(&format!("link set {} master {bridge}", self.name)).map(drop)
    }
}

/// Lets `device` of `netns` send frames as a veth does that nobody has touched: checksums left unfinished, segments joined.
pub fn leave_frames(netns: &Netns, device: &str) -> Result<()> {
    netns.enter(|| like_a_veth(device))?.with_context(|| format!("setting the offloads of {device}"))
}

/// Lets `device` of `netns` send frames as they go over a wire: checksums finished, segments at wire size.
pub fn finish_frames(netns: &Netns, device: &str) -> Result<()> {
    netns.enter(|| like_a_nic(device))?.with_context(|| format!("setting the offloads of {device}"))
}

/// Lets a packet of `device` be a packet in both directions: nothing unfinished, nothing joined.
pub fn single_packets(netns: &Netns, device: &str) -> Result<()> {
    netns.enter(|| offload(device, 0, 0))?.with_context(|| format!("setting the offloads of {device}"))
}

/// Switches generic receive offload, which joins segments, on or off.
pub fn set_gro(netns: &Netns, device: &str, on: bool) -> Result<()> {
    netns.enter(|| ethtool(device, SET_GRO, on.into()))?.with_context(|| format!("setting GRO of {device}")).map(drop)
}

/// What `ethtool -K <device> tx off tso off gso off gro on` does, without ethtool.
fn like_a_nic(device: &str) -> io::Result<()> {
    offload(device, 0, 1)
}

/// The reverse: what a veth begins with.
fn like_a_veth(device: &str) -> io::Result<()> {
    offload(device, 1, 0)
}

fn offload(device: &str, sending: u32, receiving: u32) -> io::Result<()> {
    for (command, value) in [(SET_TX_CHECKSUM, sending), (SET_TSO, sending), (SET_GSO, sending), (SET_GRO, receiving)] {
        ethtool(device, command, value)?;
    }
    for (command, value) in [(TX_CHECKSUM, sending), (TSO, sending), (GSO, sending), (GRO, receiving)] {
        if ethtool(device, command, 0)? != value {
            return Err(io::Error::other("the device keeps its offloads"));
        }
    }
    Ok(())
}

// linux/ethtool.h
const TX_CHECKSUM: u32 = 0x16;
const SET_TX_CHECKSUM: u32 = 0x17;
const TSO: u32 = 0x1e;
const SET_TSO: u32 = 0x1f;
const GSO: u32 = 0x23;
const SET_GSO: u32 = 0x24;
const GRO: u32 = 0x2b;
const SET_GRO: u32 = 0x2c;
// linux/sockios.h
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// `struct ethtool_value`
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// One SIOCETHTOOL request in the current namespace; returns the data the kernel left.
fn ethtool(device: &str, command: u32, data: u32) -> io::Result<u32> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = EthtoolValue { command, data };
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(device.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request points at `value`, which outlives the call and is what these commands read and write.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
