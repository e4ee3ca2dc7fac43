//! What entered the datapath and what left it, put together, and who of it is wanted. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::connections::Peer;

/// Which side of the datapath a packet was seen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Before it.
    In,
    /// Behind it.
    Out,
}

/// A packet as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Nanoseconds of the kernel's monotonic clock.
    pub(super) at: u64,
    /// Which of the traced programs.
    pub(super) program: u32,
    /// Where it was seen.
    pub(super) way: Way,
    /// What the program returned, behind it.
    pub(super) action: u32,
    /// Its whole length.
    pub(super) length: u32,
    /// As much as was copied of it.
    pub(super) bytes: Vec<u8>,
}

/// A packet to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    /// Nanoseconds; of the clock that [`Seen::at`] has, or of the time of day.
    pub(super) at: u64,
    /// Where it was seen.
    pub(super) way: Way,
    /// What became of it.
    pub(super) verdict: &'static str,
    /// Its whole length.
    pub(super) length: u32,
    /// As much as was copied of it.
    pub(super) bytes: Vec<u8>,
}

/// How a program's return value is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A program of XDP.
    Xdp,
    /// One of TC.
    Tc,
}

impl Kind {
    /// What an action means; `None`: on to whoever is next.
    fn verdict(self, action: u32) -> Option<&'static str> {
        const SHOT: u32 = 2;
        match (self, action) {
            (Self::Xdp, 0 | 1) | (Self::Tc, SHOT) => Some("dropped"),
            (Self::Xdp, 3 | 4) | (Self::Tc, 7) => Some("sent"),
            _ => None,
        }
    }
}

/// What has entered and not left yet, by processor and program: nothing comes in between there.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    entered: BTreeMap<(u32, u32), Seen>,
}

impl Pairing {
    /// Takes in what was seen next on a processor. A pair is what the datapath took, changed or sent: at most two packets; with
    /// `all` whatever passed it.
    pub(super) fn take(&mut self, cpu: u32, kind: Kind, seen: Seen, all: bool) -> Vec<Packet> {
        let key = (cpu, seen.program);
        if seen.way == Way::In {
            self.entered.insert(key, seen);
            return Vec::new();
        }
        let Some(entered) = self.entered.remove(&key) else {
            return Vec::new();
        };
        let verdict = kind.verdict(seen.action);
        let is_changed = (entered.length, &entered.bytes) != (seen.length, &seen.bytes);
        let show = |seen: Seen, verdict| {
            let Seen { at, way, length, bytes, .. } = seen;
            Packet { at, way, verdict, length, bytes }
        };
        match verdict {
            Some("dropped") => vec![show(entered, "dropped")],
            Some(verdict) => vec![show(entered, verdict), show(seen, verdict)],
            None if is_changed => vec![show(entered, "delivered"), show(seen, "delivered")],
            None if all => vec![show(entered, "passed")],
            None => Vec::new(),
        }
    }
}

/// Whose packets are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Whose {
    /// Of a client.
    pub(super) client: Option<Peer>,
    /// From or to one of these.
    pub(super) backends: Option<Vec<Peer>>,
}

impl Whose {
    /// Whether one of a pair's packets is from or to each of those.
    pub(super) fn is(&self, pair: &[Packet]) -> bool {
        let ends: Vec<_> = pair.iter().filter_map(|packet| ends(&packet.bytes)).flatten().collect();
        let has = |peer: &Peer| {
            ends.iter().any(|end| end.ip() == peer.address && peer.port.is_none_or(|port| end.port() == port))
        };
        self.client.as_ref().is_none_or(has) && self.backends.as_ref().is_none_or(|backends| backends.iter().any(has))
    }
}

/// Source and destination of a frame's packet, with port 0 where it has none.
pub(super) fn ends(frame: &[u8]) -> Option<[SocketAddr; 2]> {
    const TCP: u8 = 6;
    let half = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    let four = |at: usize| Some(IpAddr::from(*frame.get(at..)?.first_chunk::<4>()?));
    let six = |at: usize| Some(IpAddr::from(*frame.get(at..)?.first_chunk::<16>()?));
    let (from, to, protocol, behind) = match half(12)? {
        0x0800 => {
            let header = usize::from(frame.get(14)? & 0xf) * 4;
            (four(26)?, four(30)?, *frame.get(23)?, 14 + header)
        }
        0x86dd => (six(22)?, six(38)?, *frame.get(20)?, 54),
        _ => return None,
    };
    let port = |at: usize| half(at).filter(|_| protocol == TCP).unwrap_or_default();
    Some([SocketAddr::new(from, port(behind)), SocketAddr::new(to, port(behind + 2))])
}

/// A packet in one line, without a time.
pub(super) fn line(packet: &Packet) -> String {
    let way = if packet.way == Way::In { "in " } else { "out" };
    let Some([from, to]) = ends(&packet.bytes) else {
        return format!("{way} no IP, {} bytes, {}", packet.length, packet.verdict);
    };
    let flags = flags(&packet.bytes).unwrap_or_default();
    format!("{way} {from} > {to}{flags}, {} bytes, {}", packet.length, packet.verdict)
}

/// TCP flags as tcpdump writes them.
fn flags(frame: &[u8]) -> Option<String> {
    let [from, _] = ends(frame)?;
    let behind = if from.is_ipv4() { 14 + usize::from(frame.get(14)? & 0xf) * 4 } else { 54 };
    let bits = *frame.get(behind + 13)?;
    if from.port() == 0 {
        return None;
    }
    let names = [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, '.')];
    let all: String = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    Some(format!(" [{all}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 10, 192, 0, 2, to]);
        frame.extend([0x9c, 0x40]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
        frame
    }

    fn seen(way: Way, action: u32, bytes: Vec<u8>) -> Seen {
        Seen { at: 5, program: 1, way, action, length: bytes.len() as u32, bytes }
    }

    #[test]
    fn what_enters_is_shown_with_what_became_of_it() {
        let mut pairing = Pairing::default();
        let mut pair = |kind, action, out: Vec<u8>| {
            assert_eq!(pairing.take(0, kind, seen(Way::In, 0, frame(100, 8443)), false), []);
            // Another processor, or another program on this one, has nothing to do with it.
            assert_eq!(pairing.take(1, kind, seen(Way::Out, action, frame(100, 8443)), true), []);
            let shown = pairing.take(0, kind, seen(Way::Out, action, out), false);
            shown.into_iter().map(|packet| (packet.way, packet.verdict)).collect::<Vec<_>>()
        };
        let both = |verdict| vec![(Way::In, verdict), (Way::Out, verdict)];
        assert_eq!(pair(Kind::Xdp, 3, frame(31, 6443)), both("sent"));
        assert_eq!(pair(Kind::Tc, 7, frame(31, 6443)), both("sent"));
        assert_eq!(pair(Kind::Xdp, 1, frame(100, 8443)), [(Way::In, "dropped")]);
        assert_eq!(pair(Kind::Tc, 2, frame(100, 8443)), [(Way::In, "dropped")]);
        assert_eq!(pair(Kind::Xdp, 2, frame(100, 8443)), []);
        assert_eq!(pair(Kind::Tc, u32::MAX, frame(31, 6443)), both("delivered"));
        assert_eq!(pairing.take(0, Kind::Xdp, seen(Way::Out, 3, frame(31, 6443)), true), [], "it entered before");
    }

    #[test]
    fn whose_packets() {
        let pair = |frames: &[Vec<u8>]| {
            let packet =
                |bytes: &Vec<u8>| Packet { at: 0, way: Way::In, verdict: "sent", length: 54, bytes: bytes.clone() };
            frames.iter().map(packet).collect::<Vec<_>>()
        };
        let both = pair(&[frame(100, 8443), frame(31, 6443)]);
        let peer = |text| crate::connections::peer(text).unwrap();
        let client = |text| Whose { client: Some(peer(text)), backends: None };
        assert!(Whose::default().is(&both) && client("192.0.2.10").is(&both) && client("192.0.2.10:40000").is(&both));
        assert!(!client("192.0.2.10:40001").is(&both) && !client("192.0.2.11").is(&both));
        let backend = |text| Whose { client: None, backends: Some(vec![peer(text)]) };
        assert!(backend("192.0.2.31:6443").is(&both) && !backend("192.0.2.32:6443").is(&both));
        assert!(!client("192.0.2.10").is(&pair(&[vec![0; 60]])));
        assert_eq!(line(&both[0]), "in  192.0.2.10:40000 > 192.0.2.100:8443 [S], 54 bytes, sent");
        for end in 0..54 {
            let _ = (ends(&frame(31, 1)[..end]), flags(&frame(31, 1)[..end]));
        }
    }
}
