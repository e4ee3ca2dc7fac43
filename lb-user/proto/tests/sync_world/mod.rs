//! Some nodes with tables, a bad network between them, and a clock that only runs when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::rng::Rng;
use lb_proto::sync::{
    Change, Cipher, Datagram, FRESH_SECONDS, Fate, HEADER, Key, Keys, Node, Nonce, Output, PROOF, Path, Record, Table,
};

impl Rng {
    pub(crate) fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 32];
        nonce.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.next().to_be_bytes()));
        nonce
    }
}

/// Shows who has the key and who does not; hides nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Toy(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct ToyKeys {
    session: u64,
    out: u64,
    back: u64,
}

fn mix(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().copied().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    Rng::new(hash).next()
}

impl Cipher for Toy {
    type Keys = ToyKeys;

    fn prove(&self, bytes: &[u8]) -> [u8; PROOF] {
        let mut proof = [0; PROOF];
        proof[..8].copy_from_slice(&mix(&[&self.0.to_be_bytes(), bytes]).to_be_bytes());
        proof
    }

    fn is_proof(&self, bytes: &[u8], proof: &[u8; PROOF]) -> bool {
        self.prove(bytes) == *proof
    }

    fn keys(&self, own: &Nonce, other: &Nonce) -> Option<ToyKeys> {
        let (low, high) = if own < other { (own, other) } else { (other, own) };
        let key = self.0.to_be_bytes();
        let (session, out, back) = (mix(&[&key, low, high]), mix(&[&key, own, other]), mix(&[&key, other, own]));
        Some(ToyKeys { session, out, back })
    }
}

impl Keys for ToyKeys {
    fn session(&self) -> u64 {
        self.session
    }

    fn seal(&self, number: u64, header: &[u8; HEADER], body: &mut Vec<u8>) -> Option<()> {
        let tag = mix(&[&self.out.to_be_bytes(), &number.to_be_bytes(), header, body]);
        body.extend(tag.to_be_bytes().iter().chain(&[0; 8]));
        Some(())
    }

    fn open<'b>(&self, number: u64, header: &[u8; HEADER], body: &'b mut [u8]) -> Option<&'b [u8]> {
        let (sealed, tag) = body.split_last_chunk::<16>()?;
        let expected = mix(&[&self.back.to_be_bytes(), &number.to_be_bytes(), header, sealed]);
        (tag[..8] == expected.to_be_bytes()).then_some(sealed)
    }
}

/// What a node knows of a flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    /// When a packet was last seen, by this node or another.
    pub(crate) last: Instant,
    /// By this one.
    pub(crate) here: Option<Instant>,
}

pub(crate) struct Host {
    pub(crate) node: Option<Node<Toy>>,
    pub(crate) table: BTreeMap<Key, Entry>,
    pub(crate) held: BTreeSet<IpAddr>,
    /// Hosts of other islands are not heard.
    pub(crate) island: u64,
    pub(crate) paused_until: Option<Instant>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) hosts: Vec<Host>,
    pub(crate) loss: u64,
    pub(crate) repeat: u64,
    pub(crate) longest_delay: Duration,
    /// Of what is told, so much is not taken in.
    pub(crate) drop_applied: u64,
    pub(crate) air: BTreeMap<(Instant, u64), (usize, usize, Vec<u8>)>,
    /// What was sent to anybody, to be sent again by whoever listens.
    pub(crate) recorded: Vec<(usize, usize, Vec<u8>)>,
    pub(crate) record: bool,
    pub(crate) sent_bytes: u64,
    pub(crate) sent: u64,
    serial: u64,
    /// Flows that were opened and have not ended.
    pub(crate) living: BTreeSet<Key>,
}

pub(crate) fn vip(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, 100 + n])
}

pub(crate) fn address(host: usize) -> IpAddr {
    IpAddr::from([192, 0, 2, 1 + host as u8])
}

pub(crate) fn record(client: u64, vip: IpAddr, backend: u8) -> Record {
    let from = SocketAddr::from(([10, (client >> 24) as u8, (client >> 16) as u8, 1], client as u16));
    let listener = SocketAddr::new(vip, 8443);
    Record {
        key: Key { client: from, listener },
        backend: SocketAddr::from(([192, 0, 2, 30 + backend], 6443)),
        path: Path::Translated(SocketAddr::new(vip, 1024 + (client % 30000) as u16)),
        next_hop: [2, 0, 0, 0, 0, 1],
        silent_seconds: 0,
    }
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "any moment will do to begin with")]
    pub(crate) fn new(seed: u64, hosts: usize) -> Self {
        let host =
            |_| Host { node: None, table: BTreeMap::new(), held: BTreeSet::new(), island: 0, paused_until: None };
        Self {
            now: Instant::now(),
            rng: Rng::new(seed),
            hosts: (0..hosts).map(host).collect(),
            loss: 0,
            repeat: 0,
            longest_delay: Duration::from_millis(1),
            drop_applied: 0,
            air: BTreeMap::new(),
            recorded: Vec::new(),
            record: false,
            sent_bytes: 0,
            sent: 0,
            serial: 0,
            living: BTreeSet::new(),
        }
    }

    pub(crate) fn start(&mut self, host: usize) {
        let others = (0..self.hosts.len()).filter(|other| *other != host).map(address).collect();
        let mut node = Node::new(Toy(42), self.now);
        node.set_peers(&others, self.now);
        node.set_held(&self.hosts[host].held);
        self.hosts[host].node = Some(node);
    }

    /// The agent ends; with `empty`, so do the tables.
    pub(crate) fn crash(&mut self, host: usize, empty: bool) {
        self.hosts[host].node = None;
        if empty {
            self.hosts[host].table.clear();
        }
    }

    pub(crate) fn hold(&mut self, host: usize, vip: IpAddr, holds: bool) {
        let Host { node, held, .. } = &mut self.hosts[host];
        if holds {
            held.insert(vip);
        } else {
            held.remove(&vip);
        }
        if let Some(node) = node {
            node.set_held(held);
        }
    }

    pub(crate) fn holders(&self, vip: IpAddr) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].held.contains(&vip)).collect()
    }

    /// A flow is established through a host. Without an agent nobody is told.
    pub(crate) fn open(&mut self, host: usize, record: Record) {
        self.living.insert(record.key);
        let entry = Entry { record, last: self.now, here: Some(self.now) };
        self.hosts[host].table.insert(record.key, entry);
        self.tell(host, Change::Opened(record));
    }

    /// A flow that a host has ends there.
    pub(crate) fn close(&mut self, host: usize, key: Key) {
        self.living.remove(&key);
        self.hosts[host].table.remove(&key);
        self.tell(host, Change::Closed(key));
    }

    fn tell(&mut self, host: usize, change: Change) {
        let now = self.now;
        if let Some(node) = &mut self.hosts[host].node {
            node.on_changes(&[change], now);
        }
    }

    /// Runs until `end`, or until `done`; whether it was.
    pub(crate) fn run_until(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        loop {
            for host in 0..self.hosts.len() {
                self.carry_out(host);
            }
            if done(self) {
                return true;
            }
            let deadlines = self.hosts.iter().filter_map(|host| {
                let at = host.node.as_ref()?.deadline()?;
                Some(host.paused_until.map_or(at, |until| at.max(until)))
            });
            let arrival = self.air.keys().next().map(|(at, _)| *at);
            let next = deadlines.chain(arrival).min().map_or(end, |next| next.max(self.now));
            if next >= end {
                self.now = end;
                return false;
            }
            self.now = next;
            let later = self.air.split_off(&(next, u64::MAX));
            for ((_, serial), (from, to, mut bytes)) in std::mem::replace(&mut self.air, later) {
                if let Some(until) = self.hosts[to].paused_until.filter(|until| *until > self.now) {
                    self.air.insert((until, serial), (from, to, bytes));
                    continue;
                }
                let (now, rng) = (self.now, &mut self.rng);
                if let Some(node) = &mut self.hosts[to].node {
                    let _ = node.on_datagram(address(from), &mut bytes, now, &mut || rng.nonce());
                }
                self.carry_out(to);
            }
            for host in 0..self.hosts.len() {
                if self.hosts[host].paused_until.is_some_and(|until| until > self.now) {
                    continue;
                }
                let (now, rng) = (self.now, &mut self.rng);
                if let Some(node) = &mut self.hosts[host].node {
                    node.on_time(now, &mut || rng.nonce());
                }
            }
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
    }

    fn carry_out(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].node.as_mut().and_then(Node::poll) {
            match output {
                Output::Send(to, bytes) => self.send(host, to, bytes),
                Output::Apply(from, changes) => {
                    if self.rng.chance(self.drop_applied) {
                        if let Some(node) = &mut self.hosts[host].node {
                            node.on_dropped(from);
                        }
                    } else {
                        changes.iter().for_each(|change| self.apply(host, change));
                    }
                }
                Output::Settle(peer, remainder) => {
                    let table = self.hosts[host].table.iter().map(|(key, entry)| (*key, self.aged(entry)));
                    let (mut over, mut untold) = (Vec::new(), Vec::new());
                    for (key, record) in table {
                        match remainder.fate(&key) {
                            Fate::Stays => {}
                            Fate::Over => over.push(key),
                            Fate::Untold => untold.push(record),
                        }
                    }
                    over.iter().for_each(|key| self.forget(host, key));
                    if let Some(node) = &mut self.hosts[host].node {
                        node.on_untold(peer, &untold, self.now);
                    }
                }
                Output::Look => {
                    let records: Vec<_> = self.hosts[host].table.values().map(|entry| self.aged(entry)).collect();
                    if let Some(node) = &mut self.hosts[host].node {
                        node.on_table(Table::from_iter(&records), self.now);
                    }
                }
            }
        }
    }

    fn aged(&self, entry: &Entry) -> Record {
        let silent = self.now.saturating_duration_since(entry.last);
        Record { silent_seconds: silent.as_secs() as u32, ..entry.record }
    }

    fn apply(&mut self, host: usize, change: &Change) {
        let now = self.now;
        match change {
            Change::Opened(record) => {
                let last = now - Duration::from_secs(record.silent_seconds.into());
                let table = &mut self.hosts[host].table;
                let entry = table.entry(record.key).or_insert(Entry { record: *record, last, here: None });
                let silent_seconds = now.saturating_duration_since(entry.last).as_secs() as u32;
                if record.supersedes(&Record { silent_seconds, ..entry.record }) {
                    entry.record = *record;
                }
                entry.last = entry.last.max(last);
            }
            Change::Closed(key) => self.forget(host, key),
        }
    }

    fn forget(&mut self, host: usize, key: &Key) {
        let fresh = self.now - Duration::from_secs(FRESH_SECONDS.into());
        let Some(entry) = self.hosts[host].table.get(key) else { return };
        if entry.here.is_none_or(|here| here < fresh) {
            assert!(!self.living.contains(key), "{host} forgets {key:?}, which lives");
            self.hosts[host].table.remove(key);
        }
    }

    fn send(&mut self, from: usize, to: IpAddr, bytes: Vec<u8>) {
        self.sent += 1;
        self.sent_bytes += bytes.len() as u64;
        assert!(bytes.len() <= lb_proto::sync::LONGEST);
        assert!(Datagram::parse(&mut bytes.clone()).is_ok(), "what is sent is understood");
        let Some(to) = (0..self.hosts.len()).find(|host| address(*host) == to) else { return };
        if self.record {
            self.recorded.push((from, to, bytes.clone()));
        }
        if self.hosts[from].island != self.hosts[to].island || self.rng.chance(self.loss) {
            return;
        }
        let times = if self.rng.chance(self.repeat) { 2 } else { 1 };
        for _ in 0..times {
            let delay = self.rng.time(self.longest_delay);
            self.inject(from, to, bytes.clone(), delay);
        }
    }

    pub(crate) fn inject(&mut self, from: usize, to: usize, bytes: Vec<u8>, delay: Duration) {
        self.serial += 1;
        self.air.insert((self.now + delay, self.serial), (from, to, bytes));
    }

    /// The flows of a VIP as a host knows them.
    pub(crate) fn flows(&self, host: usize, vip: IpAddr) -> BTreeMap<Key, (SocketAddr, Path)> {
        let table = self.hosts[host].table.iter();
        let of_vip = table.filter(|(key, _)| key.listener.ip() == vip);
        of_vip.map(|(key, entry)| (*key, (entry.record.backend, entry.record.path))).collect()
    }

    /// All hosts know the same flows of a VIP.
    pub(crate) fn agree(&self, vip: IpAddr) -> bool {
        let first = self.flows(0, vip);
        (1..self.hosts.len()).all(|host| self.flows(host, vip) == first)
    }
}
