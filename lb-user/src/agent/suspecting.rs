//! The datapath's suspicions on their way to the health checks.

use lb_proto::plan::Place;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::bpf::Suspicions;

/// How many may wait; the datapath repeats what is still true.
const WAITING: usize = 64;

/// Reads them on a task of its own, which ends with this.
pub(super) struct Suspecting {
    places: mpsc::Receiver<Place>,
    task: Option<JoinHandle<()>>,
}

impl Suspecting {
    pub(super) fn start(suspicions: Suspicions) -> Self {
        let (found, places) = mpsc::channel(WAITING);
        // SAFETY: the ring buffer owns the descriptor that it shows, and shows the same one as long as it lives.
        let suspicions = match unsafe { AsyncFd::register(suspicions) } {
            Ok(suspicions) => suspicions,
            Err(error) => {
                warn!("the datapath's suspicions will not be heard: {error}");
                return Self { places, task: None };
            }
        };
        let task = tokio::spawn(async move {
            let mut suspicions = suspicions;
            while let Ok(mut ready) = suspicions.readable_mut().await {
                while let Some(place) = ready.get_inner_mut().take_one() {
                    let _ = found.try_send(place);
                }
                ready.clear_ready();
            }
        });
        Self { places, task: Some(task) }
    }

    /// The next place of a backend that may be dead; never where nothing can be heard.
    pub(super) async fn next(&mut self) -> Place {
        match self.places.recv().await {
            Some(place) => place,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Suspecting {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
