//! The ends of an agent: one gives the VIPs up and leaves the host as it was found, the other leaves all to its successor.

use super::*;

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
            vrrp_seen,
            health,
            datapath,
            kernel,
            reserved,
            http,
            admin,
            lock,
            peering,
            ..
        } = self;
        let left = peering.leave(&config).await;
        let handover = handover(&config.vrrp, &vrrp_seen.borrow());
        vrrp.stop().await;
        // Whoever takes over waits for less than an advert interval (RFC 9568 section 6.1, skew time). Until then
        // this node goes on, so that nobody notices.
        sleep(handover).await;
        let withdrawn = reconciler.withdraw().await;
        // Until the others have heard that nothing is delivered here any more.
        sleep_until(left.into()).await;
        health.shutdown().await;
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

/// How long another node may need to take the VIPs over.
fn handover(configs: &[Vrrp], seen: &VrrpSnapshot) -> Duration {
    let active = |config: &&Vrrp| seen.instance(&config.name).is_some_and(|instance| instance.state == State::Active);
    let longest = configs.iter().filter(active).map(|config| config.advert_interval).max();
    longest.map_or(Duration::ZERO, |interval| (interval + Duration::from_millis(20)).min(LONGEST_HANDOVER))
}
