//! The datapath in the kernel, run frame by frame without an interface (BPF_PROG_TEST_RUN).

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, anyhow, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuValues, RingBuf};
use aya::programs::{SchedClassifier, Xdp};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use lb_ebpf::abi::{
    Adoption, Allowed, Backend, Bucket, Endpoint, Flow, FlowKey, HALF_OPEN_ENTRIES, LIST_BITS, Lease, Load,
    MAX_SOURCES, Node, PortKey, PortSet, Pulse, Reason, Service, Sharing, Source, SourceLimit, Syn, Traffic, Verdict,
    budget, mac_key, map, node_flag, service_load,
};
use lb_ebpf::cases::{Executor, World};
use lb_ebpf::net::{Address, Be128};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Shortest frame the kernel takes in a test run: an Ethernet header.
pub const SHORTEST_FRAME: usize = 14;
/// Longest frame that fits into a test run's one page beside headroom and tailroom, with some to spare.
const LONGEST_FRAME: usize = 2048;

/// Names of the programs in the object.
const XDP_PROGRAM: &str = "xvip";
const TC_PROGRAM: &str = "xvip_tc";
const LEAVE_PROGRAM: &str = "xvip_leave";
const GUARD_PROGRAM: &str = "xvip_guard";
const HOME_PROGRAM: &str = "xvip_home";

/// XDP actions, as the kernel numbers them.
mod action {
    pub(super) const DROP: u32 = 1;
    pub(super) const PASS: u32 = 2;
    pub(super) const TX: u32 = 3;
    pub(super) const REDIRECT: u32 = 4;
}

/// TC actions, as the kernel numbers them.
mod tc_action {
    /// On to the next program.
    pub(super) const UNSPECIFIED: u32 = -1_i32 as u32;
    pub(super) const SHOT: u32 = 2;
    pub(super) const REDIRECT: u32 = 7;
}

/// Which way in a frame takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hook {
    /// As the driver's buffer.
    #[default]
    Xdp,
    /// As a socket buffer.
    Tc,
}

impl Hook {
    /// Whether a test run takes such a frame. As a socket buffer it has to have the whole header of the IP version that its
    /// EtherType names; on an interface nothing asks for that.
    #[must_use]
    pub fn runs(self, frame: &[u8]) -> bool {
        let header = match (self, frame.get(12..14)) {
            (Self::Tc, Some([0x08, 0x00])) => 20,
            (Self::Tc, Some([0x86, 0xdd])) => 40,
            _ => 0,
        };
        frame.len() >= SHORTEST_FRAME + header
    }
}

/// Keeps the calling thread on one CPU: connections take turns on each CPU apart.
///
/// # Errors
/// What the kernel says.
pub fn stay_on_cpu(cpu: usize) -> anyhow::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("could not stay on CPU {cpu}"))
}

/// The object, loaded, with its maps at hand.
pub struct Datapath {
    /// The established flows.
    pub established: HashMap<MapData, FlowKey, Flow>,
    /// The half-open flows.
    pub half_open: HashMap<MapData, FlowKey, Flow>,
    established6: HashMap<MapData, FlowKey<Be128>, Flow<Be128>>,
    half_open6: HashMap<MapData, FlowKey<Be128>, Flow<Be128>>,
    established_fd: OwnedFd,
    program: Ebpf,
    hook: Hook,
    node: Array<MapData, Node>,
    sharing: Array<MapData, Sharing>,
    changes: RingBuf<MapData>,
    vips: HashMap<MapData, [u32; 4], u32>,
    own: HashMap<MapData, [u32; 4], u32>,
    services: HashMap<MapData, Endpoint, Service>,
    backends: Array<MapData, Backend>,
    backend_slots: HashMap<MapData, Endpoint, u32>,
    rings: Array<MapData, u32>,
    fellows: HashMap<MapData, u64, u32>,
    tunnels: HashMap<MapData, [u32; 4], u32>,
    allowed: LpmTrie<MapData, Allowed, u32>,
    limits: Array<MapData, SourceLimit>,
    limited: HashMap<MapData, Source, u64>,
    full_sources: HashMap<MapData, Source, u64>,
    turns: PerCpuArray<MapData, u32>,
    sources: Array<MapData, [u32; 4]>,
    /// The sets of source ports.
    pub ports: HashMap<MapData, PortKey, PortSet>,
    port_cursors: PerCpuArray<MapData, u32>,
    pulses: Array<MapData, Pulse>,
    syns: HashMap<MapData, FlowKey, Syn>,
    syns6: HashMap<MapData, FlowKey<Be128>, Syn>,
    packets: PerCpuArray<MapData, u64>,
    traffic: PerCpuArray<MapData, Traffic>,
    loads: Array<MapData, Load>,
    budgets: PerCpuArray<MapData, Bucket>,
    leases: HashMap<MapData, [u32; 4], Lease>,
    /// Tables as they were last written.
    world: World,
}

impl Datapath {
    /// Loads the object with room for `capacity` established entries, and no tables written.
    ///
    /// # Errors
    /// What is missing, or what the verifier says.
    pub fn load(capacity: u32) -> anyhow::Result<Self> {
        Self::load_hook(capacity, Hook::Xdp)
    }

    /// The same with the way in for `hook`.
    ///
    /// # Errors
    /// What is missing, or what the verifier says.
    pub fn load_hook(capacity: u32, hook: Hook) -> anyhow::Result<Self> {
        ensure!(!xvip::bpf::OBJECT.is_empty(), "this build has no datapath object: unset XVIP_EBPF_STUB");
        Self::load_object(xvip::bpf::OBJECT, capacity, hook)
    }

    /// The same with another build of the object.
    ///
    /// # Errors
    /// What is missing, or what the verifier says.
    pub fn load_object(object: &[u8], capacity: u32, hook: Hook) -> anyhow::Result<Self> {
        Self::load_sized(object, capacity, HALF_OPEN_ENTRIES, hook)
    }

    /// The same with room for so many half-open entries.
    ///
    /// # Errors
    /// What is missing, or what the verifier says.
    pub fn load_sized(object: &[u8], capacity: u32, half_open: u32, hook: Hook) -> anyhow::Result<Self> {
        let mut program = EbpfLoader::new()
            .map_max_entries(map::ESTABLISHED, capacity)
            .map_max_entries(map::ESTABLISHED6, capacity)
            .map_max_entries(map::HALF_OPEN, half_open)
            .map_max_entries(map::SYNS, half_open / 2)
            .load(object)
            .context("could not load the datapath object; this needs root, or CAP_BPF and CAP_NET_ADMIN")?;
        match hook {
            Hook::Xdp => xdp_mut(&mut program)?.load(),
            Hook::Tc => tc_mut(&mut program, TC_PROGRAM)?.load(),
        }
        .context("the kernel refused the datapath program")?;
        xvip::bpf::join_six(&mut program, hook == Hook::Tc)?;
        for name in [LEAVE_PROGRAM, GUARD_PROGRAM, HOME_PROGRAM] {
            tc_mut(&mut program, name)?.load().context("the kernel refused a program for what leaves")?;
        }
        let mut take =
            |name: &str| program.take_map(name).with_context(|| format!("the object has no map named {name}"));
        let Map::HashMap(established) = take(map::ESTABLISHED)? else {
            return Err(anyhow!("the table of established flows is no plain hash map"));
        };
        Ok(Self {
            established_fd: established.fd().as_fd().try_clone_to_owned()?,
            established: Map::HashMap(established).try_into()?,
            half_open: take(map::HALF_OPEN)?.try_into()?,
            established6: take(map::ESTABLISHED6)?.try_into()?,
            half_open6: take(map::HALF_OPEN6)?.try_into()?,
            node: take(map::NODE)?.try_into()?,
            sharing: take(map::SHARING)?.try_into()?,
            changes: take(map::CHANGES)?.try_into()?,
            vips: take(map::VIPS)?.try_into()?,
            own: take(map::OWN)?.try_into()?,
            services: take(map::SERVICES)?.try_into()?,
            backends: take(map::BACKENDS)?.try_into()?,
            backend_slots: take(map::BACKEND_SLOTS)?.try_into()?,
            rings: take(map::RINGS)?.try_into()?,
            fellows: take(map::FELLOWS)?.try_into()?,
            tunnels: take(map::TUNNELS)?.try_into()?,
            allowed: take(map::ALLOWED)?.try_into()?,
            limits: take(map::LIMITS)?.try_into()?,
            limited: take(map::LIMITED)?.try_into()?,
            full_sources: take(map::FULL_SOURCES)?.try_into()?,
            turns: take(map::TURNS)?.try_into()?,
            sources: take(map::SOURCES)?.try_into()?,
            ports: take(map::PORTS)?.try_into()?,
            port_cursors: take(map::PORT_CURSORS)?.try_into()?,
            pulses: take(map::PULSES)?.try_into()?,
            syns: take(map::SYNS)?.try_into()?,
            syns6: take(map::SYNS6)?.try_into()?,
            packets: take(map::PACKETS)?.try_into()?,
            traffic: take(map::TRAFFIC)?.try_into()?,
            loads: take(map::LOADS)?.try_into()?,
            budgets: take(map::BUDGETS)?.try_into()?,
            leases: take(map::LEASES)?.try_into()?,
            program,
            hook,
            world: nothing(),
        })
    }

    /// The table of established flows, for other programs.
    #[must_use]
    pub fn established_fd(&self) -> BorrowedFd<'_> {
        self.established_fd.as_fd()
    }

    /// The loaded XDP program.
    ///
    /// # Errors
    /// Never after a successful [`Self::load`].
    pub fn program(&self) -> anyhow::Result<&Xdp> {
        let program = self.program.program(XDP_PROGRAM).with_context(|| format!("no program named {XDP_PROGRAM}"))?;
        program.try_into().context("the program is not an XDP program")
    }

    fn tc_program(&self, name: &str) -> anyhow::Result<&SchedClassifier> {
        let program = self.program.program(name).with_context(|| format!("no program named {name}"))?;
        program.try_into().context("the program is not a TC program")
    }

    /// Writes the tables that belong to the agent.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&mut self, world: &World) -> anyhow::Result<()> {
        self.node.set(0, world.node, 0)?;
        self.sharing.set(0, world.sharing, 0)?;
        empty(&mut self.vips)?;
        for vip in world.vips.iter().chain(&world.sources) {
            self.vips.insert(vip.raw(), 1, 0)?;
        }
        for (number, source) in (0..MAX_SOURCES).zip(&world.sources) {
            let place = if source.mapped().is_some() { 0 } else { MAX_SOURCES };
            self.sources.set(place + number, source.raw(), 0)?;
        }
        empty(&mut self.own)?;
        for address in &world.own {
            self.own.insert(address.raw(), 1, 0)?;
        }
        empty(&mut self.services)?;
        for (listener, service) in &world.services {
            self.services.insert(listener, service, 0)?;
        }
        empty(&mut self.backend_slots)?;
        for slot in 0..self.world.backends.len().max(world.backends.len()) {
            let backend = world.backends.get(slot).copied().unwrap_or_default();
            self.backends.set(slot as u32, backend, 0)?;
            if backend.generation != 0 {
                self.backend_slots.insert(backend.endpoint, slot as u32, 0)?;
            }
        }
        for place in 0..self.world.rings.len().max(world.rings.len()) {
            self.rings.set(place as u32, world.rings.get(place).copied().unwrap_or_default(), 0)?;
        }
        empty(&mut self.fellows)?;
        empty(&mut self.tunnels)?;
        for node in &world.tunnels {
            self.tunnels.insert(node.raw(), 1, 0)?;
        }
        for mac in &world.fellows {
            self.fellows.insert(mac_key(*mac), 1, 0)?;
        }
        let keys = self.allowed.keys().collect::<Result<Vec<_>, _>>()?;
        for key in keys {
            self.allowed.remove(&key)?;
        }
        for (list, address, bits) in &world.allowed {
            let key = Key::new(LIST_BITS + u32::from(*bits), Allowed { list: *list, address: *address });
            self.allowed.insert(&key, 1, 0)?;
        }
        empty(&mut self.leases)?;
        for (address, lease) in &world.leases {
            self.leases.insert(address.raw(), lease, 0)?;
        }
        for (number, limit) in &world.limits {
            self.limits.set(*number, limit, 0)?;
        }
        empty(&mut self.full_sources)?;
        for (service, address, until) in &world.full {
            self.full_sources.insert(Source { service: *service, address: *address }, until, 0)?;
        }
        self.world = world.clone();
        Ok(())
    }

    /// Makes the sets of source ports, with none taken.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn know_ports(&mut self, world: &World) -> anyhow::Result<()> {
        empty(&mut self.ports)?;
        for key in world.port_sets() {
            self.ports.insert(key, world.no_port_taken(), 0)?;
        }
        Ok(())
    }

    /// Ends all established flows over IPv4 as if they were long over; no source port of `world` is in use then.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn end_flows(&mut self, world: &World) -> anyhow::Result<()> {
        empty(&mut self.established)?;
        self.know_ports(world)
    }

    /// Forgets connections and everything counted but packets.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forget(&mut self) -> anyhow::Result<()> {
        empty(&mut self.established)?;
        empty(&mut self.half_open)?;
        empty(&mut self.established6)?;
        empty(&mut self.half_open6)?;
        empty(&mut self.syns)?;
        empty(&mut self.syns6)?;
        empty(&mut self.limited)?;
        for budget in 0..budget::COUNT {
            self.budgets.set(budget, zeroes()?, 0)?;
        }
        for (_, service) in &self.world.services {
            self.turns.set(u32::from(service.number), zeroes()?, 0)?;
            self.loads.set(service_load(service.number), Load::default(), 0)?;
        }
        for slot in 0..self.world.backends.len() as u32 {
            self.port_cursors.set(slot, zeroes()?, 0)?;
            self.traffic.set(slot, zeroes()?, 0)?;
            self.loads.set(slot, Load::default(), 0)?;
            self.pulses.set(slot, Pulse::default(), 0)?;
        }
        Ok(())
    }

    /// Copies of both tables of flows of IPv4: established, half-open.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn flows(&self) -> anyhow::Result<[BTreeMap<FlowKey, Flow>; 2]> {
        Ok([copy(&self.established)?, copy(&self.half_open)?])
    }

    /// The same of IPv6.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn flows6(&self) -> anyhow::Result<[BTreeMap<FlowKey<Be128>, Flow<Be128>>; 2]> {
        Ok([copy(&self.established6)?, copy(&self.half_open6)?])
    }

    /// What was counted for each backend that had traffic, by slot.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn traffic(&self) -> anyhow::Result<BTreeMap<u32, Traffic>> {
        let mut all = BTreeMap::new();
        for slot in 0..self.world.backends.len() as u32 {
            let mut sum = Traffic::default();
            for part in self.traffic.get(&slot, 0)?.iter() {
                sum.opened += part.opened;
                sum.packets_in += part.packets_in;
                sum.bytes_in += part.bytes_in;
                sum.packets_out += part.packets_out;
                sum.bytes_out += part.bytes_out;
            }
            if sum != Traffic::default() {
                all.insert(slot, sum);
            }
        }
        Ok(all)
    }

    /// Connections as they were counted, by slot or service, where there were any.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn loads(&self) -> anyhow::Result<BTreeMap<u32, Load>> {
        let services = self.world.services.iter().map(|(_, service)| service_load(service.number));
        let mut all = BTreeMap::new();
        for place in (0..self.world.backends.len() as u32).chain(services) {
            let load = self.loads.get(&place, 0)?;
            if load != Load::default() {
                all.insert(place, load);
            }
        }
        Ok(all)
    }

    /// How the backend in a slot answers.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pulse(&self, slot: u32) -> anyhow::Result<Pulse> {
        Ok(self.pulses.get(&slot, 0)?)
    }

    /// Packets by reason, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn packets(&self) -> anyhow::Result<Vec<u64>> {
        Reason::ALL.iter().map(|reason| Ok(self.packets.get(&(*reason as u32), 0)?.iter().sum())).collect()
    }

    /// Runs one frame; returns the reason counted and the frame afterwards.
    ///
    /// # Errors
    /// When not exactly one reason was counted, or the action does not fit it.
    pub fn run(&self, frame: &[u8]) -> anyhow::Result<(Reason, Vec<u8>)> {
        let before = self.packets()?;
        let (done, after) = self.pass(frame)?;
        let counted = self.counted_since(&before)?;
        let &[(reason, 1)] = counted.as_slice() else {
            return Err(anyhow!("one packet was counted as {counted:?}"));
        };
        let action = self.action(reason);
        ensure!(done == action, "{reason:?} ended with action {done}, not {action}");
        Ok((reason, after))
    }

    /// Runs one frame without looking at what is counted; the action and the frame afterwards.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pass(&self, frame: &[u8]) -> anyhow::Result<(u32, Vec<u8>)> {
        let mut after = vec![0; LONGEST_FRAME];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut after), ..Default::default() };
        let result = match self.hook {
            Hook::Xdp => self.program()?.test_run(options),
            Hook::Tc => self.tc_program(TC_PROGRAM)?.test_run(options),
        };
        let result = result.context("the kernel did not run the frame")?;
        after.truncate(result.data_size_out as usize);
        Ok((result.return_value, after))
    }

    /// Runs one frame that leaves the stack; returns the reason and the frame afterwards. What is none of ours is not
    /// counted, and ends as [`Reason::NotVip`].
    ///
    /// # Errors
    /// When more than one reason was counted, or the action does not fit it.
    pub fn leave(&self, frame: &[u8]) -> anyhow::Result<(Reason, Vec<u8>)> {
        self.leave_by(LEAVE_PROGRAM, frame, tc_action_of)
    }

    /// The same by the loopback interface.
    ///
    /// # Errors
    /// As [`Self::leave`].
    pub fn leave_home(&self, frame: &[u8]) -> anyhow::Result<(Reason, Vec<u8>)> {
        self.leave_by(HOME_PROGRAM, frame, |reason| match reason {
            Reason::FromLocal => tc_action::REDIRECT,
            reason => tc_action_of(reason),
        })
    }

    fn leave_by(
        &self, program: &str, frame: &[u8], action_of: impl FnOnce(Reason) -> u32,
    ) -> anyhow::Result<(Reason, Vec<u8>)> {
        let before = self.packets()?;
        let mut after = vec![0; LONGEST_FRAME];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut after), ..Default::default() };
        let guarded = self.tc_program(GUARD_PROGRAM)?.test_run(options).context("the kernel did not run the frame")?;
        ensure!(after.get(..frame.len()) == Some(frame), "the guard changed a frame");
        if guarded.return_value != tc_action::UNSPECIFIED {
            let &[(reason, 1)] = self.counted_since(&before)?.as_slice() else {
                return Err(anyhow!("the guard dropped a frame and did not say why"));
            };
            ensure!(guarded.return_value == tc_action_of(reason), "the guard ended with {}", guarded.return_value);
            return Ok((reason, frame.to_vec()));
        }
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut after), ..Default::default() };
        let result = self.tc_program(program)?.test_run(options).context("the kernel did not run the frame")?;
        after.truncate(result.data_size_out as usize);
        let reason = match self.counted_since(&before)?.as_slice() {
            [] => Reason::NotVip,
            [(reason, 1)] => *reason,
            counted => return Err(anyhow!("one packet was counted as {counted:?}")),
        };
        let (action, expected) = (result.return_value, action_of(reason));
        ensure!(action == expected, "what leaves and is {reason:?} ended with action {action}, not {expected}");
        Ok((reason, after))
    }

    /// The next flow that was told to have opened or closed: the bytes of a [`lb_ebpf::abi::Told`].
    pub fn told(&mut self) -> Option<Vec<u8>> {
        self.changes.next().map(|told| told.to_vec())
    }

    /// Adds the entries of a flow of another node.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn adopt(&mut self, flow: &Adoption) -> anyhow::Result<()> {
        if flow.client.source.mapped().is_some() {
            add(&mut self.established, flow)
        } else {
            add(&mut self.established6, flow)
        }
    }

    fn counted_since(&self, before: &[u64]) -> anyhow::Result<Vec<(Reason, u64)>> {
        let after = self.packets()?;
        let counts = Reason::ALL.iter().zip(before.iter().zip(&after));
        let changed = counts.filter(|(_, (before, after))| before != after);
        Ok(changed.map(|(reason, (before, after))| (*reason, after - before)).collect())
    }

    /// The action that a reason calls for.
    fn action(&self, reason: Reason) -> u32 {
        if self.hook == Hook::Tc {
            return tc_action_of(reason);
        }
        match reason.verdict() {
            Verdict::Pass | Verdict::Deliver => action::PASS,
            Verdict::Drop => action::DROP,
            Verdict::Forward | Verdict::Reply if self.world.node.flags & node_flag::REDIRECT != 0 => action::REDIRECT,
            Verdict::Forward | Verdict::Reply => action::TX,
        }
    }
}

fn tc_action_of(reason: Reason) -> u32 {
    match reason.verdict() {
        Verdict::Pass | Verdict::Deliver => tc_action::UNSPECIFIED,
        Verdict::Drop => tc_action::SHOT,
        Verdict::Forward | Verdict::Reply => tc_action::REDIRECT,
    }
}

fn xdp_mut(program: &mut Ebpf) -> anyhow::Result<&mut Xdp> {
    let program = program.program_mut(XDP_PROGRAM).with_context(|| format!("no program named {XDP_PROGRAM}"))?;
    program.try_into().context("the program is not an XDP program")
}

fn tc_mut<'a>(program: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut SchedClassifier> {
    let program = program.program_mut(name).with_context(|| format!("no program named {name}"))?;
    program.try_into().context("the program is not a TC program")
}

/// The tables of an object that nobody has written.
fn nothing() -> World {
    World {
        node: Node::default(),
        sharing: Sharing::default(),
        vips: Vec::new(),
        own: Vec::new(),
        services: Vec::new(),
        backends: Vec::new(),
        rings: Vec::new(),
        fellows: Vec::new(),
        tunnels: Vec::new(),
        allowed: Vec::new(),
        limits: Vec::new(),
        full: Vec::new(),
        sources: Vec::new(),
        hints: false,
        leases: Vec::new(),
        capacity: 0,
    }
}

fn add<A: Address>(table: &mut HashMap<MapData, FlowKey<A>, Flow<A>>, flow: &Adoption) -> anyhow::Result<()>
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    let (there, back) = flow.entries();
    for (key, entry) in [Some(there), back].into_iter().flatten() {
        table.insert(key, entry, 0)?;
    }
    Ok(())
}

fn copy<A: Address>(table: &HashMap<MapData, FlowKey<A>, Flow<A>>) -> anyhow::Result<BTreeMap<FlowKey<A>, Flow<A>>>
where
    FlowKey<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    Ok(table.iter().collect::<Result<_, _>>()?)
}

fn empty<K: aya::Pod, V: aya::Pod>(table: &mut HashMap<MapData, K, V>) -> anyhow::Result<()> {
    let keys = table.keys().collect::<Result<Vec<_>, _>>()?;
    for key in keys {
        table.remove(&key)?;
    }
    Ok(())
}

fn zeroes<V: aya::Pod + Default>() -> anyhow::Result<PerCpuValues<V>> {
    let cpus = nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
    Ok(PerCpuValues::try_from((0..cpus).map(|_| V::default()).collect::<Vec<_>>())?)
}

/// Plays stories on the loaded program. One object is kept for each capacity, because loading takes a while.
#[derive(Default)]
pub struct Kernel {
    hook: Hook,
    loaded: BTreeMap<u32, Datapath>,
    capacity: u32,
}

impl Kernel {
    /// On CPU 0, to which the calling thread keeps from now on.
    ///
    /// # Errors
    /// When the thread cannot stay there.
    pub fn new(hook: Hook) -> anyhow::Result<Self> {
        stay_on_cpu(0)?;
        Ok(Self { hook, ..Self::default() })
    }

    /// The object in use.
    ///
    /// # Errors
    /// When no story has begun.
    pub fn datapath(&mut self) -> anyhow::Result<&mut Datapath> {
        self.loaded.get_mut(&self.capacity).context("no story has begun")
    }

    /// See [`Executor::begin`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_begin(&mut self, world: &World) -> anyhow::Result<()> {
        self.capacity = world.capacity;
        if !self.loaded.contains_key(&self.capacity) {
            self.loaded.insert(self.capacity, Datapath::load_hook(self.capacity, self.hook)?);
        }
        let datapath = self.datapath()?;
        datapath.forget()?;
        datapath.write(world)?;
        datapath.know_ports(world)
    }
}

impl Executor for Kernel {
    fn begin(&mut self, world: &World) {
        self.try_begin(world).expect("the kernel takes the tables");
    }

    fn change(&mut self, world: &World) {
        self.datapath().and_then(|datapath| datapath.write(world)).expect("the kernel takes the tables");
    }

    fn run(&mut self, frame: &[u8]) -> (Reason, Vec<u8>) {
        self.datapath().and_then(|datapath| datapath.run(frame)).expect("the kernel runs the frame")
    }

    fn leave(&mut self, frame: &[u8]) -> (Reason, Vec<u8>) {
        self.datapath().and_then(|datapath| datapath.leave(frame)).expect("the kernel runs the frame")
    }

    fn leave_home(&mut self, frame: &[u8]) -> (Reason, Vec<u8>) {
        self.datapath().and_then(|datapath| datapath.leave_home(frame)).expect("the kernel runs the frame")
    }

    fn adopt(&mut self, flow: &Adoption) {
        self.datapath().and_then(|datapath| datapath.adopt(flow)).expect("the kernel takes the entries");
    }
}
