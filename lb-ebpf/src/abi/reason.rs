//! Why a packet ended as it did: at once the counter, the metric's label and the word in the log.

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// On to the host's own stack, unchanged.
    Pass,
    /// On to a backend or a client.
    Forward,
    /// On through the host's own stack, translated: its backend, or what that answers.
    Deliver,
    /// Back to its sender, turned into an answer.
    Reply,
    /// Nowhere.
    Drop,
}

impl Verdict {
    /// The metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Forward => "forward",
            Self::Deliver => "deliver",
            Self::Reply => "reply",
            Self::Drop => "drop",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $verdict:ident $label:literal,)*) => {
        /// The one reason a packet ends with.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Reason {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// How many there are.
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// What becomes of the packet.
            #[inline(always)]
            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self {
                    $(Self::$name => Verdict::$verdict,)*
                }
            }

            /// The metric's label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// What it means, in words: its description here.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)*
                }
            }
        }
    };
}

// A counter keeps its place as long as tables may be pinned: new reasons go to the end.
reasons! {
    /// Too short for an Ethernet and IP header.
    Runt = Pass "runt",
    /// The agent has not said yet what to do.
    NotConfigured = Pass "not_configured",
    /// Something other than IP, or with a VLAN tag.
    NotIp = Pass "not_ip",
    /// Sent to another Ethernet address.
    OtherMac = Pass "other_mac",
    /// Sent to an address that is no VIP.
    NotVip = Pass "not_vip",
    /// To a VIP, but not TCP.
    NotTcp = Pass "not_tcp",
    /// TCP to a VIP, but not to a service.
    NotService = Pass "not_service",

    /// First packet of a flow.
    NewFlow = Forward "new_flow",
    /// Part of a handshake.
    Handshake = Forward "handshake",
    /// The packet that completed a handshake.
    Opened = Forward "opened",
    /// Established flow, from the client.
    ToBackend = Forward "to_backend",
    /// Established flow, from the backend.
    ToClient = Forward "to_client",
    /// ICMP error about a packet of a flow, to whoever sent that.
    IcmpError = Forward "icmp_error",

    /// The same, to this node's own backend.
    IcmpErrorLocal = Deliver "icmp_error_local",
    /// First packet of a flow to this node's own backend.
    NewLocal = Deliver "new_local",
    /// Part of a handshake with this node's own backend.
    LocalHandshake = Deliver "local_handshake",
    /// The packet that completed a handshake with this node's own backend.
    LocalOpened = Deliver "local_opened",
    /// Established flow, to this node's own backend.
    ToLocal = Deliver "to_local",
    /// Established flow, from this node's own backend.
    FromLocal = Deliver "from_local",

    /// RST: no flow is known for this packet.
    NoFlow = Reply "no_flow",
    /// RST: the flow known by these addresses is an older one.
    StaleFlow = Reply "stale_flow",
    /// RST: the flow's backend is gone.
    BackendGone = Reply "backend_gone",
    /// RST: no backend takes new connections.
    NoBackend = Reply "no_backend",
    /// RST: every backend that takes new connections has as many as it may.
    BackendsFull = Reply "backends_full",
    /// RST: the service has as many connections as it may.
    ServiceFull = Reply "service_full",
    /// RST: no source port is left towards the backend.
    NoSourcePort = Reply "no_source_port",
    /// RST: the table of flows is full.
    TableFull = Reply "table_full",

    /// ICMP "fragmentation needed" (RFC 792, RFC 1191), or "packet too big" (RFC 4443): an outer packet would be longer
    /// than the interface takes.
    FragmentationNeeded = Reply "fragmentation_needed",

    /// An outer packet would be longer than the interface takes, and its sender does not want to know.
    TunnelTooBig = Drop "tunnel_too_big",
    /// The IP version contradicts the EtherType.
    IpVersion = Drop "ip_version",
    /// The IP header claims less than its minimum.
    IpHeaderLength = Drop "ip_header_length",
    /// IP options, or extension headers.
    IpOptions = Drop "ip_options",
    /// A fragment.
    IpFragment = Drop "ip_fragment",
    /// The IP packet claims more than the frame holds, or less than its headers.
    IpTotalLength = Drop "ip_total_length",
    /// The IP header checksum is wrong.
    IpChecksum = Drop "ip_checksum",
    /// No hop left to live, and nobody to be told.
    Ttl = Drop "ttl",
    /// A source address that cannot be one.
    Martian = Drop "martian",
    /// The frame ends inside the TCP header.
    TcpTruncated = Drop "tcp_truncated",
    /// The TCP header claims less than its minimum or more than the packet.
    TcpDataOffset = Drop "tcp_data_offset",
    /// TCP flags that no stack sends.
    TcpFlags = Drop "tcp_flags",
    /// A RST of no known flow.
    StrayReset = Drop "stray_reset",
    /// A backend's RST to a SYN that could not go on to another backend at once; it will when the client sends it again.
    Refused = Drop "refused",
    /// No Ethernet address is known for the next hop.
    NoNeighbour = Drop "no_neighbour",
    /// The table of half-open flows took no entry.
    HalfOpenFull = Drop "half_open_full",
    /// A RST was due, but this second's are spent.
    ResetLimit = Drop "reset_limit",
    /// The frame could not be cut to an answer, or not be written.
    CannotReply = Drop "cannot_reply",
    /// Its source is not on the service's allow list.
    NotAllowed = Drop "not_allowed",
    /// ICMP names an MTU that no path has, or is about nothing that was under way.
    IcmpForged = Drop "icmp_forged",
    /// An ICMP error was due, but this second's are spent.
    IcmpLimit = Drop "icmp_limit",
    /// Its source opens more connections than the service allows one source.
    SourceLimit = Drop "source_limit",
    /// ICMP "time exceeded" (RFC 792, RFC 4443): no hop is left to live.
    TimeExceeded = Reply "time_exceeded",
    /// An ICMP error about a TCP packet that no VIP has sent: a fragment, with options, of another address, or cut before
    /// its sequence number.
    IcmpInner = Drop "icmp_inner",
    /// Asks where a virtual address is that this node has no right to say it has any more.
    LeaseOver = Drop "lease_over",
    /// The same, said by this node's own stack.
    LeaseOverOut = Drop "lease_over_out",
    /// Another host says that it has a virtual address which this node holds.
    VipClaimed = Pass "vip_claimed",
    /// Of no flow that is known here yet: this node has just gained a VIP, and word of the flow may be under way.
    Awaited = Drop "awaited",
    /// A backend's answer to a SYN of no flow: another node may have sent that SYN.
    AnswerElsewhere = Drop "answer_elsewhere",
    /// RST: its source has as many connections as the service allows one source.
    SourceFull = Reply "source_full",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_numbered_in_order() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            assert_eq!(Reason::ALL.iter().filter(|other| other.label() == reason.label()).count(), 1);
        }
    }
}
