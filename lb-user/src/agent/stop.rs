//! The ends of an agent: one gives the VIPs up and leaves the host as it was found, the other leaves all to its successor.

use std::pin::pin;

use tokio::select;

use super::*;

/// How long the end waits for a datapath that is being loaded: its pins are made by then.
const LOADED_WITHIN: Duration = Duration::from_secs(3);

impl Agent {
    /// Leaves everything as it is, for the next agent to continue with: VIPs, datapath, tables, settings, and after a last
    /// advert the leases.
    pub(super) async fn hand_over(self) {
        info!("handing over to the next agent");
        let Self { vrrp, health, .. } = self;
        // First: from here on the time counts that the next agent has.
        vrrp.hand_over().await;
        health.shutdown().await;
        info!("ended, VIPs and datapath stay");
    }

    /// Gives the VIPs up and leaves the host as it was found.
    pub(super) async fn stop(self) -> Result<(), AgentError> {
        info!("stopping");
        let Self {
            config,
            mut reconciler,
            vrrp,
            mut vrrp_seen,
            health,
            health_seen,
            datapath,
            loading,
            kernel,
            reserved,
            http,
            admin,
            lock,
            peering,
            ..
        } = self;
        let left = peering.leave(&config).await;
        // Each goes on serving until another node has its addresses, so that nobody notices.
        let mut stopping = pin!(vrrp.stop());
        loop {
            select! {
                biased;
                () = &mut stopping => break,
                Ok(()) = vrrp_seen.changed() => {}
            }
            let seen = vrrp_seen.borrow_and_update().clone();
            let snapshots = Snapshots {
                config: &config,
                vrrp: &seen,
                health: &health_seen.borrow().clone(),
                sweep: &kernel.sweeping.latest(),
                fellows: &peering.fellows(),
            };
            if let Err(error) = reconciler.addresses(&snapshots).await {
                // All are removed in the end.
                warn!("VIPs stay for a moment: {error}");
            }
        }
        let withdrawn = reconciler.withdraw().await;
        // Until the others have heard that nothing is delivered here any more.
        sleep_until(left.into()).await;
        health.shutdown().await;
        loading.give_up(LOADED_WITHIN).await;
        drop((kernel, datapath));
        let removed = bpf::flush(&config.node.name);
        let restored = reserved.restore();
        drop((http, admin));
        drop(lock);
        // Unless something else is in it.
        let _ = std::fs::remove_dir(RUN_DIR);
        withdrawn?;
        removed?;
        restored?;
        info!("stopped, the host is as it was");
        Ok(())
    }
}
