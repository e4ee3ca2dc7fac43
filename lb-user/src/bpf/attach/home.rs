//! The program on the loopback interface: answers of this node's own backends to clients that these know as a VIP of this
//! node, because another node opened their flows.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::TcAttachType;
use tracing::info;

use super::program::Program;
use super::{Datapath, DatapathError, Device, attach_at, link, tc};

pub(super) const PROGRAM: &str = "xvip_home";

/// The loopback interface, which every network namespace has at this index (`LOOPBACK_IFINDEX`, linux/net_namespace.h).
fn loopback() -> Device {
    Device { name: "lo".to_owned(), index: 1, kind: None }
}

/// Where its link is pinned.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("link-home-lo")
}

impl Datapath {
    /// Whether a backend of this node itself is served by it.
    #[must_use]
    pub fn answers_for_own(&self) -> bool {
        self.leaving.is_some()
    }

    /// Attaches what takes those answers to their clients, or detaches it; nothing is done where that is so already.
    ///
    /// # Errors
    /// When the kernel refuses, with a remedy.
    pub fn answer_at_home(&mut self, wanted: bool) -> Result<(), DatapathError> {
        let (path, device) = (path(&self.directory), loopback());
        // An earlier agent may have had another configuration.
        let holds = self.home.is_some_and(|program| link::holds(&path, program, device.index));
        if wanted == holds && (wanted || !path.exists()) {
            return Ok(());
        }
        if !wanted {
            fs::remove_file(&path).map_err(|source| DatapathError::Io { path, source })?;
            self.home = None;
            info!("what this node says to itself is not looked at any more");
            return Ok(());
        }
        let mut program = Program::Tc(tc(&mut self.ebpf, PROGRAM)?, TcAttachType::Egress);
        attach_at(&mut program, &device, &path)?.map_err(|why| {
            let why = format!("flows of this node's own backends that other nodes opened are met there: {why}");
            DatapathError::Attach { interface: device.name.clone(), why }
        })?;
        self.home = Some(program.id()?);
        info!(
            "flows are shared and a backend is this node itself: its answers to a VIP of this node go to its clients"
        );
        Ok(())
    }
}
