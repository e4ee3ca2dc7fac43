//! What this node tells other balancers of its flows: the configuration's part, and the VIPs it speaks for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_proto::vrrp::State;
use tokio::sync::mpsc;
use tracing::warn;

use crate::config::Config;
use crate::drivers::sync::{Changes, Flows, Handle, Prepared, Settings, SharedKey, SyncDriver, SyncError};
use crate::drivers::vrrp::VrrpSnapshot;
use crate::report::sync as report;
use crate::status::SyncStatus;

/// The driver.
pub(super) struct Sharing(Handle);

impl Sharing {
    /// Shares nothing yet.
    pub(super) fn new() -> Self {
        Self(SyncDriver::spawn())
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
        self.0.prepare(settings.transpose()?)
    }

    /// Uses what was prepared.
    pub(super) fn apply(&mut self, prepared: Prepared, config: &Config) {
        if config.sync.is_none() && !config.vrrp.is_empty() {
            warn!("flows are not shared: connections do not survive a move of the VIP; give [sync] a key_file");
        }
        self.0.apply(prepared);
    }

    /// Shares the flows of these tables.
    pub(super) fn attach(&self, flows: Box<dyn Flows>, changes: mpsc::Receiver<Changes>) {
        self.0.attach(flows, changes);
    }

    /// There are no tables.
    pub(super) fn detach(&self) {
        self.0.detach();
    }

    /// Speaks for the VIPs that are here; without virtual routers for all that are served.
    pub(super) fn hold(&self, config: &Config, vrrp: &VrrpSnapshot) {
        let active = vrrp.instances.iter().filter(|instance| instance.state == State::Active);
        let mut held: BTreeSet<IpAddr> =
            active.flat_map(|instance| &instance.virtual_addresses).map(|vip| vip.address).collect();
        if config.vrrp.is_empty() {
            held.extend(config.services.iter().flat_map(|service| &service.listen).map(|listen| listen.address));
        }
        self.0.hold(held);
    }

    pub(super) fn status(&self) -> SyncStatus {
        report::status(self.0.settings(), &self.0.snapshot())
    }
}
