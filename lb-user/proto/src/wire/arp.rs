//! ARP for IPv4 over Ethernet (RFC 826): gratuitous announcements out, any packet in.

use std::fmt;
use std::net::Ipv4Addr;

use super::{WireError, take};

/// Bytes of an Ethernet frame with an ARP packet, without padding.
pub const FRAME: usize = 42;

const ETHERTYPE: u16 = 0x0806;
/// Ethernet, IPv4, address lengths 6 and 4.
const FORMAT: [u8; 6] = [0x00, 0x01, 0x08, 0x00, 6, 4];

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody on the segment.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// Not known.
    pub const ZERO: Self = Self([0; 6]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What an ARP packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// "Who has the target address?"
    Request,
    /// "The sender has the sender's address."
    Reply,
}

impl Operation {
    const fn code(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
        }
    }
}

/// An ARP packet with its Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Destination of the frame.
    pub destination: Mac,
    /// Source of the frame.
    pub source: Mac,
    /// Request or reply.
    pub operation: Operation,
    /// Who says this.
    pub sender_mac: Mac,
    /// The address the sender says it has.
    pub sender: Ipv4Addr,
    /// Ignored in a request.
    pub target_mac: Mac,
    /// The address asked for.
    pub target: Ipv4Addr,
}

impl Arp {
    /// "`address` is at `mac`", to everybody, in either form; neighbours differ in which of them they heed
    /// (RFC 5944 section 4.6).
    #[must_use]
    pub const fn gratuitous(operation: Operation, mac: Mac, address: Ipv4Addr) -> Self {
        let target_mac = match operation {
            Operation::Request => Mac::ZERO,
            Operation::Reply => mac,
        };
        Self {
            destination: Mac::BROADCAST,
            source: mac,
            operation,
            sender_mac: mac,
            sender: address,
            target_mac,
            target: address,
        }
    }

    /// Whether it announces the sender's address rather than asks for another's.
    #[must_use]
    pub fn is_gratuitous(&self) -> bool {
        self.sender == self.target
    }

    /// The frame; the device or the kernel pads it to the least Ethernet length.
    #[must_use]
    pub fn emit(&self) -> [u8; FRAME] {
        let mut frame = [0; FRAME];
        let fields: [&[u8]; 9] = [
            &self.destination.0,
            &self.source.0,
            &ETHERTYPE.to_be_bytes(),
            &FORMAT,
            &self.operation.code().to_be_bytes(),
            &self.sender_mac.0,
            &self.sender.octets(),
            &self.target_mac.0,
            &self.target.octets(),
        ];
        for (place, byte) in frame.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
        frame
    }

    /// Reads a frame; padding after the packet is ignored.
    ///
    /// # Errors
    /// A [`WireError`] with an `Arp` name.
    pub fn parse(frame: &[u8]) -> Result<Self, WireError> {
        let mut rest = frame;
        let destination = Mac(field(&mut rest)?);
        let source = Mac(field(&mut rest)?);
        let ethertype = u16::from_be_bytes(field(&mut rest)?);
        if ethertype != ETHERTYPE {
            return Err(WireError::ArpEtherType(ethertype));
        }
        if field::<6>(&mut rest)? != FORMAT {
            return Err(WireError::ArpFormat);
        }
        let operation = match u16::from_be_bytes(field(&mut rest)?) {
            1 => Operation::Request,
            2 => Operation::Reply,
            other => return Err(WireError::ArpOperation(other)),
        };
        Ok(Self {
            destination,
            source,
            operation,
            sender_mac: Mac(field(&mut rest)?),
            sender: Ipv4Addr::from(field::<4>(&mut rest)?),
            target_mac: Mac(field(&mut rest)?),
            target: Ipv4Addr::from(field::<4>(&mut rest)?),
        })
    }
}

fn field<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], WireError> {
    take::<N>(bytes).copied().ok_or(WireError::ArpTruncated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x21]);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

    #[test]
    fn the_request_form_byte_by_byte() {
        let frame = Arp::gratuitous(Operation::Request, MAC, VIP).emit();
        let expected: [u8; 42] = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x21, 0x08, 0x06, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
            0x02, 0, 0, 0, 0, 0x21, 192, 0, 2, 100, // sender
            0, 0, 0, 0, 0, 0, 192, 0, 2, 100, // target
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn the_reply_form_differs_in_operation_and_target() {
        let request = Arp::gratuitous(Operation::Request, MAC, VIP).emit();
        let reply = Arp::gratuitous(Operation::Reply, MAC, VIP).emit();
        let differing: Vec<usize> = (0..FRAME).filter(|at| request[*at] != reply[*at]).collect();
        assert_eq!(differing, [21, 32, 37]);
        assert_eq!(reply[21], 2);
        assert_eq!(reply[32..38], MAC.0);
    }

    #[test]
    fn names_every_refusal() {
        let with = |at: usize, value: u8| {
            let mut frame = Arp::gratuitous(Operation::Reply, MAC, VIP).emit().to_vec();
            frame[at] = value;
            frame
        };
        for (frame, error) in [
            (Vec::new(), WireError::ArpTruncated),
            (with(0, 0)[..41].to_vec(), WireError::ArpTruncated),
            (with(13, 0), WireError::ArpEtherType(0x0800)),
            (with(15, 6), WireError::ArpFormat),
            (with(16, 0x86), WireError::ArpFormat),
            (with(18, 8), WireError::ArpFormat),
            (with(19, 16), WireError::ArpFormat),
            (with(21, 3), WireError::ArpOperation(3)),
        ] {
            assert_eq!(Arp::parse(&frame), Err(error), "{frame:02x?}");
        }
        assert_eq!(MAC.to_string(), "02:00:00:00:00:21");
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_to_the_same(
            macs in any::<[[u8; 6]; 4]>(), sender in any::<[u8; 4]>(), target in any::<[u8; 4]>(), reply in any::<bool>(), padding in 0..20usize,
        ) {
            let [destination, source, sender_mac, target_mac] = macs.map(Mac);
            let arp = Arp {
                destination, source, sender_mac, target_mac,
                operation: if reply { Operation::Reply } else { Operation::Request },
                sender: sender.into(), target: target.into(),
            };
            let mut frame = arp.emit().to_vec();
            frame.resize(FRAME + padding, 0);
            prop_assert_eq!(Arp::parse(&frame), Ok(arp));
            prop_assert_eq!(arp.is_gratuitous(), sender == target);
        }

        #[test]
        fn any_bytes_are_classified(frame in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Arp::parse(&frame);
            let _ = crate::wire::ipv4::parse_ipv4_packet(&frame);
        }
    }
}
