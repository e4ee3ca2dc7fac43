//! The whole datapath, driven through stories: connections that open, talk, close, are reset and forwarded, while the agent
//! changes its tables and time passes.

use lb_ebpf::abi::{Flow, FlowKey, Reason, Verdict};
use lb_ebpf::cases::{Executor as _, Kept, Model, Passing, Table, World};
use lb_ebpf::net::{V4, V6};

use crate::bytes::Bytes;
use crate::sound::{Layers, layers};
use crate::story::flag::{ACK, FIN, RST, SYN};
use crate::story::{self, EVENT, Event, HEAD, NODE_MAC, OTHER_MAC};

/// Events of a story at most: what is behind is not looked at.
const LONGEST: usize = 32;

/// Feeds a story. After every event of it must hold:
///
/// - a frame that passes is unchanged; every other frame is changed in what its reason says and in nothing else,
/// - a right checksum stays right and a wrong one stays wrong, layer by layer; answers are right,
/// - entries come from a SYN alone, established ones from a handshake, and each has its other half,
/// - an established flow keeps its backend and its translation.
pub fn datapath(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let head = bytes.array::<HEAD>();
    if head[0] & 1 != 0 { tell::<V6>(head, bytes, true) } else { tell::<V4>(head, bytes, false) }
}

fn tell<F: Kept>(head: [u8; HEAD], mut bytes: Bytes<'_>, is_six: bool) {
    let world = story::world(head);
    let mut run = Run::<F> { model: Model::new(world.clone()), world, received: Vec::new(), flows: Default::default() };
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
            }
            Event::Time(seconds) => run.model.now.set(run.model.now.get() + seconds),
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
        // What fits into no outer packet is part of its connection all the same.
        let is_too_long = matches!(reason, Reason::FragmentationNeeded | Reason::TunnelTooBig);
        if total(now) > total(&before) {
            assert!(is_too_long || matches!(reason, Reason::NewFlow | Reason::NewLocal), "{reason:?} made a flow");
            assert!(opens || reason == Reason::NewLocal && self.is_forwarded(&passing), "a flow from no SYN");
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
        assert!(self.model.pairs_are_whole(), "after {reason:?}");
        let room = self.world.capacity as usize;
        assert!(now[0].len() <= room.max(before[0].len()), "no more than there is room for");

        match reason.verdict() {
            Verdict::Forward => self.received.push(Passing { frame: after, inside: false }),
            Verdict::Deliver => self.received.push(Passing { frame: after, inside: !passing.inside }),
            Verdict::Pass | Verdict::Reply | Verdict::Drop => {}
        }
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
            expect(reason == Reason::FragmentationNeeded || is_reset && !was_reset, "a RST is not answered with one")
        }
        Verdict::Forward | Verdict::Deliver => {
            let (was, is) = (layers(frame).ok_or("only IP is forwarded")?, layers(after).ok_or("IP stays IP")?);
            expect(is.outer != Some(false), "an outer header is right")?;
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
