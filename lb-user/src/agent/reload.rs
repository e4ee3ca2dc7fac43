//! A configuration that takes the place of another one while the agent runs: whole, or not at all.

use super::*;

/// How long a reload waits for the files of health checks; VIPs move meanwhile, nothing else is done.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// What a restart costs where the next agent goes on with the tables of this one, and where it may not.
const MOVES_NOTHING: &str = "`systemctl restart xvip`, which moves nothing";
const HAND_OVER_FIRST: &str =
    "`xvip vrrp step-down`, then `systemctl restart xvip`, with which connections through this node may end";

/// What has changed that only another agent can take in, if anything has, and how to get there.
fn needs_restart(old: &Config, new: &Config) -> Option<(&'static str, &'static str)> {
    let (before, after) = (&old.node, &new.node);
    let (address, moved_to) = (old.metrics.listen, new.metrics.listen);
    // The old listener has the port until the new one is there.
    let same_port = address != moved_to && address.port() == moved_to.port();
    let read = old.admin.socket == new.admin.socket && old.admin.read != new.admin.read;
    let keys = [
        (before.name != after.name, "node.name", HAND_OVER_FIRST),
        (before.interface != after.interface, "node.interface", HAND_OVER_FIRST),
        (before.datapath != after.datapath, "node.datapath", HAND_OVER_FIRST),
        (before.role != after.role, "node.role", HAND_OVER_FIRST),
        (before.peer_port != after.peer_port, "node.peer_port", HAND_OVER_FIRST),
        (before.max_flows != after.max_flows, "node.max_flows", HAND_OVER_FIRST),
        (before.max_half_open != after.max_half_open, "node.max_half_open", HAND_OVER_FIRST),
        (same_port, "the address of metrics.listen on the same port", MOVES_NOTHING),
        (read, "admin.read", MOVES_NOTHING),
    ];
    keys.into_iter().find(|(changed, ..)| *changed).map(|(_, key, how)| (key, how))
}

impl Agent {
    /// Applies the file as it is now, whole or not at all.
    pub(super) async fn reload(&mut self, cause: &str) -> ReloadResult {
        match self.try_reload().await {
            Ok(()) => {
                self.config_status.reloads += 1;
                self.config_status.applied_at = unix(clock::wall());
                self.config_status.last_error = None;
                info!(file = %self.file.display(), cause, "configuration applied");
                self.reporter.changed("configuration".to_owned(), "", "applied", cause);
                Ok(())
            }
            Err(error) => {
                let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
                self.config_status.reload_failures += 1;
                self.config_status.last_error = lines.first().cloned();
                for line in &lines {
                    error!("configuration refused, the old one goes on: {line}");
                }
                self.reporter.changed(
                    "configuration".to_owned(),
                    "",
                    "refused",
                    &format!("{cause}: {}", lines.join("; ")),
                );
                Err(lines)
            }
        }
    }

    async fn try_reload(&mut self) -> Result<(), AgentError> {
        let Prepared { config, text } = prepare(config::load(&self.file)?, &self.netlink).await?;
        let undone = self.steering.changes(&self.config);
        self.apply(config).await?;
        for change in undone {
            warn!("the reload has undone what a command changed: {change}");
        }
        self.steering.begin_anew(text, self.config.clone());
        Ok(())
    }

    /// Makes a configuration the one that serves, whole or not at all.
    async fn apply(&mut self, config: Config) -> Result<(), AgentError> {
        if let Some((key, how)) = needs_restart(&self.config, &config) {
            return Err(AgentError::NeedsRestart { key, how });
        }
        // What can fail comes first.
        let targets = self.targets(&config).await?;
        let settings = Settings::read(&config.metrics)?;
        let http = if self.config.metrics.listen == config.metrics.listen {
            None
        } else {
            Some(http::listen(config.metrics.listen, self.sources.clone()).await?)
        };
        let admin = if self.config.admin.socket == config.admin.socket {
            None
        } else {
            Some(admin::listen(&config.admin, self.access.clone()).await?)
        };
        let sockets = self.peering.open(&config)?;
        let syncing = self.syncing.prepare(&config)?;
        let flow_log = FlowLogging::prepare(&config)?;
        reserve(&self.reserved, &config)?;
        if let Some(sockets) = sockets {
            self.peering.listen(sockets).await;
        }
        self.sources.desk.configure(settings);
        if let Some(http) = http {
            tokio::spawn(std::mem::replace(&mut self.http, http).stop());
        }
        if let Some(admin) = admin {
            tokio::spawn(std::mem::replace(&mut self.admin, admin).stop());
        }
        self.syncing.apply(syncing, &config);
        self.flow_logging.apply(flow_log);
        self.leases.configure(&virtual_addresses(&config))?;
        self.vrrp.reconfigure(config.vrrp.clone());
        self.go_on_with(config, targets);
        Ok(())
    }

    /// Makes other services serve, whole or not at all, and leaves the rest as it was applied: no file that only a reload is to
    /// read is read, and no session of the status page ends.
    pub(super) async fn apply_services(&mut self, services: Vec<Service>) -> Result<(), AgentError> {
        let config = Config { services, ..(*self.config).clone() };
        let targets = self.targets(&config).await?;
        if let Some(sockets) = self.peering.open(&config)? {
            self.peering.listen(sockets).await;
        }
        self.go_on_with(config, targets);
        Ok(())
    }

    /// What comes last of every change, and cannot fail.
    fn go_on_with(&mut self, config: Config, targets: Vec<Target>) {
        self.metrics.configure(&config);
        self.health.set_targets(targets);
        if std::mem::replace(&mut self.preparing, Preparing::none()).is_under_way() {
            self.tell_if_ready();
        }
        self.config = Arc::new(config);
        self.watch_over_hooks();
    }

    /// The health checks of a configuration, their files read, while VIPs move as they have to.
    async fn targets(&mut self, config: &Config) -> Result<Vec<Target>, PrepareError> {
        let mut preparing = Preparing::start(config)?;
        let until = clock::now() + READ_WITHIN;
        loop {
            tokio::select! {
                biased;
                outcome = preparing.done() => return outcome,
                () = sleep_until(until.into()) => return Err(PrepareError::Slow(READ_WITHIN)),
                // Where the thread has ended, the control loop will hear of it.
                Ok(()) = self.vrrp_seen.changed() => {}
            }
            self.addresses().await;
            self.pass().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../config/xvip.toml");

    fn asked(old: &str, new: &str) -> Option<(&'static str, &'static str)> {
        let read = |from: &str, to: &str| {
            assert!(SHIPPED.contains(from), "{from}");
            config::parse(&SHIPPED.replacen(from, to, 1), "xvip.toml", &config::Env::default()).unwrap().config
        };
        needs_restart(&read(old, old), &read(old, new))
    }

    #[test]
    fn what_another_agent_alone_can_take_in_is_named_with_the_way_there() {
        let interface = "interface = \"eth0\"";
        assert_eq!(asked(interface, "interface = \"eth1\""), Some(("node.interface", HAND_OVER_FIRST)));
        let listen = "# listen = \"0.0.0.0:9910\"";
        let same_port = asked(listen, "listen = \"0.0.0.0:9910\"");
        assert_eq!(same_port, Some(("the address of metrics.listen on the same port", MOVES_NOTHING)));
        assert_eq!(asked(listen, "listen = \"0.0.0.0:9911\""), None);
        assert_eq!(asked("priority = 100", "priority = 90"), None);
    }
}
