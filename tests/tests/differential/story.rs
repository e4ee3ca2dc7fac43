//! Connections and what goes wrong with them: frames from a client, its backend and routers between, likely and unlikely.

use std::net::{IpAddr, Ipv4Addr};

use lb_ebpf::cases::{Frame, checksum, sixth};

use crate::chance::Chance;
use crate::edit::{End, carried, error_about, right_above, right_ip, set_short, short};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

pub(crate) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x22];
pub(crate) const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 31));
const PORT: u16 = 8443;
const BACKEND_PORT: u16 = 6443;

/// A signature of TCP-MD5, of nobody's key.
const SIGNED: [u8; 20] = [1, 1, 19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
/// Bytes of the longest frame on the wire.
const LONGEST: usize = 1514;

/// A frame, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) frame: Vec<u8>,
    pub(crate) from_backend: bool,
    /// What it was made to be.
    pub(crate) what: &'static str,
}

/// A connection as both its ends see it, and the frames that last reached them.
pub(crate) struct Connection {
    six: bool,
    client: IpAddr,
    port: u16,
    /// Next numbers of the client and of the backend.
    numbers: [u32; 2],
    stage: u8,
    /// The source port it has towards the backend, ours and the kernel's.
    pub(crate) ours: Option<u16>,
    pub(crate) theirs: Option<u16>,
    /// Whether a packet was a part of it to one of the two alone, or reset its handshake.
    pub(crate) is_apart: bool,
    /// What has come so far, and what became of it.
    pub(crate) history: Vec<String>,
    /// As they left this node: to the client, and to the backend.
    pub(crate) reached: [Option<Vec<u8>>; 2],
}

impl Connection {
    /// From a client nobody has had yet.
    pub(crate) fn new(chance: &mut Chance, number: u64) -> Self {
        let [_, _, _, _, _, b, c, d] = number.to_be_bytes();
        Self {
            six: chance.one_in(2),
            client: Ipv4Addr::new(10 + (b & 0x3f), c, d, 1 + (chance.number() % 250) as u8).into(),
            // Not among those to which answers of no connection come.
            port: 30_000 + chance.below(30_000) as u16,
            numbers: [chance.number() as u32, chance.number() as u32],
            stage: 0,
            ours: None,
            theirs: None,
            is_apart: false,
            history: Vec::new(),
            reached: [None, None],
        }
    }

    /// What happens next, if what it needs has happened.
    pub(crate) fn next(&mut self, chance: &mut Chance) -> Option<Sent> {
        let sent = match chance.below(40) {
            0..=1 => self.stray(chance),
            2..=5 => return self.error(chance),
            6..=8 => self.segment(chance, true, false)?,
            9..=10 => self.segment(chance, true, true)?,
            _ => self.onwards(chance)?,
        };
        let sent = if chance.one_in(3) { spoilt(chance, sent) } else { sent };
        (sent.frame.len() <= LONGEST).then_some(sent)
    }

    /// The step that a connection usually takes.
    fn onwards(&mut self, chance: &mut Chance) -> Option<Sent> {
        let (flags, from_backend, what, stage) = match self.stage {
            0 => (SYN, false, "SYN", 1),
            1 => (SYN | ACK, true, "SYN-ACK", 2),
            2 => (ACK, false, "ACK", 3),
            3 if chance.one_in(8) => (FIN | ACK, chance.one_in(2), "FIN", 4),
            3 if chance.one_in(12) => (RST | ACK, chance.one_in(2), "RST", 5),
            3 => (ACK | chance.pick(&[0, 8]), chance.one_in(2), "data", 3),
            4 => (FIN | ACK, chance.one_in(2), "second FIN", 5),
            _ => {
                // The client uses its port again.
                self.numbers[0] = self.numbers[0].wrapping_add(1 << 20);
                (SYN, false, "SYN again", 1)
            }
        };
        self.stage = stage;
        let length = match what {
            "data" => chance.pick(&[1, 2, 3, 17, 100, 536, 1200, 1440]),
            "SYN" => chance.pick(&[0, 0, 0, 5]),
            _ => 0,
        };
        self.made(chance, flags, from_backend, length, what)
    }

    /// A segment with any flags, with numbers that are the next ones or not.
    fn segment(&mut self, chance: &mut Chance, any_flags: bool, odd: bool) -> Option<Sent> {
        let usual = [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, FIN, 0, 0x29, SYN | FIN, SYN | RST, 0xc2, 0x52];
        let flags = if any_flags && chance.one_in(4) { chance.number() as u8 } else { chance.pick(&usual) };
        let before = self.numbers;
        if odd {
            let far = [1, 1000, 70_000, 1 << 24, 1 << 31, u32::MAX, u32::MAX - 1000];
            self.numbers = self.numbers.map(|number| number.wrapping_add(chance.pick(&far)));
        }
        let (from_backend, length) = (chance.one_in(2), chance.pick(&[0, 0, 4, 33]));
        let sent = self.made(chance, flags, from_backend, length, if odd { "odd numbers" } else { "odd flags" });
        self.numbers = before;
        sent
    }

    fn made(
        &mut self, chance: &mut Chance, flags: u8, from_backend: bool, length: usize, what: &'static str,
    ) -> Option<Sent> {
        let [client, backend] = self.numbers;
        let (sequence, acknowledgement) = if from_backend { (backend, client) } else { (client, backend) };
        let options: &[&[u8]] = match flags & SYN {
            0 => &[&[], &[], &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], &[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]],
            _ => &[
                &[2, 4, 5, 0xb4],
                &[2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7],
                &[2, 4, 0, 0, 3, 3, 15, 1],
                &[34, 2, 0, 0],
                &[],
            ],
        };
        let frame = Frame {
            mac_to: NODE_MAC,
            mac_from: if from_backend { BACKEND_MAC } else { CLIENT_MAC },
            from: if from_backend { BACKEND } else { self.client },
            to: VIP,
            from_port: if from_backend { BACKEND_PORT } else { self.port },
            to_port: if from_backend { self.ours? } else { PORT },
            ttl: chance.pick(&[64, 64, 128, 255, 2, 33]),
            identification: chance.number() as u16,
            fragment: chance.pick(&[0x4000, 0x4000, 0]),
            sequence,
            acknowledgement: if flags & ACK != 0 { acknowledgement } else { 0 },
            flags,
            window: chance.number() as u16,
            options: chance.pick(options).to_vec(),
            payload: chance.bytes(length),
        };
        let frame = if self.six { frame.in_ipv6() } else { frame };
        let taken = length as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let whose = &mut self.numbers[usize::from(from_backend)];
        *whose = whose.wrapping_add(taken);
        Some(Sent { frame: frame.bytes(), from_backend, what })
    }

    /// What belongs to no connection.
    fn stray(&mut self, chance: &mut Chance) -> Sent {
        let from_backend = chance.one_in(2);
        let frame = Frame {
            mac_to: NODE_MAC,
            mac_from: if from_backend { BACKEND_MAC } else { CLIENT_MAC },
            from: if from_backend { BACKEND } else { self.client },
            to: VIP,
            from_port: if from_backend { BACKEND_PORT } else { self.port ^ 1 },
            // Backends' answers come to one of our source ports.
            to_port: if from_backend {
                29_000 + chance.below(999) as u16
            } else {
                chance.pick(&[PORT, PORT, 8444, 22])
            },
            ttl: 64,
            identification: 7,
            fragment: 0x4000,
            sequence: chance.number() as u32,
            acknowledgement: chance.number() as u32,
            flags: chance.pick(&[ACK, ACK, FIN | ACK, RST, RST | ACK, SYN | ACK, FIN, 0, ACK | 8 | 0x20]),
            window: 1000,
            options: if chance.one_in(4) { SIGNED.to_vec() } else { Vec::new() },
            payload: chance.bytes(5),
        };
        let frame = if self.six { frame.in_ipv6() } else { frame };
        Sent { frame: frame.bytes(), from_backend, what: "stray" }
    }

    /// An ICMP error about what reached an end, from there or from a router on the way.
    fn error(&mut self, chance: &mut Chance) -> Option<Sent> {
        let to_backend = chance.one_in(2);
        let about = self.reached[usize::from(to_backend)].as_ref()?;
        let from = if to_backend { BACKEND } else { IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7)) };
        let (from, kinds): (_, &[[u8; 2]]) = if self.six {
            (sixth(from).into(), &[[2, 0], [1, 0], [1, 1], [1, 4], [3, 0], [4, 1]])
        } else {
            (from, &[[3, 4], [3, 1], [3, 3], [3, 10], [11, 0], [12, 0]])
        };
        let bytes = chance.pick(&[8, 8, 12, 16, 18, 19, 20, 28, 64, 600]);
        let frame = error_about(about, from, chance.pick(kinds), [0, 0, 5, 0x14], bytes);
        let mut sent = Sent { frame, from_backend: to_backend, what: "ICMP error" };
        if chance.one_in(6) {
            let place = carried(&sent.frame)?;
            if let Some(byte) = sent.frame.get_mut(place.at + 5) {
                *byte ^= 0x40;
            }
            sent.what = "ICMP error with a wrong checksum";
        } else if chance.one_in(8) {
            sent.frame[if self.six { 21 } else { 22 }] = 1;
            right_ip(&mut sent.frame);
            sent.what = "ICMP error without a hop left";
        }
        Some(sent)
    }
}

/// The frame with something odd about it.
fn spoilt(chance: &mut Chance, sent: Sent) -> Sent {
    let Sent { mut frame, from_backend, .. } = sent;
    let is_six = frame[12] == 0x86;
    let tcp = if is_six { 54 } else { 34 };
    let what = match chance.below(17) {
        0 => {
            frame[if is_six { 21 } else { 22 }] = chance.pick(&[0, 1]);
            right_ip(&mut frame);
            "no hop left"
        }
        1 => {
            let at = tcp + 16 + chance.below(2);
            frame[at] ^= 1 << chance.below(8);
            "wrong TCP checksum"
        }
        2 if !is_six => {
            frame[24 + chance.below(2)] ^= 1 << chance.below(8);
            "wrong IP checksum"
        }
        3 => {
            let padding = chance.below(20) + 1;
            frame.extend(chance.bytes(padding));
            "padding"
        }
        4 => {
            frame.truncate(14 + chance.below(frame.len() - 14));
            "cut"
        }
        5 if !is_six => {
            let options: &[&[u8]] = &[&[1, 1, 1, 1], &[0x94, 4, 0, 0], &[7, 7, 4, 0, 0, 0, 0, 0], &[1, 0, 0, 0]];
            let options = chance.pick(options);
            frame.splice(34..34, options.iter().copied());
            frame[14] += (options.len() / 4) as u8;
            let total = short(&frame, 16).unwrap_or_default() + options.len() as u16;
            set_short(&mut frame, 16, total);
            right_ip(&mut frame);
            "IP options"
        }
        5 => {
            let header = chance.pick(&[0, 60]);
            frame.splice(54..54, [6, 0, 1, 4, 0, 0, 0, 0]);
            frame[20] = header;
            let length = short(&frame, 18).unwrap_or_default() + 8;
            set_short(&mut frame, 18, length);
            "extension header"
        }
        6 if !is_six => {
            let fragment = chance.pick(&[0x2000, 0x2001, 1, 100, 0x1fff]);
            set_short(&mut frame, 20, fragment);
            right_ip(&mut frame);
            "fragment"
        }
        6 => {
            let header = [6, 0, 0, chance.pick(&[1, 8, 9]), 0, 0, 0, chance.number() as u8];
            frame.splice(54..54, header);
            frame[20] = 44;
            let length = short(&frame, 18).unwrap_or_default() + 8;
            set_short(&mut frame, 18, length);
            "fragment"
        }
        7 => {
            let at = if is_six { 18 } else { 16 };
            let by = chance.pick(&[1u16, 2, 20, 25, 400]);
            let length = short(&frame, at).unwrap_or_default();
            set_short(&mut frame, at, if chance.one_in(2) { length.wrapping_add(by) } else { length.wrapping_sub(by) });
            right_ip(&mut frame);
            "lying length"
        }
        8 => {
            frame[tcp + 12] = (chance.below(16) << 4) as u8 | frame[tcp + 12] & 0xf;
            right_above(&mut frame);
            "lying data offset"
        }
        9 => {
            frame[tcp + 12] |= chance.pick(&[1, 2, 4, 8, 15]);
            frame[tcp + 13] ^= chance.pick(&[0x40, 0x80, 0xc0, 0x20]);
            frame[tcp + 18] = chance.number() as u8;
            right_above(&mut frame);
            "reserved bits, congestion bits, urgent pointer"
        }
        10 => {
            frame[15] ^= chance.number() as u8 & if is_six { 0xf0 } else { 0xff };
            right_ip(&mut frame);
            "another class"
        }
        11 => {
            frame[5] ^= 1 << chance.below(4);
            "another Ethernet address"
        }
        12 => {
            frame[14] = chance.number() as u8;
            right_ip(&mut frame);
            "another version or header length"
        }
        13 => {
            let at = if is_six { 22..38 } else { 26..30 };
            let four: &[[u8; 4]] =
                &[[127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], [192, 0, 2, 100]];
            let address = IpAddr::from(chance.pick(four));
            match address {
                IpAddr::V4(four) if !is_six => frame[at].copy_from_slice(&four.octets()),
                other => {
                    let six = match chance.below(4) {
                        0 => std::net::Ipv6Addr::LOCALHOST,
                        1 => std::net::Ipv6Addr::UNSPECIFIED,
                        2 => "ff02::1".parse().unwrap_or(std::net::Ipv6Addr::LOCALHOST),
                        _ => sixth(VIP),
                    };
                    let _ = other;
                    frame[at].copy_from_slice(&six.octets());
                }
            }
            // Nor is it the port of a connection.
            frame[tcp + 1] ^= 1;
            right_ip(&mut frame);
            right_above(&mut frame);
            "a source nobody has"
        }
        14 if !is_six => {
            frame[23] = chance.pick(&[17, 47, 132, 4, 112]);
            right_ip(&mut frame);
            "another protocol"
        }
        15 => {
            corner(chance, &mut frame, tcp);
            "checksums at the ends of their range"
        }
        _ => return Sent { frame, from_backend, what: sent.what },
    };
    Sent { frame, from_backend, what }
}

/// Makes checksums all zeros or nearly: by the window, which nothing looks at, and by the identification.
fn corner(chance: &mut Chance, frame: &mut [u8], tcp: usize) {
    let mut fit = |frame: &mut [u8], free: usize, field: usize, right: fn(&mut [u8])| {
        let wanted: u16 = chance.pick(&[0, 1, 0xfffe, 0xff00, 0x00ff]);
        set_short(frame, free, 0);
        right(frame);
        let sum = short(frame, field).unwrap_or_default();
        // What the free field has to add for the complement to be what is wanted.
        let free_value = checksum(&[&wanted.to_be_bytes(), &(!sum).to_be_bytes()]);
        set_short(frame, free, free_value);
        right(frame);
    };
    fit(frame, tcp + 14, tcp + 16, right_above);
    if frame[12] == 8 {
        fit(frame, 18, 24, right_ip);
    }
}

/// The frame as the kernel's NAT gets it: with the source port that it has chosen.
pub(crate) fn for_kernel(sent: &Sent, connection: &Connection) -> Vec<u8> {
    let mut frame = sent.frame.clone();
    if let (true, Some(ours), Some(theirs)) = (sent.from_backend, connection.ours, connection.theirs) {
        crate::edit::rename(&mut frame, End::Destination, ours, theirs);
    }
    frame
}
