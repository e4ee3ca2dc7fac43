//! Asks other nodes' agents, and answers theirs.
//!
//! ```text
//!  Asker::ask ──mpsc──> driver ──owns──> lb_proto::peer::Peers ──watch──> fellows
//!  set_post ───watch──>   ^ │ datagrams
//!                         │ v
//!                        sockets, while a service needs them
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lb_proto::family::Family;
use lb_proto::peer::{Output, Peers, Post, Presence, Word};
use lb_proto::wire::peer::{Kind, LENGTH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::debug;

use super::seldom::Seldom;
use super::waiting::{passed, receive};
use crate::clock;
use crate::sock::datagram::{Datagram, DatagramSocket};

/// Questions on their way to the driver; who asks waits when it is behind.
const QUEUE: usize = 64;
/// Who was told within this time that this node delivers, may be forwarding to it.
const LATELY: Duration = Duration::from_secs(60);
/// Bytes of a datagram that are looked at: one more than a message, to tell longer ones.
const ROOM: usize = LENGTH + 1;

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen at UDP port {port} for other nodes' agents: {source}; choose another node.peer_port, on all nodes"
)]
pub struct PeerPortError {
    port: u16,
    #[source]
    source: io::Error,
}

/// Where other nodes are to reach this one from now on.
#[derive(Debug)]
pub struct PeerSockets {
    families: BTreeSet<Family>,
    /// Of the families that were not open before.
    opened: Vec<DatagramSocket>,
}

impl PeerSockets {
    /// Opens the port for those of `families` that are not `open` yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn open(port: u16, families: BTreeSet<Family>, open: &BTreeSet<Family>) -> Result<Self, PeerPortError> {
        let opened = families.difference(open).map(|family| DatagramSocket::open(*family, port));
        let opened = opened.collect::<Result<_, _>>().map_err(|source| PeerPortError { port, source })?;
        Ok(Self { families, opened })
    }
}

/// The running driver. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    post: watch::Sender<Post>,
    fellows: watch::Receiver<BTreeSet<IpAddr>>,
    families: BTreeSet<Family>,
    driver: JoinHandle<()>,
}

/// Asks other nodes.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Command>);

#[derive(Debug)]
enum Command {
    Ask { node: IpAddr, listeners: Vec<SocketAddr>, deadline: Instant, reply: oneshot::Sender<Finding> },
    Listen(PeerSockets),
    Relied { reply: oneshot::Sender<bool> },
}

/// What was found, and about which listener.
pub type Finding = (Presence, SocketAddr);

impl Handle {
    /// For whoever wants to ask.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker(self.commands.clone())
    }

    /// The families for which [`Self::listen`] was called last.
    #[must_use]
    pub fn families(&self) -> &BTreeSet<Family> {
        &self.families
    }

    /// Uses these sockets from now on.
    pub async fn listen(&mut self, sockets: PeerSockets) {
        self.families.clone_from(&sockets.families);
        // Without a driver nobody listens, which its end has been told for.
        let _ = self.commands.send(Command::Listen(sockets)).await;
    }

    /// What this node does for others from now on.
    pub fn set_post(&self, post: Post) {
        self.post.send_if_modified(|before| {
            let changed = *before != post;
            *before = post;
            changed
        });
    }

    /// The agent is about to take the datapath away. Returns whether another node may be forwarding to this one.
    pub async fn leave(&self) -> bool {
        self.post.send_modify(|post| post.leaving = true);
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Relied { reply }).await;
        sent.is_ok() && answer.await.unwrap_or(false)
    }

    /// Nodes with an agent, as each has shown of late.
    #[must_use]
    pub fn fellows(&self) -> watch::Receiver<BTreeSet<IpAddr>> {
        self.fellows.clone()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Asker {
    /// Whether the agent of a node delivers for all of `listeners`, known by `deadline`.
    pub async fn ask(&self, node: IpAddr, listeners: Vec<SocketAddr>, deadline: Instant) -> Finding {
        let silent =
            listeners.first().map_or((Presence::Delivers, SocketAddr::new(node, 0)), |l| (Presence::Silent, *l));
        let (reply, answer) = oneshot::channel();
        if self.0.send(Command::Ask { node, listeners, deadline, reply }).await.is_err() {
            return silent;
        }
        answer.await.unwrap_or(silent)
    }
}

/// Asks and answers until its handle is dropped.
pub struct PeerDriver {
    peers: Peers,
    sockets: Vec<DatagramSocket>,
    waiting: BTreeMap<u64, oneshot::Sender<Finding>>,
    post: watch::Receiver<Post>,
    fellows: watch::Sender<BTreeSet<IpAddr>>,
    random: RandomState,
    numbers: u64,
    /// When another node was last told that this one delivers.
    relied: Option<Instant>,
    refused: Seldom<&'static str>,
}

impl PeerDriver {
    /// Starts a driver without sockets, within the current tokio runtime; `port`: where agents listen.
    #[must_use]
    pub fn spawn(port: u16) -> Handle {
        let (commands, arriving) = mpsc::channel(QUEUE);
        let (post, posted) = watch::channel(Post::default());
        let (fellows, published) = watch::channel(BTreeSet::new());
        let driver = Self {
            peers: Peers::new(port),
            sockets: Vec::new(),
            waiting: BTreeMap::new(),
            post: posted,
            fellows,
            random: RandomState::new(),
            numbers: 0,
            relied: None,
            refused: Seldom::default(),
        };
        let driver = tokio::spawn(driver.run(arriving));
        Handle { commands, post, fellows: published, families: BTreeSet::new(), driver }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut buffers = [[0; ROOM]; 2];
        loop {
            let timer = passed(self.peers.deadline());
            let [first, second] = &mut buffers;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                received = receive(self.sockets.first(), first) => self.on_received(received, &buffers[0]),
                received = receive(self.sockets.get(1), second) => self.on_received(received, &buffers[1]),
                () = timer => self.peers.on_time(clock::now()),
            }
            self.carry_out();
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::Ask { node, listeners, deadline, reply } => {
                if listeners.is_empty() {
                    let _ = reply.send((Presence::Delivers, SocketAddr::new(node, 0)));
                    return;
                }
                let nonce = self.fresh();
                self.waiting.insert(nonce, reply);
                self.peers.begin(nonce, node, &listeners, deadline, now);
            }
            Command::Listen(PeerSockets { families, opened }) => {
                self.sockets.retain(|socket| families.contains(&socket.family()));
                self.sockets.extend(opened);
            }
            Command::Relied { reply } => {
                let lately = |at: Instant| now.saturating_duration_since(at) < LATELY;
                let _ = reply.send(self.relied.is_some_and(lately));
            }
        }
    }

    fn on_received(&mut self, received: io::Result<Datagram>, buffer: &[u8]) {
        let datagram = match received {
            Ok(datagram) => datagram,
            Err(error) => return self.refuse("received", &error),
        };
        let fresh = self.fresh();
        let post = self.post.borrow().clone();
        let bytes = buffer.get(..datagram.length).unwrap_or_default();
        self.peers.on_datagram(bytes, datagram.from, datagram.to, &post, fresh, clock::now());
    }

    fn carry_out(&mut self) {
        for output in self.peers.drain() {
            match output {
                Output::Send { to, from, message } => {
                    if message.kind == Kind::Answer(Word::Delivers) && from != Some(to.ip()) {
                        self.relied = Some(clock::now());
                    }
                    let family = Family::of(to.ip());
                    let Some(socket) = self.sockets.iter().find(|socket| socket.family() == family) else {
                        continue;
                    };
                    if let Err(error) = socket.send(from, to, &message.emit()) {
                        self.refuse("sent", &error);
                    }
                }
                Output::Concluded { nonce, presence, listener } => {
                    if let Some(reply) = self.waiting.remove(&nonce) {
                        // Who asked may be gone.
                        let _ = reply.send((presence, listener));
                    }
                }
            }
        }
        let fellows = self.peers.fellows();
        self.fellows.send_if_modified(|before| {
            let changed = *before != fellows;
            if changed {
                debug!(?fellows, "nodes with an agent");
                *before = fellows;
            }
            changed
        });
    }

    /// Silence follows, which is found by whoever waits.
    fn refuse(&mut self, what: &'static str, error: &io::Error) {
        if self.refused.allows(what, clock::now()) {
            debug!(%error, "a message between agents was not {what}");
        }
    }

    /// A number that nobody outside can guess.
    fn fresh(&mut self) -> u64 {
        self.numbers = self.numbers.wrapping_add(1);
        self.random.hash_one(self.numbers)
    }
}

#[cfg(test)]
mod tests;
