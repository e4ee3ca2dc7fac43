//! A segment with virtual routers on it: a virtual clock, a link that loses, delays, repeats and parts, and processes
//! that pause and die. Everything follows from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant, SystemTime};

use crate::rng::Rng;
use lb_proto::family::Family;
use lb_proto::units::{Centis, Priority, Version, Vrid};
use lb_proto::vrrp::{Config, Group, Instance, Local, Moment, Output, Standing, State, Transmit, Word, reached};
use lb_proto::wire::ipv4::{PROTOCOL_VRRP, TTL, parse_ipv4_packet};
use lb_proto::wire::vrrp::{Addresses, Advert, ChecksumForm};
use lb_proto::wire::{Packet, ipv4, ipv6};

/// Packets a paused process finds when it wakes.
const SOCKET_BUFFER: usize = 64;
/// Lines shown of a run that failed.
const LOG: usize = 60;

impl Rng {
    pub(super) fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }
}

/// How the segment behaves.
pub(super) struct Link {
    pub(super) loss_permille: u64,
    pub(super) repeat_permille: u64,
    pub(super) max_delay: Duration,
    /// Whether a packet may overtake another on the same path.
    pub(super) reorder: bool,
    /// Whether senders hear themselves, as on a hub.
    pub(super) reflect: bool,
}

pub(super) struct Router {
    pub(super) cfg: Config,
    /// `None`: no process.
    pub(super) instance: Option<Instance>,
    /// Whether the process runs when it should; packets wait meanwhile.
    paused: bool,
    /// Each with the kernel's stamp, by the wall clock.
    inbox: VecDeque<(SystemTime, Carried)>,
    /// When the inbox was last seen empty.
    emptied: Moment,
    /// By how much the wall clock differs from the true time: forwards, or backwards.
    wall: (Duration, bool),
    /// Told to stop, it ends when it holds the addresses no more.
    pub(super) stopping: bool,
    /// Until when it answers for the addresses, as the datapath was told: outlives the process.
    pub(super) lease: Option<Instant>,
    /// Only routers of the same segment and island hear each other.
    pub(super) segment: usize,
    pub(super) island: u64,
    /// The last of its sync group.
    word: Option<Word>,
    /// The process wakes this long after its deadline.
    lateness: Duration,
}

impl Router {
    pub(super) fn is_active(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| instance.state() == State::Active)
    }
}

struct Delivery {
    to: usize,
    packet: Carried,
}

/// A packet under way, in the form in which a raw socket hands it out.
#[derive(Debug, Clone)]
enum Carried {
    /// With its header.
    V4(Vec<u8>),
    /// Without: the kernel tells the rest beside it.
    V6 { src: IpAddr, dst: IpAddr, payload: Vec<u8> },
}

impl Carried {
    fn new(src: IpAddr, dst: IpAddr, message: &[u8]) -> Self {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Self::V4(packet(src, dst, message)),
            _ => Self::V6 { src, dst, payload: message.to_vec() },
        }
    }

    fn read(&self) -> Option<Packet<'_>> {
        match self {
            Self::V4(bytes) => parse_ipv4_packet(bytes).ok(),
            Self::V6 { src, dst, payload } => Some(Packet { src: *src, dst: *dst, ttl: ipv6::HOP_LIMIT, payload }),
        }
    }
}

pub(super) struct World {
    seed: u64,
    /// Over which the routers speak.
    pub(super) family: Family,
    pub(super) rng: Rng,
    pub(super) now: Instant,
    origin: Instant,
    pub(super) link: Link,
    pub(super) routers: Vec<Router>,
    /// Sync groups: their members, what they know, and since when some of them hold their addresses and not all.
    groups: Vec<(Vec<usize>, Group, Option<Instant>)>,
    /// The longest such time.
    pub(super) longest_apart: Duration,
    /// One-way cuts, from and to.
    pub(super) cuts: BTreeSet<(usize, usize)>,
    max_lateness: Duration,
    /// Whether a process that wakes may see to its deadline before it has read its queue.
    pub(super) careless_drivers: bool,
    in_flight: Vec<Option<Delivery>>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// When the last packet on a path arrives, for paths that keep order.
    arrivals: Vec<Vec<Instant>>,
    /// Changes of who is Active, with their times.
    pub(super) log: Vec<(Instant, String)>,
    /// Since when two routers that hear each other both had a lease.
    shared_leases: BTreeMap<(usize, usize), Instant>,
    /// The longest such time.
    pub(super) longest_shared_lease: Duration,
    dual_since: Option<Instant>,
    vacant_since: Option<Instant>,
    /// The longest times with several Active routers, and with none.
    pub(super) longest_dual: Duration,
    pub(super) longest_vacancy: Duration,
}

fn address(family: Family, router: usize) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 10 + router as u8).into(),
        Family::V6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 10 + router as u16).into(),
    }
}

pub(super) fn config(family: Family, router: usize, priority: u8, interval: u16) -> Config {
    let vip: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 100).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100).into(),
    };
    Config {
        vrid: Vrid::new(51).unwrap(),
        priority: Priority::new(priority).unwrap(),
        advert_interval: Centis::new(interval).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        primary: Some(address(family, router)),
        addresses: Addresses::new([vip]).unwrap(),
        peers: [].into(),
        version: Version::V3,
        authenticated: false,
    }
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "an origin; only differences matter")]
    pub(super) fn new(seed: u64, rng: Rng, configs: Vec<Config>) -> Self {
        let origin = Instant::now();
        let (n, family) = (configs.len(), configs[0].family());
        let router = |cfg| Router {
            cfg,
            instance: None,
            paused: false,
            inbox: VecDeque::new(),
            emptied: Moment { monotonic: origin, wall: SystemTime::UNIX_EPOCH },
            wall: (Duration::ZERO, true),
            stopping: false,
            lease: None,
            segment: 0,
            island: 0,
            word: None,
            lateness: Duration::ZERO,
        };
        Self {
            seed,
            family,
            rng,
            now: origin,
            origin,
            link: Link {
                loss_permille: 0,
                repeat_permille: 0,
                max_delay: Duration::from_millis(1),
                reorder: false,
                reflect: false,
            },
            routers: configs.into_iter().map(router).collect(),
            groups: Vec::new(),
            longest_apart: Duration::ZERO,
            cuts: BTreeSet::new(),
            max_lateness: Duration::from_millis(1),
            careless_drivers: false,
            in_flight: Vec::new(),
            due: BinaryHeap::new(),
            arrivals: vec![vec![origin; n]; n],
            log: Vec::new(),
            shared_leases: BTreeMap::new(),
            longest_shared_lease: Duration::ZERO,
            dual_since: None,
            vacant_since: None,
            longest_dual: Duration::ZERO,
            longest_vacancy: Duration::ZERO,
        }
    }

    /// What a router sends from.
    pub(super) fn address(&self, router: usize) -> IpAddr {
        address(self.family, router)
    }

    /// Where adverts go that are for everybody.
    pub(super) fn group(&self) -> IpAddr {
        match self.family {
            Family::V4 => ipv4::MULTICAST.into(),
            Family::V6 => ipv6::MULTICAST.into(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.now - self.origin
    }

    pub(super) fn actives(&self) -> Vec<usize> {
        (0..self.routers.len()).filter(|router| self.routers[*router].is_active()).collect()
    }

    /// These routers of one process are a sync group.
    pub(super) fn join(&mut self, members: Vec<usize>) {
        let group = Group::new(members.len());
        self.groups.push((members, group, None));
    }

    /// Hands the word of its group to each member for which it is new, until there is nothing new.
    fn consult(&mut self, router: usize) {
        let Some(at) = self.groups.iter().position(|(members, ..)| members.contains(&router)) else { return };
        let now = self.now;
        for _ in 0..16 {
            let (members, group, _) = &mut self.groups[at];
            for (member, router) in members.iter().map(|router| &self.routers[*router]).enumerate() {
                let standing = router.instance.as_ref().map_or(Standing::NONE, Instance::standing);
                group.tell(member, standing, router.cfg.priority, now);
            }
            let (members, group) = (members.clone(), group.clone());
            let mut news = false;
            for (member, router) in members.into_iter().enumerate() {
                let Router { instance: Some(instance), word, cfg, .. } = &mut self.routers[router] else { continue };
                let new = group.word(member, now);
                news |= *word != Some(new) || instance.config().priority != group.priority();
                *word = Some(new);
                instance.on_local(Local::Reconfigure(Config { priority: group.priority(), ..cfg.clone() }), now);
                instance.on_local(Local::Group(Some(new)), now);
                self.act(router);
            }
            if !news {
                return;
            }
        }
        panic!("words without end");
    }

    /// Forgets the longest times seen so far.
    pub(super) fn measure_anew(&mut self) {
        self.longest_shared_lease = Duration::ZERO;
        self.shared_leases.clear();
        self.longest_dual = Duration::ZERO;
        self.longest_vacancy = Duration::ZERO;
        self.longest_apart = Duration::ZERO;
        self.dual_since = None;
        self.vacant_since = None;
        self.observe();
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.log.push((self.now, text.into()));
    }

    pub(super) fn start(&mut self, router: usize) {
        if self.routers[router].instance.is_none() {
            self.note(format!("{router} starts"));
            let mut instance = Instance::new(self.routers[router].cfg.clone(), self.now);
            instance.on_local(Local::Start, self.now);
            self.routers[router].instance = Some(instance);
            self.drain(router);
        }
    }

    /// Ends the process without a word.
    pub(super) fn crash(&mut self, router: usize) {
        self.note(format!("{router} crashes"));
        let dead = &mut self.routers[router];
        dead.instance = None;
        dead.word = None;
        dead.paused = false;
        dead.stopping = false;
        dead.inbox.clear();
        self.observe();
    }

    /// Ends the process in good order.
    pub(super) fn stop(&mut self, router: usize) {
        self.resume(router);
        self.routers[router].stopping = true;
        self.local(router, Local::Stop);
    }

    /// The wall clocks are set, each to another time.
    pub(super) fn set_clocks(&mut self) {
        for router in 0..self.routers.len() {
            let by = self.rng.time(Duration::from_secs(7200));
            self.routers[router].wall = (by, self.rng.chance(500));
        }
        self.note("clocks set");
    }

    /// By the clocks of a router.
    fn moment(&self, router: usize) -> Moment {
        let true_time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.elapsed();
        let wall = match self.routers[router].wall {
            (by, true) => true_time + by,
            (by, false) => true_time - by,
        };
        Moment { monotonic: self.now, wall }
    }

    pub(super) fn pause(&mut self, router: usize) {
        self.note(format!("{router} pauses"));
        self.routers[router].paused = true;
        self.routers[router].emptied = self.moment(router);
        self.observe();
    }

    pub(super) fn resume(&mut self, router: usize) {
        if !std::mem::take(&mut self.routers[router].paused) {
            return;
        }
        self.note(format!("{router} resumes"));
        let deadline_first = self.rng.chance(500) && self.careless_drivers;
        if deadline_first {
            self.deadline(router);
        }
        while let Some((stamp, packet)) = self.routers[router].inbox.pop_front() {
            let heard = reached(stamp, self.moment(router), self.routers[router].emptied);
            self.receive(router, &packet, heard);
        }
        if !deadline_first {
            self.deadline(router);
        }
    }

    pub(super) fn local(&mut self, router: usize, event: Local) {
        let now = self.now;
        if let Some(instance) = self.routers[router].instance.as_mut() {
            instance.on_local(event.clone(), now);
            self.note(format!("{router} {event:?}"));
            self.drain(router);
        }
    }

    pub(super) fn reconfigure(&mut self, router: usize, cfg: Config) {
        self.routers[router].cfg = cfg.clone();
        self.local(router, Local::Reconfigure(cfg));
    }

    /// Ends partitions, cuts, pauses and losses; delays and repetition stay.
    pub(super) fn heal(&mut self) {
        self.note("healed");
        self.link.loss_permille = 0;
        self.cuts.clear();
        for router in 0..self.routers.len() {
            self.routers[router].island = 0;
            self.resume(router);
            self.local(router, Local::LinkUp);
        }
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run_until(end, |_| false);
    }

    /// Runs to `end`, or to the first moment at which `done`; tells whether there was one.
    pub(super) fn run_until(&mut self, end: Instant, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let packet = self.due.peek().map(|Reverse((at, id))| (*at, *id));
            let wake = (0..self.routers.len()).filter_map(|router| Some((self.wake_time(router)?, router))).min();
            match (packet, wake) {
                (Some((at, id)), wake) if at <= end && wake.is_none_or(|(wake, _)| at <= wake) => {
                    self.advance(at);
                    self.due.pop();
                    if let Some(delivery) = self.in_flight[id].take() {
                        self.deliver(delivery);
                    }
                }
                (_, Some((at, router))) if at <= end => {
                    self.advance(at);
                    self.deadline(router);
                }
                _ => {
                    self.advance(end);
                    return done(self);
                }
            }
        }
    }

    /// Puts a packet on the wire in somebody's name.
    pub(super) fn inject(&mut self, src: IpAddr, dst: IpAddr, message: &[u8]) {
        for segment in 0..=self.routers.iter().map(|router| router.segment).max().unwrap_or_default() {
            self.inject_on(segment, src, dst, message);
        }
    }

    /// The same on one segment.
    pub(super) fn inject_on(&mut self, segment: usize, src: IpAddr, dst: IpAddr, message: &[u8]) {
        for to in (0..self.routers.len()).filter(|to| self.routers[*to].segment == segment).collect::<Vec<_>>() {
            self.fly(to, Carried::new(src, dst, message), self.now);
        }
    }

    fn advance(&mut self, to: Instant) {
        self.watch_leases(to);
        self.now = self.now.max(to);
        self.observe();
    }

    fn wake_time(&self, router: usize) -> Option<Instant> {
        let groups = self.groups.iter().filter(|(members, ..)| members.first() == Some(&router));
        let overdue = groups.filter_map(|(_, group, _)| group.deadline().filter(|deadline| *deadline > self.now)).min();
        let router = &self.routers[router];
        let instance = router.instance.as_ref().filter(|_| !router.paused)?;
        let deadline = instance.deadline().into_iter().chain(overdue).min()?;
        Some(deadline + router.lateness)
    }

    fn deadline(&mut self, router: usize) {
        let (now, lateness) = (self.now, self.rng.time(self.max_lateness));
        self.routers[router].lateness = lateness;
        if let Some(instance) = self.routers[router].instance.as_mut() {
            instance.on_deadline(now);
            self.drain(router);
        }
    }

    fn deliver(&mut self, Delivery { to, packet }: Delivery) {
        let now = self.moment(to);
        let router = &mut self.routers[to];
        if router.instance.is_none() {
            return;
        }
        if !router.paused {
            router.emptied = now;
            self.receive(to, &packet, self.now);
        } else if router.inbox.len() < SOCKET_BUFFER {
            router.inbox.push_back((now.wall, packet));
        }
    }

    /// What a driver does with a packet.
    fn receive(&mut self, router: usize, carried: &Carried, heard: Instant) {
        let now = self.now;
        let Some(packet) = carried.read() else {
            return;
        };
        let Ok((advert, _)) = Advert::parse(packet.payload, packet.src, packet.dst) else {
            return;
        };
        if let Some(instance) = self.routers[router].instance.as_mut() {
            instance.on_advert(packet.src, packet.ttl, &advert, heard, now);
            self.drain(router);
        }
    }

    fn drain(&mut self, router: usize) {
        self.act(router);
        self.consult(router);
        self.observe();
    }

    fn act(&mut self, router: usize) {
        while let Some(output) = self.routers[router].instance.as_mut().and_then(Instance::poll) {
            match output {
                Output::Send(transmit) => self.transmit(router, &transmit),
                Output::Entered { from, state, why } => {
                    self.note(format!("{router} {} > {}: {why}", from.label(), state.label()));
                }
                Output::Announce(_) | Output::Rejected { .. } | Output::Mismatch { .. } => {}
            }
        }
        let state = self.routers[router].instance.as_ref().map(Instance::state);
        self.routers[router].lease = self.routers[router].instance.as_ref().and_then(Instance::lease_until);
        if self.routers[router].stopping && state == Some(State::Initialize) {
            self.crash(router);
        }
    }

    fn transmit(&mut self, from: usize, transmit: &Transmit) {
        let form = if from.is_multiple_of(2) { ChecksumForm::Rfc5798 } else { ChecksumForm::Rfc9568 };
        for dst in transmit.destinations() {
            let packet = Carried::new(transmit.src, *dst, &transmit.emit(*dst, form));
            for to in 0..self.routers.len() {
                let addressed = dst.is_multicast() || *dst == self.address(to);
                let heard = if to == from { self.link.reflect } else { self.connected(from, to) };
                if addressed && heard {
                    self.carry(from, to, &packet);
                }
            }
        }
    }

    fn connected(&self, from: usize, to: usize) -> bool {
        let place = |router: usize| (self.routers[router].segment, self.routers[router].island);
        place(from) == place(to) && !self.cuts.contains(&(from, to))
    }

    fn carry(&mut self, from: usize, to: usize, packet: &Carried) {
        let copies = 1 + u64::from(self.rng.chance(self.link.repeat_permille));
        for _ in 0..copies {
            if self.rng.chance(self.link.loss_permille) {
                continue;
            }
            let mut at = self.now + self.rng.time(self.link.max_delay);
            if !self.link.reorder {
                at = at.max(self.arrivals[from][to]);
                self.arrivals[from][to] = at;
            }
            self.fly(to, packet.clone(), at);
        }
    }

    fn fly(&mut self, to: usize, packet: Carried, at: Instant) {
        self.due.push(Reverse((at, self.in_flight.len())));
        self.in_flight.push(Some(Delivery { to, packet }));
    }

    /// Between now and then nothing happens but that leases end.
    fn watch_leases(&mut self, to: Instant) {
        for one in 0..self.routers.len() {
            for other in one + 1..self.routers.len() {
                let both = (self.routers[one].lease.zip(self.routers[other].lease))
                    .map(|(one, other)| one.min(other).min(to))
                    .filter(|end| *end > self.now && self.connected(one, other) && self.connected(other, one));
                let Some(end) = both else {
                    self.shared_leases.remove(&(one, other));
                    continue;
                };
                let since = *self.shared_leases.entry((one, other)).or_insert(self.now);
                self.longest_shared_lease = self.longest_shared_lease.max(end - since);
                if end < to {
                    self.shared_leases.remove(&(one, other));
                }
            }
        }
    }

    fn observe(&mut self) {
        let actives = self.actives().len();
        let now = self.now;
        let measure = |since: &mut Option<Instant>, longest: &mut Duration, holds: bool| {
            if let Some(since) = *since {
                *longest = (*longest).max(now - since);
            }
            *since = holds.then(|| since.unwrap_or(now));
        };
        measure(&mut self.dual_since, &mut self.longest_dual, actives > 1);
        measure(&mut self.vacant_since, &mut self.longest_vacancy, actives == 0);
        for (members, _, since) in &mut self.groups {
            let members = || members.iter().map(|member| &self.routers[*member]);
            let runs = members().all(|member| member.instance.is_some() && !member.paused && !member.stopping);
            let active = members().filter(|member| member.is_active()).count();
            measure(since, &mut self.longest_apart, runs && active > 0 && active < members().count());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: XVIP_SIM_SEED={} cargo test -p lb-proto --test vrrp_simulation", self.seed);
            for (at, line) in self.log.iter().skip(self.log.len().saturating_sub(LOG)) {
                eprintln!("{:>12.6} {line}", (*at - self.origin).as_secs_f64());
            }
            eprintln!("{:>12.6} now, Active: {:?}", self.elapsed().as_secs_f64(), self.actives());
        }
    }
}

/// As a raw IPv4 socket delivers it.
fn packet(src: Ipv4Addr, dst: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let total = (20 + message.len()) as u16;
    let mut bytes = vec![0x45, 0xc0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, TTL, PROTOCOL_VRRP, 0, 0]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend(message);
    bytes
}
