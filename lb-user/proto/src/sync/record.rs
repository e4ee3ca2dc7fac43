//! A flow in words that every node understands: addresses instead of slots and numbers, which differ from node to node.

use std::net::{IpAddr, SocketAddr};

/// What tells a flow from all others: the client's end and the listener's. Both are of one IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The VIP and port it connected to.
    pub listener: SocketAddr,
}

/// How packets of a flow reach its backend, as seen from any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Translated: the backend sees this source address and port, which move with the VIP or are this node's own.
    Translated(SocketAddr),
    /// The backend is a server of the node with this address, which has the flow in its own tables and answers the client
    /// itself, seeing the client's address and this port.
    OnNode {
        /// Where other nodes send the flow's packets, unchanged.
        node: IpAddr,
        /// The client's port as the server sees it.
        port: u16,
    },
    /// The backend's own node translates and answers the client (mode "dsr").
    Direct,
}

/// An established flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    /// Which flow.
    pub key: Key,
    /// The backend's address and port.
    pub backend: SocketAddr,
    /// How its packets get there.
    pub path: Path,
    /// Ethernet address of the client's next hop on the segment that the balancers share; zero when unknown.
    pub next_hop: [u8; 6],
    /// Seconds since its last packet.
    pub silent_seconds: u32,
}

/// What happened to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It was established.
    Opened(Record),
    /// It has ended.
    Closed(Key),
}

impl Change {
    /// Of which flow.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Opened(record) => &record.key,
            Self::Closed(key) => key,
        }
    }
}

/// A flow that had a packet on a node within this time lives there, whatever others say.
pub const FRESH_SECONDS: u32 = 5;

/// Two records of one flow whose last packets are less apart than this may be equally old, since they were not read at the
/// same moment.
const SAME_AGE_SECONDS: u32 = 5;

impl Record {
    /// Whether this record of a flow takes the place of another one of the same flow, such as two nodes have that both held
    /// the VIP: the one whose packets were seen later does, since that is the one that lives; where both are of one age, the
    /// one with the lower backend, then the lower path. All nodes come to the same.
    #[must_use]
    pub fn supersedes(&self, known: &Self) -> bool {
        let (this, that) = ((self.backend, self.path), (known.backend, known.path));
        if this == that {
            return false;
        }
        match self.silent_seconds.abs_diff(known.silent_seconds) {
            0..SAME_AGE_SECONDS => this < that,
            _ => self.silent_seconds < known.silent_seconds,
        }
    }
}
