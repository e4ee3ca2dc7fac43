//! Goes over the connection tables again and again, on a thread of its own: a full table takes a while.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::bpf::{Sweep, Sweeper};

/// Between two sweeps, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// A sweep that took long is followed by a pause this many times as long.
const SHARE: u32 = 20;

/// The thread. Dropping this ends it after the sweep under way, for which nobody waits.
pub(super) struct Sweeping {
    latest: watch::Receiver<Arc<Sweep>>,
    _stop: mpsc::Sender<()>,
}

impl Sweeping {
    pub(super) fn start(mut sweeper: Sweeper) -> Self {
        let (found, latest) = watch::channel(Arc::new(Sweep::default()));
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("sweep".to_owned()).spawn(move || {
            let mut pause = Duration::ZERO;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                pause = PAUSE;
                match sweeper.sweep() {
                    Ok(sweep) => {
                        if sweep.ended > 0 {
                            info!(connections = sweep.ended, "clients of backends that are gone were sent a RST");
                        }
                        pause = pause.max(sweep.took * SHARE);
                        found.send_replace(Arc::new(sweep));
                    }
                    Err(error) => warn!("cannot go over the connection tables: {error}"),
                }
            }
        });
        if let Err(error) = thread {
            warn!("connections will not be counted: {error}");
        }
        Self { latest, _stop: stop }
    }

    /// What the last sweep found.
    pub(super) fn latest(&self) -> Arc<Sweep> {
        Arc::clone(&self.latest.borrow())
    }
}
