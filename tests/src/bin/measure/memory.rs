//! What the agent and its tables cost: memory, processor time of going over the tables, and the size of the program.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aya::maps::{Array, HashMap, MapData};
use lb_ebpf::abi::{Backend, Direction, Flow, FlowKey, MAX_BACKENDS, map};
use lb_ebpf::net::Be16;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use xvip_tests::run::PIN_DIR;
use xvip_tests::status::Status;
use xvip_tests::stop::{self, say};
use xvip_tests::topology::VIP;
use xvip_tests::until::until;

use crate::table::{Row, print};
use crate::world::{Xvip, at_rest};

/// So many are written.
pub(crate) const FLOWS: u32 = 100_000;
/// How long processor time is watched.
const WATCHED: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Measures the agent that holds the VIP, first without flows, then with `FLOWS`.
pub(crate) fn measure(pair: &mut Xvip, xvip: &Path) -> Result<bool> {
    let holder = at_rest(pair)?;
    let agent = pair.agent(holder)?;
    let pid = agent.pid().context("the agent has ended")?;
    let status = agent.status()?;
    let pins = pins(&status);
    let bytes = fs::metadata(xvip)?.len();
    say(format!("size of {}: {bytes} bytes ({:.2} MiB)", xvip.display(), mib(bytes)));
    say("");

    let without = watch(pid)?;
    let maps_without = locked(&pins)?;
    report("no flows", &without);
    let before = established(&pins)?;
    let took = fill(&pins)?;
    say(format!(
        "{FLOWS} flows ({} entries) were written into the pinned table in {:.1} s",
        FLOWS * 2,
        took.as_secs_f64()
    ));
    until("the agent to count the flows", Duration::from_secs(30), || {
        let counted: u64 =
            agent.status().ok()?.services.first()?.backends.iter().map(|backend| backend.connections).sum();
        (counted >= u64::from(FLOWS)).then_some(())
    })?;
    let with = watch(pid)?;
    let maps_with = locked(&pins)?;
    let after = established(&pins)?;
    if after < before + FLOWS as usize * 2 {
        bail!("only {after} entries are left of {} and the {before} before", FLOWS * 2);
    }
    report(&format!("{FLOWS} flows"), &with);

    say("memory of the tables, locked by the kernel, KiB (no flows / with flows)");
    for (name, bytes) in &maps_without {
        let full = maps_with.get(name).copied().unwrap_or_default();
        say(format!("  {name:<14} {:>8} / {:>8}", bytes / 1024, full / 1024));
    }
    let sum = |maps: &BTreeMap<String, u64>| maps.values().sum::<u64>() / 1024;
    say(format!("  {:<14} {:>8} / {:>8}", "together", sum(&maps_without), sum(&maps_with)));
    say("");
    Ok(true)
}

/// The agent over a while.
struct Watched {
    rss: Vec<f64>,
    anonymous: Vec<f64>,
    peak_mib: f64,
    cpu_percent: f64,
    sweep_percent: f64,
    sweeps: Vec<f64>,
}

fn report(title: &str, found: &Watched) {
    say(format!(
        "{title}: over {} s the agent used {:.2} % of a processor, of which the sweeps {:.2} %; peak RSS {:.1} MiB",
        WATCHED.as_secs(),
        found.cpu_percent,
        found.sweep_percent,
        found.peak_mib
    ));
    print(&[
        Row::new("RSS, MiB", 1, found.rss.clone()),
        Row::new("RSS without the program's file, MiB", 1, found.anonymous.clone()),
        Row::new("processor time of a sweep, ms", 2, found.sweeps.clone()),
    ]);
    say("");
}

fn watch(pid: u32) -> Result<Watched> {
    let sweeper = thread_of(pid, "sweep")?;
    let (mut rss, mut anonymous, mut sweeps) = (Vec::new(), Vec::new(), Vec::new());
    let cpu = cpu_seconds(pid)?;
    let first = thread_ns(&sweeper)?;
    let (mut last, mut current) = (first, 0);
    let began = Instant::now();
    let mut next_look = Duration::ZERO;
    while began.elapsed() < WATCHED {
        if !stop::sleep(LOOK) {
            bail!("stopped");
        }
        // A sweep lasts as long as its thread's time grows from look to look.
        let now = thread_ns(&sweeper)?;
        if now > last {
            current += now - last;
        } else if current > 0 {
            sweeps.push(current as f64 / 1e6);
            current = 0;
        }
        last = now;
        if began.elapsed() >= next_look {
            next_look += Duration::from_secs(1);
            rss.push(field_mib(pid, "VmRSS")?);
            anonymous.push(field_mib(pid, "RssAnon")?);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Watched {
        rss,
        anonymous,
        peak_mib: field_mib(pid, "VmHWM")?,
        cpu_percent: (cpu_seconds(pid)? - cpu) / seconds * 100.0,
        sweep_percent: (last - first) as f64 / 1e9 / seconds * 100.0,
        sweeps,
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A field of /proc/PID/status in kB.
fn field_mib(pid: u32, name: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).context("reading status")?;
    Ok(kib / 1024.0)
}

/// Where the agent with this status has its tables.
pub(crate) fn pins(status: &Status) -> PathBuf {
    Path::new(PIN_DIR).join(&status.node)
}

/// User and system time of a process: fields 14 and 15 of /proc/PID/stat.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("reading stat")?;
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(ticks / per_second as f64)
}

fn thread_of(pid: u32, name: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        if fs::read_to_string(path.join("comm"))?.trim() == name {
            return Ok(path);
        }
    }
    bail!("the agent has no thread called {name}")
}

/// Nanoseconds a thread has run: the first field of its schedstat.
fn thread_ns(thread: &Path) -> Result<u64> {
    let text = fs::read_to_string(thread.join("schedstat"))?;
    text.split_whitespace().next().and_then(|field| field.parse().ok()).context("reading schedstat")
}

/// Bytes of each pinned map, as the kernel accounts them.
fn locked(pins: &Path) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(pins)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Tables are named in capitals; a link lies beside them.
        if name.contains(|letter: char| letter.is_ascii_lowercase()) {
            continue;
        }
        let map = MapData::from_pin(entry.path())?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
        let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
        found.insert(name, bytes.context("the kernel does not say what a map locks")?);
    }
    Ok(found)
}

fn table(pins: &Path) -> Result<HashMap<MapData, FlowKey, Flow>> {
    let data = MapData::from_pin(pins.join(map::ESTABLISHED))?;
    Ok(HashMap::try_from(aya::maps::Map::HashMap(data))?)
}

fn established(pins: &Path) -> Result<usize> {
    let mut entries = 0;
    for key in table(pins)?.keys() {
        key?;
        entries += 1;
    }
    Ok(entries)
}

/// Writes flows as the datapath would, evenly over the backends.
pub(crate) fn fill(pins: &Path) -> Result<Duration> {
    let backends: Array<MapData, Backend> =
        Array::try_from(aya::maps::Map::Array(MapData::from_pin(pins.join(map::BACKENDS))?))?;
    let mut slots = Vec::new();
    for slot in 0..MAX_BACKENDS {
        let backend = backends.get(&slot, 0)?;
        if backend.generation != 0 && backend.gone == 0 {
            slots.push((u16::try_from(slot)?, backend));
        }
    }
    if slots.is_empty() {
        bail!("the agent has no backend");
    }
    let vip: SocketAddrV4 = VIP.parse()?;
    let mut established = table(pins)?;
    let now = u32::try_from(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?.tv_sec())?;
    let began = Instant::now();
    for number in 0..FLOWS {
        let (slot, backend) = slots[number as usize % slots.len()];
        let key = FlowKey {
            source: Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number).into(),
            destination: (*vip.ip()).into(),
            source_port: Be16::new(40_000),
            destination_port: Be16::new(vip.port()),
        };
        let translated = FlowKey {
            source: (*vip.ip()).into(),
            destination: backend.endpoint.address.mapped().context("not IPv4")?,
            source_port: Be16::new(u16::try_from(1024 + number as usize / slots.len())?),
            destination_port: backend.endpoint.port,
        };
        let with = |flow: Flow| Flow {
            backend: slot,
            service: backend.service,
            generation: backend.generation,
            idle_seconds: 7200,
            ..flow
        };
        let there = with(Flow::new(&key, translated, Direction::ToBackend, now));
        let back = with(Flow::new(&translated.reversed(), key.reversed(), Direction::ToClient, now));
        established.insert(translated.reversed(), back, 0)?;
        established.insert(key, there, 0)?;
    }
    Ok(began.elapsed())
}
