//! The same packets through the kernel's own NAT and through xvip: every byte that leaves is the same, or the difference has a
//! name and a reason. Needs root and nftables.
//!
//! `XVIP_DIFFERENTIAL` is the number of packets, `XVIP_DIFFERENTIAL_SEED` another seed than the usual one.
#![allow(clippy::panic, reason = "functions shared by tests fail as tests do")]

mod chance;
mod compare;
mod edit;
mod nat;
mod story;

use std::collections::{BTreeMap, BTreeSet};

use chance::Chance;
use compare::{Case, EXPLANATIONS};
use edit::{End, carried, inner, rename, short};
use lb_ebpf::abi::{Reason, Verdict};
use lb_ebpf::cases::{Executor, World};
use nat::Nat;
use story::{BACKEND_MAC, CLIENT_MAC, Connection, RST, SYN, for_kernel};
use xvip_tests::kernel::{Hook, Kernel};
use xvip_tests::run::Run;

/// Packets in an ordinary run.
const PACKETS: u64 = 20_000;
/// The seed of an ordinary run.
const SEED: u64 = 0x7876_6970;
/// Packets of a connection.
const LENGTH: usize = 24;
/// Connections before tables are emptied.
const CONNECTIONS: usize = 8;
/// Unexplained differences after which the test gives up.
const ENOUGH: usize = 2000;

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// One backend, which every new connection gets; both IP versions.
fn world() -> World {
    World::standard().with(|world| {
        let six = world.clone().in_ipv6();
        world.backends.truncate(1);
        world.rings = vec![0, 1];
        world.vips.extend(six.vips);
        world.backends.extend(six.backends.into_iter().take(1));
        world.services.extend(six.services);
        for (number, (_, service)) in world.services.iter_mut().enumerate() {
            service.number = number as u16;
            (service.ring_start, service.ring_length) = (number as u32, 1);
        }
        for (number, backend) in world.backends.iter_mut().enumerate() {
            backend.service = number as u16;
        }
        world.node.port_count = 10_000;
    })
}

#[test]
fn the_kernels_nat_does_the_same() {
    let (packets, seed) = (setting("XVIP_DIFFERENTIAL", PACKETS), setting("XVIP_DIFFERENTIAL_SEED", SEED));
    let run = Run::start().unwrap();
    let mut ours = Kernel::new(Hook::Xdp).unwrap();
    let mut theirs = Nat::new(&run).unwrap_or_else(|error| panic!("{error:#}"));
    let mut chance = Chance::new(seed);
    let mut tally = Tally::default();
    let (mut passed, mut numbers) = (0, 0);
    while passed < packets && tally.unexplained < ENOUGH {
        ours.begin(&world());
        for _ in 0..CONNECTIONS {
            numbers += 1;
            let mut connection = Connection::new(&mut chance, numbers);
            for _ in 0..LENGTH {
                if let Some(case) = step(&mut connection, &mut chance, &mut ours, &mut theirs) {
                    tally.add(case);
                    passed += 1;
                }
            }
        }
    }
    tally.print(passed, seed);
    assert_eq!(tally.unexplained, 0, "differences without an explanation");
    if packets >= PACKETS {
        for (number, explanation) in EXPLANATIONS.iter().enumerate() {
            assert!(tally.explained.contains_key(&number), "nothing differs any more by: {}", explanation.name);
        }
    }
}

/// Lets one packet through both.
fn step(connection: &mut Connection, chance: &mut Chance, ours: &mut Kernel, theirs: &mut Nat) -> Option<Case> {
    let sent = connection.next(chance)?;
    let (reason, after) = ours.run(&sent.frame);
    let left = theirs.pass(&for_kernel(&sent, connection)).unwrap_or_else(|error| panic!("{error:#}"));
    let ours = matches!(reason.verdict(), Verdict::Forward | Verdict::Reply).then_some(after);
    if reason == Reason::NewFlow {
        connection.ours = ours.as_deref().and_then(source_port);
    }
    // Where conntrack begins anew, it may choose anew.
    let to_backend = left.iter().find(|frame| frame.starts_with(&BACKEND_MAC));
    let is_of_it = !sent.from_backend && reason.verdict() == Verdict::Forward;
    if let (true, Some(port)) = (is_of_it, to_backend.and_then(|frame| source_port(frame))) {
        connection.is_apart |= reason != Reason::NewFlow && connection.theirs != Some(port);
        connection.theirs = Some(port);
    }
    let normalised = |mut frame: Vec<u8>| {
        if let (true, Some(ours), Some(theirs)) = (frame.starts_with(&BACKEND_MAC), connection.ours, connection.theirs)
        {
            // An error may be about a packet from before conntrack began anew.
            let about = inner(&frame).filter(|_| connection.is_apart).and_then(|about| short(&frame, about.at + 2));
            rename(&mut frame, End::Source, about.unwrap_or(theirs), ours);
        }
        frame
    };
    let theirs: Vec<_> = left.into_iter().map(normalised).collect();
    if let (Verdict::Forward, Some(frame)) = (reason.verdict(), &ours)
        && reason != Reason::IcmpError
    {
        let to_backend = usize::from(frame.starts_with(&BACKEND_MAC));
        assert!(to_backend == 1 || frame.starts_with(&CLIENT_MAC));
        connection.reached[to_backend] = Some(frame.clone());
    }
    let is_apart = connection.is_apart;
    let flags = carried(&sent.frame).and_then(|place| sent.frame.get(place.at + 13)).copied().unwrap_or_default();
    let side = if sent.from_backend { '<' } else { '>' };
    connection.history.push(format!("{side} {} {flags:02x} {} {}", sent.what, reason.label(), theirs.len()));
    let history = connection.history.join(", ");
    let case = Case { sent, reason, ours, theirs, is_apart, history };
    // What conntrack makes of these depends on more than the flow's own numbers, or it has seen them before they were dropped.
    let is_ambiguous = matches!(reason, Reason::Ttl | Reason::TimeExceeded)
        || reason == Reason::Handshake && flags & RST != 0
        || !matches!(reason, Reason::NewFlow | Reason::Handshake) && flags & SYN != 0;
    connection.is_apart |= case.one_forwards() || is_ambiguous;
    Some(case)
}

/// Of TCP.
fn source_port(frame: &[u8]) -> Option<u16> {
    short(frame, carried(frame).filter(|place| place.protocol == 6)?.at)
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was seen.
#[derive(Default)]
struct Tally {
    by_reason: BTreeMap<Reason, u64>,
    by_kind: BTreeMap<&'static str, u64>,
    explained: BTreeMap<usize, u64>,
    alike: u64,
    unexplained: usize,
    /// Kinds of packets of which a difference has been shown.
    shown: BTreeSet<(&'static str, Reason)>,
}

impl Tally {
    fn add(&mut self, case: Case) {
        *self.by_reason.entry(case.reason).or_default() += 1;
        *self.by_kind.entry(case.sent.what).or_default() += 1;
        if case.is_alike() {
            self.alike += 1;
            return;
        }
        match case.explanation() {
            Some(number) => *self.explained.entry(number).or_default() += 1,
            None => {
                self.unexplained += 1;
                if !self.shown.insert((case.sent.what, case.reason)) {
                    return;
                }
                let side = if case.sent.from_backend { "backend" } else { "client" };
                println!("{} from the {side}, {:?}:\n  sent   {}", case.sent.what, case.reason, hex(&case.sent.frame));
                println!("  ours   {}", case.ours.as_deref().map(hex).unwrap_or_default());
                println!("  after  {}", case.history);
                for frame in &case.theirs {
                    println!("  theirs {}", hex(frame));
                }
            }
        }
    }

    fn print(&self, passed: u64, seed: u64) {
        println!("{passed} packets, seed {seed:#x}");
        for (reason, count) in &self.by_reason {
            println!("{count:>9} {}", reason.label());
        }
        for (what, count) in &self.by_kind {
            println!("{count:>9} {what}");
        }
        println!("{} alike; differences:", self.alike);
        for (number, count) in &self.explained {
            println!("{count:>9} {}: {}", EXPLANATIONS[*number].name, EXPLANATIONS[*number].why);
        }
    }
}
