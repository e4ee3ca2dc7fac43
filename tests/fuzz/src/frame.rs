//! Any frame at all, past a datapath that has connections of both IP versions, in and out.

use lb_ebpf::abi::{Backend, Delivery, Reason, Verdict};
use lb_ebpf::cases::{Frame, Model, Passing, World};

use crate::bytes::Bytes;
use crate::datapath::check;
use crate::sound::set_ipv4_checksum;
use crate::story::flag::{ACK, SYN};
use crate::story::{Event, event, world};

/// Feeds one frame as it is, or with the header of its IPv4 packet made right.
///
/// It ends with a reason, and with what that allows; what is no TCP makes no flow.
pub fn frame(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let how = bytes.byte();
    let mut frame = bytes.rest().to_vec();
    if how & 1 != 0 && frame.get(12..14) == Some(&[8, 0]) {
        set_ipv4_checksum(&mut frame, 14);
    }
    let passing = Passing { frame, inside: how & 2 != 0 };
    let mut model = connected(how & 4 != 0);
    let before = model.entries();
    let (reason, after) = passing.run(&mut model);
    assert_eq!(check(&passing, reason, &after), Ok(()), "{reason:?}:\n{:02x?}\n{after:02x?}", passing.frame);
    let (established, half_open) = model.entries();
    if established + half_open > before.0 + before.1 {
        assert!(matches!(reason, Reason::NewFlow | Reason::NewLocal), "{reason:?} made a flow");
    }
    if reason.verdict() == Verdict::Pass {
        assert_eq!(model.entries(), before, "what passes leaves nothing behind");
    }
    assert!(model.pairs_are_whole());
}

/// A datapath with one established flow and one half-open one of each IP version; with a backend on this node if `own`.
fn connected(own: bool) -> Model {
    let mut head = [0; 16];
    if own {
        head[4] = 3;
    }
    let both = |four: World| {
        let six = four.clone().in_ipv6();
        four.with(|world| {
            world.vips.extend(six.vips);
            world.services.extend(six.services);
            let first = world.backends.len() as u32;
            world
                .backends
                .extend(six.backends.into_iter().map(|backend| Backend { service: backend.service + 2, ..backend }));
            let rings: Vec<_> = world.rings.iter().map(|slot| slot + first).collect();
            let start = world.rings.len() as u32;
            world.rings.extend(rings);
            let own = world.backends.iter().skip(3).position(|backend| backend.delivery == Delivery::Local as u16);
            for (_, service) in world.services.iter_mut().skip(2) {
                service.number += 2;
                service.ring_start += start;
                service.own = own.map_or(0, |slot| slot as u32 + 4);
            }
        })
    };
    let mut model = Model::new(both(world(head)));
    for is_six in [false, true] {
        for (port, answers) in [(0, [SYN | ACK, ACK].as_slice()), (1, &[])] {
            let syn = [0, port, 0, 0, 0, 0, 0, 0];
            let Event::Passes(mut last) = event(syn, is_six, &[], &mut Bytes::new(&[])) else { continue };
            for flags in std::iter::once(None).chain(answers.iter().map(|flags| Some(*flags))) {
                if let Some(flags) = flags {
                    let Some(answer) = Frame::parse(&last.frame).map(Frame::answered) else { break };
                    last.frame = Frame { flags, ..answer }.bytes();
                }
                let (reason, after) = last.run(&mut model);
                let inside = reason.verdict() == Verdict::Deliver && !last.inside;
                last = Passing { frame: after, inside };
            }
        }
    }
    model
}

#[cfg(test)]
mod tests {
    use lb_ebpf::cases::Executor as _;

    use super::*;

    #[test]
    fn there_are_flows_to_be_met() {
        assert_eq!(connected(false).entries(), (4, 4));
        assert_eq!(connected(true).entries(), (4, 4));
        let mut model = connected(false);
        model.begin(&World::standard());
        assert_eq!(model.entries(), (0, 0));
    }
}
