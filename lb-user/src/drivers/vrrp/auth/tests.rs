//! Nodes with and without the key.

use std::time::Duration;

use lb_proto::units::{Centis, Vrid, WirePriority};
use lb_proto::wire::vrrp::{Addresses, Advert, ChecksumForm};

use super::*;

const SRC: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 21));
const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 18));
const OLD: &str = "1 00112233445566778899aabbccddeeff";
const NEW: &str = "2 ffeeddccbbaa99887766554433221100";

fn node(keys: &str, journal: &Path) -> Authenticator {
    let auth =
        Auth { key_file: PathBuf::new(), keys: Keys::parse(keys).unwrap(), journal: journal.join("node.k8s.adverts") };
    Authenticator::new(&auth, clock::now())
}

fn message(priority: u8) -> Vec<u8> {
    let advert = Advert {
        vrid: Vrid::new(51).unwrap(),
        priority: WirePriority::new(priority),
        interval: Centis::SECOND,
        addresses: Addresses::new([std::net::Ipv4Addr::new(192, 0, 2, 100)]).unwrap(),
    };
    advert.emit(SRC, GROUP, ChecksumForm::Rfc5798)
}

fn signed(by: &mut Authenticator) -> Vec<u8> {
    let number = by.number(clock::now());
    let mut message = message(100);
    by.sign(&mut message, number, SRC, GROUP);
    message
}

#[test]
fn who_has_the_key_is_believed_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sender, mut receiver) = (node(OLD, dir.path()), node(OLD, dir.path()));
    let now = clock::now();
    for _ in 0..3 {
        let advert = signed(&mut sender);
        assert_eq!(receiver.verify(&advert, SRC, GROUP, now), Ok(()));
        assert_eq!(receiver.verify(&advert, SRC, GROUP, now), Err(Doubt::Replay(ReplayFault::Replayed)));
    }
    assert_eq!(receiver.verify(&message(255), SRC, GROUP, now), Err(Doubt::Missing));
    let mut stranger = node("1 11112222333344445555666677778888", dir.path());
    assert_eq!(receiver.verify(&signed(&mut stranger), SRC, GROUP, now), Err(Doubt::Code));
    assert_eq!(receiver.verify(&signed(&mut node(NEW, dir.path())), SRC, GROUP, now), Err(Doubt::Key));
    let elsewhere = IpAddr::from([192, 0, 2, 22]);
    assert_eq!(receiver.verify(&signed(&mut sender), elsewhere, GROUP, now), Err(Doubt::Code), "in another's name");
}

#[test]
fn no_bit_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sender, mut receiver) = (node(OLD, dir.path()), node(OLD, dir.path()));
    let advert = signed(&mut sender);
    for bit in 0..advert.len() * 8 {
        let mut bent = advert.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(receiver.verify(&bent, SRC, GROUP, clock::now()).is_err(), "bit {bit}");
    }
    assert_eq!(receiver.verify(&advert, SRC, GROUP, clock::now()), Ok(()), "none of those counted");
}

#[test]
fn a_key_is_changed_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (node(OLD, dir.path()), node(OLD, dir.path()));
    let both = [format!("{OLD}\n{NEW}"), format!("{NEW}\n{OLD}"), NEW.to_owned()];
    for (step, keys) in both.iter().enumerate() {
        for turn in 0..2 {
            let node = if turn == 0 { &mut one } else { &mut other };
            node.rekey(&Keys::parse(keys).unwrap());
            let advert = signed(&mut one);
            assert_eq!(other.verify(&advert, SRC, GROUP, clock::now()), Ok(()), "step {step}, turn {turn}");
        }
    }
}

#[test]
fn numbers_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sender, mut receiver) = (node(OLD, dir.path()), node(OLD, &dir.path().join("deeper")));
    let record: Vec<_> = (0..100).map(|_| signed(&mut sender)).collect();
    for advert in &record {
        receiver.verify(advert, SRC, GROUP, clock::now()).unwrap();
    }
    receiver.last(clock::now()).write().unwrap();
    let mut receiver = node(OLD, &dir.path().join("deeper"));
    for advert in &record {
        assert!(receiver.verify(advert, SRC, GROUP, clock::now()).is_err());
    }
    let journal = sender.due(clock::now()).unwrap();
    journal.write().unwrap();
    assert_eq!(parse_journal(&std::fs::read_to_string(&journal.path).unwrap()), journal.kept);
    assert!(sender.due(clock::now()).is_none(), "once is enough");
    // As if the wall clock had been set back: the file alone knows.
    let mut again = node(OLD, dir.path());
    assert!(again.number(clock::now()) >= journal.kept.sent);
    for torn in ["", "sent", "sent x\nheard y z\nheard 1.2.3.4\n", "\0\0\0"] {
        assert_eq!(parse_journal(torn), Kept::default());
    }
}

/// What comes from nobody with the key, by the million, is never believed, and costs little.
#[test]
fn a_million_forgeries_and_replays_are_all_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sender, mut receiver) = (node(OLD, dir.path()), node(OLD, dir.path()));
    let now = clock::now();
    let record: Vec<_> = (0..64).map(|_| signed(&mut sender)).collect();
    for advert in &record {
        receiver.verify(advert, SRC, GROUP, now).unwrap();
    }
    let mut forged = record[0].clone();
    let mut word: u64 = 1;
    // Without optimization a tenth has to do.
    for round in 0..if cfg!(debug_assertions) { 100_000_usize } else { 1_000_000 } {
        let refused = if round % 2 == 0 {
            receiver.verify(&record[round / 2 % record.len()], SRC, GROUP, now).is_err()
        } else {
            // A number of tomorrow, and a code by chance.
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let end = forged.len();
            forged[end - 32..end - 24].copy_from_slice(&(u64::MAX / 4 + word / 8).to_be_bytes());
            forged[end - 8..].copy_from_slice(&word.to_be_bytes());
            receiver.verify(&forged, SRC, GROUP, now).is_err()
        };
        assert!(refused, "{round}");
    }
    assert_eq!(receiver.verify(&signed(&mut sender), SRC, GROUP, now + Duration::from_secs(1)), Ok(()));
}
