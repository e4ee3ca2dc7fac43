//! Health checks are made ready on a thread of their own: their files are read for as long as a file system likes, and
//! neither a virtual router nor the end of this process waits for that.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::Config;
use crate::direct;
use crate::drivers::health::{Target, TargetError};

/// Why there are no health checks.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// One cannot be carried out.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No thread.
    #[error("cannot start the thread that makes health checks ready: {0}")]
    Thread(#[from] io::Error),
    /// The thread died.
    #[error("the thread that makes health checks ready has failed")]
    Failed,
    /// The files of TLS checks take long to read.
    #[error(
        "reading the files of health checks takes longer than {0:?}: look at ca_file, client_certificate and the like"
    )]
    Slow(Duration),
}

/// Health checks that are being made ready.
pub(super) struct Preparing {
    under_way: Option<oneshot::Receiver<Result<Vec<Target>, TargetError>>>,
}

impl Preparing {
    /// Begins.
    pub(super) fn start(config: &Config) -> Result<Self, PrepareError> {
        let (tell, told) = oneshot::channel();
        let config = config.clone();
        std::thread::Builder::new().name("preparing".to_owned()).spawn(move || {
            // Who asked may want them no more.
            let _ = tell.send(targets(&config));
        })?;
        Ok(Self { under_way: Some(told) })
    }

    /// Nothing is being made ready.
    pub(super) const fn none() -> Self {
        Self { under_way: None }
    }

    /// Whether something is.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The outcome, once; without one under way, never. May be given up and begun again.
    pub(super) async fn done(&mut self) -> Result<Vec<Target>, PrepareError> {
        let Some(told) = &mut self.under_way else { return pending().await };
        let outcome = told.await;
        self.under_way = None;
        Ok(outcome.map_err(|_| PrepareError::Failed)??)
    }

    /// The outcome, if there is one within this time.
    pub(super) async fn within(&mut self, limit: Duration) -> Option<Result<Vec<Target>, PrepareError>> {
        timeout(limit, self.done()).await.ok()
    }
}

fn targets(config: &Config) -> Result<Vec<Target>, TargetError> {
    let mut targets = Vec::new();
    for service in &config.services {
        let asked = direct::asked(config, service);
        targets.extend(Target::of_service(service, None)?.into_iter().map(|target| target.delivering(asked.clone())));
    }
    Ok(targets)
}
