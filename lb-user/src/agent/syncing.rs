//! What this node tells other balancers of its flows: the configuration's part, and the VIPs it speaks for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_proto::vrrp::State;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::sharing::Sharing;
use crate::bpf::{FlowChanges, FlowTable, TableError};
use crate::config::Config;
use crate::drivers::sync::{Changes, Handle, Prepared, Settings, SharedKey, SyncDriver, SyncError};
use crate::drivers::vrrp::VrrpSnapshot;
use crate::report::sync as report;
use crate::status::SyncStatus;

/// Batches that wait for the driver; what is more is looked for in the whole table.
const WAITING: usize = 256;
/// Changes of a batch.
const BATCH: usize = 512;

/// The driver, and what feeds it.
pub(super) struct Syncing {
    driver: Handle,
    /// Whether the driver has tables, once it is known that it should.
    attached: Option<bool>,
    feed: Option<JoinHandle<()>>,
    fault: Option<String>,
}

impl Syncing {
    /// Shares nothing yet.
    pub(super) fn new() -> Self {
        Self { driver: SyncDriver::spawn(), attached: None, feed: None, fault: None }
    }

    /// Reads the key and opens what a configuration needs.
    pub(super) fn prepare(&self, config: &Config) -> Result<Prepared, SyncError> {
        let settings = config.sync.as_ref().map(|sync| {
            let key = SharedKey::load(&sync.key_file)?;
            Ok::<_, SyncError>(Settings {
                key,
                port: sync.port,
                peers: sync.peers.clone(),
                sources: sync.sources.clone(),
            })
        });
        self.driver.prepare(settings.transpose()?)
    }

    /// Uses what was prepared.
    pub(super) fn apply(&mut self, prepared: Prepared, config: &Config) {
        if config.sync.is_none() && !config.vrrp.is_empty() {
            warn!("flows are not shared: connections do not survive a move of the VIP; give [sync] a key_file");
        }
        self.driver.apply(prepared);
    }

    /// The tables are others from now on.
    pub(super) fn forget(&mut self) {
        self.detach();
        self.attached = None;
    }

    /// Shares the flows of the tables where that is configured. To be called when services and backends are in them.
    pub(super) fn converge(&mut self, config: &Config, sharing: &mut Sharing) {
        let wanted = config.sync.is_some();
        if self.attached == Some(wanted) {
            return;
        }
        self.detach();
        let outcome = sharing.set(wanted).and_then(|()| match wanted {
            true => self.attach(&config.node.name),
            false => Ok(()),
        });
        let fault = outcome.err().map(|error| error.to_string());
        if let Some(why) = fault.as_ref().filter(|_| fault != self.fault) {
            error!("flows are not shared, trying on: {why}");
        }
        self.attached = fault.is_none().then_some(wanted);
        self.fault = fault;
    }

    fn attach(&mut self, node: &str) -> Result<(), TableError> {
        let (flows, changes) = (FlowTable::pinned(node)?, FlowChanges::pinned(node)?);
        let (tell, told) = mpsc::channel(WAITING);
        self.feed = feed(changes, tell);
        self.driver.attach(Box::new(flows), told);
        Ok(())
    }

    fn detach(&mut self) {
        if let Some(feed) = self.feed.take() {
            feed.abort();
            self.driver.detach();
        }
    }

    /// Speaks for the VIPs that are here; without virtual routers for all that are served.
    pub(super) fn hold(&self, config: &Config, vrrp: &VrrpSnapshot) {
        let active = vrrp.instances.iter().filter(|instance| instance.state == State::Active);
        let mut held: BTreeSet<IpAddr> =
            active.flat_map(|instance| &instance.virtual_addresses).map(|vip| vip.address).collect();
        if config.vrrp.is_empty() {
            held.extend(config.services.iter().flat_map(|service| &service.listen).map(|listen| listen.address));
        }
        self.driver.hold(held);
    }

    pub(super) fn status(&self) -> SyncStatus {
        report::status(self.driver.settings(), &self.driver.snapshot())
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Passes on what the datapath tells, on a task of its own.
fn feed(changes: FlowChanges, tell: mpsc::Sender<Changes>) -> Option<JoinHandle<()>> {
    // SAFETY: the ring buffer owns the descriptor that it shows, and shows the same one as long as it lives.
    let mut changes = match unsafe { AsyncFd::register(changes) } {
        Ok(changes) => changes,
        Err(error) => {
            error!("the flows of this node will not be told to others: {error}");
            return None;
        }
    };
    Some(tokio::spawn(async move {
        while let Ok(mut ready) = changes.readable_mut().await {
            // What came before this is seen by what follows.
            ready.clear_ready();
            loop {
                match ready.get_inner_mut().next(BATCH) {
                    Ok(None) => break,
                    // The ring holds more than the queue does; what overflows it is found in the whole table.
                    Ok(Some(batch)) => match tell.send(batch).await {
                        Ok(()) => {}
                        Err(_) => return,
                    },
                    Err(error) => {
                        warn!("some flows are not told to others one by one: {error}");
                        let _ = tell.send(Changes::Lost).await;
                        break;
                    }
                }
            }
        }
    }))
}
