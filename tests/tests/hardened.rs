//! What the agent may do: the limits of its systemd unit are enough for all it does, it gives up the rest by itself, and the
//! watchdog hears of it only while it lives as a whole. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "a test waits in real time")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{LIMIT, OFTEN, breaks, end, served_more, serving, settle, unstarted, wait, watches_open};
use nix::errno::Errno;
use xvip_tests::agent::{Agent, adapt};
use xvip_tests::scrape::get;
use xvip_tests::topology::Topology;
use xvip_tests::unit::Unit;

/// What systemd makes for the unit: RuntimeDirectory, StateDirectory, LogsDirectory.
const MADE: [&str; 3] = ["/run/xvip", "/var/lib/xvip", "/var/log/xvip"];

/// Numbers of what /proc/PID/status says of each thread of a process, under `name`.
fn of_threads(pid: u32, name: &str) -> Vec<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let value = |path: &Path| {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        u64::from_str_radix(value.trim(), 16).ok()
    };
    threads.filter_map(|thread| value(&thread.path())).collect()
}

#[track_caller]
fn reduced(agent: &mut Agent, capabilities: u64, seccomp: u64) {
    let pid = agent.pid().unwrap();
    for (name, expected) in [
        ("CapPrm", capabilities),
        ("CapEff", capabilities),
        ("CapBnd", capabilities),
        ("CapInh", 0),
        ("CapAmb", 0),
        ("NoNewPrivs", 1),
        ("Seccomp", seccomp),
    ] {
        let seen = of_threads(pid, name);
        assert!(seen.len() > 3 && seen.iter().all(|value| *value == expected), "{name}: {seen:x?}, not {expected:x}");
    }
}

#[track_caller]
fn done(agent: &Agent, words: &[&str]) {
    let (status, text) = agent.command(words).unwrap();
    assert!(status.success(), "{words:?}: {text}");
}

/// The balancer that has the VIP.
fn holder(topology: &Topology) -> usize {
    topology.owner().unwrap()
}

#[test]
fn the_limits_of_the_unit_are_enough() {
    let unit = Unit::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/xvip.service"))).unwrap();
    let mask = unit.capabilities().unwrap();
    let mut topology = unstarted(2, &[OFTEN]);
    // In place of /etc/xvip there is the directory of the run; the others systemd makes.
    for directory in MADE {
        fs::create_dir_all(directory).unwrap();
    }
    let run = topology.run.dir().to_owned();
    let writable: Vec<_> = MADE.iter().map(Path::new).chain([run.as_path()]).collect();
    let limits = unit.limits(&writable).unwrap();
    let flows = format!("{}/{}.log", MADE[2], topology.run.name());
    let log = format!("\n[flow_log]\npath = \"{flows}\"\n");
    // What a hook may do is what the agent may.
    let (hook, outside) = (run.join("hook"), Path::new("/var/xvip-hook-was-here"));
    let script =
        format!("#!/bin/sh\necho $XVIP_STATE >> {0}/states\necho > {1}\ntrue\n", run.display(), outside.display());
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let notify = format!("preempt = false\nnotify = [\"{}\"]\n", hook.display());
    for balancer in &mut topology.balancers {
        let agent = &mut balancer.agent;
        let config = fs::read_to_string(agent.config()).unwrap();
        agent.write_config(&(adapt(&config, &[("preempt = false", &notify)]).unwrap() + &log)).unwrap();
        agent.limited_by(&limits);
        agent.start().unwrap();
    }
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    for balancer in &mut topology.balancers {
        reduced(&mut balancer.agent, mask, 2);
    }
    let load = topology.load(Duration::from_millis(15), 6).unwrap();
    watches_open(&load);
    served_more(&load, 50);

    // Reloads and changes, one of them saved.
    let first = holder(&topology);
    let agent = &topology.balancers[first].agent;
    done(agent, &["reload"]);
    done(agent, &["backend", "drain", "master1"]);
    done(agent, &["backend", "enable", "master1"]);
    done(agent, &["backend", "weight", "master1", "2", "--save"]);
    assert!(fs::read_to_string(agent.config()).unwrap().contains("weight = 2"));
    served_more(&load, 50);

    // A restart, also after a kill.
    for is_killed in [false, true] {
        let agent = &mut topology.balancers[first].agent;
        match is_killed {
            true => agent.kill9().unwrap(),
            false => assert!(agent.hand_over(LIMIT).unwrap().success()),
        }
        agent.start().unwrap();
        topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
        served_more(&load, 20);
    }
    let sum = load.summary(Duration::ZERO, settle(&load));
    println!("{} attempts, failed: {}, longest pause {:?}", sum.attempts, sum.failures_in_words(), sum.outage);
    assert_eq!((sum.failed(), breaks(&load)), (0, vec![]), "{sum:?}");
    assert_eq!(holder(&topology), first);

    // The VIP moves, and moves back.
    for from in [first, 1 - first] {
        done(&topology.balancers[from].agent, &["vrrp", "step-down", "--hold", "1"]);
        wait("the VIP to move", || topology.owners() == [1 - from]);
        served_more(&load, 20);
    }
    let states = || fs::read_to_string(run.join("states")).unwrap_or_default();
    wait("the hooks", || states().matches("active").count() >= 3);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&run.join("states")), mode(Path::new(&flows))),
        (0o640, 0o640),
        "files of hooks, and the log of flows"
    );
    // By its own mode, whatever the mask of the unit.
    assert_eq!(mode(&Agent::socket_of(topology.balancers[first].agent.netns())), 0o660);
    assert!(!outside.exists(), "a hook can write anywhere");

    for balancer in &mut topology.balancers {
        assert!(balancer.agent.stop(LIMIT).unwrap().unwrap().success(), "{}", balancer.agent.log_tail(20));
    }
    drop(load);
    end(topology);
    let flows = fs::read_to_string(&flows).map(|lines| (fs::remove_file(&flows), lines.lines().count()));
    assert!(flows.as_ref().is_ok_and(|(_, lines)| *lines > 100), "{flows:?}");
    // As systemd does it; what was there before has something in it.
    for directory in [MADE[0], MADE[2]] {
        let _ = fs::remove_dir(directory);
    }
}

/// Stops one thread of another process, as long as this lives; the other threads go on.
struct Stopped(libc::pid_t);

impl Stopped {
    fn thread(pid: u32, name: &str) -> Stopped {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let named = |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let thread = threads.map(|thread| thread.path()).find(|path| named(path)).unwrap();
        let thread: libc::pid_t = thread.file_name().unwrap().to_str().unwrap().parse().unwrap();
        for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
            // SAFETY: numbers alone.
            Errno::result(unsafe { libc::ptrace(request, thread, 0_usize, 0_usize) }).unwrap();
        }
        // SAFETY: no status is asked for.
        Errno::result(unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) }).unwrap();
        Stopped(thread)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: numbers alone.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0_usize, 0_usize) };
    }
}

#[test]
fn the_watchdog_is_told_while_the_routers_live() {
    let mut topology = serving(1, &[OFTEN]);
    let agent = &mut topology.balancers[0].agent;
    let unit = Unit::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/xvip.service"))).unwrap();
    // Without a unit it has given up as much by itself.
    reduced(agent, unit.capabilities().unwrap(), 0);

    let socket = topology.run.dir().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_nonblocking(true).unwrap();
    let agent = &mut topology.balancers[0].agent;
    agent.hand_over(LIMIT).unwrap();
    agent.managed_by(&socket);
    agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let pings = || {
        let mut said = [0; 64];
        let mut pings = 0;
        while let Ok(length) = manager.recv(&mut said) {
            pings += usize::from(said[..length].starts_with(b"WATCHDOG=1"));
        }
        pings
    };
    wait("the watchdog to be told", || pings() > 0);
    let agent = &mut topology.balancers[0].agent;
    let stopped = Stopped::thread(agent.pid().unwrap(), "vrrp");
    // The control loop goes on and says so by itself, for a moment.
    let mut last = Instant::now();
    wait("silence towards the watchdog", || {
        if pings() > 0 {
            last = Instant::now();
        }
        last.elapsed() > Duration::from_secs(3)
    });
    assert!(topology.balancers[0].agent.status().is_ok(), "the rest of the agent does not answer");
    drop(stopped);
    wait("the watchdog to be told again", || pings() > 0);
    let netns = topology.balancers[0].agent.netns().clone();
    assert!(get(&netns, ([127, 0, 0, 1], 9910).into(), "/healthz").is_ok());
    drop(netns);
    end(topology);
}
