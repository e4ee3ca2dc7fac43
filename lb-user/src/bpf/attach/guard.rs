//! The guard: a small program at the way out, for what this node's own stack says of virtual addresses past their lease.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::TcAttachType;
use tracing::{info, warn};

use super::observe::has_tcx;
use super::program::Program;
use super::{Datapath, DatapathError, Device, attach_at, link, pin_name, tc};

pub(super) const PROGRAM: &str = "xvip_guard";

/// Whether what leaves is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Guard {
    /// Nobody has asked for it.
    #[default]
    Unwanted,
    /// By the program with this number.
    By(u32),
    /// The kernel has no place for it.
    Impossible,
}

impl Datapath {
    /// Attaches the guard, or detaches it; nothing is done where that is so already. Without tcx (Linux before 6.6) there is
    /// none, and a warning says so once.
    ///
    /// # Errors
    /// When the kernel refuses, with a remedy.
    pub fn guard(&mut self, wanted: bool) -> Result<(), DatapathError> {
        let device = &self.attachment.device;
        let path = path(&self.directory, device);
        if !wanted {
            // An earlier agent may have had another configuration.
            if path.exists() {
                fs::remove_file(&path).map_err(|source| DatapathError::Io { path, source })?;
            }
            self.guard = Guard::Unwanted;
            return Ok(());
        }
        match self.guard {
            Guard::Impossible => return Ok(()),
            Guard::By(program) if link::holds(&path, program, device.index) => return Ok(()),
            _ if !has_tcx() => {
                warn!(
                    "the kernel has no tcx (Linux 6.6): a node whose agent is gone answers nobody who asks for a VIP, but what its own stack says of it cannot be stopped"
                );
                self.guard = Guard::Impossible;
                return Ok(());
            }
            _ => {}
        }
        let mut program = Program::Tc(tc(&mut self.ebpf, PROGRAM)?, TcAttachType::Egress);
        attach_at(&mut program, device, &path)?.map_err(|why| {
            let why = format!("what leaves has to be looked at, for the VIPs' sake: {why}");
            DatapathError::Attach { interface: device.name.clone(), why }
        })?;
        self.guard = Guard::By(program.id()?);
        info!(interface = device.name, "what this node says of its VIPs is stopped when their leases are over");
        Ok(())
    }
}

/// Where its link is pinned.
pub(super) fn path(directory: &Path, device: &Device) -> PathBuf {
    directory.join(format!("link-guard-{}", pin_name(&device.name)))
}
