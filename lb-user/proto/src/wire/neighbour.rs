//! Asking who has an IPv6 address, and what is answered (RFC 4861 sections 4.3, 4.4 and 7.2).

use std::net::Ipv6Addr;

use super::arp::Mac;
use super::checksum::Sum;
use super::ipv6::HOP_LIMIT;
use super::take;

/// Bytes of an Ethernet frame with a solicitation and its one option.
pub const FRAME: usize = ETHERNET + IPV6 + ICMP;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// The solicitation and the source link-layer address option.
const ICMP: usize = 24 + 8;
const ETHERTYPE: u16 = 0x86dd;
const PROTOCOL_ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Of an option with an Ethernet address, in units of eight bytes.
const OPTION_LENGTH: u8 = 1;

/// The frame by which `source` at `mac` asks for the Ethernet address of `target`. The source is an address of the asker, not
/// `::`, with which a host asks whether it may take an address: whoever is about to take it would give way.
#[must_use]
pub fn solicitation(mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> [u8; FRAME] {
    let [.., t13, t14, t15] = target.octets();
    // RFC 4291 section 2.7.1, RFC 2464 section 7.
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(t13), u16::from_be_bytes([t14, t15]));
    let write = |checksum: u16| {
        let mut bytes = [0; ICMP];
        let fields: [&[u8]; 5] = [
            &[NEIGHBOUR_SOLICITATION, 0],
            &checksum.to_be_bytes(),
            &[0; 4],
            &target.octets(),
            &[SOURCE_LINK_LAYER_ADDRESS, OPTION_LENGTH, mac.0[0], mac.0[1], mac.0[2], mac.0[3], mac.0[4], mac.0[5]],
        ];
        fill(&mut bytes, &fields);
        bytes
    };
    let pseudo_header = Sum::pseudo_header(source.into(), group.into(), PROTOCOL_ICMPV6, ICMP as u32);
    let icmp = write(pseudo_header.bytes(&write(0)).checksum());
    let mut frame = [0; FRAME];
    let fields: [&[u8]; 9] = [
        &[0x33, 0x33, 0xff, t13, t14, t15],
        &mac.0,
        &ETHERTYPE.to_be_bytes(),
        // Version 6, no traffic class, no flow label.
        &[0x60, 0, 0, 0],
        &(ICMP as u16).to_be_bytes(),
        &[PROTOCOL_ICMPV6, HOP_LIMIT],
        &source.octets(),
        &group.octets(),
        &icmp,
    ];
    fill(&mut frame, &fields);
    frame
}

fn fill(bytes: &mut [u8], fields: &[&[u8]]) {
    for (place, byte) in bytes.iter_mut().zip(fields.iter().copied().flatten()) {
        *place = *byte;
    }
}

/// Which address is where by a neighbour advertisement; `None` for every other frame, and for one that a host would not heed
/// (RFC 4861 section 7.1.2).
#[must_use]
pub fn advertisement(frame: &[u8]) -> Option<(Ipv6Addr, Mac)> {
    let bytes = &mut &*frame;
    let _destination = take::<6>(bytes)?;
    let sender = Mac(*take::<6>(bytes)?);
    if u16::from_be_bytes(*take::<2>(bytes)?) != ETHERTYPE {
        return None;
    }
    let [v, _, _, _, l0, l1, PROTOCOL_ICMPV6, HOP_LIMIT] = *take::<8>(bytes)? else { return None };
    let source = Ipv6Addr::from(*take::<16>(bytes)?);
    let destination = Ipv6Addr::from(*take::<16>(bytes)?);
    let length = u16::from_be_bytes([l0, l1]);
    // Short frames are padded.
    let message = bytes.get(..usize::from(length))?;
    let pseudo_header = Sum::pseudo_header(source.into(), destination.into(), PROTOCOL_ICMPV6, length.into());
    if v >> 4 != 6 || !pseudo_header.bytes(message).is_valid() {
        return None;
    }
    let rest = &mut &*message;
    let [NEIGHBOUR_ADVERTISEMENT, 0, ..] = *take::<8>(rest)? else { return None };
    let target = Ipv6Addr::from(*take::<16>(rest)?);
    let mut mac = sender;
    while let Some([kind, units]) = rest.first_chunk::<2>().copied() {
        let (option, next) = rest.split_at_checked(usize::from(units) * 8).filter(|_| units > 0)?;
        if let ([TARGET_LINK_LAYER_ADDRESS, OPTION_LENGTH], Some(address)) = ([kind, units], option.last_chunk::<6>()) {
            mac = Mac(*address);
        }
        *rest = next;
    }
    (rest.is_empty() && !target.is_multicast()).then_some((target, mac))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ndisc;
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 0x15]);

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// From fe80::15 at 02:00:00:00:00:15 for 2001:db8::100, as one would write it by hand.
    ///
    /// Pseudo-header words: fe80 0015 (source), ff02 0001 ff00 0100 (destination), 0020 (length), 003a (next header)
    ///   = 2fdf2, folded fdf4
    /// Message words:       8700 2001 0db8 0100 0101 0200 0015 = b8cf
    /// Together:            fdf4 + b8cf = 1b6c3, folded b6c4, complement 493b
    #[test]
    fn a_question_is_what_the_specification_says() {
        let frame = solicitation(MAC, address("fe80::15"), address("2001:db8::100"));
        let mut expected = vec![0x33, 0x33, 0xff, 0, 1, 0, 2, 0, 0, 0, 0, 0x15, 0x86, 0xdd];
        expected.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
        expected.extend(address("fe80::15").octets());
        expected.extend(address("ff02::1:ff00:100").octets());
        expected.extend([135, 0, 0x49, 0x3b, 0, 0, 0, 0]);
        expected.extend(address("2001:db8::100").octets());
        expected.extend([1, 1, 2, 0, 0, 0, 0, 0x15]);
        assert_eq!(frame.to_vec(), expected);
        assert_eq!(advertisement(&frame), None, "it is no answer");
    }

    #[test]
    fn an_answer_is_believed_only_whole_and_from_near() {
        let vip = address("2001:db8::100");
        let good = ndisc::unsolicited(MAC, vip);
        assert_eq!(advertisement(&good), Some((vip, MAC)));
        let padded = [&good[..], &[0; 10]].concat();
        assert_eq!(advertisement(&padded), Some((vip, MAC)), "padding is not part of it");
        for length in 0..good.len() {
            assert_eq!(advertisement(&good[..length]), None, "cut to {length}");
        }
        for (what, at, value) in [
            ("EtherType", 13, 0),
            ("version", 14, 0x40),
            ("hop limit", 21, 64),
            ("checksum", 56, 0),
            ("protocol", 20, 6),
        ] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(advertisement(&bad), None, "{what}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_classified(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = advertisement(&bytes);
        }

        #[test]
        fn options_of_any_kind_are_walked(options in prop::collection::vec(any::<u8>(), 0..64), fits in any::<bool>()) {
            // An advertisement with these options and a checksum that is right.
            let mut frame = ndisc::unsolicited(MAC, address("2001:db8::100")).to_vec();
            frame.truncate(FRAME - 8);
            frame.extend(&options);
            let length = (frame.len() - ETHERNET - IPV6) as u16;
            frame[18..20].copy_from_slice(&length.to_be_bytes());
            frame[56..58].copy_from_slice(&[0, 0]);
            let (source, destination) = (address("2001:db8::100"), super::super::ipv6::ALL_NODES);
            let sum = Sum::pseudo_header(source.into(), destination.into(), PROTOCOL_ICMPV6, length.into());
            let checksum = sum.bytes(&frame[54..]).checksum();
            frame[56..58].copy_from_slice(&if fits { checksum } else { !checksum }.to_be_bytes());
            let found = advertisement(&frame);
            prop_assert!(fits || found.is_none());
            prop_assert!(found.is_none_or(|(target, _)| target == source));
        }
    }
}
