//! What the machine says: states, reasons, and things to do. Closed sets, each member with a label that never changes.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::family::Family;
use crate::units::WirePriority;
use crate::wire::vrrp::{Advert, ChecksumForm};
use crate::wire::{ipv4, ipv6};

/// Where a virtual router stands (RFC 9568 section 6.3; Fault is ours).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not started, or stopped.
    Initialize,
    /// Unable to take part: [`FaultReason`].
    Fault,
    /// Listening to the Active router, or for one.
    Backup,
    /// Holding the addresses.
    Active,
}

impl State {
    /// Every state, for metrics that name them all.
    pub const ALL: [Self; 4] = [Self::Initialize, Self::Fault, Self::Backup, Self::Active];

    /// `initialize`, `fault`, `backup` or `active`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Fault => "fault",
            Self::Backup => "backup",
            Self::Active => "active",
        }
    }
}

/// Why a started router cannot take part. The first of several is the one reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultReason {
    /// The interface is down, gone, or without carrier.
    LinkDown,
    /// The interface has no address to send from; follows from the configuration handed in.
    NoAddress,
    /// The node could not forward what it would attract: no datapath attached, for one.
    CannotForward,
    /// Something that the virtual router was told to heed is bad.
    Tracked,
    /// Another virtual router of its sync group cannot take part.
    Group,
}

impl FaultReason {
    /// Every reason, the most telling first.
    pub const ALL: [Self; 5] = [Self::LinkDown, Self::NoAddress, Self::CannotForward, Self::Tracked, Self::Group];

    /// `link_down`, `no_address`, `cannot_forward`, `tracked` or `group`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::LinkDown => "link_down",
            Self::NoAddress => "no_address",
            Self::CannotForward => "cannot_forward",
            Self::Tracked => "tracked",
            Self::Group => "group",
        }
    }
}

/// Why the machine is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Made, and not started yet.
    New,
    /// Told to start.
    Started,
    /// Told to continue what an earlier process did.
    Continued,
    /// Told to stop.
    Stopped,
    /// Nobody advertised for `Active_Down_Interval`.
    Silence,
    /// The Active router released the addresses and nobody more eager took them.
    Released,
    /// Only routers of lower priority advertised, and this one preempts.
    Preempted,
    /// A router with a better claim advertised.
    Outranked {
        /// Its address.
        by: IpAddr,
        /// Its priority.
        priority: WirePriority,
    },
    /// Told to hand the addresses over, and another router took them.
    SteppedDown {
        /// Its address.
        to: IpAddr,
    },
    /// Another of its sync group lost its addresses.
    Yielded,
    /// This router owns the addresses.
    Owner,
    /// Active, this process did not run for so long that a peer may have taken over.
    Slept,
    /// Unable to take part.
    Fault(FaultReason),
    /// The last fault is over.
    Cleared,
    /// The configuration names another virtual router.
    Reconfigured,
}

impl Why {
    /// Label for logs, events and status.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Started => "started",
            Self::Continued => "continued",
            Self::Stopped => "stopped",
            Self::Silence => "silence",
            Self::Released => "released",
            Self::Preempted => "preempted",
            Self::Outranked { .. } => "outranked",
            Self::SteppedDown { .. } => "stepped_down",
            Self::Yielded => "yielded",
            Self::Owner => "owner",
            Self::Slept => "slept",
            Self::Fault(reason) => reason.label(),
            Self::Cleared => "cleared",
            Self::Reconfigured => "reconfigured",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("not started"),
            Self::Started => f.write_str("started"),
            Self::Continued => {
                f.write_str("an earlier process of this node held the addresses, and nobody has taken them since")
            }
            Self::Stopped => f.write_str("stopped"),
            Self::Silence => f.write_str("no advert from an active router"),
            Self::Released => f.write_str("the active router released the addresses"),
            Self::Preempted => f.write_str("the active router had a lower priority"),
            Self::Outranked { by, priority } => write!(f, "{by} advertises priority {priority}"),
            Self::SteppedDown { to } => write!(f, "handed over to {to} by command"),
            Self::Yielded => f.write_str("another of its sync group does not hold its addresses"),
            Self::Owner => f.write_str("this router owns the addresses"),
            Self::Slept => f.write_str("the process did not run for too long"),
            Self::Fault(FaultReason::LinkDown) => f.write_str("the interface is down"),
            Self::Fault(FaultReason::NoAddress) => f.write_str("the interface has no address"),
            Self::Fault(FaultReason::CannotForward) => f.write_str("this node cannot forward"),
            Self::Fault(FaultReason::Tracked) => f.write_str("something it tracks is bad"),
            Self::Fault(FaultReason::Group) => f.write_str("another of its sync group is in fault"),
            Self::Cleared => f.write_str("the fault is over"),
            Self::Reconfigured => f.write_str("reconfigured"),
        }
    }
}

/// Why an advert had no effect. Each is also a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdvertFault {
    /// Initialize or Fault: no part in the election.
    NotRunning,
    /// It crossed a router (RFC 9568 section 7.1).
    Ttl(u8),
    /// For another virtual router.
    Vrid,
    /// From ourselves, reflected; or another node has our address.
    OwnAddress,
    /// From an address no node can have, or of the other family.
    Source,
    /// Unicast, and not from a peer.
    NotPeer,
}

impl AdvertFault {
    /// Label for counters and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotRunning => "not_running",
            Self::Ttl(_) => "ttl",
            Self::Vrid => "vrid",
            Self::OwnAddress => "own_address",
            Self::Source => "source",
            Self::NotPeer => "not_peer",
        }
    }
}

/// A difference in configuration between us and the sender of an advert that takes part all the same: refusing it
/// would make two Active routers of one mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// It names other virtual addresses.
    Addresses,
    /// It advertises at another interval.
    Interval,
}

impl Mismatch {
    /// Label for counters and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Addresses => "mismatch_addresses",
            Self::Interval => "mismatch_interval",
        }
    }
}

/// Why an Active router announces its addresses once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Announcement {
    /// A router with a lesser claim advertised, so neighbours may have been told that it has the addresses.
    Contested,
    /// Another router released the addresses.
    ReleaseHeard,
    /// The virtual addresses changed.
    AddressesChanged,
}

impl Announcement {
    /// Label for logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Contested => "contested",
            Self::ReleaseHeard => "release_heard",
            Self::AddressesChanged => "addresses_changed",
        }
    }
}

/// An advert with everything needed to send it. TTL or hop limit is 255, always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Source address.
    pub src: IpAddr,
    /// Unicast peers; empty: multicast.
    pub peers: Arc<[IpAddr]>,
    /// What to say.
    pub advert: Advert,
}

impl Transmit {
    /// Where to send it: the peers, or the group.
    #[must_use]
    pub fn destinations(&self) -> &[IpAddr] {
        const V4: &[IpAddr] = &[IpAddr::V4(ipv4::MULTICAST)];
        const V6: &[IpAddr] = &[IpAddr::V6(ipv6::MULTICAST)];
        match self.advert.addresses.family() {
            _ if !self.peers.is_empty() => &self.peers,
            Family::V4 => V4,
            Family::V6 => V6,
        }
    }

    /// The message for one destination.
    #[must_use]
    pub fn emit(&self, dst: IpAddr, form: ChecksumForm) -> Vec<u8> {
        self.advert.emit(self.src, dst, form)
    }
}

/// What the driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this advert now.
    Send(Transmit),
    /// The state changed. On Active: add the addresses, then announce them to the neighbours. On leaving Active: the
    /// reverse, at once.
    Entered {
        /// The state before.
        from: State,
        /// The state now.
        state: State,
        /// What caused it.
        why: Why,
    },
    /// Still Active: announce the addresses to the neighbours again. Paced by the machine.
    Announce(Announcement),
    /// An advert had no effect. One for each such advert: count all, log few.
    Rejected {
        /// Its source, as claimed.
        src: IpAddr,
        /// Why.
        fault: AdvertFault,
    },
    /// An advert took part and shows a difference in configuration. One for each such advert: count all, log few.
    Mismatch {
        /// Its source, as claimed.
        src: IpAddr,
        /// What differs.
        mismatch: Mismatch,
    },
}
