//! Behind the status page: who may log in and what with, who is, and the way to the agent. Shared by all connections; kept
//! when the listener moves.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::mpsc;

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
use crate::turns::Turns;

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
    /// Verifying a password takes much memory.
    verifying: Turns,
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
            verifying: Turns::default(),
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
        if let Attempt::Refused { tell } = lock(&self.0.attempts).ask(from, clock::now()) {
            if let Some(refused) = tell {
                let text = format!("too many attempts to log in: {refused} refused, the last from {from}");
                self.0.reporter.report("status page".to_owned(), text);
            }
            return Err(Denied::TooMany);
        }
        let verify = {
            let (desk, name) = (self.clone(), name.clone());
            // Those of now: a reload may have come while this one waited.
            move || {
                let passwords = lock(&desk.0.settings).passwords.clone()?;
                passwords.verify(&name, &password).map(str::to_owned)
            }
        };
        let proof = self.0.verifying.take(|_| Duration::ZERO, verify).await.flatten();
        let secret = match proof {
            Some(proof) => self.open(&name, &proof, from),
            None => Err(Denied::Wrong),
        };
        let secret = secret.inspect_err(|_| tracing::warn!(%from, "somebody did not get into the status page"))?;
        lock(&self.0.attempts).succeeded(from);
        self.tell(&Caller::Administrator { name, from }, "logged in");
        Ok(secret)
    }

    /// Begins the session of who has proved to know a password, if it is theirs still: a reload may have come meanwhile.
    fn open(&self, name: &str, proof: &str, from: IpAddr) -> Result<String, Denied> {
        // Held until there is a session that the next reload can end.
        let settings = lock(&self.0.settings);
        if settings.passwords.as_ref().and_then(|passwords| passwords.hash_of(name)) != Some(proof) {
            return Err(Denied::Wrong);
        }
        self.sessions().open(name, proof, from, clock::now()).map_err(|_| Denied::Broken)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passwords;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Settings in which alice has this line.
    fn alice(line: &str) -> Settings {
        Settings { passwords: Some(Arc::new(Passwords::parse(line).unwrap())), tls: None }
    }

    #[tokio::test]
    async fn a_login_does_not_outlive_the_line_that_it_fitted() {
        let desk = Desk::new(mpsc::channel(1).0, Reporter::default()).unwrap();
        let lines = [(); 2].map(|()| passwords::line("alice", "correct horse").unwrap());
        let old = lines[0].split_once(':').unwrap().1;
        desk.configure(alice(&lines[0]));
        let secret = desk.open("alice", old, HERE).unwrap();
        desk.configure(alice(&lines[1]));
        assert!(desk.sessions().find(&secret, clock::now()).is_none());
        // Verified before the reload, and let in after it.
        assert_eq!(desk.open("alice", old, HERE), Err(Denied::Wrong));
        assert_eq!(desk.open("bob", old, HERE), Err(Denied::Wrong));
        desk.configure(Settings::default());
        assert_eq!(desk.open("alice", old, HERE), Err(Denied::Wrong));

        // Who waits for others is judged by what holds when it is their turn.
        desk.configure(alice(&lines[0]));
        let ((begin, begun), (end, ended)) = (tokio::sync::oneshot::channel(), std::sync::mpsc::channel::<()>());
        let turns = desk.0.verifying.clone();
        let work = move || begin.send(()).is_ok() && ended.recv().is_err();
        let others = tokio::spawn(async move { turns.take(|_| Duration::ZERO, work).await });
        begun.await.unwrap();
        let login = async {
            let log_in = desk.log_in("alice".to_owned(), "correct horse".to_owned(), HERE);
            let reload = async {
                // The login waits by now: both are polled in turn, and it comes first.
                desk.configure(alice(&passwords::line("alice", "another one").unwrap()));
                drop(end);
            };
            tokio::join!(biased; log_in, reload).0
        };
        assert_eq!(login.await, Err(Denied::Wrong));
        assert_eq!(others.await.unwrap(), Some(true));
    }
}
