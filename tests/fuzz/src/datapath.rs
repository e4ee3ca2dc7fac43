//! The whole datapath, driven through stories: connections that open, talk, close, are reset and forwarded, while the agent
//! changes its tables and time passes.

use std::collections::BTreeMap;

use lb_ebpf::abi::{Delivery, Flow, FlowKey, Reason, Verdict};
use lb_ebpf::cases::{Executor as _, Frame, Kept, Model, Passing, Table, World};
use lb_ebpf::net::{Be128, V4, V6};

use crate::bytes::Bytes;
use crate::sound::{Layers, layers};
use crate::story::flag::{ACK, FIN, RST, SYN};
use crate::story::{self, EVENT, Event, HEAD, NODE_MAC, OTHER_MAC, PORT};

/// Events of a story at most: what is behind is not looked at.
const LONGEST: usize = 32;

/// Feeds a story. After every event of it must hold:
///
/// - a frame that passes is unchanged; every other frame is changed in what its reason says and in nothing else,
/// - a right checksum stays right and a wrong one stays wrong, layer by layer; answers are right,
/// - entries come from a SYN alone, established ones from a handshake, and each has its other half,
/// - an established flow keeps its backend and its translation,
/// - a SYN that goes on to another backend is the client's own, in every option,
/// - a new flow has a source address and port that it may have, and a client that may open it.
pub fn datapath(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let head = bytes.array::<HEAD>();
    if head[0] & 1 != 0 { tell::<V6>(head, bytes, true) } else { tell::<V4>(head, bytes, false) }
}

fn tell<F: Kept>(head: [u8; HEAD], mut bytes: Bytes<'_>, is_six: bool) {
    let world = story::world(head);
    let mut run = Run::<F> {
        model: Model::new(world.clone()),
        world,
        received: Vec::new(),
        flows: Default::default(),
        syns: Vec::new(),
        opened: BTreeMap::new(),
    };
    if head[15] & 0x80 != 0 {
        run.model.neighbours.get_mut().extend(story::neighbours().map(|(address, mac)| (address.into(), mac)));
    }
    for _ in 0..LONGEST {
        if bytes.is_empty() {
            break;
        }
        let event = bytes.array::<EVENT>();
        match story::event(event, is_six, &run.received, &mut bytes) {
            Event::Passes(passing) => run.pass(passing),
            Event::Agent(world) => {
                run.model.change(&world);
                run.world = *world;
                run.opened.clear();
            }
            Event::Time(seconds) => {
                run.model.now.set(run.model.now.get() + seconds);
                run.model.micros.set(run.model.micros.get() + 1_000_000 * u64::from(seconds));
                run.opened.clear();
            }
            Event::Nothing => {}
        }
    }
}

struct Run<F: Kept> {
    model: Model,
    world: World,
    received: Vec<Passing>,
    /// The tables after the last event.
    flows: [Table<F::Address>; 2],
    /// SYNs of clients.
    syns: Vec<Vec<u8>>,
    /// How many connections sources have opened since time passed, or limits were others.
    opened: BTreeMap<u128, u64>,
}

impl<F: Kept> Run<F> {
    fn pass(&mut self, passing: Passing) {
        let (reason, after) = passing.run(&mut self.model);
        assert_eq!(check(&passing, reason, &after), Ok(()), "{reason:?}:\n{:02x?}\n{after:02x?}", passing.frame);

        let now = self.model.flows::<F>();
        let before = std::mem::replace(&mut self.flows, now);
        let now = &self.flows;
        let total = |of: &[Table<F::Address>; 2]| of[0].len() + of[1].len();
        let opens = flags(&passing.frame).is_some_and(|flags| flags & (SYN | ACK | FIN | RST) == SYN);
        if opens {
            self.syns.push(passing.frame.clone());
        }
        let goes_on = is_retried(&passing.frame, reason);
        if goes_on {
            assert!(self.syns.iter().any(|syn| is_same_segment(syn, &after)), "a SYN that nobody has sent");
        }
        // What fits into no outer packet is part of its connection all the same.
        let is_too_long = matches!(reason, Reason::FragmentationNeeded | Reason::TunnelTooBig);
        if total(now) > total(&before) {
            assert!(is_too_long || matches!(reason, Reason::NewFlow | Reason::NewLocal), "{reason:?} made a flow");
            let is_forwarded = reason == Reason::NewLocal && self.is_forwarded(&passing);
            assert!(opens || goes_on || is_forwarded, "a flow from no SYN");
        }
        if now[0].len() > before[0].len() {
            let is_opened = matches!(reason, Reason::Opened | Reason::LocalOpened);
            assert!(is_too_long || is_opened, "{reason:?} established a flow");
        }
        for (key, flow) in &before[0] {
            if let Some(later) = now[0].get(key) {
                assert_eq!(identity(later), identity(flow), "{reason:?}: an established flow keeps to its way");
            }
        }
        for (key, flow) in now[1].iter().filter(|(key, _)| !before[1].contains_key(key)) {
            self.check_new(key, flow);
        }
        let is_known = |key: &FlowKey<F::Address>| before.iter().any(|table| table.contains_key(key));
        let mut new = now[1].iter().filter(|(key, flow)| flow.is_from_client() && !is_known(key));
        let new = new.next().filter(|_| opens && matches!(reason, Reason::NewFlow | Reason::NewLocal));
        let new = new.map(|(key, _)| *key);
        assert!(self.model.pairs_are_whole(), "after {reason:?}");
        let room = self.world.capacity as usize;
        assert!(now[0].len() <= room.max(before[0].len()), "no more than there is room for");
        if let Some(key) = new {
            self.check_admitted(&passing, &key);
        }

        match reason.verdict() {
            Verdict::Forward => self.received.push(Passing { frame: after, inside: false }),
            Verdict::Deliver => self.received.push(Passing { frame: after, inside: !passing.inside }),
            Verdict::Pass | Verdict::Reply | Verdict::Drop => {}
        }
    }

    /// Looks at an entry that has just been made.
    fn check_new(&self, key: &FlowKey<F::Address>, flow: &Flow<F::Address>) {
        if !flow.is_from_client() || flow.delivery != Delivery::Translated as u16 {
            return;
        }
        let source: Be128 = flow.translated.source.into();
        assert!(
            flow.translated.source == key.destination || self.world.sources.contains(&source),
            "a source address of ours"
        );
        let node = &self.world.node;
        let port = flow.translated.source_port.get();
        let ports = u32::from(node.first_port)..u32::from(node.first_port) + u32::from(node.port_count);
        assert!(ports.contains(&u32::from(port)), "a source port of ours");
    }

    /// Looks at who has just opened a connection of a key.
    fn check_admitted(&mut self, passing: &Passing, key: &FlowKey<F::Address>) {
        let service = &self.world.services[0].1;
        // What was inside an outer packet, or comes from another node, has been let in there.
        let is_inner = layers(&passing.frame).is_none_or(|layers| layers.outer.is_some());
        if is_inner || key.destination_port.get() != PORT || Frame::parse(&passing.frame).is_none() {
            return;
        }
        let source = number(key.source.into());
        if service.allow != 0 {
            let is_within = |(list, prefix, bits): &(u32, Be128, u8)| {
                *list == service.allow
                    && (number(*prefix) ^ source).checked_shr(128 - u32::from(*bits)).unwrap_or_default() == 0
            };
            assert!(self.world.allowed.iter().any(is_within), "who is not allowed opens nothing");
        }
        let Some((_, limit)) = self.world.limits.first().filter(|_| service.is_limited != 0) else { return };
        if self.is_forwarded(passing) {
            return;
        }
        let count = self.opened.entry(source & number(limit.mask)).or_default();
        *count += 1;
        assert!(*count <= limit.tolerance / limit.interval + 1, "no more than a burst at once");
    }

    /// Whether another node may have forwarded the frame.
    fn is_forwarded(&self, passing: &Passing) -> bool {
        self.world.node.flags & lb_ebpf::abi::node_flag::DELIVERS_ONLY != 0
            || self.world.fellows == [OTHER_MAC] && passing.frame.get(6..12) == Some(&OTHER_MAC) && !passing.inside
    }
}

/// What may never change of an established flow.
fn identity<A: Copy>(flow: &Flow<A>) -> (FlowKey<A>, u16, u16, u32, u16) {
    (flow.translated, flow.backend, flow.service, flow.generation, flow.delivery)
}

fn number(address: Be128) -> u128 {
    u128::from_be_bytes(address.wire())
}

/// Whether a frame is a refusal that was made its client's SYN again.
fn is_retried(frame: &[u8], reason: Reason) -> bool {
    matches!(reason, Reason::NewFlow | Reason::NewLocal) && flags(frame).is_some_and(|flags| flags & RST != 0)
}

/// Whether a frame has the TCP header of a SYN, but for ports and checksum, which is as right as that one's was.
fn is_same_segment(syn: &[u8], after: &[u8]) -> bool {
    let (Some(was), Some(is)) = (layers(syn), layers(after)) else { return false };
    let header = syn.get(was.at + 12).map_or(0, |offset| usize::from(offset >> 4) * 4);
    let (Some(was_tcp), Some(is_tcp)) = (syn.get(was.at..was.at + header), after.get(is.at..)) else { return false };
    was_tcp.len() == is_tcp.len()
        && was_tcp[4..16] == is_tcp[4..16]
        && was_tcp[18..] == is_tcp[18..]
        && was.above == is.above
        && is.ip
}

/// The flags of a frame of TCP, inside an outer one or not.
fn flags(frame: &[u8]) -> Option<u8> {
    frame.get(layers(frame)?.at + 13).copied()
}

/// Whether a frame has become what its reason allows.
pub(crate) fn check(before: &Passing, reason: Reason, after: &[u8]) -> Result<(), &'static str> {
    let frame = &before.frame[..];
    let expect = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
    match reason.verdict() {
        Verdict::Pass => expect(frame == after, "what passes is unchanged"),
        Verdict::Drop => Ok(()),
        Verdict::Reply => {
            let layers = layers(after).ok_or("an answer is IP")?;
            expect(layers.ip && layers.above == Some(true), "an answer's checksums are right")?;
            expect(after.get(6..12) == Some(&NODE_MAC), "an answer comes from this node")?;
            let is_reset = flags(after).is_some_and(|flags| flags & RST != 0);
            let was_reset = flags(frame).is_some_and(|flags| flags & RST != 0);
            let is_error = matches!(reason, Reason::FragmentationNeeded | Reason::TimeExceeded);
            // A refusal that no other backend could take is its client's, whose SYN was made of it.
            let is_another = || {
                let ends = Frame::parse(frame).zip(Frame::parse(after));
                ends.is_some_and(|(was, is)| (was.from, was.from_port) != (is.to, is.to_port))
            };
            expect(is_error || is_reset && (!was_reset || is_another()), "a RST is not answered with one")
        }
        Verdict::Forward | Verdict::Deliver => {
            let (was, is) = (layers(frame).ok_or("only IP is forwarded")?, layers(after).ok_or("IP stays IP")?);
            expect(is.outer != Some(false), "an outer header is right")?;
            if is_retried(frame, reason) {
                return expect(is.ip, "a SYN that goes on has a right header");
            }
            expect(same(&was, &is), "checksums stay as right or wrong as they were")?;
            expect(after.len() - is.at == frame.len() - was.at, "nothing is added or cut")?;
            if reason.verdict() == Verdict::Forward {
                expect(after.get(6..12) == Some(&NODE_MAC), "what is forwarded comes from this node")?;
                expect(after.get(..6) != Some(&NODE_MAC), "and is not for it")?;
                expect(hops(after, &is) == hops(frame, &was).map(|hops| hops.wrapping_sub(1)), "it has one hop less")?;
            }
            if matches!(reason, Reason::IcmpError | Reason::IcmpErrorLocal) {
                return Ok(());
            }
            // All but the ports and the checksum.
            let (was, is) = (&frame[was.at..], &after[is.at..]);
            expect(was[4..16] == is[4..16] && was[18..] == is[18..], "numbers, flags, options and data stay")
        }
    }
}

fn same(was: &Layers, is: &Layers) -> bool {
    (was.ip, was.above, was.about) == (is.ip, is.above, is.about)
}

/// Hops left to live; of the inner packet, if there are two.
fn hops(frame: &[u8], layers: &Layers) -> Option<u8> {
    let is_six = frame.get(12..14) == Some(&[0x86, 0xdd]);
    frame.get(layers.at - if is_six { 40 - 7 } else { 20 - 8 }).copied()
}
