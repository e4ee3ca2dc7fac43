//! Runs the virtual routers of this node on a thread of their own, so that nothing else in the agent can delay an advert.
//!
//! ```text
//!  reconfigure, set_can_forward ──watch──┐
//!                                        v
//!  netlink ──> lookout ──watch──> router per [[vrrp]] ──watch──> VrrpSnapshot
//!                                        │ ^
//!                                        v │
//!                                    sock::vrrp
//! ```
//! Everything that may wait for the kernel's network lock (listing, opening and closing sockets) happens on still other threads.
//! Addresses and announcing them are somebody else's work: a router only says what it is.

mod auth;
mod config;
mod haste;
mod hook;
mod lookout;
mod occupant;
mod right;
mod router;
mod seat;
mod steering;
mod track;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use lb_proto::family::Family;
use lb_proto::units::Priority;
use lb_proto::vrrp::{State, Why};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};

pub use self::auth::{AuthError, arm, keys};
use self::config::Order;
pub use self::haste::Haste;
use self::right::Right;
use self::router::{Router, Steer};
use self::seat::Seats;
pub use self::steering::{Outcome, StepDown};
use crate::bpf::Leases;
use crate::config::{IpNet, Vrrp};
use crate::metrics::Metrics;
use crate::netlink::{Interfaces, Netlink, NetlinkError};

/// The virtual routers of this node at one moment, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VrrpSnapshot {
    /// All of them.
    pub instances: Vec<InstanceSnapshot>,
}

impl VrrpSnapshot {
    /// The virtual router of this name.
    #[must_use]
    pub fn instance(&self, name: &str) -> Option<&InstanceSnapshot> {
        self.instances.iter().find(|instance| instance.name == name)
    }

    fn put(&mut self, new: InstanceSnapshot) -> bool {
        match self.instances.iter_mut().find(|old| old.key() == new.key()) {
            Some(old) if *old == new => return false,
            Some(old) => *old = new,
            None => self.instances.push(new),
        }
        true
    }
}

/// A virtual router at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceSnapshot {
    /// `vrrp.name`
    pub name: String,
    /// `vrrp.interface`
    pub interface: String,
    /// `vrrp.virtual_router_id`
    pub vrid: u8,
    /// `vrrp.priority`, after what it tracks and its sync group had their say.
    pub priority: u8,
    /// The `vrrp_sync_group` it is a member of.
    pub sync_group: Option<String>,
    /// Where it stands; the addresses belong on the interface while it is Active.
    pub state: State,
    /// Why it stands there.
    pub why: Why,
    /// The same in words, with the details.
    pub reason: String,
    /// When it came there.
    pub since: Instant,
    /// `vrrp.virtual_addresses`
    pub virtual_addresses: Vec<IpNet>,
    /// Grows whenever the addresses of an Active router must be announced to the neighbours. No two announcements of a driver
    /// have the same number, so one that starts anew under its old name is not mistaken for what it was.
    pub announce: u64,
    /// As Backup, the Active router as last heard.
    pub active_router: Option<IpAddr>,
    /// No longer Active since a moment ago: the addresses stay for another, but are announced no more.
    pub lingers: bool,
}

impl InstanceSnapshot {
    /// Whether its addresses belong on the interface.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.state == State::Active || self.lingers
    }

    fn key(&self) -> Key<'_> {
        let family = self.virtual_addresses.first().map_or(Family::V4, |net| net.family());
        (&self.name, &self.interface, self.vrid, family)
    }
}

/// What makes a virtual router the same one after a reload: name, interface, VRID, family.
type Key<'a> = (&'a str, &'a str, u8, Family);

fn key(vrrp: &Vrrp) -> Key<'_> {
    (&vrrp.name, &vrrp.interface, vrrp.virtual_router_id.get(), vrrp.family())
}

/// Whether an agent before this one has left any of these virtual routers to be gone on with.
#[must_use]
pub fn any_left(configs: &[Vrrp], leases: &Leases) -> bool {
    configs.iter().any(|vrrp| is_left(vrrp, leases))
}

/// Whether it is, or another of its sync group, without which it could not be gone on with.
fn is_left_with_group(vrrp: &Vrrp, configs: &[Vrrp], leases: &Leases) -> bool {
    let others = configs.iter().filter(|other| vrrp.sync_group.is_some() && other.sync_group == vrrp.sync_group);
    is_left(vrrp, leases) || others.into_iter().any(|other| is_left(other, leases))
}

/// Whether its lease lasts. One that is over is taken up again where that disturbs nobody: not from a living router, whose
/// flows this node does not know yet.
fn is_left(vrrp: &Vrrp, leases: &Leases) -> bool {
    let right = Right::new(leases.clone(), vrrp, Arc::default());
    let disturbs = vrrp.preempt || vrrp.priority == Priority::OWNER.get();
    right.lasts() || (right.was_held() && !disturbs)
}

/// Why the driver could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread, or no runtime for it.
    #[error("cannot start the VRRP thread: {0}")]
    Thread(#[from] io::Error),
    /// The network configuration cannot be asked for.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The running driver. Dropping it stops the routers as [`Self::stop`] does, without waiting.
#[derive(Debug)]
pub struct Handle {
    configs: watch::Sender<Wanted>,
    can_forward: watch::Sender<bool>,
    hands_over: Arc<AtomicBool>,
    steering: mpsc::UnboundedSender<StepDown>,
    snapshot: watch::Receiver<VrrpSnapshot>,
    ended: oneshot::Receiver<()>,
}

impl Handle {
    /// Replaces the virtual routers. One whose name, interface, VRID and family stay goes on, and stays Active if it is; one that is
    /// gone releases its addresses; a new one starts as Backup.
    pub fn reconfigure(&self, configs: Vec<Vrrp>) {
        self.configs.send_replace(Wanted { configs, only_left: false });
    }

    /// Whether this node can forward what the addresses attract; true at first. When it cannot, all routers are in fault, and
    /// an Active one releases its addresses at once.
    pub fn set_can_forward(&self, can_forward: bool) {
        self.can_forward.send_if_modified(|old| std::mem::replace(old, can_forward) != can_forward);
    }

    /// The state of all routers, woken at every change. A receiver that is told that the sender is gone will hear no more: the
    /// driver has stopped.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<VrrpSnapshot> {
        self.snapshot.clone()
    }

    /// Has addresses handed over to other nodes; the outcome goes to whoever asks.
    pub fn step_down(&self, order: StepDown) {
        // Without a driver nobody will answer, which says enough.
        let _ = self.steering.send(order);
    }

    /// Stops all routers. Every Active one tells its peers at once that it releases its addresses, and ends when another has
    /// them or [`lb_proto::vrrp::Config::handover_bound`] has passed. What is left is the caller's to remove then.
    pub async fn stop(self) {
        self.end().await;
    }

    /// Ends all routers without a word of leaving: Active ones advertise once more, and their leases stay as they are for the
    /// next agent to continue with.
    pub async fn hand_over(self) {
        self.hands_over.store(true, Ordering::Relaxed);
        self.end().await;
    }

    async fn end(self) {
        let Self { configs, ended, .. } = self;
        drop(configs);
        // An error means that the thread is gone, which is what was asked for.
        let _ = ended.await;
    }
}

/// What is to run.
#[derive(Debug, Clone)]
struct Wanted {
    configs: Vec<Vrrp>,
    /// Only those that an agent before this one has left.
    only_left: bool,
}

/// Running virtual routers.
pub struct VrrpDriver {
    leases: Leases,
    hands_over: Arc<AtomicBool>,
    metrics: Metrics,
    can_forward: watch::Receiver<bool>,
    steering: mpsc::UnboundedReceiver<StepDown>,
    interfaces: watch::Receiver<Option<Arc<Interfaces>>>,
    snapshot: Arc<watch::Sender<VrrpSnapshot>>,
    announcements: Arc<AtomicU64>,
    elsewhere: tokio::runtime::Handle,
    routers: Vec<Running>,
    seats: Seats,
    tasks: JoinSet<()>,
}

/// A router's task, and what it was last told.
struct Running {
    order: Order,
    desired: watch::Sender<Order>,
    steer: mpsc::UnboundedSender<Steer>,
    task: Id,
}

impl VrrpDriver {
    /// Starts the thread, with these virtual routers. The datapath is attached by then: they may become Active after
    /// the shortest wait, and one whose lease lasts, from an earlier agent, is Active at once. `only_left`: only those
    /// that an earlier agent left start, the others with [`Handle::reconfigure`]. What they are told to run runs on the runtime that this is called on,
    /// which it needs.
    ///
    /// # Errors
    /// No thread, no runtime, no netlink.
    pub fn spawn(configs: Vec<Vrrp>, metrics: Metrics, leases: Leases, only_left: bool) -> Result<Handle, StartError> {
        let netlink = Netlink::connect()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (configs, desired) = watch::channel(Wanted { configs, only_left });
        let hands_over = Arc::new(AtomicBool::new(false));
        let (can_forward, can_forward_now) = watch::channel(true);
        let (steering, steered) = mpsc::unbounded_channel();
        let (snapshot, published) = watch::channel(VrrpSnapshot::default());
        let (ending, ended) = oneshot::channel();
        let (seen, interfaces) = watch::channel(None);
        let driver = Self {
            leases,
            hands_over: Arc::clone(&hands_over),
            metrics,
            can_forward: can_forward_now,
            steering: steered,
            interfaces,
            snapshot: Arc::new(snapshot),
            announcements: Arc::default(),
            elsewhere: tokio::runtime::Handle::current(),
            routers: Vec::new(),
            seats: Seats::default(),
            tasks: JoinSet::new(),
        };
        std::thread::Builder::new().name("vrrp".to_owned()).spawn(move || {
            Haste::begin().keep();
            runtime.spawn(lookout::run(netlink, seen));
            runtime.block_on(driver.run(desired));
            // The driver is gone and all is said; an error means that nobody waits for it.
            let _ = ending.send(());
            // Not waiting for requests that hang in the kernel.
            runtime.shutdown_background();
        })?;
        Ok(Handle { configs, can_forward, hands_over, steering, snapshot: published, ended })
    }

    async fn run(mut self, mut desired: watch::Receiver<Wanted>) {
        desired.mark_changed();
        loop {
            tokio::select! {
                biased;
                changed = desired.changed() => match changed {
                    Ok(()) => {
                        let wanted = desired.borrow_and_update().clone();
                        self.converge(&wanted).await;
                    }
                    Err(_) => break,
                },
                Some(order) = self.steering.recv() => self.steer(order),
                Some(ended) = self.tasks.join_next_with_id() => self.on_ended(ended),
            }
        }
        self.routers.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Makes the routers those of `configs`.
    async fn converge(&mut self, Wanted { configs, only_left }: &Wanted) {
        let mut orders = Order::all(configs);
        self.seats.assign(&mut orders);
        orders.retain(|order| !only_left || is_left_with_group(&order.vrrp, configs, &self.leases));
        let wanted = |running: &Running| orders.iter().any(|order| key(&order.vrrp) == key(&running.order.vrrp));
        let (mut stay, go) = std::mem::take(&mut self.routers).into_iter().partition::<Vec<_>, _>(wanted);
        // Told to stop, they release their addresses without delay and wait for who takes them. A successor must not speak
        // before.
        let mut going: Vec<Id> = go.iter().map(|running| running.task).collect();
        drop(go);
        let mut failed = Vec::new();
        while !going.is_empty()
            && let Some(ended) = self.tasks.join_next_with_id().await
        {
            let id = id_of(&ended);
            match going.iter().position(|task| *task == id) {
                Some(at) => drop(going.swap_remove(at)),
                None => failed.push(ended),
            }
        }
        for order in orders {
            let at = stay.iter().position(|running| key(&running.order.vrrp) == key(&order.vrrp));
            let running = match at.map(|at| stay.swap_remove(at)) {
                Some(mut running) => {
                    if running.order != order {
                        running.desired.send_replace(order.clone());
                        running.order = order;
                    }
                    running
                }
                None => self.start(order),
            };
            self.routers.push(running);
        }
        let position = |instance: &InstanceSnapshot| configs.iter().position(|vrrp| key(vrrp) == instance.key());
        self.snapshot.send_modify(|snapshot| {
            snapshot.instances.retain(|instance| position(instance).is_some());
            snapshot.instances.sort_by_key(position);
        });
        for ended in failed {
            self.on_ended(ended);
        }
    }

    /// Passes an order on to the routers it is for.
    fn steer(&self, StepDown { name, hold, reply }: StepDown) {
        let named = |vrrp: &Vrrp| name.as_ref().is_none_or(|name| *name == vrrp.name);
        // They move together.
        let groups: Vec<_> =
            self.routers.iter().map(|running| &running.order.vrrp).filter(|vrrp| named(vrrp)).collect();
        let grouped =
            |vrrp: &Vrrp| vrrp.sync_group.is_some() && groups.iter().any(|of| of.sync_group == vrrp.sync_group);
        let mut waiting = Vec::new();
        for running in &self.routers {
            let its = &running.order.vrrp.name;
            if !named(&running.order.vrrp) && !grouped(&running.order.vrrp) {
                continue;
            }
            let (tell, told) = oneshot::channel();
            // One that is about to start anew does not answer.
            let _ = running.steer.send(Steer { hold, reply: tell });
            waiting.push((its.clone(), told));
        }
        tokio::spawn(async move {
            let mut outcomes = Vec::new();
            for (name, told) in waiting {
                outcomes.push((name, told.await.unwrap_or(Outcome::NobodyTookOver)));
            }
            // Whoever asked may be gone.
            let _ = reply.send(outcomes);
        });
    }

    fn start(&mut self, order: Order) -> Running {
        let (desired, told) = watch::channel(order.clone());
        let (steer, steered) = mpsc::unbounded_channel();
        let router = Router::new(
            told,
            self.interfaces.clone(),
            self.can_forward.clone(),
            steered,
            Arc::clone(&self.snapshot),
            Arc::clone(&self.announcements),
            self.metrics.clone(),
            Right::new(self.leases.clone(), &order.vrrp, Arc::clone(&self.hands_over)),
            self.elsewhere.clone(),
        );
        let task = self.tasks.spawn(router.run()).id();
        Running { order, desired, steer, task }
    }

    /// A router ends when it is told to. One that ends otherwise has met a defect, and starts again.
    fn on_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = id_of(&ended);
        let Some(at) = self.routers.iter().position(|running| running.task == id) else {
            return;
        };
        let order = self.routers.swap_remove(at).order;
        let cause = ended.err().map_or_else(|| "it ended".to_owned(), |e| e.to_string());
        tracing::error!(instance = order.vrrp.name, cause, "the virtual router failed and starts again");
        let running = self.start(order);
        self.routers.push(running);
    }
}

fn id_of(ended: &Result<(Id, ()), JoinError>) -> Id {
    ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id)
}

#[cfg(test)]
mod tests;
