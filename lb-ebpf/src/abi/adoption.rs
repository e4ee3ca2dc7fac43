//! Entries made from what another node says of a flow.

use super::{Delivery, Direction, Endpoint, Flow, FlowKey, split_mac, state};
use crate::net::{Address, Be128};

/// A flow as another node has it, with the places that its ends have on this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adoption {
    /// Key of the client's packets.
    pub client: FlowKey<Be128>,
    /// Where the backend listens.
    pub backend: Endpoint,
    /// Where the backend believes its client to be; anything where the packets stay as they are.
    pub seen_as: Endpoint,
    /// How packets reach the backend from this node.
    pub delivery: Delivery,
    /// Slot of the backend.
    pub slot: u16,
    /// Its generation.
    pub generation: u32,
    /// Number of the service.
    pub service: u16,
    /// Seconds the flow may be silent.
    pub idle_seconds: u32,
    /// Ethernet address of the client's next hop; zero when unknown.
    pub mac: [u8; 6],
    /// Second of its last packet, monotonic clock of the kernel here.
    pub seen: u32,
    /// Where packets stay as they are, the client's port as the server sees it; 0: not known.
    pub server_port: u16,
}

/// An entry with its key.
pub type Keyed<A> = (FlowKey<A>, Flow<A>);

impl Adoption {
    /// The entries: for packets from the client, and for answers, where these pass this node.
    ///
    /// Their numbers are unknown; the first packet in each direction sets them.
    #[must_use]
    pub fn entries<A: Address>(&self) -> (Keyed<A>, Option<Keyed<A>>) {
        let key = FlowKey {
            source: A::of(self.client.source),
            destination: A::of(self.client.destination),
            source_port: self.client.source_port,
            destination_port: self.client.destination_port,
        };
        let is_direct = matches!(self.delivery, Delivery::Direct | Delivery::Tunnelled);
        let translated = if is_direct {
            key
        } else {
            FlowKey {
                source: A::of(self.seen_as.address),
                destination: A::of(self.backend.address),
                source_port: self.seen_as.port,
                destination_port: self.backend.port,
            }
        };
        let (mac_high, mac_low) = split_mac(self.mac);
        let there = Flow {
            backend: self.slot,
            service: self.service,
            generation: self.generation,
            idle_seconds: self.idle_seconds,
            state: state::UNSURE | state::LEARNT,
            mac_high,
            mac_low,
            // Nobody looks for the client of such a flow.
            routed: if is_direct { self.server_port.into() } else { 0 },
            ..Flow::new(&key, translated, Direction::ToBackend, self.seen).delivered(&key, self.delivery)
        };
        let back = (!is_direct).then(|| {
            let back = there.answering(&key, self.seen);
            (there.other(), Flow { state: state::UNSURE | state::LEARNT, ..back })
        });
        ((key, there), back)
    }
}
