//! What the datapath tells, on its way to the control loop.

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::bpf::{Suspicions, Word};

/// How many may wait; the datapath repeats what is still true.
const WAITING: usize = 64;

/// Reads them on a task of its own, which ends with this.
pub(super) struct Suspecting {
    words: mpsc::Receiver<Word>,
    task: Option<JoinHandle<()>>,
}

impl Suspecting {
    pub(super) fn start(suspicions: Suspicions) -> Self {
        let (found, words) = mpsc::channel(WAITING);
        // SAFETY: the ring buffer owns the descriptor that it shows, and shows the same one as long as it lives.
        let suspicions = match unsafe { AsyncFd::register(suspicions) } {
            Ok(suspicions) => suspicions,
            Err(error) => {
                warn!("what the datapath tells will not be heard: {error}");
                return Self { words, task: None };
            }
        };
        let task = tokio::spawn(async move {
            let mut suspicions = suspicions;
            while let Ok(mut ready) = suspicions.readable_mut().await {
                while let Some(word) = ready.get_inner_mut().take_one() {
                    let _ = found.try_send(word);
                }
                ready.clear_ready();
            }
        });
        Self { words, task: Some(task) }
    }

    /// The next word; never where nothing can be heard.
    pub(super) async fn next(&mut self) -> Word {
        match self.words.recv().await {
            Some(word) => word,
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
