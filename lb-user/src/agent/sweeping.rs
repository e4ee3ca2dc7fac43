//! Goes over the connection tables again and again, on a thread of its own: a full table takes a while.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use crate::bpf::{Sweep, Sweeper};

/// Between two sweeps, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// A sweep that took long is followed by a pause this many times as long.
const SHARE: u32 = 20;

/// The thread. Dropping it ends it after the sweep under way.
pub(super) struct Sweeping {
    latest: watch::Receiver<Arc<Sweep>>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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
                        pause = pause.max(sweep.took * SHARE);
                        found.send_replace(Arc::new(sweep));
                    }
                    Err(error) => warn!("cannot go over the connection tables: {error}"),
                }
            }
        });
        let thread = thread.inspect_err(|error| warn!("connections will not be counted: {error}")).ok();
        Self { latest, stop: Some(stop), thread }
    }

    /// What the last sweep found.
    pub(super) fn latest(&self) -> Arc<Sweep> {
        Arc::clone(&self.latest.borrow())
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the sweep of the connection tables had failed");
        }
    }
}
