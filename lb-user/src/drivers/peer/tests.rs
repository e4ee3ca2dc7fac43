//! The driver against itself, and against who sends it other things, on loopback.

use lb_proto::peer::Ports;
use lb_proto::wire::peer::Message;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn listener() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 100], 8443))
}

fn post(known: &[[u8; 4]]) -> Post {
    let ports = Ports { address: listener().ip(), first: 8443, last: 8443 };
    let known = known.iter().map(|known| IpAddr::from(*known)).collect();
    Post { configured: vec![ports], own: vec![ports], ready: true, known, leaving: false }
}

/// A driver that listens, and where.
async fn listening() -> (Handle, u16) {
    // Somebody else may take the port in between.
    for _ in 0..10 {
        let port = UdpSocket::bind("0.0.0.0:0").await.unwrap().local_addr().unwrap().port();
        if let Ok(sockets) = PeerSockets::open(port, [Family::V4].into(), &BTreeSet::new()) {
            let mut handle = PeerDriver::spawn(port);
            handle.listen(sockets).await;
            return (handle, port);
        }
    }
    panic!("no port is free");
}

async fn ask(handle: &Handle, patience: Duration) -> Presence {
    let deadline = clock::now() + patience;
    handle.asker().ask([127, 0, 0, 1].into(), vec![listener()], deadline).await.0
}

#[tokio::test]
async fn a_node_is_asked_and_answers() {
    let (handle, _) = listening().await;
    let short = Duration::from_millis(400);
    assert_eq!(ask(&handle, short).await, Presence::Silent, "nothing is configured");
    handle.set_post(post(&[]));
    let mut fellows = handle.fellows();
    assert_eq!(ask(&handle, short).await, Presence::NotYet, "this node is not known there as one that forwards");
    timeout(PATIENCE, fellows.wait_for(|fellows| fellows.contains(&IpAddr::from([127, 0, 0, 1]))))
        .await
        .unwrap()
        .unwrap();
    handle.set_post(post(&[[127, 0, 0, 1]]));
    assert_eq!(ask(&handle, PATIENCE).await, Presence::Delivers);
    assert!(!handle.leave().await, "nobody but itself relies on it");
    assert_eq!(ask(&handle, PATIENCE).await, Presence::Leaving);
}

#[tokio::test]
async fn a_stranger_gets_an_answer_of_the_same_length_and_nothing_for_anything_else() {
    let (handle, port) = listening().await;
    handle.set_post(post(&[[127, 0, 0, 7]]));
    let stranger = UdpSocket::bind("127.0.0.7:0").await.unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let question = Message { kind: Kind::Question, nonce: 7, listener: listener() };
    let elsewhere = Message { listener: SocketAddr::from(([192, 0, 2, 100], 1)), ..question };
    for bytes in [&b""[..], &[0; LENGTH], &[1; 2000], &question.emit()[1..], &elsewhere.emit(), &question.emit()] {
        stranger.send_to(bytes, to).await.unwrap();
    }
    let mut buffer = [0; 2000];
    let (length, from) = timeout(PATIENCE, stranger.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((from, &buffer[..length]), (to, &question.answered(Word::Delivers).emit()[..]));
    assert!(handle.leave().await, "the stranger may be forwarding here");
}

#[tokio::test]
async fn a_port_in_use_is_refused_with_a_remedy() {
    let (_handle, port) = listening().await;
    let error = PeerSockets::open(port, [Family::V4].into(), &BTreeSet::new()).unwrap_err().to_string();
    assert!(error.contains("choose another node.peer_port, on all nodes"), "{error}");
    assert!(PeerSockets::open(port, [Family::V4].into(), &[Family::V4].into()).is_ok(), "it is open already");
}
