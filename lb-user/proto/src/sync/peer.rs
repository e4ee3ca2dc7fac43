//! One peer: the session with it, and what goes in both directions.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::codec::{Body, Datagram, Hello, Item, NONCE, Nonce, Refusal, header, items};
use super::inbox::Inbox;
use super::look::{Hearing, Part, Remainder, Telling, hash};
use super::outbox::{Outbox, Overflow};
use super::report::Counts;
use super::table::Table;
use super::window::Window;
use super::{Change, Cipher, Keys, Record};

/// Between two hellos to a peer without a session.
pub const HELLO_EVERY: Duration = Duration::from_millis(250);
/// Between two answers to hellos, which anyone could send again.
const ANSWER_EVERY: Duration = Duration::from_millis(20);
/// A peer is told that this node is there at least so often.
pub const PRESENCE_EVERY: Duration = Duration::from_secs(1);
/// A session ends when nothing was heard for so long.
pub const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Between two looks at the flows of the VIPs that this node holds, for those that know all of them already.
pub const LOOK_EVERY: Duration = Duration::from_secs(300);

/// What a peer's machine wants done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Send(Vec<u8>),
    Apply(Vec<Change>),
    Settle(Remainder),
}

/// What all peers have in common.
#[derive(Debug)]
pub(super) struct Common<C> {
    pub(super) cipher: C,
    /// VIPs that this node holds.
    pub(super) held: BTreeSet<IpAddr>,
}

#[derive(Debug)]
pub(super) struct Peer<K> {
    /// Nonces of a session that is not open yet: our own, and the peer's if it was heard.
    attempt: Option<(Nonce, Option<Nonce>)>,
    session: Option<Session<K>>,
    hello_at: Instant,
    answered: Option<Instant>,
    pub(super) since: Instant,
    pub(super) heard: Option<Instant>,
    pub(super) counts: Counts,
    pub(super) wishes: VecDeque<Wish>,
}

#[derive(Debug)]
struct Session<K> {
    own: Nonce,
    other: Nonce,
    keys: K,
    /// Of the next datagram.
    number: u64,
    window: Window,
    outbox: Outbox,
    inbox: Inbox,
    heard: Instant,
    sent: Instant,
    telling: Option<Telling>,
    hearing: Option<Hearing>,
    /// The peer has to be told the whole table.
    owes: bool,
    look_at: Instant,
    /// The peer's whole table is wanted.
    asks: bool,
    /// It was told.
    has_theirs: bool,
    /// The chunk that was last to say something of flows of a VIP.
    said: BTreeMap<IpAddr, u64>,
    /// Flows, by their hashes, that others spoke of and neither this node nor the peer to each other.
    untold: HashSet<u64>,
    /// Those that a whole table told of, which ended with this chunk.
    told_by: Option<(u64, HashSet<u64>)>,
}

/// Flows that a peer was not told of, at most; with more it is told the whole table.
const MOST_UNTOLD: usize = 1_000_000;

impl<K: Keys> Peer<K> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            attempt: None,
            session: None,
            hello_at: now,
            answered: None,
            since: now,
            heard: None,
            counts: Counts::default(),
            wishes: VecDeque::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.session.is_some()
    }

    /// Chunks that have not arrived.
    pub(super) fn backlog(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.outbox.backlog())
    }

    pub(super) fn on_datagram<C: Cipher<Keys = K>>(
        &mut self, bytes: &mut [u8], common: &Common<C>, now: Instant, random: &mut dyn FnMut() -> Nonce,
    ) -> Result<(), Refusal> {
        self.counts.datagrams_in += 1;
        self.counts.bytes_in += bytes.len() as u64;
        match Datagram::parse(bytes)? {
            Datagram::Hello(hello, signed, proof) => {
                if !common.cipher.is_proof(signed, proof) {
                    return Err(Refusal::Proof);
                }
                self.on_hello(hello, common, now, random)
            }
            Datagram::Sealed { session, number, header, body } => {
                let open = self.session.as_mut().filter(|open| open.keys.session() == session);
                let open = open.ok_or(Refusal::Session)?;
                if !open.window.is_new(number) {
                    return Err(Refusal::Replay);
                }
                let body = open.keys.open(number, &header, body).ok_or(Refusal::Proof)?;
                open.window.take(number);
                open.heard = now;
                self.heard = Some(now);
                open.on_body(Body::parse(body)?, common, now, &mut self.counts, &mut self.wishes)
            }
        }
    }

    fn on_hello<C: Cipher<Keys = K>>(
        &mut self, hello: Hello, common: &Common<C>, now: Instant, random: &mut dyn FnMut() -> Nonce,
    ) -> Result<(), Refusal> {
        let is_own = |own: &Nonce| *own == hello.own;
        if self.attempt.as_ref().is_some_and(|(own, _)| is_own(own))
            || self.session.as_ref().is_some_and(|session| is_own(&session.own))
        {
            return Err(Refusal::Reflected);
        }
        let may_answer = self.answered.is_none_or(|at| now.saturating_duration_since(at) >= ANSWER_EVERY);
        if let Some(session) = &self.session
            && session.other == hello.own
        {
            // It has not heard yet that the session is open.
            if !hello.is_open && may_answer {
                let answer = Hello { is_open: true, own: session.own, other: session.other };
                self.answered = Some(now);
                self.say(answer, common);
            }
            return Ok(());
        }
        let (own, _) = *self.attempt.get_or_insert_with(|| (random(), None));
        if hello.other == own {
            let keys = common.cipher.keys(&own, &hello.own).ok_or(Refusal::Proof)?;
            self.attempt = None;
            self.session = Some(Session::new(own, hello.own, keys, now));
            (self.since, self.heard) = (now, Some(now));
            self.counts.sessions += 1;
            if !hello.is_open {
                self.say(Hello { is_open: true, own, other: hello.own }, common);
            }
        } else if may_answer {
            // A recording of a hello gets no further than this.
            self.attempt = Some((own, Some(hello.own)));
            self.answered = Some(now);
            self.say(Hello { is_open: false, own, other: hello.own }, common);
        }
        Ok(())
    }

    fn say<C: Cipher>(&mut self, hello: Hello, common: &Common<C>) {
        let mut bytes = hello.emit();
        let proof = common.cipher.prove(&bytes);
        bytes.extend(proof);
        self.send(bytes);
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.counts.datagrams_out += 1;
        self.counts.bytes_out += bytes.len() as u64;
        self.wishes.push_back(Wish::Send(bytes));
    }

    /// Something happened to a flow here.
    pub(super) fn on_change(&mut self, change: &Change, now: Instant) {
        if let Some(session) = &mut self.session {
            session.on_change(change, now, &mut self.counts);
        }
    }

    /// Another peer spoke of a flow.
    pub(super) fn on_mention(&mut self, change: &Change) {
        let Some(session) = &mut self.session else { return };
        session.hearing.iter_mut().for_each(|hearing| hearing.mention(change));
        match change {
            Change::Opened(record) => session.untold.insert(hash(&record.key)),
            Change::Closed(key) => session.untold.remove(&hash(key)),
        };
        if session.untold.len() > MOST_UNTOLD {
            session.owe(&mut self.counts);
        }
    }

    pub(super) fn set_held(&mut self, held: &BTreeSet<IpAddr>) {
        if let Some(session) = &mut self.session {
            session.telling.iter_mut().for_each(|telling| telling.set_held(held));
            session.hearing.iter_mut().for_each(|hearing| hearing.set_held(held));
        }
    }

    /// The whole table has to be told again.
    pub(super) fn owe(&mut self) {
        if let Some(session) = &mut self.session {
            session.owe(&mut self.counts);
        }
    }

    /// Part of what it told was lost here.
    pub(super) fn ask(&mut self) {
        if let Some(session) = &mut self.session {
            session.asks = true;
            session.has_theirs = false;
            session.hearing = None;
        }
    }

    /// The peer was not told of these flows, and does not have them.
    pub(super) fn on_untold(&mut self, records: &[Record], now: Instant) {
        records.iter().for_each(|record| self.on_change(&Change::Opened(*record), now));
    }

    /// Whether it is to be told a table, and does not wait for it yet.
    pub(super) fn wants_look<C>(&self, common: &Common<C>, now: Instant) -> bool {
        self.look_at(common).is_some_and(|at| now >= at)
    }

    /// A look is about to be taken: what is said from now on is newer.
    pub(super) fn on_look<C>(&mut self, common: &Common<C>, now: Instant) {
        if let Some(session) = &mut self.session {
            session.on_look(common, now, &mut self.counts);
        }
    }

    /// The table was looked at.
    pub(super) fn on_table(&mut self, table: &Arc<Table>, now: Instant) {
        if let Some(telling) = self.session.as_mut().and_then(|session| session.telling.as_mut()) {
            telling.on_table(table, now);
        }
    }

    pub(super) fn on_time<C: Cipher<Keys = K>>(
        &mut self, common: &Common<C>, now: Instant, random: &mut dyn FnMut() -> Nonce,
    ) {
        let Some(mut session) = self.session.take() else {
            if now >= self.hello_at {
                let (own, other) = *self.attempt.get_or_insert_with(|| (random(), None));
                self.hello_at = now + HELLO_EVERY;
                self.say(Hello { is_open: false, own, other: other.unwrap_or([0; NONCE]) }, common);
            }
            return;
        };
        if now >= session.heard + SILENT_AFTER {
            (self.since, self.hello_at) = (now, now);
            return self.on_time(common, now, random);
        }
        loop {
            session.feed(now, &mut self.counts);
            let number = session.number;
            let Some((chunk, items)) = session.outbox.next(number, now) else { break };
            let body = Body::Chunk(chunk, items).emit();
            if let Some(datagram) = session.seal(body, now) {
                self.send(datagram);
            }
        }
        let receipt_due = session.inbox.deadline().is_some_and(|at| now >= at);
        if receipt_due || now >= session.sent + PRESENCE_EVERY {
            let receipt = session.inbox.receipt(session.asks);
            if let Some(datagram) = session.seal(Body::Receipt(receipt).emit(), now) {
                self.send(datagram);
            }
        }
        self.session = Some(session);
    }

    /// When [`Self::on_time`] is due.
    pub(super) fn deadline(&self) -> Instant {
        let Some(session) = &self.session else {
            return self.hello_at;
        };
        let always = (session.heard + SILENT_AFTER).min(session.sent + PRESENCE_EVERY);
        let part = session.telling.as_ref().filter(|_| session.outbox.has_room()).and_then(Telling::deadline);
        let others = [session.outbox.deadline(), session.inbox.deadline(), part];
        others.into_iter().flatten().fold(always, Instant::min)
    }

    /// When it wants to be told a table, if it does not wait for one.
    pub(super) fn look_at<C>(&self, common: &Common<C>) -> Option<Instant> {
        let session = self.session.as_ref().filter(|session| session.telling.is_none())?;
        // What is owed is owed since it was last heard at the latest.
        let regular = (!common.held.is_empty()).then_some(session.look_at);
        if session.owes { Some(session.heard) } else { regular }
    }
}

impl<K: Keys> Session<K> {
    fn new(own: Nonce, other: Nonce, keys: K, now: Instant) -> Self {
        Self {
            own,
            other,
            keys,
            number: 0,
            window: Window::default(),
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            heard: now,
            sent: now,
            telling: None,
            hearing: None,
            owes: true,
            look_at: now + LOOK_EVERY,
            asks: false,
            has_theirs: false,
            said: BTreeMap::new(),
            untold: HashSet::new(),
            told_by: None,
        }
    }

    fn seal(&mut self, mut body: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        let header = header(self.keys.session(), self.number);
        self.keys.seal(self.number, &header, &mut body)?;
        // A number is used once, whatever becomes of the datagram.
        self.number += 1;
        self.sent = now;
        let mut datagram = Vec::with_capacity(header.len() + body.len());
        datagram.extend(header);
        datagram.extend(body);
        Some(datagram)
    }

    fn on_body<C>(
        &mut self, body: Body<'_>, common: &Common<C>, now: Instant, counts: &mut Counts, wishes: &mut VecDeque<Wish>,
    ) -> Result<(), Refusal> {
        match body {
            Body::Receipt(receipt) => {
                if receipt.asks && self.telling.as_ref().is_none_or(|telling| !telling.is_whole()) {
                    self.stop_telling();
                    self.owes = true;
                }
                self.outbox.on_receipt(&receipt, now, |lag| counts.lag.note(lag));
                Ok(())
            }
            Body::Chunk(chunk, bytes) => {
                let Self { inbox, telling, hearing, asks, has_theirs, said, untold, told_by, .. } = self;
                inbox.on_chunk(chunk, bytes, now, |bytes| {
                    let mut changes = Vec::new();
                    for item in items(bytes)? {
                        match item {
                            Item::Change(change) => {
                                match change {
                                    Change::Opened(_) => counts.flows_in += 1,
                                    Change::Closed(_) => counts.ends_in += 1,
                                }
                                hearing.iter_mut().for_each(|hearing| hearing.mention(&change));
                                untold.remove(&hash(change.key()));
                                changes.push(change);
                            }
                            Item::Begin { whole, complete, received } => {
                                *asks &= !whole;
                                told_by.take_if(|(end, _)| *end <= received);
                                *hearing = Some(Hearing::new(whole, complete, received));
                            }
                            Item::Held(vip) => {
                                hearing.iter_mut().for_each(|hearing| hearing.on_held(vip, &common.held, said));
                            }
                            Item::End { still } => {
                                let Some(heard) = hearing.take() else { continue };
                                counts.tables_in += 1;
                                *has_theirs |= heard.whole;
                                wishes.push_back(Wish::Apply(std::mem::take(&mut changes)));
                                let mut untold = untold.clone();
                                untold.extend(told_by.iter().flat_map(|(_, untold)| untold));
                                untold.extend(telling.iter().flat_map(|telling| &telling.untold));
                                wishes.extend(heard.end(still, untold).map(Wish::Settle));
                            }
                        }
                    }
                    wishes.push_back(Wish::Apply(changes));
                    Ok(())
                })
            }
        }
    }

    fn on_change(&mut self, change: &Change, now: Instant, counts: &mut Counts) {
        self.hearing.iter_mut().for_each(|hearing| hearing.mention(change));
        self.untold.remove(&hash(change.key()));
        match self.outbox.push(&Item::Change(*change), now) {
            Ok(chunk) => {
                match change {
                    Change::Opened(_) => counts.flows_out += 1,
                    Change::Closed(_) => counts.ends_out += 1,
                }
                self.said.insert(change.key().listener.ip(), chunk);
                if self.telling.as_mut().is_some_and(|telling| !telling.touch(change.key())) {
                    self.owe(counts);
                }
            }
            Err(Overflow) => self.owe(counts),
        }
    }

    fn owe(&mut self, counts: &mut Counts) {
        counts.resyncs += u64::from(!self.owes);
        self.owes = true;
        self.stop_telling();
    }

    fn stop_telling(&mut self) {
        if let Some(telling) = self.telling.take() {
            self.untold.extend(telling.untold);
        }
    }

    fn on_look<C>(&mut self, common: &Common<C>, now: Instant, counts: &mut Counts) {
        let received = self.inbox.received();
        let begin = Item::Begin { whole: self.owes, complete: self.has_theirs, received };
        let mut telling = Telling::new(self.owes, common.held.clone(), now);
        for item in [begin].into_iter().chain(telling.vips().iter().copied().map(Item::Held)) {
            if self.outbox.push(&item, now).is_err() {
                return self.owe(counts);
            }
        }
        if self.owes {
            telling.untold = std::mem::take(&mut self.untold);
        }
        self.telling = Some(telling);
        self.owes = false;
    }

    /// Moves parts of the table into the outbox, as far as there is room and time.
    fn feed(&mut self, now: Instant, counts: &mut Counts) {
        let Some(telling) = self.telling.as_mut().filter(|_| self.outbox.has_room()) else {
            return;
        };
        match telling.next(now) {
            None => {}
            Some(Part::Flows(items, flows)) => {
                counts.flows_out += flows;
                self.outbox.push_part(items);
            }
            Some(Part::End(end)) => {
                let untold = std::mem::take(&mut telling.untold);
                self.telling = None;
                counts.tables_out += 1;
                match self.outbox.push(&end, now) {
                    Ok(chunk) => {
                        let before = self.told_by.take().map(|(_, untold)| untold).unwrap_or_default();
                        self.told_by = Some((chunk, before.into_iter().chain(untold).collect()));
                    }
                    Err(Overflow) => {
                        self.untold.extend(untold);
                        self.owe(counts);
                    }
                }
                self.look_at = now + LOOK_EVERY;
            }
        }
    }
}
