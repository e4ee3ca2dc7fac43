//! The tables of flows as they are, for people: those that somebody asks for, and no more of them than asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use aya::Pod;
use aya::maps::{HashMap, IterableMap, MapData, MapError};
use lb_ebpf::abi::{Backend, Flow, FlowKey, map, state};
use lb_ebpf::net::{Address, Be16, Be32, Be128};

use super::attach::directory_of;
use super::batch::entries;
use super::flows::{Found, Pins, View, key_of, narrow};
use super::tables::{TableError, at};
use crate::clock;

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its handshake is not complete.
    Opening,
    /// Established.
    Established,
    /// One of its ends has said that it sends no more.
    Closing,
}

impl Stage {
    /// As in answers of the agent.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::Closing => "closing",
        }
    }
}

/// A flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The client.
    pub client: SocketAddr,
    /// Where it connected to.
    pub listener: SocketAddr,
    /// Slot and generation of its backend.
    pub place: (u16, u32),
    /// Where the backend listens.
    pub backend: SocketAddr,
    /// Where the backend believes its client to be; `None` where it, or its own node, is told by the packets themselves.
    pub seen_as: Option<SocketAddr>,
    /// How far it is.
    pub stage: Stage,
    /// Seconds without a packet in either direction.
    pub idle_seconds: u32,
    /// Seconds it may be silent.
    pub idle_limit: u32,
    /// Whether another node has told of it.
    pub is_learnt: bool,
}

/// Which flows are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of clients with this address.
    pub client: Option<IpAddr>,
    /// Of clients with this port.
    pub client_port: Option<u16>,
    /// Towards the backends in these slots, with their generations.
    pub places: Option<Vec<(u16, u32)>>,
    /// So many at most.
    pub most: usize,
}

impl Wanted {
    fn is<A: Address>(&self, key: &FlowKey<A>, flow: &Flow<A>) -> bool {
        let from = || -> Be128 { key.source.into() };
        self.client.is_none_or(|client| from() == client.into())
            && self.client_port.is_none_or(|port| key.source_port == Be16::new(port))
            && self.places.as_ref().is_none_or(|places| places.contains(&(flow.backend, flow.generation)))
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// As many as were asked for, by client.
    pub connections: Vec<Connection>,
    /// How many there are.
    pub total: u64,
}

/// A table of an IP version's flows.
type Table<A> = HashMap<MapData, FlowKey<A>, Flow<A>>;

/// The tables of flows of an agent, as it has pinned them.
pub struct ConnectionTables {
    established: View,
    four: HashMap<MapData, FlowKey, Flow>,
    six: HashMap<MapData, FlowKey<Be128>, Flow<Be128>>,
}

impl ConnectionTables {
    /// Those that the agent of this node has pinned.
    ///
    /// # Errors
    /// When it has not.
    pub fn pinned(node: &str) -> Result<Self, TableError> {
        let directory = directory_of(node);
        let pins = Pins(&directory);
        Ok(Self {
            established: View::find(&pins)?,
            four: pins.table(map::HALF_OPEN)?,
            six: pins.table(map::HALF_OPEN6)?,
        })
    }

    /// Goes over all of them once; takes a while where there are many.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn list(&self, wanted: &Wanted) -> Result<Listed, TableError> {
        let backends = self.established.all_backends()?;
        let (mut listed, now) = (Listed::default(), clock::monotonic_seconds());
        let four = &self.established.four;
        self.collect(four, map::ESTABLISHED, false, wanted, &backends, now, &mut listed)?;
        self.collect(&self.four, map::HALF_OPEN, true, wanted, &backends, now, &mut listed)?;
        let six = &self.established.six;
        self.collect(six, map::ESTABLISHED6, false, wanted, &backends, now, &mut listed)?;
        self.collect(&self.six, map::HALF_OPEN6, true, wanted, &backends, now, &mut listed)?;
        listed.connections.sort_by_key(|connection| (connection.client, connection.listener));
        Ok(listed)
    }

    /// The flow of one client to one listener, if there is one.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn one(&self, client: SocketAddr, listener: SocketAddr) -> Result<Option<Connection>, TableError> {
        let Some(key) = key_of(&lb_proto::sync::Key { client, listener }) else {
            return Ok(None);
        };
        let found = if client.is_ipv4() {
            let key = narrow::<Be32>(&key);
            let tables = [(&self.established.four, map::ESTABLISHED), (&self.four, map::HALF_OPEN)];
            self.find(&key, tables)?
        } else {
            let tables = [(&self.established.six, map::ESTABLISHED6), (&self.six, map::HALF_OPEN6)];
            self.find(&key, tables)?
        };
        Ok(found)
    }

    fn find<A: Address>(
        &self, key: &FlowKey<A>, tables: [(&Table<A>, &'static str); 2],
    ) -> Result<Option<Connection>, TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        let now = clock::monotonic_seconds();
        for ((table, name), opening) in tables.into_iter().zip([false, true]) {
            let flow = match table.get(key, 0) {
                Ok(flow) => flow,
                Err(MapError::KeyNotFound) => continue,
                Err(error) => return Err(at(name)(error)),
            };
            let backend = self.established.backend(flow.backend.into())?;
            if let Some(mut connection) = connection(key, &flow, opening, Some(&backend), now) {
                connection.idle_seconds = connection.idle_seconds.min(answers_idle(table, &flow, now));
                return Ok(Some(connection));
            }
        }
        Ok(None)
    }

    #[allow(clippy::too_many_arguments, reason = "one pass over one of four tables")]
    fn collect<A: Address>(
        &self, table: &Table<A>, name: &'static str, opening: bool, wanted: &Wanted, backends: &BTreeMap<u32, Backend>,
        now: u32, listed: &mut Listed,
    ) -> Result<(), TableError>
    where
        FlowKey<A>: Pod + Default,
        Flow<A>: Pod + Default,
    {
        let mut kept = Vec::new();
        let room = wanted.most.saturating_sub(listed.connections.len());
        let data = IterableMap::map(table);
        let each = |key: FlowKey<A>, flow: Flow<A>| {
            if !wanted.is(&key, &flow) {
                return;
            }
            let Some(connection) = connection(&key, &flow, opening, backends.get(&flow.backend.into()), now) else {
                return;
            };
            listed.total += 1;
            if kept.len() < room {
                kept.push((connection, flow));
            }
        };
        entries(data.fd(), each).map_err(|source| TableError::Whole { table: name, source })?;
        listed.connections.extend(kept.into_iter().map(|(connection, flow)| {
            let idle_seconds = connection.idle_seconds.min(answers_idle(table, &flow, now));
            Connection { idle_seconds, ..connection }
        }));
        Ok(())
    }
}

/// Seconds since a flow's last answer passed, where they pass here.
fn answers_idle<A: Address>(table: &Table<A>, flow: &Flow<A>, now: u32) -> u32
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    if flow.is_direct() {
        return u32::MAX;
    }
    // What is gone meanwhile says nothing.
    table.get(&flow.other(), 0).map_or(u32::MAX, |answers| now.saturating_sub(answers.seen))
}

/// An entry of a client's packets as people know it; `None` for answers, and for what is over.
fn connection<A: Address>(
    key: &FlowKey<A>, flow: &Flow<A>, opening: bool, backend: Option<&Backend>, now: u32,
) -> Option<Connection> {
    if !flow.is_from_client() || (!opening && (flow.is_closed() || flow.is_expired(now))) {
        return None;
    }
    if opening && flow.is_stale_half_open(now) {
        return None;
    }
    let socket = |address: A, port: Be16| {
        let address: Be128 = address.into();
        SocketAddr::new(address.into(), port.get())
    };
    let stage = match flow.state & (state::FIN_CLIENT | state::FIN_BACKEND) {
        _ if opening => Stage::Opening,
        0 => Stage::Established,
        _ => Stage::Closing,
    };
    // A slot that is another's by now says nothing of this flow; where its packets go it says itself, unless they stay as they are.
    let known = backend.filter(|backend| backend.generation == flow.generation);
    let backend = match known {
        Some(backend) => backend.endpoint.reached_for(key.destination_port).into(),
        None => socket(flow.translated.destination, flow.translated.destination_port),
    };
    let seen_as = (!flow.is_direct()).then(|| socket(flow.translated.source, flow.translated.source_port));
    Some(Connection {
        client: socket(key.source, key.source_port),
        listener: socket(key.destination, key.destination_port),
        place: (flow.backend, flow.generation),
        backend,
        seen_as,
        stage,
        idle_seconds: now.saturating_sub(flow.seen),
        idle_limit: flow.idle_seconds,
        is_learnt: flow.state & state::LEARNT != 0,
    })
}

#[cfg(test)]
mod tests {
    use lb_ebpf::abi::{Adoption, Delivery, Endpoint};

    use super::*;

    fn adopted() -> ((FlowKey, Flow), Backend) {
        let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
        let backend = Backend { endpoint: socket("192.0.2.31:6443").into(), generation: 7, ..Backend::default() };
        let adoption = Adoption {
            client: key_of(&lb_proto::sync::Key {
                client: socket("192.0.2.10:40000"),
                listener: socket("192.0.2.100:8443"),
            })
            .unwrap(),
            backend: backend.endpoint,
            seen_as: Endpoint::from(socket("192.0.2.100:2000")),
            delivery: Delivery::Translated,
            slot: 3,
            generation: 7,
            service: 1,
            idle_seconds: 600,
            mac: [2; 6],
            seen: 1000,
            server_port: 0,
        };
        (adoption.entries::<Be32>().0, backend)
    }

    #[test]
    fn an_entry_in_words() {
        let ((key, flow), backend) = adopted();
        let found = connection(&key, &flow, false, Some(&backend), 1004).unwrap();
        assert_eq!(found.client.to_string(), "192.0.2.10:40000");
        assert_eq!(found.listener.to_string(), "192.0.2.100:8443");
        assert_eq!(found.backend.to_string(), "192.0.2.31:6443");
        assert_eq!(found.seen_as.unwrap().to_string(), "192.0.2.100:2000");
        assert_eq!((found.place, found.stage, found.idle_seconds), ((3, 7), Stage::Established, 4));
        assert!(found.is_learnt);
        // The slot has been given to another since.
        let other = Backend { generation: 8, endpoint: Endpoint::default(), ..backend };
        assert_eq!(connection(&key, &flow, false, Some(&other), 1004), Some(found));
        let stage =
            |bits| connection(&key, &Flow { state: bits, ..flow }, false, Some(&backend), 1004).map(|f| f.stage);
        assert_eq!(stage(state::FIN_BACKEND), Some(Stage::Closing));
        assert_eq!(stage(state::FIN_BACKEND | state::FIN_CLIENT), None);
        assert_eq!(connection(&key, &flow, false, Some(&backend), 1601), None, "silent for too long");
        assert_eq!(connection(&key, &flow.answering(&key, 1000), false, Some(&backend), 1004), None);
        let half = connection(&key, &Flow { state: 0, ..flow }, true, Some(&backend), 1004).unwrap();
        assert_eq!((half.stage, half.is_learnt), (Stage::Opening, false));
    }

    #[test]
    fn what_is_wanted() {
        let ((key, flow), _) = adopted();
        let any = Wanted::default();
        let client = |text: &str| Wanted { client: Some(text.parse().unwrap()), ..Wanted::default() };
        assert!(any.is(&key, &flow) && client("192.0.2.10").is(&key, &flow) && !client("192.0.2.11").is(&key, &flow));
        let port = |port| Wanted { client_port: Some(port), ..Wanted::default() };
        assert!(port(40000).is(&key, &flow) && !port(40001).is(&key, &flow));
        let places = |places: &[(u16, u32)]| Wanted { places: Some(places.to_vec()), ..Wanted::default() };
        assert!(places(&[(1, 1), (3, 7)]).is(&key, &flow) && !places(&[(3, 8)]).is(&key, &flow));
        assert!(!places(&[]).is(&key, &flow));
    }
}
