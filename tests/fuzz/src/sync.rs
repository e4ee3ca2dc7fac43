//! What balancers tell each other about flows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_proto::sync::{
    Body, Cipher, Datagram, HEADER, Item, Keys, LONGEST, Node, Nonce, Output, PROOF, TAG, Table, items,
};

use crate::bytes::Bytes;

/// Believes everybody, and hides nothing: what is behind the seal is looked at.
struct Open;
struct OpenKeys;

impl Cipher for Open {
    type Keys = OpenKeys;

    fn prove(&self, _: &[u8]) -> [u8; PROOF] {
        [0; PROOF]
    }

    fn is_proof(&self, _: &[u8], _: &[u8; PROOF]) -> bool {
        true
    }

    fn keys(&self, _: &Nonce, _: &Nonce) -> Option<OpenKeys> {
        Some(OpenKeys)
    }
}

impl Keys for OpenKeys {
    fn session(&self) -> u64 {
        7
    }

    fn seal(&self, _: u64, _: &[u8; HEADER], body: &mut Vec<u8>) -> Option<()> {
        body.extend([0; TAG]);
        Some(())
    }

    fn open<'b>(&self, _: u64, _: &[u8; HEADER], body: &'b mut [u8]) -> Option<&'b [u8]> {
        body.split_last_chunk::<TAG>().map(|(body, _)| body)
    }
}

/// A datagram of one whom nobody knows, the items of a chunk, and a session with one who has the key and says anything.
///
/// What is read can be written, and is then the same bytes. Whatever a peer says, a node sends datagrams of bounded length,
/// and not many more than it was sent.
pub fn sync(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    match bytes.byte() % 3 {
        0 => datagram(&mut bytes.rest().to_vec()),
        1 => chunk(bytes.rest()),
        _ => session(bytes),
    }
}

fn datagram(bytes: &mut [u8]) {
    let before = bytes.to_vec();
    match Datagram::parse(bytes) {
        Ok(Datagram::Hello(hello, signed, proof)) => {
            assert_eq!(hello.emit(), signed);
            assert_eq!([signed, proof].concat(), before);
        }
        Ok(Datagram::Sealed { header, body, .. }) => assert_eq!([&header[..], body].concat(), before),
        Err(_) => {}
    }
}

fn chunk(bytes: &[u8]) {
    if let Ok(body) = Body::parse(bytes) {
        assert_eq!(body.emit(), bytes);
    }
    if let Ok(read) = items(bytes) {
        let mut written = Vec::new();
        read.iter().for_each(|item| item.emit(&mut written));
        assert_eq!(written, bytes);
    }
}

#[allow(clippy::disallowed_methods, reason = "any moment will do to begin with")]
fn session(mut bytes: Bytes<'_>) {
    let address = |last| IpAddr::from([192, 0, 2, last]);
    let (mut now, mut nonces) = (Instant::now(), 0_u8);
    let mut random = || {
        nonces = nonces.wrapping_add(1);
        [nonces; 32]
    };
    let mut node = Node::new(Open, now);
    node.set_peers(&BTreeSet::from([address(2)]), now);
    if bytes.byte() & 1 == 1 {
        node.set_held(&BTreeSet::from([address(100)]));
    }
    // The peer opens a session: it hears the node's nonce and proves that.
    node.on_time(now, &mut random);
    let mut own = [1; 32];
    if let Some(Output::Send(_, mut hello)) = node.poll()
        && let Ok(Datagram::Hello(said, ..)) = Datagram::parse(&mut hello)
    {
        own = said.own;
    }
    let mut hello = lb_proto::sync::Hello { is_open: true, own: [200; 32], other: own }.emit();
    hello.extend([0; PROOF]);
    assert_eq!(node.on_datagram(address(2), &mut hello, now, &mut random), Ok(()));

    let (mut number, mut chunks, mut given) = (0_u64, 0_u64, 1_usize);
    let mut sent = 0;
    while !bytes.is_empty() && given < 64 {
        given += 1;
        let how = bytes.byte();
        let length = usize::from(bytes.short() % (LONGEST as u16));
        let raw = bytes.slice(length);
        let mut body = match how & 3 {
            0 => raw.to_vec(),
            _ => {
                chunks += 1;
                Body::Chunk(chunks, raw).emit()
            }
        };
        if how & 0x40 != 0 {
            Item::End { still: true }.emit(&mut body);
        }
        let mut datagram = b"xvs\x01\x02".to_vec();
        datagram.extend(7_u64.to_be_bytes());
        datagram.extend(number.to_be_bytes());
        datagram.extend(body);
        datagram.extend([0; TAG]);
        number += u64::from(how & 0x20 == 0);
        let _ = node.on_datagram(address(2), &mut datagram, now, &mut random);
        now += Duration::from_millis(u64::from(how >> 2 & 7) * 3);
        node.on_time(now, &mut random);
        while let Some(output) = node.poll() {
            match output {
                Output::Send(to, datagram) => {
                    sent += 1;
                    assert_eq!(to, address(2));
                    assert!(datagram.len() <= LONGEST);
                }
                Output::Look => node.on_table(Table::default(), now),
                Output::Apply(from, changes) => {
                    assert_eq!(from, address(2));
                    if how & 0x80 != 0 {
                        node.on_dropped(from);
                    }
                    node.on_changes(&changes, now);
                }
                Output::Settle(..) => {}
            }
        }
        assert!(node.deadline().is_some());
    }
    assert!(sent <= 8 * given + 8, "{sent} for {given}");
}
