//! Goes over the connection tables again and again, on a thread of its own: a full table takes a while.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::bpf::{PortLayout, Sweep, Sweeper};

/// Between two sweeps, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// A sweep that took long is followed by a pause this many times as long.
const SHARE: u32 = 20;

/// The thread. Dropping this ends it after the sweep under way, for which nobody waits.
pub(super) struct Sweeping {
    latest: watch::Receiver<Arc<Sweep>>,
    layout: watch::Sender<Arc<PortLayout>>,
    /// Asks for a sweep at once; the thread ends with this.
    now: mpsc::Sender<()>,
}

impl Sweeping {
    pub(super) fn start(mut sweeper: Sweeper) -> Self {
        let (found, latest) = watch::channel(Arc::new(Sweep::default()));
        let (layout, wanted) = watch::channel(Arc::new(PortLayout::default()));
        let (now, asked) = mpsc::channel();
        let thread = thread::Builder::new().name("sweep".to_owned()).spawn(move || {
            let mut pause = Duration::ZERO;
            while let Ok(()) | Err(RecvTimeoutError::Timeout) = asked.recv_timeout(pause) {
                pause = PAUSE;
                let layout = Arc::clone(&wanted.borrow());
                match sweeper.sweep(&layout) {
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
        Self { latest, layout, now }
    }

    /// Which sets of source ports there should be; they are made at once.
    pub(super) fn lay_out(&self, layout: &Arc<PortLayout>) {
        if Arc::ptr_eq(&self.layout.borrow(), layout) {
            return;
        }
        self.layout.send_replace(Arc::clone(layout));
        // Without the thread nothing is counted either, which was said when it did not start.
        let _ = self.now.send(());
    }

    /// What the last sweep found.
    pub(super) fn latest(&self) -> Arc<Sweep> {
        Arc::clone(&self.latest.borrow())
    }
}
