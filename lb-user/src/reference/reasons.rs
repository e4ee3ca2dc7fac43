//! What to do when many packets end with a reason.

use lb_ebpf::abi::Reason;

const ORDINARY: &str = "nothing: ordinary";
const BROKEN: &str = "find the sender: no stack makes such packets; a broken device on the way, or somebody who tries";

/// One sentence.
pub(super) fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::NotIp
        | Reason::OtherMac
        | Reason::NotVip
        | Reason::NotTcp
        | Reason::NewFlow
        | Reason::Handshake
        | Reason::Opened
        | Reason::ToBackend
        | Reason::ToClient
        | Reason::IcmpError
        | Reason::IcmpErrorLocal
        | Reason::NewLocal
        | Reason::LocalHandshake
        | Reason::LocalOpened
        | Reason::ToLocal
        | Reason::FromLocal => ORDINARY,
        Reason::Runt
        | Reason::IpVersion
        | Reason::IpHeaderLength
        | Reason::IpTotalLength
        | Reason::IpChecksum
        | Reason::Martian
        | Reason::TcpTruncated
        | Reason::TcpDataOffset
        | Reason::TcpFlags => BROKEN,
        Reason::NotConfigured => "see the agent's log: it does not get to write the tables",
        Reason::NotService => "nothing, unless clients ask at the wrong port: compare `listen`",
        Reason::NoFlow => {
            "clients of connections that this node does not know: some after a move of the VIP without `[sync]`, and at \
             probes of strangers; else `idle_timeout` may be too short"
        }
        Reason::StaleFlow => "nothing: a client used its port again",
        Reason::BackendGone => "nothing: clients of a backend that was lost, disabled or removed are told to reconnect",
        Reason::NoBackend => {
            "give the service a backend that takes connections: all are drained, disabled or have weight 0"
        }
        Reason::BackendsFull => "raise `max_connections` of the backends, or add one",
        Reason::ServiceFull => "raise `max_connections` of the service",
        Reason::NoSourcePort => "add `node.source_addresses`, or widen `node.source_ports`",
        Reason::TableFull => "raise `node.max_flows`, or find who opens that many connections",
        Reason::FragmentationNeeded => "nothing: senders learn how long a packet to a node behind routers may be",
        Reason::TunnelTooBig => "let ICMP through to clients; they send packets that are longer than they were told",
        Reason::IpOptions | Reason::IpFragment => {
            "find the sender: not supported; fragments come of a path MTU that somebody keeps from being found"
        }
        Reason::Ttl => "find the loop in the routes",
        Reason::StrayReset => "nothing: ends of connections that are over",
        Reason::Refused => "see why the backend refuses connections; the client's SYN goes on to another",
        Reason::NoNeighbour => "see whether the next hop answers ARP or neighbour solicitations: `ip neigh`",
        Reason::HalfOpenFull => "raise `node.max_half_open`; a flood of SYNs looks like this",
        Reason::ResetLimit => "find who sends packets of no connection: a scan, or a flood",
        Reason::CannotReply => "see the log; where it goes on, try another `node.datapath`",
        Reason::NotAllowed => "nothing where strangers ask; else put the source on `service.allow`",
        Reason::IcmpForged => "find the sender: somebody tries to slow connections down",
        Reason::IcmpLimit => "nothing: what is beyond the limit is not answered",
        Reason::SourceLimit => {
            "raise `[service.source_limit]` if those are good clients, such as many behind one address"
        }
        Reason::SourceFull => "raise `connections` in `[service.source_limit]` if those are good clients",
        Reason::TimeExceeded => "nothing: traceroute; else find the loop in the routes",
        Reason::IcmpInner => "nothing: errors about what no VIP has sent",
        Reason::LeaseOver | Reason::LeaseOverOut => {
            "start the agent, or find what takes its processor time: another node may have taken the VIP over"
        }
        Reason::VipClaimed => "find the other host by its MAC (`xvip status`) and take the VIP from it",
        Reason::Awaited => "nothing just after a move of the VIP; else see whether `[sync]` keeps up",
        Reason::AnswerElsewhere => "nothing just after a move of the VIP; else another node still sends as the VIP",
    }
}
