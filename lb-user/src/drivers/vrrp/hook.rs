//! Tells a program of every transition: one run at a time, in order.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::track::run;

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Transitions that wait for a slow program; of more, the newest are not told.
const WAITING: usize = 16;

/// A transition, as a program is told of it: environment variables.
pub(super) type Told = Vec<(&'static str, String)>;

/// A program that is told.
pub(super) struct Hook {
    words: Vec<String>,
    tell: mpsc::Sender<Told>,
}

impl Hook {
    /// Runs it on `runtime`: it must not inherit the haste of the thread of virtual routers.
    pub(super) fn start(words: &[String], runtime: &Handle) -> Self {
        let (tell, mut told) = mpsc::channel::<Told>(WAITING);
        let program = words.to_vec();
        runtime.spawn(async move {
            while let Some(transition) = told.recv().await {
                if !run(&program, LIMIT, &transition).await {
                    tracing::warn!("notify: {} failed, or took longer than {LIMIT:?}", program.join(" "));
                }
            }
        });
        Self { words: words.to_vec(), tell }
    }

    pub(super) fn is_of(&self, words: &[String]) -> bool {
        self.words == words
    }

    /// Has it run. Never waits.
    pub(super) fn tell(&self, transition: Told) {
        if self.tell.try_send(transition).is_err() {
            tracing::warn!("notify: {} is behind, and is not told of a transition", self.words.join(" "));
        }
    }
}
