//! Faults that last: told when they come, when they change and when they are over.

use tracing::{error, info};

/// What cannot be done at the moment, logged when it appears, when it changes and when it is over.
#[derive(Debug)]
pub(super) struct Fault {
    what: &'static str,
    now: Option<String>,
}

impl Fault {
    pub(super) const fn none(what: &'static str) -> Self {
        Self { what, now: None }
    }

    /// Takes in an outcome; returns whether it was a success.
    pub(super) fn note<E: std::fmt::Display>(&mut self, outcome: Result<(), E>) -> bool {
        match outcome {
            Ok(()) => {
                if self.now.take().is_some() {
                    info!("{} again as it should be", self.what);
                }
                true
            }
            Err(error) => {
                let text = error.to_string();
                if self.now.as_ref() != Some(&text) {
                    error!("{} not as it should be, trying on: {text}", self.what);
                    self.now = Some(text);
                }
                false
            }
        }
    }
}
