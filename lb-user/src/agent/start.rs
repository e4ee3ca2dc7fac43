//! The order in which an agent begins.
//!
//! Configuration, lock, then what an earlier agent has left: a virtual router whose lease lasts is Active at once, one whose
//! lease is over listens, before anything is loaded, which takes about a second of a processor's time, and on a busy host most
//! of a minute. What is pinned serves meanwhile. Then a look at the host, the datapath, its tables, the listeners, and the
//! other virtual routers. Health checks are made ready beside all of this: without them every backend is used, and the agent
//! is not ready.

use super::*;
use crate::admin::Flows;
use crate::bpf::Leases;

/// A fault in the files of health checks shows within this time before anything is loaded, where nothing is held by then.
const FAULTS_SHOW: Duration = Duration::from_secs(1);

impl Agent {
    pub(super) async fn start(file: PathBuf, reload: mpsc::Sender<Order>) -> Result<Self, AgentError> {
        let started = clock::now();
        // An agent before this one may have left a lease that ends within a few adverts.
        let haste = vrrp::Haste::begin();
        let netlink = Netlink::connect()?;
        let loaded = armed(config::load(&file)?)?;
        let (config, text) = (&loaded.config, loaded.text.clone());
        let lock = lock::take(Path::new(RUN_DIR), &config.node.name)?;
        let node = config.node.name.clone();
        let was_here = bpf::is_pinned(&node);
        let metrics = Metrics::new();
        metrics.configure(config);
        let before = Predecessor::found(was_here, lock.is_left());
        metrics.predecessor_ended(before.word());
        match before {
            Predecessor::Died => warn!("the agent before this one died"),
            Predecessor::HandedOver => info!("the agent before this one has handed over"),
            Predecessor::None => {}
        }
        let leases = Leases::pinned(&node);
        leases.configure(&virtual_addresses(config))?;
        let left = vrrp::any_left(&config.vrrp, &leases);
        let continued = match left && was_here {
            true => Some(VrrpDriver::spawn(config.vrrp.clone(), metrics.clone(), leases.clone(), true)?),
            false => None,
        };
        drop(haste);
        let mut vrrp = Routers { leases, continued };
        let begun = Self::begin(file, started, loaded, netlink, metrics, &mut vrrp, reload, lock).await;
        if begun.is_err() {
            // Whoever cannot serve does not hold addresses either.
            if let Some(vrrp) = vrrp.continued {
                vrrp.stop().await;
                if let Err(error) = withdraw(netlink).await {
                    warn!("VIPs may be left behind: {error}");
                }
            }
            // What an earlier agent left goes on serving; what this one has begun does not stay.
            if !was_here {
                let removed = bpf::flush(&node).map_err(|error| error.to_string());
                let restored = ReservedPorts::new(kept_settings(&node, "ip_local_reserved_ports"))
                    .restore()
                    .map_err(|error| error.to_string());
                if let Err(error) = removed.and(restored) {
                    warn!("the host is not quite as it was: {error}");
                }
            }
        }
        begun.map(|mut agent| {
            agent.lock.serves();
            agent.steering.begin_anew(text, agent.config.clone());
            agent
        })
    }

    #[allow(clippy::too_many_arguments, reason = "the second half of a function that has to undo the first")]
    async fn begin(
        file: PathBuf, started: Instant, loaded: Loaded, netlink: Netlink, metrics: Metrics, routers: &mut Routers,
        reload: mpsc::Sender<Order>, lock: LockFile,
    ) -> Result<Self, AgentError> {
        loaded.check_host(&netlink.interfaces().await?.host_facts()).map_err(AgentError::Host)?;
        let config = loaded.config;
        let mut preparing = Preparing::start(&config)?;
        let targets = match routers.continued {
            Some(_) => None,
            None => preparing.within(FAULTS_SHOW).await.transpose()?,
        };
        let monitor = Monitor::subscribe(&Group::ALL)?;
        let device = device(&netlink, &config.node.interface).await?;
        let reserved = ReservedPorts::new(kept_settings(&config.node.name, "ip_local_reserved_ports"));
        reserve(&reserved, &config)?;
        let mut datapath = Datapath::open(spec(&config, device))?;
        let (naming, naming_seen) = watch::channel(Arc::new(Naming::default()));
        let mut flow_logging = FlowLogging::new(naming_seen.clone());
        let mut kernel = Kernel::take(&mut datapath, sizes(&config), &routers.leases, flow_logging.removals())?;
        if let Err(error) = datapath.guard(!config.vrrp.is_empty()) {
            // It serves all the same, and is tried again every second.
            warn!("{error}");
        }

        let reporter = Reporter::default();
        let garp = GarpDriver::spawn(metrics.clone()).map_err(AgentError::Arp)?;
        let observer = HealthObserver { metrics: metrics.clone(), reporter: reporter.clone() };
        let mut peering = Peering::new(config.node.peer_port);
        if let Some(sockets) = peering.open(&config)? {
            peering.listen(sockets).await;
        }
        let mut syncing = Syncing::new();
        syncing.apply(syncing.prepare(&config)?, &config);
        flow_logging.apply(FlowLogging::prepare(&config)?);
        let health = HealthDriver::spawn(Arc::new(observer), Some(peering.asker()));
        let targets = match targets {
            None => preparing.within(Duration::ZERO).await.transpose()?,
            known => known,
        };
        if let Some(targets) = targets {
            health.set_targets(targets);
        }
        let config_status = ConfigStatus {
            file: file.display().to_string(),
            applied_at: unix(clock::wall()),
            reloads: 0,
            reload_failures: 0,
            last_error: None,
            changes: Vec::new(),
        };
        let mut reconciler = Reconciler::new(netlink, Addresses::connect(netlink)?, garp);
        let health_seen = health.subscribe();
        let nobody = VrrpSnapshot::default();
        // Complete tables come before any VIP.
        let snapshots = Snapshots {
            config: &config,
            vrrp: &nobody,
            health: &health_seen.borrow().clone(),
            sweep: &kernel.sweeping.latest(),
            fellows: &peering.fellows(),
        };
        let started_at = clock::unix_of(started);
        reconciler.tables(&snapshots, &mut datapath, &mut kernel.tables, started).await?;
        let mut local = Local::new();
        local.converge(datapath.ebpf(), &config);
        let first = report::status(report::Sources {
            config: &config,
            started_at,
            starting: preparing.is_under_way(),
            config_status: config_status.clone(),
            attachment: Some(datapath.attachment()),
            detached_because: "",
            tables: &kernel.tables,
            capacities: kernel.capacities,
            sweep: &kernel.sweeping.latest(),
            vrrp: &nobody,
            health: &health_seen.borrow(),
            reconciler: &reconciler,
            local: local.status(),
            claims: &Claims::default(),
            sync: syncing.status(),
            events: Vec::new(),
        })?;
        let (status, status_seen) = watch::channel(Arc::new(first));
        let heartbeat = Heartbeat::new(clock::now());
        let desk = Desk::new(reload.clone(), reporter.clone())?;
        desk.configure(Settings::read(&config.metrics)?);
        let sources = Sources {
            exposition: Arc::new(Exposition::new(&metrics, status_seen.clone(), heartbeat.clone())),
            status: status_seen.clone(),
            heartbeat: heartbeat.clone(),
            desk,
        };
        let http = http::listen(config.metrics.listen, sources.clone()).await?;
        let access =
            Access { status: status_seen, orders: reload, events: reporter.clone(), flows: Flows::new(naming_seen) };
        let admin = admin::listen(&config.admin, access.clone()).await?;
        let vrrp = match routers.continued.take() {
            Some(vrrp) => {
                vrrp.reconfigure(config.vrrp.clone());
                vrrp
            }
            None => VrrpDriver::spawn(config.vrrp.clone(), metrics.clone(), routers.leases.clone(), false)?,
        };
        let vrrp_seen = vrrp.subscribe();
        let mut agent = Self {
            file,
            config: Arc::new(config),
            config_status,
            started_at,
            capturing: Capturing::none(),
            datapath: Some(datapath),
            loading: Loading::none(),
            detached_because: String::new(),
            ahead: Vec::new(),
            kernel,
            local,
            peering,
            syncing,
            flow_logging,
            naming,
            reserved,
            netlink,
            monitor,
            reconciler,
            vrrp,
            leases: routers.leases.clone(),
            claims: Claims::default(),
            vrrp_seen,
            vrrp_before: VrrpSnapshot::default(),
            health,
            health_seen,
            preparing,
            metrics,
            reporter,
            status,
            sources,
            http,
            admin,
            access,
            steering: Steering::default(),
            heartbeat,
            address_fault: Fault::none("VIP addresses are"),
            table_fault: Fault::none("the datapath's tables are"),
            datapath_fault: Fault::none("the datapath is"),
            lock,
        };
        agent.pass().await;
        Ok(agent)
    }
}

/// How the agent before this one ended, by what it has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Predecessor {
    /// It stopped and took all back, or there was none since the host was started.
    None,
    /// It left all to this one.
    HandedOver,
    /// It could do neither.
    Died,
}

impl Predecessor {
    fn found(datapath: bool, lock: bool) -> Self {
        match (datapath, lock) {
            (_, true) => Self::Died,
            (true, false) => Self::HandedOver,
            (false, false) => Self::None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::HandedOver => "handed_over",
            Self::Died => "died",
        }
    }
}

/// The virtual routers, as far as they run while the agent begins.
struct Routers {
    leases: Leases,
    /// Those of an earlier agent.
    continued: Option<vrrp::Handle>,
}

/// All virtual addresses of a configuration.
pub(super) fn virtual_addresses(config: &Config) -> BTreeSet<IpAddr> {
    config.vrrp.iter().flat_map(|vrrp| &vrrp.virtual_addresses).map(|net| net.address).collect()
}

/// Removes every VIP of ours.
async fn withdraw(netlink: Netlink) -> Result<(), PassError> {
    let garp =
        GarpDriver::spawn(Metrics::new()).map_err(|source| NetlinkError::Socket { doing: "announce with", source })?;
    Reconciler::new(netlink, Addresses::connect(netlink)?, garp).withdraw().await
}

/// A configuration that can serve on this host.
pub(super) struct Prepared {
    pub(super) config: Config,
    /// What it was read from.
    pub(super) text: String,
}

/// Compares a configuration with the host.
pub(super) async fn prepare(loaded: Loaded, netlink: &Netlink) -> Result<Prepared, AgentError> {
    let loaded = armed(loaded)?;
    loaded.check_host(&netlink.interfaces().await?.host_facts()).map_err(AgentError::Host)?;
    let Loaded { config, text, .. } = loaded;
    Ok(Prepared { config, text })
}

/// Reads the keys of its virtual routers.
fn armed(mut loaded: Loaded) -> Result<Loaded, AgentError> {
    let node = loaded.config.node.name.clone();
    vrrp::arm(&mut loaded.config.vrrp, &node)?;
    Ok(loaded)
}
