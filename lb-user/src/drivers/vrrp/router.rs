//! One virtual router: hands packets, local events and the time to its state machine, and does what that says.

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lb_proto::units::{Priority, Version, WirePriority};
use lb_proto::vrrp::{
    AdvertFault, Config, FaultReason, Instance, Local, Moment, Output, Standing, State, Transmit, Why, reached,
};
use lb_proto::wire::vrrp::{Advert, v2};
use lb_proto::wire::{Packet, WireError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::auth::{Authenticator, Journal};
use super::config::{Order, Place};
use super::hook::Hook;
use super::occupant::{Inquiry, Occupant};
use super::right::Right;
use super::seat::{Said, Seat};
use super::steering::Outcome;
use super::track::Tracking;
use super::{BEAT, InstanceSnapshot, VrrpSnapshot};
use crate::clock;
use crate::config::Vrrp;
use crate::drivers::passed;
use crate::drivers::seldom::Seldom;
use crate::heartbeat::Heartbeat;
use crate::metrics::Metrics;
use crate::netlink::{Interfaces, Speaker};
use crate::sock::vrrp::{LARGEST, OpenError, Opened, Received, VrrpSocket};

/// Packets heard before anything else is done; more than the socket's buffer holds.
const BATCH: usize = 512;

/// How long the addresses stay after another router has claimed them: until the neighbours have heard it too.
const LINGER: Duration = Duration::from_millis(50);

/// An order to hand the addresses over, and who wants to know what became of it.
pub(super) struct Steer {
    pub(super) hold: Duration,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// What ended a wait.
enum Wake {
    /// The sender of orders is gone.
    Stop,
    /// An order or a fact is new.
    News,
    /// To hand the addresses over.
    Steer(Steer),
    /// A socket is open, or could not be opened.
    Opened(Option<(bool, Result<Opened, OpenError>)>),
    /// A packet, the deadline, or news of its sync group.
    Due,
}

/// A virtual router's task.
pub(super) struct Router {
    desired: watch::Receiver<Order>,
    interfaces: watch::Receiver<Option<Arc<Interfaces>>>,
    can_forward: watch::Receiver<bool>,
    steering: mpsc::UnboundedReceiver<Steer>,
    snapshot: Arc<watch::Sender<VrrpSnapshot>>,
    metrics: Metrics,
    right: Right,
    heartbeat: Heartbeat,
    order: Order,
    /// Told to stop.
    stopping: bool,
    /// Until when the addresses stay though another router has them.
    linger: Option<Instant>,
    /// Who waits for the end of a hand-over.
    asking: Vec<oneshot::Sender<Outcome>>,
    auth: Option<Authenticator>,
    /// Where what may take long is done.
    elsewhere: Handle,
    tracking: Option<Tracking>,
    hook: Option<Hook>,
    /// What it tracks and is bad.
    bad: Option<String>,
    /// By what it tracks.
    priority: Priority,
    /// In its sync group, and what was last said to it there.
    seat: Option<Seat>,
    said: Option<Said>,
    /// Who has its addresses, before it claims them for the first time; `None` once it is asked no more.
    inquiry: Option<Inquiry>,
    asked: bool,
    occupant: Option<Occupant>,
    writing: Option<JoinHandle<io::Result<()>>>,
    /// When the socket was last seen empty.
    emptied: Moment,
    /// None with a configuration that cannot be, and before the interfaces were seen.
    machine: Option<Instance>,
    born: Instant,
    started: bool,
    socket: Option<Socket>,
    opening: Option<Opening>,
    /// What keeps it from taking part, where the state machine cannot know the details.
    trouble: Option<String>,
    /// Counts the announcements of all routers.
    announcements: Arc<AtomicU64>,
    announce: u64,
    logged: Seldom<&'static str>,
    buffer: Vec<u8>,
}

struct Socket {
    io: VrrpSocket,
    multicast: bool,
}

struct Opening {
    ifindex: u32,
    multicast: bool,
    task: JoinHandle<Result<Opened, OpenError>>,
}

impl Router {
    #[allow(clippy::too_many_arguments, reason = "each comes from another place")]
    pub(super) fn new(
        desired: watch::Receiver<Order>, interfaces: watch::Receiver<Option<Arc<Interfaces>>>,
        can_forward: watch::Receiver<bool>, steering: mpsc::UnboundedReceiver<Steer>,
        snapshot: Arc<watch::Sender<VrrpSnapshot>>, announcements: Arc<AtomicU64>, metrics: Metrics, right: Right,
        elsewhere: Handle, heartbeat: Heartbeat,
    ) -> Self {
        let order = desired.borrow().clone();
        let router = Self {
            desired,
            interfaces,
            can_forward,
            steering,
            snapshot,
            metrics,
            right,
            heartbeat,
            order,
            stopping: false,
            linger: None,
            asking: Vec::new(),
            auth: None,
            elsewhere,
            tracking: None,
            hook: None,
            bad: None,
            priority: Priority::DEFAULT,
            seat: None,
            said: None,
            inquiry: None,
            asked: false,
            occupant: None,
            writing: None,
            emptied: moment(),
            machine: None,
            born: clock::now(),
            started: false,
            socket: None,
            opening: None,
            trouble: None,
            announcements,
            announce: 0,
            logged: Seldom::default(),
            buffer: vec![0; LARGEST],
        };
        router.publish();
        router
    }

    /// Takes part until the sender of orders is gone, and then until the addresses are handed over.
    pub(super) async fn run(mut self) {
        self.settle(true);
        while !(self.stopping && self.is_idle()) {
            let deadline = self.machine.as_ref().and_then(Instance::deadline).into_iter().chain(self.linger);
            let overdue = self.seat.as_ref().and_then(|seat| seat.deadline(clock::now()));
            let now = clock::now();
            self.heartbeat.beat(now);
            let deadline = deadline.chain(overdue).chain([now + BEAT]).min();
            let wake = tokio::select! {
                biased;
                told = self.desired.changed(), if !self.stopping => told.map_or(Wake::Stop, |()| Wake::News),
                () = changed(&mut self.interfaces) => Wake::News,
                () = changed(&mut self.can_forward) => Wake::News,
                () = tracked(&mut self.tracking) => Wake::News,
                () = answered(&mut self.inquiry) => Wake::Due,
                // Before the others of its group, which have the same order, take it along.
                Some(steer) = self.steering.recv() => Wake::Steer(steer),
                () = called(&mut self.seat) => Wake::Due,
                opened = finished(&mut self.opening) => Wake::Opened(opened),
                () = readable(self.socket.as_ref()) => Wake::Due,
                () = passed(deadline) => Wake::Due,
            };
            self.hear();
            match wake {
                Wake::Stop if self.right.stays() => {
                    self.feed(|machine, now| machine.on_local(Local::HandOver, now));
                    break;
                }
                Wake::Stop => {
                    self.stopping = true;
                    self.feed(|machine, now| machine.on_local(Local::Stop, now));
                }
                Wake::News => self.settle(true),
                Wake::Opened(opened) => {
                    self.on_opened(opened);
                    // After a failure the next look at the interfaces tries again, not this one.
                    self.settle(false);
                }
                Wake::Steer(Steer { hold, reply }) => {
                    self.feed(|machine, now| machine.on_local(Local::StepDown { hold }, now));
                    self.asked(reply);
                }
                Wake::Due => {}
            }
            self.heed_occupant();
            self.feed(|machine, now| machine.on_deadline(now));
            self.confer();
            self.linger = self.linger.filter(|until| *until > clock::now());
            self.answer();
            self.publish();
            self.write_journal();
        }
        if let Some(seat) = &self.seat {
            seat.tell(Standing::NONE, self.priority, clock::now());
        }
        self.close();
        if let Some(auth) = &mut self.auth {
            let journal = auth.last(clock::now());
            // Whoever waits for the end of this task waits for the disk too, once.
            let _ = tokio::task::spawn_blocking(move || written(&journal)).await;
        }
    }

    /// Whether nothing is left to be done at a stop.
    fn is_idle(&self) -> bool {
        self.linger.is_none() && self.machine.as_ref().is_none_or(|machine| machine.state() == State::Initialize)
    }

    /// Somebody wants to know what becomes of an order to hand over, which has just been given.
    fn asked(&mut self, reply: oneshot::Sender<Outcome>) {
        let outcome = match &self.machine {
            Some(machine) if machine.is_leaving() => return self.asking.push(reply),
            Some(machine) => Outcome::NotTheHolder { state: machine.state(), holder: machine.active_router() },
            None => Outcome::Starting,
        };
        // Who asked may be gone.
        let _ = reply.send(outcome);
    }

    /// Tells who asked for a hand-over, once it is over.
    fn answer(&mut self) {
        let Some(machine) = self.machine.as_ref().filter(|machine| !machine.is_leaving()) else { return };
        for asked in self.asking.drain(..) {
            let outcome = match (machine.state(), machine.why()) {
                (State::Active, _) => Outcome::NobodyTookOver,
                (_, Why::SteppedDown { to }) => Outcome::HandedOver { to },
                (State::Backup, Why::Yielded) if let Some(to) = machine.active_router() => Outcome::HandedOver { to },
                (state, _) => Outcome::NotTheHolder { state, holder: machine.active_router() },
            };
            // Who asked may be gone.
            let _ = asked.send(outcome);
        }
    }

    /// Hands in what is queued.
    fn hear(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..BATCH {
            let Some(socket) = &self.socket else { break };
            match socket.io.receive(&mut buffer) {
                Ok(Some(Received { packet, stamp })) => {
                    let now = moment();
                    let heard = stamp.map_or(now.monotonic, |stamp| reached(stamp, now, self.emptied));
                    self.on_packet(packet, heard);
                }
                Ok(None) => {
                    self.emptied = moment();
                    break;
                }
                Err(error) => {
                    let trouble = format!("cannot receive adverts: {error}");
                    self.warn_seldom("receive", || trouble.clone());
                    self.trouble = Some(trouble);
                    self.close();
                    self.feed(|machine, now| machine.on_local(Local::LinkDown, now));
                }
            }
        }
        self.buffer = buffer;
    }

    fn on_packet(&mut self, packet: Result<Packet<'_>, WireError>, heard: Instant) {
        let parsed = match packet {
            Ok(parsed) => parsed,
            Err(error) => return self.rejected(error.reason(), &error),
        };
        let ours = self.order.vrrp.virtual_router_id.get();
        // Before all else: whatever is wrong with an advert for another virtual router is no fault of this one.
        if let Some(other) = parsed.payload.get(1).copied().filter(|vrid| *vrid != ours) {
            if !self.order.siblings.iter().any(|sibling| sibling.get() == other) {
                self.metrics.advert_rejected(&self.order.vrrp.name, "vrid");
                tracing::debug!(instance = self.order.vrrp.name, from = %parsed.src, vrid = other, "advert for another VRID");
            }
            return;
        }
        let advert = match self.read(parsed) {
            Ok(advert) => advert,
            Err(error) => return self.rejected(error.reason(), &format_args!("{error}, from {}", parsed.src)),
        };
        if let Some(auth) = &mut self.auth
            && let Err(doubt) = auth.verify(parsed.payload, parsed.src, parsed.dst, clock::now())
        {
            return self.rejected(doubt.reason(), &format_args!("{}, from {}", doubt.words(), parsed.src));
        }
        let accepted = self.feed(|machine, now| machine.on_advert(parsed.src, parsed.ttl, &advert, heard, now));
        if accepted {
            self.metrics.advert_received(&self.order.vrrp.name);
        }
    }

    /// The advert of a packet, of the version spoken here.
    fn read(&self, packet: Packet<'_>) -> Result<Advert, WireError> {
        match self.order.vrrp.version {
            Version::V3 => Advert::parse(packet.payload, packet.src, packet.dst).map(|(advert, _)| advert),
            Version::V2 => {
                let (advert, password) = v2::parse(packet.payload)?;
                if password == self.order.vrrp.password { Ok(advert) } else { Err(WireError::Password) }
            }
        }
    }

    /// Takes in the newest order and facts, and tells the state machine. Unless `may_open`, no socket is opened.
    fn settle(&mut self, may_open: bool) {
        self.order = self.desired.borrow_and_update().clone();
        self.right.concerns(&self.order.vrrp);
        self.rekey();
        if self.seat != self.order.seat {
            self.seat.clone_from(&self.order.seat);
            self.said = None;
            self.feed(|machine, now| machine.on_local(Local::Group(None), now));
        }
        let can_forward = *self.can_forward.borrow_and_update();
        let Some(interfaces) = self.interfaces.borrow_and_update().clone() else {
            self.trouble = Some("links and addresses are not known yet".to_owned());
            return;
        };
        let place = Place::of(&self.order, &interfaces);
        self.converge_socket(place, may_open);
        let config = match self.order.machine(place.and_then(|place| place.primary)) {
            Ok(config) => {
                self.priority = self.track(&interfaces).unwrap_or(config.priority);
                let groups = self.said.map_or(self.priority, |(_, priority)| priority);
                Config { priority: self.priority.min(groups), ..config }
            }
            Err(error) => {
                self.trouble = Some(error.to_string());
                return;
            }
        };
        let connected = place.is_some_and(|place| place.up) && self.socket.is_some();
        if let Some(place) = place.filter(|_| connected) {
            self.inquire(place, &interfaces);
        }
        // Not before it is known whether there is a socket, lest every start looks like a fault that is over.
        if !self.started && self.opening.is_some() {
            return;
        }
        if self.machine.is_none() {
            self.machine = Some(Instance::new(config.clone(), clock::now()));
        }
        let continues = !self.started && self.right.lasts();
        let (stopping, bad) = (self.stopping, self.bad.is_some());
        self.feed(|machine, now| {
            machine.on_local(Local::Reconfigure(config), now);
            machine.on_local(if connected { Local::LinkUp } else { Local::LinkDown }, now);
            let reason = FaultReason::CannotForward;
            machine.on_local(if can_forward { Local::Cleared(reason) } else { Local::Fault(reason) }, now);
            let reason = FaultReason::Tracked;
            machine.on_local(if bad { Local::Fault(reason) } else { Local::Cleared(reason) }, now);
            if !stopping {
                machine.on_local(if continues { Local::Continue } else { Local::Start }, now);
            }
        });
        self.started = true;
    }

    /// Asks who has the addresses, once, before they are claimed for the first time; not where an earlier process has.
    fn inquire(&mut self, place: Place, interfaces: &Interfaces) {
        if !std::mem::replace(&mut self.asked, true) && !self.right.lasts() {
            let addresses = self.order.vrrp.virtual_addresses.iter().map(|net| net.address).collect();
            self.inquiry = Inquiry::start(place.ifindex, interfaces, addresses, &self.elsewhere);
        }
    }

    /// Leaves the addresses to whoever has them, unless a router that is heard explains the answers.
    fn heed_occupant(&mut self) {
        let Some(machine) = &self.machine else { return };
        if machine.active_router().is_some() || machine.is_released() || machine.state() == State::Active {
            self.inquiry = None;
        }
        let occupant = self.inquiry.as_mut().and_then(Inquiry::occupant);
        if self.occupant == occupant {
            return;
        }
        self.occupant = occupant;
        if let Some(occupant) = occupant {
            tracing::warn!(instance = self.order.vrrp.name, "{occupant}");
        }
        self.feed(|machine, now| machine.on_local(Local::Occupied(occupant.is_some()), now));
    }

    /// Tells its sync group how it stands, and does what that wants, until there is nothing new between them.
    fn confer(&mut self) {
        let Some(seat) = self.seat.clone() else { return };
        // Each word that is heeded leaves less to be said; whatever is left then, the next event takes up.
        for _ in 0..8 {
            let standing = self.machine.as_ref().map_or(Standing::NONE, Instance::standing);
            let said = seat.tell(standing, self.priority, clock::now());
            if self.machine.is_none() || self.said.replace(said) == Some(said) {
                return;
            }
            let (word, priority) = said;
            self.feed(|machine, now| {
                let config = Config { priority, ..machine.config().clone() };
                machine.on_local(Local::Reconfigure(config), now);
                machine.on_local(Local::Group(Some(word)), now);
            });
        }
    }

    /// Looks at what the newest order says; the priority that follows.
    fn track(&mut self, interfaces: &Interfaces) -> Option<Priority> {
        let Vrrp { tracks, notify, priority, .. } = &self.order.vrrp;
        if self.hook.as_ref().is_none_or(|hook| !hook.is_of(notify)) {
            self.hook = (!notify.is_empty()).then(|| Hook::start(notify, &self.elsewhere));
        }
        if self.tracking.as_ref().is_none_or(|tracking| !tracking.is_of(tracks)) {
            self.tracking = (!tracks.is_empty()).then(|| Tracking::start(tracks, &self.elsewhere));
        }
        self.bad = None;
        let verdict = self.tracking.as_mut()?.verdict(*priority, interfaces);
        self.bad = verdict.fault;
        Priority::new(verdict.priority)
    }

    /// Has the keys of the newest order.
    fn rekey(&mut self) {
        self.auth = match (self.auth.take(), &self.order.vrrp.auth) {
            (_, None) => None,
            (None, Some(auth)) => Some(Authenticator::new(auth, clock::now())),
            (Some(mut known), Some(auth)) => {
                known.rekey(&auth.keys);
                Some(known)
            }
        };
    }

    /// Has the numbers of adverts kept when that is due, one write at a time.
    fn write_journal(&mut self) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        if let Some(auth) = &mut self.auth
            && let Some(journal) = auth.due(clock::now())
        {
            self.writing = Some(tokio::task::spawn_blocking(move || written(&journal)));
        }
    }

    /// Has a socket for where the interface is now. One that still serves is kept until its successor is there.
    fn converge_socket(&mut self, place: Option<Place>, may_open: bool) {
        let interface = self.order.vrrp.interface.clone();
        let Some(place) = place else {
            self.trouble = Some(format!("interface {interface:?} does not exist"));
            self.opening = None;
            return self.close();
        };
        if self.socket.as_ref().is_some_and(|socket| socket.io.ifindex() != place.ifindex) {
            self.close();
        }
        let wanted = (place.ifindex, self.order.multicast());
        let has = self.socket.as_ref().map(|socket| (socket.io.ifindex(), socket.multicast));
        let will_have = self.opening.as_ref().map(|opening| (opening.ifindex, opening.multicast));
        if has == Some(wanted) {
            self.opening = None;
            self.trouble = (!place.up).then(|| format!("interface {interface:?} is down"));
        } else if may_open && will_have != Some(wanted) {
            let (ifindex, multicast) = wanted;
            let family = self.order.vrrp.family();
            let task = tokio::task::spawn_blocking(move || Opened::on(&interface, ifindex, family, multicast));
            self.opening = Some(Opening { ifindex, multicast, task });
        }
    }

    fn on_opened(&mut self, opened: Option<(bool, Result<Opened, OpenError>)>) {
        let Some((multicast, opened)) = opened else { return };
        let socket = opened.map_err(|e| e.to_string()).and_then(|o| o.watch().map_err(|e| e.to_string()));
        match socket {
            Ok(io) => {
                self.close();
                self.socket = Some(Socket { io, multicast });
                self.trouble = None;
            }
            Err(error) => {
                self.warn_seldom("open", || error.clone());
                self.trouble = Some(error);
            }
        }
    }

    fn close(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.io.close();
        }
    }

    /// Hands an input to the state machine and does what follows; whether nothing was refused.
    fn feed(&mut self, input: impl FnOnce(&mut Instance, Instant)) -> bool {
        let Some(machine) = &mut self.machine else { return false };
        input(machine, clock::now());
        let mut accepted = true;
        while let Some(output) = self.machine.as_mut().and_then(Instance::poll) {
            match output {
                Output::Send(transmit) => self.send(&transmit),
                Output::Entered { from, state, why } => self.entered(from, state, why),
                Output::Announce(why) => {
                    self.announce_again();
                    tracing::debug!(
                        instance = self.order.vrrp.name,
                        why = why.label(),
                        "addresses are announced again"
                    );
                }
                Output::Rejected { src, fault } => {
                    accepted = false;
                    let reason = fault.reason();
                    match fault {
                        AdvertFault::Ttl(ttl) => self.rejected(
                            reason,
                            &format_args!("TTL or hop limit {ttl} from {src}; tell the sender to use 255 (keepalived: unicast_ttl 255) unless it is beyond a router"),
                        ),
                        _ => self.rejected(reason, &format_args!("{reason}, from {src}")),
                    }
                }
                Output::Mismatch { src, mismatch } => {
                    let reason = mismatch.reason();
                    self.metrics.advert_rejected(&self.order.vrrp.name, reason);
                    self.warn_seldom(reason, || {
                        format!("an advert from {src} shows a different configuration: {reason}")
                    });
                }
            }
        }
        if self.machine.as_ref().and_then(Instance::lease_until).is_none() {
            self.right.end();
        }
        accepted
    }

    fn send(&mut self, transmit: &Transmit) {
        let Some(socket) = &self.socket else { return };
        let form = self.order.checksum();
        let number = self.auth.as_mut().map(|auth| auth.number(clock::now()));
        let mut failed: Option<(IpAddr, io::Error)> = None;
        let mut sent = false;
        for to in transmit.destinations() {
            let mut message = match self.order.vrrp.version {
                Version::V3 => transmit.emit(*to, form),
                Version::V2 => v2::emit(&transmit.advert, self.order.vrrp.password),
            };
            if let Some((auth, number)) = self.auth.as_ref().zip(number) {
                auth.sign(&mut message, number, transmit.src, *to);
            }
            match socket.io.send(transmit.src, *to, &message) {
                Ok(()) => sent = true,
                Err(error) => failed = Some((*to, error)),
            }
        }
        if sent {
            self.metrics.advert_sent(&self.order.vrrp.name);
            let until = self.machine.as_ref().and_then(Instance::lease_until);
            let yields = transmit.advert.priority == WirePriority::RELEASE;
            if until.is_some_and(|until| self.right.renew(until, yields)) {
                self.metrics.lease_lapsed(&self.order.vrrp.name);
                self.announce_again();
            }
        }
        if let Some((to, error)) = failed {
            self.warn_seldom("send", || format!("cannot send an advert from {} to {to}: {error}", transmit.src));
        }
    }

    fn announce_again(&mut self) {
        self.announce = self.announcements.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    }

    fn entered(&mut self, from: State, state: State, why: Why) {
        let handed_over = matches!(why, Why::Outranked { .. } | Why::SteppedDown { .. } | Why::Yielded | Why::Stopped);
        self.linger = (from == State::Active && handed_over).then(|| clock::now() + LINGER);
        if state == State::Active {
            self.announce_again();
        }
        let vrrp = &self.order.vrrp;
        self.metrics.vrrp_transition(&vrrp.name, state.label());
        let (from, to, reason) = (from.label(), state.label(), self.reason(why));
        if let Some(hook) = &self.hook {
            let addresses: Vec<_> = vrrp.virtual_addresses.iter().map(ToString::to_string).collect();
            hook.tell(vec![
                ("XVIP_INSTANCE", vrrp.name.clone()),
                ("XVIP_INTERFACE", vrrp.interface.clone()),
                ("XVIP_VIRTUAL_ROUTER_ID", vrrp.virtual_router_id.to_string()),
                ("XVIP_ADDRESSES", addresses.join(" ")),
                ("XVIP_FROM", from.to_owned()),
                ("XVIP_STATE", to.to_owned()),
                ("XVIP_REASON", why.label().to_owned()),
            ]);
        }
        if state == State::Fault {
            tracing::warn!(instance = vrrp.name, "virtual router {from} -> {to}: {reason}");
        } else {
            tracing::info!(instance = vrrp.name, "virtual router {from} -> {to}: {reason}");
        }
    }

    /// An advert had no effect. Counted always, said seldom, and not at all where that is the ordinary course of things.
    fn rejected(&mut self, reason: &'static str, what: &dyn std::fmt::Display) {
        self.metrics.advert_rejected(&self.order.vrrp.name, reason);
        tracing::debug!(instance = self.order.vrrp.name, reason, "advert refused: {what}");
        if reason != "not_running" {
            self.warn_seldom(reason, || format!("an advert was refused: {what}"));
        }
    }

    fn warn_seldom(&mut self, reason: &'static str, what: impl FnOnce() -> String) {
        if self.logged.allows(reason, clock::now()) {
            tracing::warn!(instance = self.order.vrrp.name, reason, "{}", what());
        }
    }

    /// In words, with what the state machine cannot know.
    fn reason(&self, why: Why) -> String {
        let Vrrp { interface, unicast_source, .. } = &self.order.vrrp;
        if let Some(group) = &self.order.vrrp.sync_group
            && self.machine.as_ref().is_some_and(Instance::waits_for_group)
        {
            return format!("nobody better advertises, but not all of sync group {group:?} could be active here");
        }
        if let (Some(occupant), Some(State::Backup)) = (&self.occupant, self.machine.as_ref().map(Instance::state)) {
            return occupant.to_string();
        }
        match (why, &self.trouble, unicast_source) {
            (Why::Fault(FaultReason::Tracked), ..) => self.bad.clone().unwrap_or_else(|| why.to_string()),
            (Why::Fault(FaultReason::LinkDown) | Why::New, Some(trouble), _) => trouble.clone(),
            (Why::Fault(FaultReason::NoAddress), _, Some(source)) => {
                format!("unicast_source {source} is not an address of interface {interface:?}, or not usable yet")
            }
            (Why::Fault(FaultReason::NoAddress), _, None) => {
                let kind = match self.order.speaker() {
                    Speaker::Ipv4 => "IPv4",
                    Speaker::Ipv6 => "usable IPv6",
                    Speaker::Ipv6LinkLocal => "usable IPv6 link-local",
                };
                format!("interface {interface:?} has no {kind} address of its own")
            }
            _ => why.to_string(),
        }
    }

    fn publish(&self) {
        let vrrp = &self.order.vrrp;
        let machine = self.machine.as_ref();
        let why = machine.map_or(Why::New, Instance::why);
        let snapshot = InstanceSnapshot {
            name: vrrp.name.clone(),
            interface: vrrp.interface.clone(),
            vrid: vrrp.virtual_router_id.get(),
            priority: machine.map_or(vrrp.priority, |machine| machine.config().priority.get()),
            sync_group: vrrp.sync_group.clone(),
            state: machine.map_or(State::Initialize, Instance::state),
            why,
            reason: self.reason(why),
            since: machine.map_or(self.born, Instance::since),
            virtual_addresses: vrrp.virtual_addresses.clone(),
            announce: self.announce,
            active_router: machine.and_then(Instance::active_router),
            lingers: self.linger.is_some(),
        };
        self.snapshot.send_if_modified(|all| all.put(snapshot));
    }
}

fn moment() -> Moment {
    Moment { monotonic: clock::now(), wall: clock::wall() }
}

fn written(journal: &Journal) -> io::Result<()> {
    journal.write().inspect_err(|error| {
        tracing::warn!("cannot keep the numbers of adverts, which the next start may need: {error}");
    })
}

/// Waits for a new value. One that can never come is waited for all the same.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        pending().await
    }
}

async fn tracked(tracking: &mut Option<Tracking>) {
    match tracking {
        Some(tracking) => tracking.changed().await,
        None => pending().await,
    }
}

async fn answered(inquiry: &mut Option<Inquiry>) {
    match inquiry {
        Some(inquiry) => inquiry.changed().await,
        None => pending().await,
    }
}

async fn called(seat: &mut Option<Seat>) {
    match seat {
        Some(seat) => seat.changed().await,
        None => pending().await,
    }
}

/// Waits for the socket that is being opened, if one is; whether it hears multicast, and the socket. `None`: the task failed.
async fn finished(opening: &mut Option<Opening>) -> Option<(bool, Result<Opened, OpenError>)> {
    let Some(underway) = opening else { return pending().await };
    let (multicast, result) = (underway.multicast, (&mut underway.task).await);
    *opening = None;
    result.ok().map(|opened| (multicast, opened))
}

async fn readable(socket: Option<&Socket>) {
    match socket {
        Some(socket) => socket.io.readable().await,
        None => pending().await,
    }
}
