//! The datapath is loaded on a thread of its own: virtual addresses that move, and all else that the control loop does, do not
//! wait for the verifier.

use std::future::pending;
use std::io;
use std::time::Duration;

use nix::sys::signal::SigSet;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::bpf::{Datapath, DatapathError, Loaded, Spec};

/// Why there is no other datapath.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// It does not load.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// No thread.
    #[error("cannot start the thread that loads the datapath: {0}")]
    Thread(#[from] io::Error),
    /// The thread died.
    #[error("the thread that loads the datapath has failed")]
    Failed,
}

/// What the thread has made.
pub(super) enum Fresh {
    /// To take the place of the datapath that serves, in one step.
    Loaded(Loaded),
    /// Attached where none was.
    Attached(Datapath),
}

/// A datapath that is being loaded.
pub(super) struct Loading {
    under_way: Option<oneshot::Receiver<Result<Fresh, DatapathError>>>,
}

impl Loading {
    /// None is.
    pub(super) const fn none() -> Self {
        Self { under_way: None }
    }

    /// Whether one is.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins. Where nothing is attached, the thread attaches it too, which may have to wait for the device.
    pub(super) fn start(&mut self, spec: Spec, is_attached: bool) -> Result<(), LoadError> {
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new().name("loading".to_owned()).spawn(move || {
            // The kernel gives a program up that it is looking at when a signal comes, which others can take.
            let _ = SigSet::all().thread_block();
            let outcome = Loaded::load(spec).and_then(|loaded| match is_attached || tell.is_closed() {
                true => Ok(Fresh::Loaded(loaded)),
                false => loaded.attach(None).map(Fresh::Attached),
            });
            // Who asked may want it no more.
            let _ = tell.send(outcome);
        })?;
        self.under_way = Some(told);
        Ok(())
    }

    /// The outcome, once; without one under way, never. May be given up and begun again.
    pub(super) async fn done(&mut self) -> Result<Fresh, LoadError> {
        let Some(told) = &mut self.under_way else { return pending().await };
        let outcome = told.await;
        self.under_way = None;
        Ok(outcome.map_err(|_| LoadError::Failed)??)
    }

    /// Waits for the thread, which may be making pins, for so long at most.
    pub(super) async fn give_up(mut self, limit: Duration) {
        if self.is_under_way() {
            let _ = timeout(limit, self.done()).await;
        }
    }
}
