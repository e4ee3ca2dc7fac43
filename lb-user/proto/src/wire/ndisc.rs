//! Unsolicited neighbour advertisements (RFC 4861 sections 4.4 and 7.2.6): what gratuitous ARP is to IPv4.

use std::net::Ipv6Addr;

use super::arp::Mac;
use super::checksum::Sum;
use super::ipv6::{ALL_NODES, HOP_LIMIT};

/// Bytes of an Ethernet frame with an advertisement and its one option.
pub const FRAME: usize = ETHERNET + IPV6 + ICMP;
/// Where the frame goes: the address of every node of the link (RFC 2464 section 7).
pub const DESTINATION: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// The advertisement and the target link-layer address option.
const ICMP: usize = 24 + 8;
const ETHERTYPE: u16 = 0x86dd;
const PROTOCOL_ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Override alone: neighbours replace the address they know. Not Solicited, because nobody asked; not Router, because nobody
/// has this address as a router.
const FLAGS: u8 = 0x20;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Of the option, in units of eight bytes.
const OPTION_LENGTH: u8 = 1;

/// The frame that says "`address` is at `mac`" to every node of the link, sent from `address` itself.
#[must_use]
pub fn unsolicited(mac: Mac, address: Ipv6Addr) -> [u8; FRAME] {
    let icmp = message(mac, address);
    let mut frame = [0; FRAME];
    let fields: [&[u8]; 9] = [
        &DESTINATION.0,
        &mac.0,
        &ETHERTYPE.to_be_bytes(),
        // Version 6, no traffic class, no flow label.
        &[0x60, 0, 0, 0],
        &(ICMP as u16).to_be_bytes(),
        &[PROTOCOL_ICMPV6, HOP_LIMIT],
        &address.octets(),
        &ALL_NODES.octets(),
        &icmp,
    ];
    for (place, byte) in frame.iter_mut().zip(fields.into_iter().flatten()) {
        *place = *byte;
    }
    frame
}

fn message(mac: Mac, address: Ipv6Addr) -> [u8; ICMP] {
    let write = |checksum: u16| {
        let mut bytes = [0; ICMP];
        let fields: [&[u8]; 6] = [
            &[NEIGHBOUR_ADVERTISEMENT, 0],
            &checksum.to_be_bytes(),
            &[FLAGS, 0, 0, 0],
            &address.octets(),
            &[TARGET_LINK_LAYER_ADDRESS, OPTION_LENGTH],
            &mac.0,
        ];
        for (place, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
        bytes
    };
    let pseudo_header = Sum::pseudo_header(address.into(), ALL_NODES.into(), PROTOCOL_ICMPV6, ICMP as u32);
    write(pseudo_header.bytes(&write(0)).checksum())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2001:db8::100 at 02:00:00:00:00:15, as one would write it by hand.
    ///
    /// Pseudo-header words: 2001 0db8 0100 (source), ff02 0001 (destination), 0020 (length), 003a (next header)
    ///   = 12e16, folded 2e17
    /// Message words:       8800 2000 2001 0db8 0100 0201 0200 0000 0015 = db cf
    /// Together:            2e17 + dacf = 108e6, folded 08e7, complement f718
    #[test]
    fn a_frame_is_what_the_specification_says() {
        let frame = unsolicited(Mac([2, 0, 0, 0, 0, 0x15]), "2001:db8::100".parse().unwrap());
        let address = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x00];
        let mut expected = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x15, 0x86, 0xdd];
        expected.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
        expected.extend(address);
        expected.extend([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([136, 0, frame[56], frame[57], 0x20, 0, 0, 0]);
        expected.extend(address);
        expected.extend([2, 1, 2, 0, 0, 0, 0, 0x15]);
        assert_eq!(frame.to_vec(), expected);
        assert_eq!(u16::from_be_bytes([frame[56], frame[57]]), by_hand(&frame), "ICMPv6 checksum");
    }

    /// The checksum that the bytes of a frame ask for, by RFC 8200 section 8.1.
    fn by_hand(frame: &[u8]) -> u16 {
        let mut bytes = frame[22..54].to_vec();
        bytes.extend([0, 0, 0, 32, 0, 0, 0, 58]);
        bytes.extend(&frame[54..56]);
        bytes.extend(&frame[58..]);
        let sum: u32 = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        !((folded & 0xffff) + (folded >> 16)) as u16
    }

    proptest! {
        #[test]
        fn every_address_at_every_mac(mac in any::<[u8; 6]>(), address in any::<[u8; 16]>()) {
            let frame = unsolicited(Mac(mac), address.into());
            prop_assert_eq!(&frame[6..12], &mac);
            prop_assert_eq!(&frame[22..38], &address);
            prop_assert_eq!(&frame[62..78], &address);
            prop_assert_eq!(&frame[80..86], &mac);
            prop_assert_eq!(u16::from_be_bytes([frame[56], frame[57]]), by_hand(&frame));
        }
    }
}
