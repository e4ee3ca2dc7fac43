//! A copy of the tables, as far as one connection's first packet asks for them, for the datapath to decide by.

use std::cell::{Cell, UnsafeCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_ebpf::abi::{
    Backend, Change, Endpoint, Flow, FlowKey, Moment, NoHint, Node, PortKey, Pulse, Service, SharedFlow, SharedLease,
    SharedPulse, SharedSyn, Sharing, Source, SourceLimit, Syn,
};
use lb_ebpf::datapath::balance::{Connections, Rounds};
use lb_ebpf::datapath::lease::Leases;
use lb_ebpf::datapath::ports::{Search, Try};
use lb_ebpf::datapath::tables::{Drafts, Note, Refused, Tables};
use lb_ebpf::net::{Be32, Be128, Family, V4, V6};

/// What the tables say.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The client.
    pub client: SocketAddr,
    /// Where it connects to.
    pub listener: SocketAddr,
    /// This node.
    pub node: Node,
    /// The VIPs.
    pub vips: BTreeSet<Be128>,
    /// Whether the client's address is one of this node's own.
    pub is_own: bool,
    /// What is behind the listener.
    pub service: Option<Service>,
    /// Whether the service's allow list has the client.
    pub is_allowed: bool,
    /// How many connections one source may open.
    pub limit: Option<SourceLimit>,
    /// When the bucket of the client's source is full again, nanoseconds of the kernel's monotonic clock.
    pub filled: Option<u64>,
    /// Until when the client's source is taken for one that has as many connections as it may; of the same clock.
    pub full_until: Option<u64>,
    /// The service's round, and behind it the slots of its backends with a share.
    pub ring: Vec<u32>,
    /// Its backends by slot.
    pub backends: BTreeMap<u32, Backend>,
    /// Connections by slot, or by [`lb_ebpf::abi::service_load`].
    pub connections: BTreeMap<u32, Connections>,
    /// How its backends answer, by slot.
    pub pulses: BTreeMap<u32, Pulse>,
    /// Nanoseconds of the kernel's monotonic clock.
    pub now: u64,
}

/// One try of a decision. What it would change is forgotten.
pub(super) struct Trial<'a> {
    facts: &'a Facts,
    turn: u32,
    limit: Option<SourceLimit>,
    filled: Option<Moment>,
    pulses: BTreeMap<u32, SharedPulse>,
    chosen: Cell<Option<u32>>,
    four: UnsafeCell<Drafts<Be32>>,
    six: UnsafeCell<Drafts<Be128>>,
}

impl<'a> Trial<'a> {
    /// The one that gets this turn.
    pub(super) fn new(facts: &'a Facts, turn: u32) -> Self {
        let pulse = |pulse: &Pulse| SharedPulse {
            since: pulse.since.into(),
            waiting: pulse.waiting.into(),
            last: pulse.last.into(),
            told: pulse.told.into(),
            ..SharedPulse::default()
        };
        Self {
            facts,
            turn,
            limit: facts.limit,
            filled: facts.filled.map(Moment::from),
            pulses: facts.pulses.iter().map(|(slot, of)| (*slot, pulse(of))).collect(),
            chosen: Cell::new(None),
            four: UnsafeCell::default(),
            six: UnsafeCell::default(),
        }
    }

    /// The slot of the backend that the connection has gone to.
    pub(super) fn chosen(&self) -> Option<u32> {
        self.chosen.get()
    }
}

impl Facts {
    /// How the backend in a slot answers.
    pub(super) fn is_suspect(&self, slot: u32) -> bool {
        let trial = Trial::new(self, 0);
        let millis = u32::try_from((self.now / 1_000_000) & u64::from(u32::MAX)).unwrap_or_default();
        trial.pulses.get(&slot).is_some_and(|pulse| lb_ebpf::datapath::is_suspect(pulse, &self.node, millis))
    }
}

impl Rounds for Facts {
    fn backend(&self, slot: u32) -> Option<&Backend> {
        self.backends.get(&slot)
    }

    fn ring(&self, place: u32) -> Option<u32> {
        let start = self.service.as_ref()?.ring_start;
        self.ring.get(usize::try_from(place.checked_sub(start)?).ok()?).copied()
    }

    fn take_turn(&self, _service: u32) -> Option<u32> {
        Some(0)
    }

    fn connections(&self, at: u32) -> Connections {
        self.connections.get(&at).copied().unwrap_or_default()
    }

    fn count(&self, _at: u32, _change: Change) {}
}

impl Rounds for Trial<'_> {
    fn backend(&self, slot: u32) -> Option<&Backend> {
        self.facts.backend(slot)
    }

    fn ring(&self, place: u32) -> Option<u32> {
        self.facts.ring(place)
    }

    fn take_turn(&self, _service: u32) -> Option<u32> {
        Some(self.turn)
    }

    fn connections(&self, at: u32) -> Connections {
        self.facts.connections(at)
    }

    fn count(&self, _at: u32, _change: Change) {}
}

impl Leases for Trial<'_> {
    fn own_mac(&self) -> Option<[u8; 6]> {
        Some(self.facts.node.mac)
    }

    fn lease(&self, _address: Be128) -> Option<&SharedLease> {
        None
    }

    fn boot_nanoseconds(&self) -> u64 {
        0
    }

    fn claimed(&self, _address: Be128, _mac: [u8; 6]) {}
}

macro_rules! tables {
    ($family:ty, $drafts:ident) => {
        impl Tables<$family> for Trial<'_> {
            fn node(&self) -> Option<&Node> {
                (self.facts.node.version != 0).then_some(&self.facts.node)
            }

            fn sharing(&self) -> Option<&Sharing> {
                None
            }

            fn now(&self) -> u32 {
                u32::try_from(self.facts.now / 1_000_000_000).unwrap_or_default()
            }

            fn nanoseconds(&self) -> u64 {
                self.facts.now
            }

            fn micros(&self) -> u64 {
                self.facts.now / 1000
            }

            fn is_vip(&self, address: <$family as Family>::Address) -> bool {
                self.facts.vips.contains(&address.into())
            }

            fn is_own(&self, _address: <$family as Family>::Address) -> bool {
                self.facts.is_own
            }

            fn service(&self, listener: &Endpoint) -> Option<Service> {
                self.facts.service.filter(|_| Endpoint::from(self.facts.listener) == *listener)
            }

            fn is_allowed(&self, _list: u32, _address: <$family as Family>::Address) -> bool {
                self.facts.is_allowed
            }

            fn source_limit(&self, _service: u32) -> Option<&SourceLimit> {
                self.limit.as_ref()
            }

            fn limited(&self, _source: &Source) -> Option<&Moment> {
                self.filled.as_ref()
            }

            fn add_limited(&self, _source: &Source, _filled: u64) {}

            fn full_until(&self, _source: &Source) -> Option<u64> {
                self.facts.full_until
            }

            fn is_fellow(&self, _mac: [u8; 6]) -> bool {
                false
            }

            fn is_tunnel(&self, _from: <$family as Family>::Address) -> bool {
                false
            }

            fn is_backend(&self, _endpoint: &Endpoint) -> bool {
                false
            }

            fn take_port(&self, _slot: u32, _step: u32) -> Option<u32> {
                Some(0)
            }

            // Which port it gets, the datapath finds out by trying: here there is one.
            fn find_port(&self, _key: &mut FlowKey<<$family as Family>::Address>, _slot: u32, _is_local: bool) -> bool {
                true
            }

            fn try_port(&self, _search: &Search<<$family as Family>::Address>, _in_need: bool) -> Try {
                Try::Free
            }

            fn take_hint(&self, _search: &Search<<$family as Family>::Address>, from: u16) -> Result<u16, NoHint> {
                Ok(from)
            }

            fn is_exhausted(&self, _key: PortKey) -> bool {
                false
            }

            fn source(&self, _number: u32) -> Option<<$family as Family>::Address> {
                None
            }

            fn random(&self) -> u32 {
                0
            }

            // It is a new connection that is decided about.
            fn established(
                &self, _key: &FlowKey<<$family as Family>::Address>,
            ) -> Option<&SharedFlow<<$family as Family>::Address>> {
                None
            }

            fn half_open(
                &self, _key: &FlowKey<<$family as Family>::Address>,
            ) -> Option<&SharedFlow<<$family as Family>::Address>> {
                None
            }

            unsafe fn drafts(&self) -> Option<&mut Drafts<<$family as Family>::Address>> {
                // SAFETY: the caller uses nothing that an earlier call has returned, and nobody else has the place.
                Some(unsafe { &mut *self.$drafts.get() })
            }

            fn syn(&self, _client: &FlowKey<<$family as Family>::Address>) -> Option<&SharedSyn> {
                None
            }

            unsafe fn syn_draft(&self) -> Option<&mut Syn> {
                None
            }

            fn keep_syn(&self, _client: &FlowKey<<$family as Family>::Address>, _syn: &Syn) {}

            fn forget_syn(&self, _client: &FlowKey<<$family as Family>::Address>) {}

            fn pulse(&self, slot: u32) -> Option<&SharedPulse> {
                self.pulses.get(&slot)
            }

            fn count_handshake(&self, _slot: u32, _micros: u32) {}

            fn count_retry(&self, _slot: u32, _refused: bool) {}

            fn suspect(&self, _slot: u32) {}

            fn add_established(
                &self, _key: &FlowKey<<$family as Family>::Address>, _flow: &Flow<<$family as Family>::Address>,
            ) -> Result<(), Refused> {
                Ok(())
            }

            fn add_half_open(
                &self, _key: &FlowKey<<$family as Family>::Address>, flow: &Flow<<$family as Family>::Address>,
            ) -> Result<(), Refused> {
                self.chosen.set(Some(flow.backend.into()));
                Ok(())
            }

            fn remove_established(&self, _key: &FlowKey<<$family as Family>::Address>) {}

            fn remove_half_open(&self, _key: &FlowKey<<$family as Family>::Address>) {}

            // The kernel finds the way when there is a packet.
            fn next_hop(
                &self, _source: <$family as Family>::Address, _destination: <$family as Family>::Address, _length: u16,
            ) -> Option<[u8; 6]> {
                Some([2, 0, 0, 0, 0, 2])
            }

            fn spend_reset(&self, _now: u32, _per_second: u32) -> bool {
                true
            }

            fn spend_error(&self, _now: u32) -> bool {
                true
            }

            fn count_in(&self, _slot: u32, _bytes: u64, _opened: bool) {}

            fn count_out(&self, _slot: u32, _bytes: u64) {}

            fn note(&self, _note: Note, _client: &FlowKey<<$family as Family>::Address>, _slot: u32) {}
        }
    };
}

tables!(V4, four);
tables!(V6, six);
