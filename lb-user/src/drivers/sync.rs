//! Shares flows with the other balancers, so that connections live through a move of the VIP.
//!
//! ```text
//!  datapath ──mpsc Changes──> driver ──owns──> lb_proto::sync::Node ──watch──> snapshot
//!                             ^ │  ^ │ datagrams, sealed
//!                  outcomes   │ │  │ v
//!                             │ │  sockets
//!                             │ v jobs
//!                            thread ──owns──> Flows
//! ```
//! Nobody waits for anybody: what does not fit a queue is dropped and counted, and the whole table makes up for it.

mod flows;
mod key;
mod seal;
mod tables;

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_proto::family::Family;
use lb_proto::sync::{LONGEST, Node, Output, Refusal, Report};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::seldom::Seldom;
use super::waiting::{passed, receive};
use crate::clock;
use crate::sock::datagram::{Datagram, DatagramSocket};
pub use flows::{Adopted, Changes, Flows};
pub use key::{KeyError, SharedKey};
use seal::Random;
pub use seal::Sealer;
use tables::{Job, Outcome, Tables};

/// Bytes of datagrams that may wait in the kernel: what several peers have under way at once.
const RECEIVE_BUFFER: usize = 2 << 20;
/// Batches of changes taken in at once.
const BATCHES: usize = 64;
/// How often what is counted is published.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// A look that found no room in the thread's queue is asked for again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// With whom, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The shared key.
    pub key: SharedKey,
    /// UDP port, the same on all nodes.
    pub port: u16,
    /// The others.
    pub peers: BTreeSet<IpAddr>,
    /// Addresses of ours that datagrams come from, one of each family at most; the kernel chooses where there is none.
    pub sources: Vec<IpAddr>,
}

/// Flows cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Without a key nothing is shared.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The port cannot be had.
    #[error("cannot listen at UDP port {port} for other balancers: {source}; choose another sync.port, on all of them")]
    Port {
        /// Which.
        port: u16,
        /// As the kernel says.
        #[source]
        source: io::Error,
    },
    /// The key cannot be used.
    #[error("the shared key cannot be used; report this, it is a defect of xvip")]
    Seal,
}

/// What is known of the sharing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncSnapshot {
    /// The peers, by address.
    pub peers: Vec<(IpAddr, Report)>,
    /// Datagrams of nobody known.
    pub strangers: u64,
    /// Batches of changes that the tables had no time for, and were asked for again.
    pub dropped: u64,
    /// Times that the datapath had more to tell than could be heard.
    pub lost: u64,
    /// What became of records.
    pub adopted: Adopted,
}

/// The sockets of a configuration that can be applied.
#[derive(Debug)]
pub struct Prepared {
    settings: Option<Settings>,
    sealer: Option<Sealer>,
    /// Of families that are not open at this port.
    opened: Vec<DatagramSocket>,
}

/// The running driver. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    held: watch::Sender<BTreeSet<IpAddr>>,
    snapshot: watch::Receiver<Arc<SyncSnapshot>>,
    settings: Option<Settings>,
    driver: JoinHandle<()>,
}

enum Command {
    Apply(Box<Prepared>),
    Attach(Box<dyn Flows>, mpsc::Receiver<Changes>),
    Detach,
}

impl Handle {
    /// What `settings` need, opened; `None`: flows are not shared.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn prepare(&self, settings: Option<Settings>) -> Result<Prepared, SyncError> {
        let Some(settings) = settings else {
            return Ok(Prepared { settings: None, sealer: None, opened: Vec::new() });
        };
        let families = |settings: &Settings| settings.peers.iter().map(|peer| Family::of(*peer)).collect();
        let before: BTreeSet<Family> =
            self.settings.as_ref().filter(|before| before.port == settings.port).map(families).unwrap_or_default();
        let wanted: BTreeSet<Family> = families(&settings);
        let port = settings.port;
        let open = |family: &Family| {
            let socket = DatagramSocket::open(*family, port)?;
            socket.widen(RECEIVE_BUFFER)?;
            Ok(socket)
        };
        let opened = wanted.difference(&before).map(open).collect::<Result<_, _>>();
        let opened = opened.map_err(|source| SyncError::Port { port, source })?;
        let sealer = Sealer::new(&settings.key).ok_or(SyncError::Seal)?;
        Ok(Prepared { settings: Some(settings), sealer: Some(sealer), opened })
    }

    /// Uses these settings from now on.
    pub fn apply(&mut self, prepared: Prepared) {
        self.settings.clone_from(&prepared.settings);
        self.command(Command::Apply(Box::new(prepared)));
    }

    /// The tables there are, which are shared from now on, and what the datapath says of them. To be called when the services
    /// are in the tables: what belongs to none is not taken in.
    pub fn attach(&self, flows: Box<dyn Flows>, changes: mpsc::Receiver<Changes>) {
        self.command(Command::Attach(flows, changes));
    }

    /// There are no tables for the moment.
    pub fn detach(&self) {
        self.command(Command::Detach);
    }

    /// The VIPs that this node holds from now on.
    pub fn hold(&self, vips: BTreeSet<IpAddr>) {
        self.held.send_if_modified(|before| {
            let changed = *before != vips;
            *before = vips;
            changed
        });
    }

    /// What is known, a moment ago.
    #[must_use]
    pub fn snapshot(&self) -> Arc<SyncSnapshot> {
        self.snapshot.borrow().clone()
    }

    /// The settings that were applied last.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    fn command(&self, command: Command) {
        // Without a driver nothing is shared, which its end has been told for.
        let _ = self.commands.send(command);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Shares flows until its handle is dropped.
pub struct SyncDriver {
    node: Option<Node<Sealer>>,
    settings: Option<Settings>,
    sockets: Vec<DatagramSocket>,
    tables: Option<Tables>,
    changes: Option<mpsc::Receiver<Changes>>,
    held: watch::Receiver<BTreeSet<IpAddr>>,
    random: Random,
    look_again: Option<Instant>,
    up: BTreeSet<IpAddr>,
    counts: SyncSnapshot,
    publish_at: Instant,
    snapshot: watch::Sender<Arc<SyncSnapshot>>,
    refused: Seldom<&'static str>,
}

impl SyncDriver {
    /// Starts a driver that shares nothing yet, within the current tokio runtime.
    #[must_use]
    pub fn spawn() -> Handle {
        let (commands, arriving) = mpsc::unbounded_channel();
        let (held, holding) = watch::channel(BTreeSet::new());
        let (snapshot, published) = watch::channel(Arc::default());
        let driver = Self {
            node: None,
            settings: None,
            sockets: Vec::new(),
            tables: None,
            changes: None,
            held: holding,
            random: Random::new(),
            look_again: None,
            up: BTreeSet::new(),
            counts: SyncSnapshot::default(),
            publish_at: clock::now(),
            snapshot,
            refused: Seldom::default(),
        };
        let driver = tokio::spawn(driver.run(arriving));
        Handle { commands, held, snapshot: published, settings: None, driver }
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut buffers = [[0; LONGEST + 1]; 2];
        let mut batches = Vec::new();
        loop {
            let timer = passed(self.deadline());
            let [first, second] = &mut buffers;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                count = next_changes(&mut self.changes, &mut batches) => self.on_changes(count, &mut batches),
                changed = self.held.changed() => match changed {
                    Ok(()) => {}
                    Err(_) => break,
                },
                Some(outcome) = next_outcome(&mut self.tables) => self.on_outcome(outcome),
                received = receive(self.sockets.first(), first) => self.on_received(received, &mut buffers[0]),
                received = receive(self.sockets.get(1), second) => self.on_received(received, &mut buffers[1]),
                () = timer => {}
            }
            self.carry_out();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let node = self.node.as_ref()?;
        let others = [node.deadline(), self.look_again];
        Some(others.into_iter().flatten().fold(self.publish_at, Instant::min))
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Apply(prepared) => {
                let Prepared { settings, sealer, opened } = *prepared;
                let port = |settings: &Option<Settings>| settings.as_ref().map(|settings| settings.port);
                let key = |settings: &Option<Settings>| settings.as_ref().map(|settings| settings.key.clone());
                let is_same = key(&settings) == key(&self.settings);
                if port(&settings) != port(&self.settings) {
                    self.sockets.clear();
                }
                self.sockets.extend(opened);
                let peers = settings.as_ref().map(|settings| settings.peers.clone()).unwrap_or_default();
                self.sockets.retain(|socket| peers.iter().any(|peer| Family::of(*peer) == socket.family()));
                if !is_same || self.node.is_none() {
                    // Another key is another conversation.
                    self.node = sealer.map(|sealer| Node::new(sealer, clock::now()));
                    self.look_again = None;
                }
                self.settings = settings;
            }
            Command::Attach(flows, changes) => {
                self.forget_peers();
                match Tables::start(flows) {
                    Ok(tables) => (self.tables, self.changes) = (Some(tables), Some(changes)),
                    Err(error) => warn!("flows are not shared: no thread for their tables: {error}"),
                }
            }
            Command::Detach => {
                self.forget_peers();
                (self.tables, self.changes) = (None, None);
            }
        }
        // Without tables there is nothing to tell, and nowhere to put what is told.
        let peers = self.settings.as_ref().filter(|_| self.tables.is_some());
        let peers = peers.map(|settings| settings.peers.clone()).unwrap_or_default();
        if let Some(node) = &mut self.node {
            node.set_peers(&peers, clock::now());
        }
    }

    /// Other tables know other flows: what peers have told and been told counts no more.
    fn forget_peers(&mut self) {
        self.look_again = None;
        if let Some(node) = &mut self.node {
            node.set_peers(&BTreeSet::new(), clock::now());
        }
    }

    fn on_changes(&mut self, count: usize, batches: &mut Vec<Changes>) {
        if count == 0 {
            // The datapath tells no more until other tables come.
            self.changes = None;
        }
        let now = clock::now();
        for changes in batches.drain(..) {
            match changes {
                Changes::Batch(changes) => self.node.iter_mut().for_each(|node| node.on_changes(&changes, now)),
                Changes::Lost => {
                    self.counts.lost += 1;
                    self.node.iter_mut().for_each(Node::on_lost);
                }
            }
        }
    }

    fn on_outcome(&mut self, outcome: Outcome) {
        let now = clock::now();
        match (outcome, &mut self.node) {
            (Outcome::Adopted(adopted), _) => self.counts.adopted += adopted,
            (Outcome::Table(table), Some(node)) => node.on_table(table, now),
            (Outcome::Untold(peer, records), Some(node)) => node.on_untold(peer, &records, now),
            (_, None) => {}
        }
    }

    fn on_received(&mut self, received: io::Result<Datagram>, buffer: &mut [u8]) {
        let datagram = match received {
            Ok(datagram) => datagram,
            Err(error) => return self.refuse("received", &error),
        };
        let Some(node) = &mut self.node else { return };
        let bytes = buffer.get_mut(..datagram.length).unwrap_or_default();
        let from = datagram.from.ip();
        let outcome = node.on_datagram(from, bytes, clock::now(), &mut || self.random.nonce());
        let Err(refusal) = outcome else { return };
        if !self.refused.allows(refusal.reason(), clock::now()) {
            return;
        }
        match refusal {
            Refusal::Proof => {
                warn!("flows that {from} tells are not believed: {refusal}; see that sync.key_file is the same there");
            }
            Refusal::Form => {
                warn!("flows that {from} tells are not understood: {refusal}; run one version on all nodes")
            }
            _ => debug!(%from, "a message about flows was refused: {refusal}"),
        }
    }

    fn carry_out(&mut self) {
        let now = clock::now();
        let Some(node) = &mut self.node else {
            return self.publish(now);
        };
        node.set_held(&self.held.borrow_and_update());
        node.on_time(now, &mut || self.random.nonce());
        if self.look_again.is_some_and(|at| now >= at) {
            self.look_again = None;
            self.look(now);
        }
        while let Some(output) = self.node.as_mut().and_then(Node::poll) {
            match output {
                Output::Send(to, bytes) => self.send(to, &bytes),
                Output::Apply(from, changes) => {
                    let given = self.tables.as_ref().is_some_and(|tables| tables.give(Job::Apply(changes)));
                    if !given {
                        self.counts.dropped += 1;
                        self.node.iter_mut().for_each(|node| node.on_dropped(from));
                    }
                }
                Output::Settle(peer, remainder) => {
                    // Without room it is done when that peer tells its table again.
                    let _ = self.tables.as_ref().map(|tables| tables.give(Job::Settle(peer, remainder)));
                }
                Output::Look => self.look(now),
            }
        }
        self.publish(now);
    }

    /// Without tables nobody waits for them.
    fn look(&mut self, now: Instant) {
        if self.tables.as_ref().is_some_and(|tables| !tables.give(Job::Look)) {
            self.look_again = Some(now + LOOK_AGAIN);
        }
    }

    fn send(&mut self, to: IpAddr, bytes: &[u8]) {
        let Some(settings) = &self.settings else { return };
        let family = Family::of(to);
        let Some(socket) = self.sockets.iter().find(|socket| socket.family() == family) else { return };
        let from = settings.sources.iter().find(|source| Family::of(**source) == family).copied();
        if let Err(error) = socket.send(from, SocketAddr::new(to, settings.port), bytes) {
            self.refuse("sent", &error);
        }
    }

    /// It is sent again, or found missing by whoever waits for it.
    fn refuse(&mut self, what: &'static str, error: &io::Error) {
        if self.refused.allows(what, clock::now()) {
            debug!(%error, "a message about flows was not {what}");
        }
    }

    fn publish(&mut self, now: Instant) {
        let is_up = |node: &Node<Sealer>| -> BTreeSet<IpAddr> {
            node.reports().filter(|(_, report)| report.is_up).map(|(peer, _)| peer).collect()
        };
        if now < self.publish_at {
            return;
        }
        self.publish_at = now + PUBLISH_EVERY;
        let up = self.node.as_ref().map(is_up).unwrap_or_default();
        for peer in up.difference(&self.up) {
            info!(%peer, "flows are shared");
        }
        for peer in self.up.difference(&up) {
            warn!(%peer, "flows are not shared at the moment: the other balancer does not answer");
        }
        self.up = up;
        if let Some(node) = &self.node {
            self.counts.peers = node.reports().collect();
            self.counts.strangers = node.strangers();
        } else {
            self.counts.peers.clear();
        }
        self.snapshot.send_replace(Arc::new(self.counts.clone()));
    }
}

async fn next_changes(changes: &mut Option<mpsc::Receiver<Changes>>, batches: &mut Vec<Changes>) -> usize {
    match changes {
        Some(changes) => changes.recv_many(batches, BATCHES).await,
        None => pending().await,
    }
}

async fn next_outcome(tables: &mut Option<Tables>) -> Option<Outcome> {
    match tables {
        Some(tables) => tables.outcomes.recv().await,
        None => None,
    }
}

#[cfg(test)]
mod tests;
