//! The agent's life: start, control loop, reload, stop.
//!
//! Start: configuration, datapath (adopting what is pinned), drivers, listeners, first pass, readiness. Stop:
//! priority-0 adverts, service until the other node has taken over, VIPs, datapath, settings. A crash leaves the kernel
//! side serving.

mod capturing;
mod claims;
mod fault;
mod flow_logging;
mod loading;
mod local;
mod lock;
mod peering;
mod preparing;
mod reload;
mod sharing;
mod start;
mod steering;
mod stop;
mod suspecting;
mod sweeping;
mod syncing;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya_log::EbpfLogger;
use lb_proto::plan::Place;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

use crate::admin::{self, Access, AdminServer, Caller, ClaimError, Order, ReloadRequest, ReloadResult};
use crate::bpf::{
    self, Datapath, DatapathError, Device, Entries, Leases, Removals, Sizes, Spec, Suspicions, Sweeper, TableError,
    Tables, Word,
};
use crate::clock::{self, unix};
use crate::config::{self, Config, Faults, Loaded, Service};
use crate::drivers::garp::GarpDriver;
use crate::drivers::health::{self, HealthDriver, HealthSnapshot, Target};
use crate::drivers::passed;
use crate::drivers::peer::PeerPortError;
use crate::drivers::sync::SyncError;
use crate::drivers::vrrp::{self, AuthError, StartError, VrrpDriver, VrrpSnapshot};
use crate::events::{HealthObserver, Reporter};
use crate::flow_log::FlowLogError;
use crate::heartbeat::Heartbeat;
use crate::http::{self, Desk, DeskError, HttpServer, ListenError, Settings, Sources};
use crate::lock::LockFile;
use crate::metrics::{Exposition, Metrics};
use crate::naming::Naming;
use crate::netlink::{Addresses, Group, Monitor, Netlink, NetlinkError};
use crate::reconcile::{PassError, Reconciler, Snapshots};
use crate::report;
use crate::status::{ConfigStatus, Status};
use crate::sysctl::{AcceptLocal, ReservedPorts, SysctlError};
use capturing::Capturing;
pub use claims::Claims;
use fault::Fault;
use flow_logging::FlowLogging;
use loading::{Fresh, LoadError, Loading};
use local::Local;
pub use lock::LockError;
pub(crate) use peering::NO_BACKEND_HERE;
use peering::Peering;
pub use preparing::PrepareError;
use preparing::Preparing;
use sharing::Sharing;
use start::{Prepared, prepare, virtual_addresses};
use steering::{Steering, told};
use suspecting::Suspecting;
use sweeping::Sweeping;
use syncing::Syncing;

/// How often everything is looked at without being asked.
const PERIOD: Duration = Duration::from_secs(1);
/// Where settings are kept, and the admin socket unless the configuration says otherwise.
const RUN_DIR: &str = "/run/xvip";
/// How soon after news from the kernel everything is looked at.
const LOOK_AFTER: Duration = Duration::from_millis(30);
/// For how much longer the service manager is asked to wait, once a second while health checks are made ready.
const WAIT_LONGER_MICROS: u32 = 60_000_000;
/// An agent that cannot start holds nothing by then, and is started anew at once.
const BEFORE_THE_NEXT_START: Duration = Duration::from_secs(1);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] Faults),
    /// The host lacks what the configuration is about, now.
    #[error(transparent)]
    Host(Faults),
    /// Health checks cannot be carried out.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The datapath.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// Its tables.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The network configuration.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Virtual routers.
    #[error(transparent)]
    Vrrp(#[from] StartError),
    /// The keys of their adverts.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Gratuitous ARP and neighbour advertisements.
    #[error("cannot announce addresses: {0}; the agent needs CAP_NET_RAW")]
    Arp(std::io::Error),
    /// Other nodes cannot ask this one.
    #[error(transparent)]
    PeerPort(#[from] PeerPortError),
    /// Flows cannot be shared.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// Connections cannot be logged.
    #[error(transparent)]
    FlowLog(#[from] FlowLogError),
    /// The metrics listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What the status page needs.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The admin socket.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The control loop.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// A setting of the host.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Signals.
    #[error("cannot handle signals: {0}")]
    Signal(std::io::Error),
    /// Another agent.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A reload asks for something only a restart can do.
    #[error("{key} has changed, which needs a restart: {how}")]
    NeedsRestart {
        /// What has changed.
        key: &'static str,
        /// By which command, and what that costs.
        how: &'static str,
    },
}

impl AgentError {
    /// What `xvip run` exits with: 78 (EX_CONFIG of sysexits.h) where only another file helps, 1 where the next attempt may.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            _ => 1,
        }
    }
}

/// Runs until SIGTERM or SIGINT, which give the VIPs up, or SIGUSR2, which leaves them to the next agent.
///
/// # Errors
/// When the agent cannot start; once it runs, faults are logged and tried again.
pub async fn run(file: PathBuf) -> Result<(), AgentError> {
    let mut hangup = signal(SignalKind::hangup()).map_err(AgentError::Signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signal)?;
    let mut successor = signal(SignalKind::user_defined2()).map_err(AgentError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signal)?;
    let (reload, mut reloads) = mpsc::channel(4);
    let mut agent = Agent::start(file, reload).await?;
    info!(node = agent.config.node.name, "xvip {} serves", env!("CARGO_PKG_VERSION"));
    agent.tell_if_ready();

    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // News of neighbours can come by the thousand, and all of it means one look.
    let mut look_at: Option<Instant> = None;
    loop {
        let look = passed(look_at);
        let mut looked = false;
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = successor.recv() => {
                notify(&[sd_notify::NotifyState::Stopping]);
                agent.hand_over().await;
                return Ok(());
            }
            changed = agent.vrrp_seen.changed() => {
                if changed.is_err() {
                    error!("the VRRP thread has ended; the agent stops, to be started anew");
                    break;
                }
                agent.addresses().await;
            }
            _ = tick.tick() => {
                agent.watch_over_datapath().await;
                agent.watch_over_hooks();
                agent.watch_over_capture(clock::now());
                agent.defend();
                agent.addresses().await;
                looked = true;
            }
            _ = hangup.recv() => {
                // The outcome is in the log and the status.
                let _ = agent.reload("SIGHUP").await;
            }
            Some(order) = reloads.recv() => match order {
                Order::Reload(ReloadRequest { caller, reply }) => {
                    let outcome = agent.reload(&format!("command of {caller}")).await;
                    // What is said to be applied is in the tables, and in the status.
                    agent.pass().await;
                    // Whoever asked may be gone; the outcome is in the log and the status too.
                    let _ = reply.send(outcome);
                }
                Order::StepDown(order, caller) => agent.vrrp.step_down(told(order, caller, agent.reporter.clone())),
                Order::Backend(order) => agent.steer(order).await,
                Order::Capture(order) => agent.capture(order),
            },
            changed = agent.health_seen.changed() => {
                if changed.is_err() {
                    error!("the health driver has ended; the agent stops, to be started anew");
                    break;
                }
            }
            prepared = agent.preparing.done() => {
                if let Err(error) = agent.prepared(prepared) {
                    notify(&[sd_notify::NotifyState::Stopping]);
                    agent.stop().await?;
                    return Err(error);
                }
            }
            loaded = agent.loading.done() => agent.loaded(loaded),
            () = agent.peering.changed() => {}
            word = agent.kernel.suspecting.next() => {
                match word {
                    Word::Suspect(place) => agent.suspect(place),
                    Word::Claimed { address, mac } => agent.claimed(address, mac).await,
                }
                continue;
            }
            () = look => {
                look_at = None;
                agent.reconciler.forget_routes();
                agent.addresses().await;
            }
            () = agent.monitor.changed(), if look_at.is_none() => {
                look_at = Some(clock::now() + LOOK_AFTER);
                continue;
            }
        }
        agent.pass().await;
        // After all that a second asks for was done, by this loop and by the thread that writes the leases.
        if looked && agent.heartbeat.age(clock::now()) < PERIOD {
            notify(match agent.preparing.is_under_way() {
                true => {
                    &[sd_notify::NotifyState::Watchdog, sd_notify::NotifyState::ExtendTimeoutUsec(WAIT_LONGER_MICROS)]
                }
                false => &[sd_notify::NotifyState::Watchdog],
            });
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    agent.stop().await
}

/// Waits where a service manager would start the next agent at once, and would again and again. A signal ends it.
///
/// # Errors
/// When there are no signals.
pub async fn wait_before_the_next_start() -> Result<(), AgentError> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signal)?;
    let mut successor = signal(SignalKind::user_defined2()).map_err(AgentError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signal)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = successor.recv() => {}
        _ = interrupt.recv() => {}
        () = sleep_until((clock::now() + BEFORE_THE_NEXT_START).into()) => {}
    }
    Ok(())
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot tell the service manager: {error}");
    }
}

struct Agent {
    file: PathBuf,
    config: Arc<Config>,
    config_status: ConfigStatus,
    started_at: f64,
    capturing: Capturing,
    datapath: Option<Datapath>,
    loading: Loading,
    detached_because: String,
    /// Programs of others that see packets before ours, as last reported.
    ahead: Vec<String>,
    kernel: Kernel,
    local: Local,
    peering: Peering,
    syncing: Syncing,
    flow_logging: FlowLogging,
    naming: watch::Sender<Arc<Naming>>,
    reserved: ReservedPorts,
    netlink: Netlink,
    monitor: Monitor,
    reconciler: Reconciler,
    vrrp: vrrp::Handle,
    leases: Leases,
    claims: Claims,
    vrrp_seen: watch::Receiver<VrrpSnapshot>,
    vrrp_before: VrrpSnapshot,
    health: health::Handle,
    health_seen: watch::Receiver<HealthSnapshot>,
    preparing: Preparing,
    metrics: Metrics,
    reporter: Reporter,
    status: watch::Sender<Arc<Status>>,
    sources: Sources,
    http: HttpServer,
    admin: AdminServer,
    access: Access,
    steering: Steering,
    heartbeat: Heartbeat,
    address_fault: Fault,
    table_fault: Fault,
    datapath_fault: Fault,
    /// Goes last: nobody may begin before everything else is done.
    lock: LockFile,
}

/// What is held of the loaded datapath.
struct Kernel {
    /// Which tables these are; none where that is not known.
    number: Option<u32>,
    tables: Tables,
    capacities: Entries,
    sweeping: Sweeping,
    suspecting: Suspecting,
    sharing: Sharing,
    log: Option<JoinHandle<()>>,
}

impl Kernel {
    fn take(datapath: &mut Datapath, sizes: Sizes, leases: &Leases, removals: Removals) -> Result<Self, TableError> {
        let (footprint, number) = (datapath.footprint(), datapath.tables());
        let ebpf = datapath.ebpf();
        leases.follow(ebpf)?;
        let log = datapath_log(ebpf);
        let sharing = Sharing::look(ebpf)?;
        let sweeper = Sweeper::take(ebpf, footprint, sizes, removals)?;
        let suspecting = Suspecting::start(Suspicions::take(ebpf)?);
        let tables = Tables::take(ebpf)?;
        let capacities = sweeper.capacities();
        Ok(Self { number, tables, capacities, sweeping: Sweeping::start(sweeper), suspecting, sharing, log })
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.abort();
        }
    }
}

/// Passes what the datapath says on to the log.
fn datapath_log(ebpf: &mut aya::Ebpf) -> Option<JoinHandle<()>> {
    let logger = EbpfLogger::init(ebpf).map_err(|error| error.to_string());
    // SAFETY: the logger owns the ring buffer whose descriptor it shows, and shows the same one as long as it lives.
    let logger = logger.and_then(|logger| unsafe { AsyncFd::register(logger) }.map_err(|error| error.to_string()));
    let logger = match logger {
        Ok(logger) => logger,
        Err(error) => {
            warn!("the datapath's own messages will not be seen: {error}");
            return None;
        }
    };
    Some(tokio::spawn(async move {
        let mut logger = logger;
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }))
}

impl Agent {
    /// Moves VIPs, ahead of everything else.
    async fn addresses(&mut self) {
        let vrrp = self.vrrp_seen.borrow_and_update().clone();
        self.syncing.hold(&self.config, &vrrp);
        let health = self.health_seen.borrow().clone();
        let sweep = self.kernel.sweeping.latest();
        let fellows = self.peering.fellows();
        let snapshots =
            Snapshots { config: &self.config, vrrp: &vrrp, health: &health, sweep: &sweep, fellows: &fellows };
        self.kernel.sharing.gaining(&vrrp);
        let outcome = self.reconciler.addresses(&snapshots).await;
        for instance in &vrrp.instances {
            let before = self.vrrp_before.instance(&instance.name).map(|before| before.state);
            if before != Some(instance.state) {
                let (from, to) = (before.map_or("", |before| before.label()), instance.state.label());
                self.reporter.changed(format!("vrrp {}", instance.name), from, to, &instance.reason);
            }
        }
        self.vrrp_before = vrrp;
        self.address_fault.note(outcome);
    }

    /// Makes the datapath's tables right and publishes the status.
    async fn pass(&mut self) {
        let now = clock::now();
        let vrrp = self.vrrp_seen.borrow().clone();
        let health = self.health_seen.borrow_and_update().clone();
        let sweep = self.kernel.sweeping.latest();
        let fellows = self.peering.fellows();
        // What was written serves on when a later pass fails.
        let mut ready = self.datapath.is_some() && self.peering.is_ready();
        if let Some(datapath) = &mut self.datapath {
            let snapshots =
                Snapshots { config: &self.config, vrrp: &vrrp, health: &health, sweep: &sweep, fellows: &fellows };
            let outcome = self.reconciler.tables(&snapshots, datapath, &mut self.kernel.tables, now).await;
            if self.table_fault.note(outcome) {
                self.kernel.sweeping.lay_out(self.reconciler.port_layout());
                ready = true;
                self.syncing.converge(&self.config, &mut self.kernel.sharing);
                let naming = self.reconciler.naming();
                self.naming.send_if_modified(|known| {
                    let is_new = **known != naming;
                    if is_new {
                        *known = Arc::new(naming);
                    }
                    is_new
                });
                self.flow_logging.converge(&self.config);
                self.kernel.sharing.converge(datapath, kept_settings(&self.config.node.name, AcceptLocal::NAME));
                self.vrrp.set_can_forward(true);
            }
        }
        self.peering.serve(&self.config, self.reconciler.service_of_others(), ready);
        let status = report::status(report::Sources {
            config: &self.config,
            started_at: self.started_at,
            starting: self.preparing.is_under_way(),
            config_status: ConfigStatus { changes: self.steering.changes(&self.config), ..self.config_status.clone() },
            attachment: self.datapath.as_ref().map(Datapath::attachment),
            detached_because: &self.detached_because,
            tables: &self.kernel.tables,
            capacities: self.kernel.capacities,
            sweep: &sweep,
            vrrp: &vrrp,
            health: &health,
            reconciler: &self.reconciler,
            local: self.local.status(),
            claims: &self.claims,
            sync: self.syncing.status(),
            events: self.reporter.newest(report::EVENTS),
        });
        match status {
            Ok(status) => {
                self.status.send_replace(Arc::new(status));
            }
            Err(error) => {
                self.table_fault.note(Err(error));
            }
        }
        let now = clock::now();
        if self.vrrp.is_alive(now) {
            self.heartbeat.beat(now);
        }
    }

    /// Begins with the health checks of the start.
    fn prepared(&mut self, outcome: Result<Vec<Target>, PrepareError>) -> Result<(), AgentError> {
        self.health.set_targets(outcome?);
        self.tell_if_ready();
        Ok(())
    }

    fn tell_if_ready(&self) {
        if !self.preparing.is_under_way() {
            notify(&[sd_notify::NotifyState::Ready]);
        }
    }

    /// Has a backend checked at once that the datapath finds silent: only checks take it down.
    fn suspect(&self, place: Place) {
        if let Some((service, backend)) = self.reconciler.backend_at(place) {
            self.health.suspect(service, backend);
        }
    }

    /// Sees to it that the program is attached to the interface there is now.
    async fn watch_over_datapath(&mut self) {
        let name = self.config.node.interface.clone();
        let found = match device(&self.netlink, &name).await {
            Ok(device) => Some(device),
            // Not to know is not to have lost it.
            Err(AgentError::Netlink(error)) => {
                warn!("cannot look at {name}: {error}");
                return;
            }
            Err(_) => None,
        };
        let lost = match (&self.datapath, &found) {
            (_, None) => Some(format!("there is no interface {name}")),
            (Some(datapath), Some(device)) if datapath.attachment().device.index != device.index => {
                Some(format!("{name} has been made anew"))
            }
            (Some(datapath), Some(_)) if !datapath.is_attached() => Some(format!("the program on {name} is gone")),
            (Some(_), Some(_)) => None,
            (None, Some(_)) => Some(self.detached_because.clone()),
        };
        let Some(why) = lost else {
            let guarded = match &mut self.datapath {
                Some(datapath) => datapath.guard(!self.config.vrrp.is_empty()),
                None => Ok(()),
            };
            self.datapath_fault.note(guarded);
            self.look_ahead();
            return;
        };
        self.vrrp.set_can_forward(false);
        if self.datapath.take().is_some() {
            // Attaching takes a while; VIPs have to go first.
            self.detached(why);
        } else if let Some(device) = found {
            self.attach_again(device);
        } else {
            self.detached(why);
        }
    }

    /// Sees to it that this node's own clients are served.
    fn watch_over_hooks(&mut self) {
        let Some(datapath) = &mut self.datapath else {
            return;
        };
        if let Some(text) = self.local.converge(datapath.ebpf(), &self.config) {
            self.reporter.report("local clients".to_owned(), text);
        }
    }

    /// Tells of programs that others have put in front of ours: what they take, it does not see.
    fn look_ahead(&mut self) {
        let ahead = self.datapath.as_ref().map(Datapath::ahead).unwrap_or_default();
        if ahead == self.ahead {
            return;
        }
        let text = if ahead.is_empty() {
            "no other program sees packets before it any more".to_owned()
        } else {
            format!(
                "other programs see packets before it: {} (see `bpftool net`); what they take does not reach it",
                ahead.join(", ")
            )
        };
        warn!("datapath: {text}");
        self.reporter.report("datapath".to_owned(), text);
        self.ahead = ahead;
    }

    /// Begins to, unless that is under way.
    fn attach_again(&mut self, device: Device) {
        if self.loading.is_under_way() {
            return;
        }
        let spec = self.spec(device);
        if let Err(error) = self.loading.start(spec, false) {
            self.detached(error.to_string());
        }
    }

    /// Goes on with what has been loaded.
    fn loaded(&mut self, outcome: Result<Fresh, LoadError>) {
        match outcome {
            Ok(Fresh::Loaded(loaded)) => self.exchange(Ok(loaded)),
            Ok(Fresh::Attached(datapath)) => {
                let text = format!("attached again: {}", datapath.attachment().reason);
                match self.serve_by(datapath) {
                    Ok(()) => {
                        self.reporter.report("datapath".to_owned(), text);
                        self.detached_because.clear();
                    }
                    Err(error) => self.detached(error.to_string()),
                }
            }
            Err(error) if self.datapath.is_none() => self.detached(error.to_string()),
            Err(error) => self.exchange(Err(error)),
        }
    }

    /// What to load for a device.
    fn spec(&self, device: Device) -> Spec {
        Spec { capture: self.capturing.bytes(), ..spec(&self.config, device) }
    }

    /// Goes on with a datapath that is attached.
    fn serve_by(&mut self, mut datapath: Datapath) -> Result<(), AgentError> {
        let removals = self.flow_logging.removals();
        let mut kernel = Kernel::take(&mut datapath, sizes(&self.config), &self.leases, removals)?;
        if kernel.number.is_some() && kernel.number == self.kernel.number {
            kernel.sharing.go_on(&self.kernel.sharing);
        } else {
            self.syncing.forget();
            self.flow_logging.forget();
        }
        self.kernel = kernel;
        self.datapath = Some(datapath);
        self.local.forget();
        Ok(())
    }

    fn detached(&mut self, why: String) {
        if self.detached_because != why {
            self.reporter.report("datapath".to_owned(), format!("not attached: {why}"));
        }
        self.datapath_fault.note(Err(&why));
        self.detached_because = why;
    }
}

async fn device(netlink: &Netlink, name: &str) -> Result<Device, AgentError> {
    let interfaces = netlink.interfaces().await?;
    let link = interfaces.link(name).ok_or_else(|| DatapathError::Attach {
        interface: name.to_owned(),
        why: "there is no such interface now".to_owned(),
    })?;
    Ok(Device { name: link.name.clone(), index: link.index, kind: link.kind.clone() })
}

fn spec(config: &Config, device: Device) -> Spec {
    Spec {
        node: config.node.name.clone(),
        device,
        datapath: config.node.datapath,
        sizes: sizes(config),
        log_flows: tracing::enabled!(tracing::Level::DEBUG),
        capture: 0,
    }
}

fn sizes(config: &Config) -> Sizes {
    Sizes { max_flows: config.node.max_flows, max_half_open: config.node.max_half_open }
}

fn reserve(reserved: &ReservedPorts, config: &Config) -> Result<(), SysctlError> {
    if let Some(ports) = reserved.reserve(&config.node.source_ports)? {
        info!("net.ipv4.ip_local_reserved_ports is {ports} while the agent runs");
    }
    Ok(())
}

/// Where the host's settings from before are kept.
fn kept_settings(node: &str, setting: &str) -> PathBuf {
    Path::new(RUN_DIR).join(format!("{node}.{setting}"))
}
