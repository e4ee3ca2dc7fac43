//! Who is asked, who is answered, and who becomes a fellow.

use super::*;
use crate::wire::peer::LENGTH;

const PORT: u16 = 9911;
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 31));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 32));
const SECOND: Duration = Duration::from_secs(1);

fn listener(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 100], port))
}

fn at(node: IpAddr) -> SocketAddr {
    SocketAddr::new(node, PORT)
}

#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

/// A node with a backend of its own that forwards to others.
fn post(known: &[IpAddr]) -> Post {
    let ports = Ports { address: [192, 0, 2, 100].into(), first: 8443, last: 8450 };
    let others = Ports { address: [192, 0, 2, 100].into(), first: 9000, last: 9000 };
    Post {
        configured: vec![ports, others],
        own: vec![ports],
        ready: true,
        known: known.iter().copied().collect(),
        leaving: false,
    }
}

fn question(nonce: u64, port: u16) -> Message {
    Message { kind: Kind::Question, nonce, listener: listener(port) }
}

/// What is sent in return for a message.
fn after(peers: &mut Peers, message: Message, from: SocketAddr, post: &Post, now: Instant) -> Vec<Output> {
    peers.on_datagram(&message.emit(), from, Some(OWN), post, 77, now);
    peers.drain()
}

fn answer_to(peers: &mut Peers, message: Message, from: SocketAddr, post: &Post, now: Instant) -> Option<Word> {
    after(peers, message, from, post, now).into_iter().find_map(|output| match output {
        Output::Send { to, from: our, message: Message { kind: Kind::Answer(word), nonce, listener } } => {
            assert_eq!((to, our, nonce, listener), (from, Some(OWN), message.nonce, message.listener));
            Some(word)
        }
        _ => None,
    })
}

#[test]
fn answers_say_what_is_so() {
    let now = start();
    let mut peers = Peers::new(PORT);
    let mut ask = |port, post: &Post| answer_to(&mut peers, question(1, port), at(OTHER), post, now);
    assert_eq!(ask(8443, &post(&[OTHER])), Some(Word::Delivers));
    assert_eq!(ask(8450, &post(&[OTHER])), Some(Word::Delivers));
    assert_eq!(ask(8443, &post(&[])), Some(Word::NotYet), "it is not known as one that forwards");
    assert_eq!(ask(8443, &Post { ready: false, ..post(&[OTHER]) }), Some(Word::NotYet));
    assert_eq!(ask(8443, &Post { leaving: true, ..post(&[OTHER]) }), Some(Word::Leaving));
    assert_eq!(ask(9000, &post(&[OTHER])), Some(Word::NotServed), "no backend of it is here");
    assert_eq!(ask(8451, &post(&[OTHER])), None, "nobody has configured that");
}

#[test]
fn an_inquiry_ends_with_the_last_yes_or_with_its_time() {
    let now = start();
    let mut peers = Peers::new(PORT);
    let nobody = Post::default();
    let sent = |outputs: &[Output]| outputs.iter().filter(|output| matches!(output, Output::Send { .. })).count();
    peers.begin(5, OTHER, &[listener(1), listener(2)], now + SECOND, now);
    assert_eq!(sent(&peers.drain()), 2);
    let answer = |nonce, port, word| question(nonce, port).answered(word);
    assert!(after(&mut peers, answer(5, 1, Word::Delivers), at(OTHER), &nobody, now).is_empty());
    for (message, from) in [
        (answer(6, 2, Word::Delivers), at(OTHER)),
        (answer(5, 3, Word::Delivers), at(OTHER)),
        (answer(5, 2, Word::Delivers), at(OWN)),
    ] {
        assert!(after(&mut peers, message, from, &nobody, now).is_empty(), "{message:?} from {from}");
    }
    assert!(after(&mut peers, answer(5, 2, Word::NotYet), at(OTHER), &nobody, now).is_empty(), "it may come yet");
    let again = peers.deadline().unwrap();
    peers.on_time(again);
    let outputs = peers.drain();
    assert!(matches!(outputs[..], [Output::Send { message: Message { listener: l, .. }, .. }] if l == listener(2)));
    let outputs = after(&mut peers, answer(5, 2, Word::Delivers), at(OTHER), &nobody, again);
    assert_eq!(outputs, [Output::Concluded { nonce: 5, presence: Presence::Delivers, listener: listener(2) }]);
    assert_eq!(peers.fellows(), [OTHER].into(), "who answers is there");

    let over = |words: &[(u16, Word)]| {
        let mut peers = Peers::new(PORT);
        peers.begin(9, OTHER, &[listener(1), listener(2)], now + SECOND, now);
        for (port, word) in words {
            peers.on_datagram(&answer(9, *port, *word).emit(), at(OTHER), None, &nobody, 1, now);
        }
        let mut sent = 0;
        loop {
            for output in peers.drain() {
                match output {
                    Output::Concluded { presence, listener, .. } => return (presence, listener.port(), sent),
                    Output::Send { .. } => sent += 1,
                }
            }
            let next = peers.deadline().unwrap();
            peers.on_time(next);
        }
    };
    assert_eq!(over(&[]), (Presence::Silent, 2, 14), "both, every 150 ms");
    assert_eq!(over(&[(1, Word::Delivers), (2, Word::NotServed)]), (Presence::NotServed, 2, 2 + 6));
    assert_eq!(over(&[(1, Word::NotYet), (2, Word::Delivers)]), (Presence::NotYet, 1, 2 + 6));
    assert_eq!(over(&[(1, Word::Leaving)]), (Presence::Leaving, 1, 2), "at once");
}

#[test]
fn who_asks_becomes_a_fellow_by_answering() {
    let now = start();
    let mut peers = Peers::new(PORT);
    let counter = |outputs: Vec<Output>| {
        outputs.into_iter().find_map(|output| match output {
            Output::Send { to, message: Message { kind: Kind::Question, nonce, .. }, .. } => Some((to, nonce)),
            _ => None,
        })
    };
    let from = SocketAddr::new(OTHER, 40_000);
    assert_eq!(counter(after(&mut peers, question(1, 8443), from, &post(&[]), now)), Some((at(OTHER), 77)));
    assert_eq!(counter(after(&mut peers, question(2, 8443), from, &post(&[]), now)), None, "once in a second");
    assert!(peers.fellows().is_empty(), "an address is quickly written");
    after(&mut peers, question(78, 8443).answered(Word::NotServed), at(OTHER), &post(&[]), now);
    after(&mut peers, question(77, 8443).answered(Word::NotServed), at(OWN), &post(&[]), now);
    assert!(peers.fellows().is_empty());
    after(&mut peers, question(77, 8443).answered(Word::NotServed), at(OTHER), &post(&[]), now);
    assert_eq!(peers.fellows(), [OTHER].into());
    let later = now + 30 * SECOND;
    assert_eq!(counter(after(&mut peers, question(3, 8443), from, &post(&[]), later)), None, "its answer is fresh");
    let later = now + 300 * SECOND;
    peers.on_time(later);
    assert_eq!(peers.fellows(), [OTHER].into());
    assert!(counter(after(&mut peers, question(3, 8443), from, &post(&[]), later)).is_some());
    peers.on_time(now + 601 * SECOND);
    assert!(peers.fellows().is_empty(), "it has not answered since");
}

#[test]
fn strangers_push_no_fellow_out() {
    let now = start();
    let mut peers = Peers::new(PORT);
    after(&mut peers, question(1, 8443), at(OTHER), &post(&[]), now);
    after(&mut peers, question(77, 8443).answered(Word::NotServed), at(OTHER), &post(&[]), now);
    for stranger in 0..2000_u16 {
        let [a, b] = stranger.to_be_bytes();
        after(&mut peers, question(1, 8443), at([198, 51, a, b].into()), &post(&[]), now);
    }
    assert_eq!(peers.fellows(), [OTHER].into());
}

#[test]
fn a_flood_of_questions_is_answered_in_part() {
    let now = start();
    let mut peers = Peers::new(PORT);
    let mut count = |now| {
        let asked =
            (0..1000).filter(|_| answer_to(&mut peers, question(1, 8443), at(OTHER), &post(&[]), now).is_some());
        asked.count()
    };
    assert_eq!((count(now), count(now)), (256, 0));
    assert_eq!(count(now + SECOND), 256);
    let answers = question(1, 8443).answered(Word::Delivers).emit();
    assert_eq!(answers.len(), LENGTH, "an answer is as long as its question");
}
