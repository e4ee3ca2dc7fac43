//! The agent asked again and again to go on showing packets, on a task of its own: it can take its time to answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::{AdminError, Capturing, request_capture};
use crate::clock;

/// For so long the agent goes on to show packets when this command is gone.
const HOLD: Duration = Duration::from_secs(10);
/// How often it is asked to.
const ASK: Duration = Duration::from_secs(3);

/// Asks until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    answers: mpsc::Receiver<Result<Capturing, AdminError>>,
    task: JoinHandle<()>,
}

impl Lease {
    /// Begins. `id` is by what the agent knows who asks again.
    pub(super) fn begin(socket: &Path, id: u64, bytes: u32) -> Self {
        let (tell, answers) = mpsc::channel(1);
        let task = tokio::spawn(keep(socket.to_owned(), id, bytes, tell));
        Self { answers, task }
    }

    /// The next answer; the one that ends it is an error.
    pub(super) async fn answer(&mut self) -> Option<Result<Capturing, AdminError>> {
        self.answers.recv().await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks the agent to show packets no more, where it did.
pub(super) async fn end(socket: &Path, id: u64, bytes: u32) {
    // Where the agent is gone, nothing is shown any more either.
    let _ = request_capture(socket, id, Duration::ZERO, bytes).await;
}

async fn keep(socket: PathBuf, id: u64, bytes: u32, tell: mpsc::Sender<Result<Capturing, AdminError>>) {
    let mut ask = interval(ASK);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut patient_until = None;
    loop {
        ask.tick().await;
        let answer = request_capture(&socket, id, HOLD, bytes).await;
        let now = clock::now();
        let is_over = match &answer {
            Ok(_) => {
                patient_until = Some(now + HOLD);
                false
            }
            // It may be started anew just now, while the datapath goes on.
            Err(AdminError::NoAgent { .. }) if patient_until.is_some_and(|until| now < until) => continue,
            Err(_) => true,
        };
        if tell.send(answer).await.is_err() || is_over {
            return;
        }
    }
}
