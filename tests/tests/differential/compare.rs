//! What both made of a frame, and why they may differ.

use lb_ebpf::abi::{Reason, Verdict};

use crate::edit::{carried, inner, is_icmp, right_above};
use crate::story::{ACK, FIN, RST, SYN, Sent};

/// What became of one frame on both sides.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) sent: Sent,
    pub(crate) reason: Reason,
    /// What left of ours.
    pub(crate) ours: Option<Vec<u8>>,
    /// What left of the kernel, with our source port.
    pub(crate) theirs: Vec<Vec<u8>>,
    /// Whether an earlier packet was a part of the connection to one of them alone, or reset its handshake.
    pub(crate) is_apart: bool,
    /// The connection's packets up to this one.
    pub(crate) history: String,
}

/// A difference that is meant.
pub(crate) struct Explanation {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    holds: fn(&Case) -> bool,
}

impl Case {
    /// Whether both did the same.
    pub(crate) fn is_alike(&self) -> bool {
        match (self.reason.verdict(), &self.ours) {
            // The node's own stack has it, and may answer; nothing goes on to anybody else.
            (Verdict::Pass | Verdict::Deliver, _) => self.theirs.iter().all(|frame| self.is_answer(frame)),
            (_, Some(ours)) => self.theirs.len() == 1 && self.theirs[0] == *ours,
            (_, None) => self.theirs.is_empty(),
        }
    }

    /// The first explanation that covers the difference.
    pub(crate) fn explanation(&self) -> Option<usize> {
        EXPLANATIONS.iter().position(|explanation| (explanation.holds)(self))
    }

    /// Whether both let it on.
    pub(crate) fn both_forward(&self) -> bool {
        self.reason.verdict() == Verdict::Forward && self.theirs.iter().any(|frame| !self.is_answer(frame))
    }

    /// Whether one of them let it on, and the other did not.
    pub(crate) fn one_forwards(&self) -> bool {
        (self.reason.verdict() == Verdict::Forward) != self.theirs.iter().any(|frame| !self.is_answer(frame))
    }

    /// Whether a frame goes back to where this one came from, from the address that it went to.
    fn is_answer(&self, frame: &[u8]) -> bool {
        let ends = |frame: &[u8]| {
            let (at, length) = if frame.get(12) == Some(&0x86) { (22, 16) } else { (26, 4) };
            Some((frame.get(at..at + length)?.to_vec(), frame.get(at + length..at + 2 * length)?.to_vec()))
        };
        ends(frame)
            .zip(ends(&self.sent.frame))
            .is_some_and(|((from, to), (source, destination))| from == destination && to == source)
    }

    fn is_icmp_answer(&self) -> bool {
        self.theirs.iter().all(|frame| self.is_answer(frame) && carried(frame).is_some_and(is_icmp))
    }

    fn is_reset_answer(&self) -> bool {
        self.theirs.iter().all(|frame| {
            let flags = carried(frame).filter(|place| place.protocol == 6).and_then(|place| frame.get(place.at + 13));
            self.is_answer(frame) && flags.is_some_and(|flags| flags & RST != 0)
        })
    }

    /// Whether the kernel gave it to its own stack, which has no such connection: it answers with RST, but for a RST, for
    /// what arrives broken, and for what is signed.
    fn is_left_to_the_stack(&self) -> bool {
        let place = carried(&self.sent.frame).filter(|place| place.protocol == 6);
        let is_broken = place.is_some() && !is_right(&self.sent.frame);
        let is_silent = is_broken || self.flags() & RST != 0 || may_be_signed(&self.sent.frame);
        self.is_reset_answer() && (is_silent || !self.theirs.is_empty())
    }

    /// Flags of TCP; none where it is not.
    fn flags(&self) -> u8 {
        let place = carried(&self.sent.frame).filter(|place| place.protocol == 6);
        place.and_then(|place| self.sent.frame.get(place.at + 13)).copied().unwrap_or_default()
    }

    /// The frames of both, where each let one on.
    fn both(&self) -> Option<(&[u8], &[u8])> {
        match (&self.ours, self.theirs.as_slice()) {
            (Some(ours), [theirs]) => Some((ours, theirs)),
            _ => None,
        }
    }
}

/// Whether two frames differ in nothing but these places.
fn differ_at(one: &[u8], other: &[u8], may: impl Fn(usize) -> bool) -> bool {
    one.len() == other.len() && one.iter().zip(other).enumerate().all(|(at, (one, other))| one == other || may(at))
}

/// All that are known, the more particular before the more general.
pub(crate) const EXPLANATIONS: [Explanation; 15] = [
    Explanation {
        name: "padding",
        why: "the kernel's receive path trims a frame to its packet; in place, what nobody reads stays",
        holds: |case| {
            let end = carried(&case.sent.frame).map(|place| place.end);
            let end = end.filter(|end| *end < case.sent.frame.len());
            case.both().zip(end).is_some_and(|((ours, theirs), end)| ours.get(..end) == Some(theirs))
        },
    },
    Explanation {
        name: "no hop left",
        why: "both tell the sender (time exceeded), of which the kernel repeats more than the header and eight bytes; where the \
              kernel's stack has it for its own, or an ICMP message had no hop left, one of them says something else, or nothing",
        holds: |case| match case.reason {
            Reason::TimeExceeded => {
                let ours = case.ours.as_deref().is_some_and(|ours| case.is_answer(ours) && is_time_exceeded(ours));
                ours && (case.theirs.is_empty() || case.is_icmp_answer() || case.is_reset_answer())
            }
            Reason::Ttl => case.is_icmp_answer() || case.is_reset_answer(),
            _ => false,
        },
    },
    Explanation {
        name: "IP options and extension headers",
        why: "the kernel forwards them, or tells the sender what is wrong with them; xvip drops what no control plane sends",
        holds: |case| case.reason == Reason::IpOptions,
    },
    Explanation {
        name: "fragments",
        why: "the kernel puts them together or looks beyond the header of the only one; xvip drops what TCP with path MTU \
              discovery never sends",
        holds: |case| case.reason == Reason::IpFragment,
    },
    Explanation {
        name: "wrong ICMP checksum",
        why: "the kernel drops the error; xvip translates it by difference, and its receiver drops it",
        holds: |case| {
            let sum = carried(&case.sent.frame).filter(|place| is_icmp(*place)).map(|_| is_right(&case.sent.frame));
            case.reason == Reason::IcmpError && case.theirs.is_empty() && sum == Some(false)
        },
    },
    Explanation {
        name: "an error that cuts a TCP header behind its checksum",
        why: "the kernel changes the checksum in it only where the whole header is there",
        holds: |case| {
            let about = inner(&case.sent.frame);
            let cut = about
                .is_some_and(|about| (about.at + 18..about.at + 20).contains(&about.end.min(case.sent.frame.len())));
            let sums = |at: usize| {
                let place = carried(&case.sent.frame).map(|place| place.at + 2);
                let inner = about.map(|about| about.at + 16);
                [place, inner].into_iter().flatten().any(|sum| at / 2 == sum / 2)
            };
            cut && case.reason == Reason::IcmpError
                && case.both().is_some_and(|(ours, theirs)| differ_at(ours, theirs, sums))
        },
    },
    Explanation {
        name: "an error about nothing that was under way",
        why: "conntrack looks for the connection alone; xvip looks at the sequence number too, as the receiver does (RFC 5927 \
              section 4.1), and drops the error",
        holds: |case| case.reason == Reason::IcmpForged && !case.theirs.is_empty(),
    },
    Explanation {
        name: "a SYN that does not reach its backend",
        why: "the kernel tells the client; xvip keeps it from the client, whose next SYN goes to another backend",
        holds: |case| case.reason == Reason::Refused && case.ours.is_none(),
    },
    Explanation {
        name: "a RST for what arrives broken",
        why: "the local stack sums a packet before it answers; xvip never looks at content",
        holds: |case| {
            let place = carried(&case.sent.frame).filter(|place| place.protocol == 6);
            case.reason == Reason::NoFlow && case.theirs.is_empty() && place.is_some() && !is_right(&case.sent.frame)
        },
    },
    Explanation {
        name: "no RST for what is signed",
        why: "the local stack does not answer segments with TCP-MD5 or TCP-AO for which it has no key, or whose options are \
              broken; xvip reads no options",
        holds: |case| case.reason == Reason::NoFlow && case.theirs.is_empty() && may_be_signed(&case.sent.frame),
    },
    Explanation {
        name: "a source that nobody has",
        why: "the kernel's IPv6 takes a packet from nowhere or from its own address; xvip drops it",
        holds: |case| case.reason == Reason::Martian && case.sent.frame[12] == 0x86,
    },
    Explanation {
        name: "flags that no stack sends",
        why: "conntrack takes the packet for invalid, so it is the local stack's, which has no such connection; xvip drops it \
              where it has no flow, and leaves it to the end where it has one",
        holds: |case| {
            matches!(case.reason.verdict(), Verdict::Forward | Verdict::Drop)
                && case.is_left_to_the_stack()
                && !are_usual(case.flags())
        },
    },
    Explanation {
        name: "out of turn in a handshake",
        why: "conntrack takes the packet for invalid and the local stack refuses it; xvip leaves it to the end, whose RST or \
              challenge the sender gets",
        holds: |case| case.reason == Reason::Handshake && case.is_left_to_the_stack(),
    },
    Explanation {
        name: "SYN or RST out of turn",
        why: "conntrack takes a SYN of an open connection, or a RST with other numbers, for invalid; xvip leaves it to the end, \
              which challenges or ignores it (RFC 5961)",
        holds: |case| {
            matches!(case.reason, Reason::ToBackend | Reason::ToClient)
                && case.flags() & (SYN | RST) != 0
                && case.is_left_to_the_stack()
        },
    },
    Explanation {
        name: "what they know of a connection has come apart",
        why: "an earlier packet was a part of it to one of them and not to the other, or reset its handshake, which conntrack \
              remembers for a while and xvip does not",
        holds: |case| case.is_apart && !case.both_forward(),
    },
];

/// Whether a frame is the ICMP error about a packet that had no hop left, with a right checksum.
fn is_time_exceeded(frame: &[u8]) -> bool {
    carried(frame).is_some_and(|place| {
        let kind = if frame[12] == 0x86 { [3, 0] } else { [11, 0] };
        is_icmp(place) && frame.get(place.at..place.at + 2) == Some(&kind) && is_right(frame)
    })
}

/// Flags that conntrack knows, whatever else is said of congestion and urgency to deliver.
fn are_usual(flags: u8) -> bool {
    let flags = flags & !(PSH | ECE | CWR);
    [SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG].contains(&flags)
}

const PSH: u8 = 8;
const URG: u8 = 32;
const ECE: u8 = 64;
const CWR: u8 = 128;

/// Whether a segment's options have a signature (RFC 2385, RFC 5925), or end before their end.
fn may_be_signed(frame: &[u8]) -> bool {
    let Some(place) = carried(frame).filter(|place| place.protocol == 6) else { return false };
    let length = frame.get(place.at + 12).map_or(0, |offset| usize::from(offset >> 4) * 4);
    let mut options = frame.get(place.at + 20..place.at + length).unwrap_or_default();
    while let [kind, rest @ ..] = options {
        match (kind, rest.first().map(|length| usize::from(*length))) {
            (0, _) => return false,
            (1, _) => options = rest,
            (19 | 29, _) => return true,
            (_, Some(length)) if length >= 2 && length <= options.len() => options = &options[length..],
            _ => return true,
        }
    }
    false
}

/// Whether the checksum above IP is the one to be written there.
fn is_right(frame: &[u8]) -> bool {
    let mut right = frame.to_vec();
    right_above(&mut right);
    right == frame
}
