//! Behind the status page: who may log in and what with, who is, and the way to the agent. Shared by all connections; kept
//! when the listener moves.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use tokio::sync::{Semaphore, mpsc};

use super::attempts::{Attempt, Attempts};
use super::history::{History, Pace};
use super::sessions::Sessions;
use super::tls::{self, TlsError};
use crate::admin::{Caller, Order};
use crate::clock;
use crate::config::Metrics;
use crate::events::Reporter;
use crate::passwords::{PasswordError, Passwords};
use crate::status::Status;

/// Everything that pages and their actions need; clones share it.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    orders: mpsc::Sender<Order>,
    reporter: Reporter,
    settings: Mutex<Settings>,
    sessions: Mutex<Sessions>,
    attempts: Mutex<Attempts>,
    history: Mutex<History>,
    /// One at a time: verifying a password takes much memory.
    verifying: Semaphore,
}

/// What the configuration says, with the files it names read.
#[derive(Clone, Default)]
pub struct Settings {
    passwords: Option<Arc<Passwords>>,
    tls: Option<Arc<ServerConfig>>,
}

/// Why the status page cannot be as configured.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// Passwords.
    #[error("metrics.password_file {file}: {source}")]
    Passwords {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: PasswordError,
    },
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing can be kept secret.
    #[error("this system has no random numbers for sessions of the status page")]
    Random,
}

impl Settings {
    /// Reads the files. Blocks while it reads.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn read(metrics: &Metrics) -> Result<Self, DeskError> {
        let passwords = metrics.password_file.as_ref().map(|path| {
            let fault = |source| DeskError::Passwords { file: path.display().to_string(), source };
            Passwords::read(path).map(Arc::new).map_err(fault)
        });
        let tls = metrics.tls.as_ref().map(tls::server);
        Ok(Self { passwords: passwords.transpose()?, tls: tls.transpose()? })
    }
}

impl Desk {
    /// For an agent that takes orders and tells events.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(orders: mpsc::Sender<Order>, reporter: Reporter) -> Result<Self, DeskError> {
        let sessions = Mutex::new(Sessions::new().map_err(|_| DeskError::Random)?);
        Ok(Self(Arc::new(Inner {
            orders,
            reporter,
            settings: Mutex::default(),
            sessions,
            attempts: Mutex::default(),
            history: Mutex::default(),
            verifying: Semaphore::new(1),
        })))
    }

    /// From now on these hold; sessions of those whose password is another now end.
    pub fn configure(&self, settings: Settings) {
        let passwords = settings.passwords.clone().unwrap_or_default();
        *lock(&self.0.settings) = settings;
        self.sessions().keep(|name, proof| passwords.hash_of(name) == Some(proof));
    }

    /// What new connections are encrypted with.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        lock(&self.0.settings).tls.clone()
    }

    /// Whether there are administrators.
    pub(super) fn has_administrators(&self) -> bool {
        lock(&self.0.settings).passwords.is_some()
    }

    /// A status that has just come to be.
    pub(super) fn saw(&self, status: &Arc<Status>) {
        lock(&self.0.history).saw(status, clock::now());
    }

    /// How fast everything goes.
    pub(super) fn pace(&self) -> Pace {
        lock(&self.0.history).pace()
    }

    /// All sessions.
    pub(super) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.0.sessions)
    }

    /// Where orders go.
    pub(super) fn orders(&self) -> &mpsc::Sender<Order> {
        &self.0.orders
    }

    /// Lets somebody in who knows the password: the secret of their session.
    pub(super) async fn log_in(&self, name: String, password: String, from: IpAddr) -> Result<String, Denied> {
        if let Attempt::Refused { is_first } = lock(&self.0.attempts).ask(from, clock::now()) {
            if is_first {
                self.0.reporter.report("status page".to_owned(), format!("too many attempts to log in from {from}"));
            }
            return Err(Denied::TooMany);
        }
        let passwords = lock(&self.0.settings).passwords.clone().ok_or(Denied::Wrong)?;
        let verified = {
            let _turn = self.0.verifying.acquire().await;
            let tried = name.clone();
            let verify = move || passwords.verify(&tried, &password).map(str::to_owned);
            tokio::task::spawn_blocking(verify).await.ok().flatten()
        };
        let Some(proof) = verified else {
            tracing::warn!(%from, "somebody did not get into the status page");
            return Err(Denied::Wrong);
        };
        lock(&self.0.attempts).succeeded(from);
        let secret = self.sessions().open(&name, &proof, from, clock::now()).map_err(|_| Denied::Broken)?;
        self.tell(&Caller::Administrator { name, from }, "logged in");
        Ok(secret)
    }

    /// Ends a session.
    pub(super) fn log_out(&self, secret: &str) {
        let closed = self.sessions().close(secret);
        if let Some(session) = closed {
            self.tell(&session.caller(session.from), "logged out");
        }
    }

    fn tell(&self, caller: &Caller, what: &str) {
        tracing::info!("{caller} {what}");
        self.0.reporter.report("status page".to_owned(), format!("{caller} {what}"));
    }

    /// An order that leaves no other trace of who gave it.
    pub(super) fn audit(&self, subject: String, what: &str, caller: &Caller) {
        tracing::info!("{subject}: {what}: command of {caller}");
        self.0.reporter.changed(subject, "", what, &format!("command of {caller}"));
    }
}

/// Why somebody was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// Name or password.
    Wrong,
    /// They have tried too often.
    TooMany,
    /// No random numbers.
    Broken,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

/// Nothing is left half-done under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
