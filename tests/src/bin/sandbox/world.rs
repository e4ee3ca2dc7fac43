//! The small world of the sandbox: one segment, a client, two balancers, three API servers, and what can be done to them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xvip_tests::agent::{Agent, Asker};
use xvip_tests::apiserver::ApiServer;
use xvip_tests::client::{Client, Options};
use xvip_tests::netns::Netns;
use xvip_tests::run::Run;
use xvip_tests::status::Status;
use xvip_tests::topology::{self, Topology};
pub(crate) use xvip_tests::topology::{BALANCERS, SERVERS, VIP};
use xvip_tests::wire::{Lan, Port};

use crate::stop;

/// How often the balancers are asked how they are.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long the world may take to come up: two agents, an election, two rounds of checks.
const UP_LIMIT: Duration = Duration::from_secs(40);

/// How the world is made.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The agent.
    pub(crate) xvip: &'a Path,
    /// The sandbox's own binary, for the API servers.
    pub(crate) sandbox: &'a Path,
    /// `vrrp.advert_interval`
    pub(crate) advert_interval: &'a str,
}

/// Everything that runs; ends in the order of its fields.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) balancers: Vec<Balancer>,
    pub(crate) servers: Vec<ApiServer>,
    client_netns: Netns,
    ca_file: String,
    xvip: String,
    _lan: Lan,
    run: Arc<Run>,
}

/// A balancer: its agent, its wire, and what was done to it.
pub(crate) struct Balancer {
    watcher: Watcher,
    agent: Agent,
    port: Port,
    frozen: bool,
    cut: bool,
}

impl World {
    /// Builds the world and waits until it serves.
    pub(crate) fn up(run: &Arc<Run>, plan: &Plan<'_>) -> Result<World> {
        let advert = format!("\nadvert_interval = \"{}\"", plan.advert_interval);
        let sync = format!("\n{}\n[admin]", topology::sharing(run.dir())?);
        let changes = [("\nadvert_interval = \"100ms\"", advert.as_str()), ("\n[admin]", sync.as_str())];
        let topology = topology::Plan { xvip: plan.xvip, sandbox: plan.sandbox, balancers: 2, changes: &changes };
        let topology = Topology::build(run, &topology)?;
        let Topology { balancers, mut servers, client: client_netns, authority, lan, .. } = topology;
        let mut balancers: Vec<Balancer> = balancers
            .into_iter()
            .map(|topology::Balancer { mut agent, port }| {
                agent.start()?;
                let watcher = Watcher::start(agent.asker());
                Ok(Balancer { watcher, agent, port, frozen: false, cut: false })
            })
            .collect::<Result<_>>()?;
        wait_until_serving(&mut balancers, &mut servers)?;
        let client = Client::start(&client_netns, Options::https(Topology::vip(), authority.ca_file()))?;
        let ca_file = authority.ca_file().display().to_string();
        let xvip = plan.xvip.display().to_string();
        Ok(World { client, balancers, servers, client_netns, ca_file, xvip, _lan: lan, run: run.clone() })
    }

    /// Commands to try from another terminal.
    pub(crate) fn commands(&self) -> [String; 2] {
        let ask = format!(
            "nsenter --net={} curl --cacert {} https://{VIP}/whoami",
            self.client_netns.path().display(),
            self.ca_file
        );
        let status = format!("{} status --socket {}", self.xvip, self.run.dir().join("lb1.sock").display());
        [ask, status]
    }

    /// Which balancer says that it holds the VIP; the first when both do.
    pub(crate) fn holder(&self) -> Option<usize> {
        self.balancers.iter().position(|balancer| balancer.status().is_some_and(|status| status.is_active()))
    }

    /// Why the world is not in its best state: one balancer active, the other its backup, every API server up.
    pub(crate) fn unsettled(&mut self) -> Option<String> {
        unsettled(&mut self.balancers, &mut self.servers)
    }

    /// Copies the logs of all processes and the configuration files into `to`.
    pub(crate) fn copy_logs(run: &Run, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(run.dir())?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log" || extension == "toml") {
                std::fs::copy(&path, to.join(entry.file_name()))
                    .with_context(|| format!("copying {}", path.display()))?;
            }
        }
        Ok(())
    }
}

impl Drop for World {
    /// Stops the agents as their users would, so that they can put everything back; the fields do the rest.
    fn drop(&mut self) {
        for balancer in &mut self.balancers {
            let _ = balancer.terminate();
        }
        for balancer in &mut self.balancers {
            let _ = balancer.agent.stop(Duration::from_secs(5));
        }
    }
}

impl Balancer {
    /// `lb1` or `lb2`.
    pub(crate) fn name(&self) -> &str {
        self.agent.name()
    }

    /// What it last said of itself; `None` when it does not answer.
    pub(crate) fn status(&self) -> Option<Status> {
        self.watcher.status()
    }

    /// Whether its process runs, frozen or not.
    pub(crate) fn is_running(&mut self) -> bool {
        self.agent.is_running()
    }

    /// Stopped by SIGSTOP.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Its wire is cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Starts the agent.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.frozen = false;
        self.agent.start()
    }

    /// SIGKILL.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        self.frozen = false;
        self.agent.kill9()
    }

    /// SIGTERM, not waited for.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.set_frozen(false)?;
        self.agent.terminate()
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn set_frozen(&mut self, frozen: bool) -> Result<()> {
        self.frozen = frozen;
        if frozen { self.agent.freeze() } else { self.agent.thaw() }
    }

    /// Cuts or mends the wire.
    pub(crate) fn set_cut(&mut self, cut: bool) -> Result<()> {
        self.cut = cut;
        if cut { self.port.cut() } else { self.port.mend() }
    }
}

fn wait_until_serving(balancers: &mut [Balancer], servers: &mut [ApiServer]) -> Result<()> {
    let start = Instant::now();
    while let Some(mut why) = unsettled(balancers, servers) {
        if stop::asked() {
            bail!("stopped before the control plane was up");
        }
        let mut hopeless = start.elapsed() > UP_LIMIT;
        for balancer in balancers.iter_mut() {
            if !balancer.is_running() {
                why = format!("the agent of {} has ended", balancer.name());
                hopeless = true;
            }
        }
        if hopeless {
            let logs = balancers.iter().map(|b| (b.name(), b.agent.log_tail(15)));
            let logs = logs.chain(servers.iter().map(|server| (server.name(), server.log_tail(5))));
            let logs: Vec<String> =
                logs.filter(|(_, log)| !log.is_empty()).map(|(name, log)| format!("-- {name} --\n{log}")).collect();
            bail!("the control plane did not come up: {why}\n{}", logs.join("\n"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn unsettled(balancers: &mut [Balancer], servers: &mut [ApiServer]) -> Option<String> {
    for server in servers.iter_mut() {
        if !server.is_running() {
            return Some(format!("{} is not running", server.name()));
        }
    }
    topology::unsettled(balancers.iter().map(|balancer| (balancer.name(), balancer.status())))
}

/// Asks one agent over and over, so that nobody else has to wait for an answer.
struct Watcher {
    last: Arc<Mutex<Option<Status>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    fn start(asker: Asker) -> Watcher {
        let last = Arc::new(Mutex::new(None));
        let stop = Arc::new(AtomicBool::new(false));
        let (to, end) = (last.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut unanswered = 0;
            while !end.load(Ordering::Relaxed) {
                let status = asker.ask().ok();
                unanswered = if status.is_some() { 0 } else { unanswered + 1 };
                // On a busy machine one answer may be late.
                if unanswered != 1 {
                    *to.lock().unwrap_or_else(PoisonError::into_inner) = status;
                }
                thread::sleep(ASK_EVERY);
            }
        });
        Watcher { last, stop, thread: Some(thread) }
    }

    fn status(&self) -> Option<Status> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
