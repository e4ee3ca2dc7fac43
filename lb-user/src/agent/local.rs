//! Sees to it that the connect hooks are in force; without them packets are served all the same.

use std::path::PathBuf;

use aya::Ebpf;
use tracing::{info, warn};

use crate::bpf::{HookError, Hooks, cgroup_root};
use crate::config::Config;
use crate::status::LocalStatus;

/// The hooks, or why there are none.
pub(super) struct Local {
    hooks: Option<Hooks>,
    why_not: String,
}

impl Local {
    pub(super) const fn new() -> Self {
        Self { hooks: None, why_not: String::new() }
    }

    /// Attaches what should be attached and is not; returns what has changed, for the events.
    pub(super) fn converge(&mut self, ebpf: &mut Ebpf, config: &Config) -> Option<String> {
        let outcome = wanted(config).and_then(|cgroup| {
            let there = self.hooks.as_ref().filter(|hooks| hooks.cgroup() == cgroup);
            let lost = match there.map(Hooks::lost) {
                Some(None) => return Ok(None),
                Some(Some(why)) => Some(why),
                None => None,
            };
            Ok(Some((Hooks::attach(ebpf, &config.node.name, &cgroup)?, lost)))
        });
        match outcome {
            Ok(None) => None,
            Ok(Some((hooks, lost))) => {
                let again = lost.map(|why| format!(" again: {why}")).unwrap_or_default();
                let cgroup = hooks.cgroup().display().to_string();
                info!(cgroup, "connect hooks attached{again}");
                self.hooks = Some(hooks);
                self.why_not.clear();
                Some(format!("hooks attached to {cgroup}{again}"))
            }
            Err(error) => self.failed(&error, config),
        }
    }

    /// The object of the hooks has been loaded anew.
    pub(super) fn forget(&mut self) {
        self.hooks = None;
    }

    fn failed(&mut self, error: &HookError, config: &Config) -> Option<String> {
        self.hooks = None;
        let why = error.to_string();
        if self.why_not == why {
            return None;
        }
        warn!("this node's own connections to its services are not translated, packets are served: {why}");
        // What an earlier agent left may know of other tables than ours.
        if let Err(error) = Hooks::detach(&config.node.name) {
            warn!("connect hooks of an earlier agent cannot be removed: {error}");
        }
        self.why_not.clone_from(&why);
        Some(format!("hooks not attached: {why}"))
    }

    pub(super) fn status(&self) -> LocalStatus {
        let cgroup = self.hooks.as_ref().map(|hooks| hooks.cgroup().display().to_string());
        LocalStatus { attached: cgroup.is_some(), cgroup, reason: self.why_not.clone() }
    }
}

fn wanted(config: &Config) -> Result<PathBuf, HookError> {
    config.node.cgroup.clone().map_or_else(cgroup_root, Ok)
}
