//! What this node asks of others and does for them, where services have direct return.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock;
use crate::config::{Config, Role};
use crate::direct;
use crate::drivers::peer::{Asker, Handle, PeerDriver, PeerPortError, PeerSockets};

/// The longest that the datapath stays for others at a stop; systemd is asked for 10 s (config/xvip.service).
const LONGEST_LEAVE: Duration = Duration::from_secs(8);
/// Added to the time between two questions, for the tables to be written there, and for short connections to end.
const LEAVE_MARGIN: Duration = Duration::from_millis(500);

/// The driver, and what it was told last.
pub(super) struct Peering {
    port: u16,
    handle: Handle,
    fellows: watch::Receiver<BTreeSet<IpAddr>>,
    /// Services reported as having no backend here.
    without: BTreeSet<String>,
    ready: bool,
}

impl Peering {
    /// Asks and listens at this port, once there is something to listen for.
    pub(super) fn new(port: u16) -> Self {
        let handle = PeerDriver::spawn(port);
        let fellows = handle.fellows();
        Self { port, handle, fellows, without: BTreeSet::new(), ready: false }
    }

    /// Opens what a configuration needs and is not open; `None` where nothing changes.
    pub(super) fn open(&self, config: &Config) -> Result<Option<PeerSockets>, PeerPortError> {
        let families = direct::families(config);
        if families == *self.handle.families() {
            return Ok(None);
        }
        PeerSockets::open(self.port, families, self.handle.families()).map(Some)
    }

    /// Uses what was opened.
    pub(super) async fn listen(&mut self, sockets: PeerSockets) {
        self.handle.listen(sockets).await;
    }

    pub(super) fn asker(&self) -> Asker {
        self.handle.asker()
    }

    pub(super) fn fellows(&self) -> BTreeSet<IpAddr> {
        self.fellows.borrow().clone()
    }

    /// Waits until there are other fellows.
    pub(super) async fn changed(&mut self) {
        if self.fellows.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Lets others know what is delivered here: for services with an own backend, from nodes known as fellows.
    pub(super) fn serve(&mut self, config: &Config, (own, known): &(BTreeSet<String>, BTreeSet<IpAddr>), ready: bool) {
        self.handle.set_post(direct::post(config, own, known.clone(), ready));
        let without = config.direct_services().map(|service| service.name.clone()).filter(|name| !own.contains(name));
        let without: BTreeSet<_> = without.filter(|_| ready && config.node.role == Role::Backend).collect();
        for service in without.difference(&self.without) {
            warn!(service, "{NO_BACKEND_HERE}");
        }
        self.without = without;
        self.ready = ready;
    }

    /// Whether others were told so.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Tells others that nothing is delivered here any more; until when they may still forward.
    pub(super) async fn leave(&self, config: &Config) -> Instant {
        let now = clock::now();
        if !self.handle.leave().await {
            return now;
        }
        let checks = config.direct_services().map(|service| &service.health_check);
        let interval = checks.map(|check| check.interval + check.timeout).max().unwrap_or_default();
        info!("telling the balancers that nothing is delivered here any more");
        now + (interval + LEAVE_MARGIN).min(LONGEST_LEAVE)
    }
}

/// Of a service on a node that only delivers.
pub(crate) const NO_BACKEND_HERE: &str = "no backend of this service is at an address of this node, so nothing is \
    delivered: add it as a [[service.backend]], or correct its address";
