//! `xvip capture`: packets before and after the datapath, by XDP and by TC, while nobody notices. Needs root and tshark.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{LIMIT, OFTEN, breaks, curl, end, served_more, serving, serving_both, settle, wait, watches_open};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use xvip_tests::agent::{self, Agent};
use xvip_tests::bpf::Translated;
use xvip_tests::client::Client;
use xvip_tests::ipv6::{self, tshark};
use xvip_tests::process::{Process, output_within, thread_of};
use xvip_tests::run::Run;
use xvip_tests::topology::{CLIENT, Topology, VIP_ADDRESS, has_vip};
use xvip_tests::until::until;

/// What a packet says in a file: interface, source, destination, flags of TCP, comment.
type Row = (String, String, String, String, String);

fn rows(file: &Path, filter: &str) -> Vec<Row> {
    let fields = ["frame.interface_name", "ip.src", "ip.dst", "tcp.flags", "frame.comment"];
    let rows = tshark(file, filter, &fields).unwrap();
    let row = |row: Vec<String>| {
        let mut fields = row.into_iter().map(|field| field.to_ascii_lowercase());
        let mut next = || fields.next().unwrap_or_default();
        (next(), next(), next(), next(), next())
    };
    rows.into_iter().map(row).collect()
}

/// `xvip capture` with these words, that goes on.
fn capturing(agent: &Agent, words: &[&str]) -> Process {
    let mut command = agent.netns().command(agent::find().unwrap());
    command.arg("capture").args(words).arg("--socket").arg(Agent::socket_of(agent.netns()));
    Process::spawn(agent.netns().run(), "capture", command).unwrap()
}

/// The same until it ends by itself; what it said.
#[track_caller]
fn captured(agent: &Agent, words: &[&str]) -> String {
    let (status, text) = agent.command(&[&["capture"], words].concat()).unwrap();
    assert!(status.success(), "{words:?}: {text}");
    text
}

fn told(agent: &Agent, text: &str) -> usize {
    agent.status().unwrap().events.iter().filter(|event| event.text.contains(text)).count()
}

fn has_ended(agent: &Agent, times: usize) -> bool {
    told(agent, "packets are not shown any more") >= times
}

/// How often the program that serves names the table by which it shows packets. Functions that nobody calls are gone as well
/// since Linux 6.8.
fn shows(agent: &Agent) -> usize {
    let translated = Translated::of(agent.status().unwrap().datapath.program_id).unwrap();
    println!("{} instructions, which name CAPTURED {} times", translated.code.len(), translated.uses("CAPTURED"));
    assert!(translated.uses("ESTABLISHED") > 0, "{:?}", translated.maps);
    translated.uses("CAPTURED")
}

/// `xvip capture` into a pipe that has room for little and that nobody reads.
fn capturing_for_nobody(agent: &Agent) -> (Process, fs::File) {
    let fifo = agent.netns().run().dir().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
    fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut command = agent.netns().command("sh");
    command.args(["-c", "exec \"$@\" >\"$0\""]).arg(&fifo).arg(agent::find().unwrap());
    command.arg("capture").arg("--socket").arg(Agent::socket_of(agent.netns()));
    (Process::spawn(agent.netns().run(), "paused", command).unwrap(), reader)
}

/// Whether its thread that writes waits in write(2).
fn waits_for_a_reader(process: &Process) -> bool {
    let in_write = |thread: u32| {
        let call = fs::read_to_string(format!("/proc/{}/task/{thread}/syscall", process.pid())).unwrap_or_default();
        call.starts_with(&format!("{} 0x1 ", libc::SYS_write))
    };
    thread_of(process.pid(), "output").is_some_and(in_write)
}

/// A handshake is in the file as the client has it and as the backend has it.
#[track_caller]
fn both_sides_of_handshakes(file: &Path, place: &str) {
    let syns = rows(file, "tcp.flags.syn == 1 && ip");
    let entered: BTreeSet<_> = syns.iter().filter(|row| row.0 == format!("eth0 {place} enters")).collect();
    let left: BTreeSet<_> = syns.iter().filter(|row| row.0 == format!("eth0 {place} left")).collect();
    let is = |row: &&&Row, source: Option<&str>, destination: Option<&str>, comment: &str| {
        source.is_none_or(|source| row.1 == source)
            && destination.is_none_or(|destination| row.2 == destination)
            && row.4 == comment
    };
    let count = |rows: &BTreeSet<&Row>, source, destination, comment| {
        rows.iter().filter(|row| is(row, source, destination, comment)).count()
    };
    assert!(count(&entered, Some(CLIENT), Some(VIP_ADDRESS), "forward new_flow") > 0, "{entered:?}");
    assert!(count(&left, Some(VIP_ADDRESS), None, "forward new_flow") > 0, "{left:?}");
    assert_eq!(count(&left, Some(CLIENT), None, "forward new_flow"), 0, "the source is translated: {left:?}");
    assert!(count(&entered, None, Some(VIP_ADDRESS), "forward handshake") > 0, "{entered:?}");
    assert!(count(&left, Some(VIP_ADDRESS), Some(CLIENT), "forward handshake") > 0, "{left:?}");
    // Checksums are as they left, or open for the device to finish.
    let wrong = rows(file, "ip.checksum.status == 0");
    assert_eq!(wrong, [], "{place}");
}

/// No connection failed and no stream broke since.
#[track_caller]
fn nothing_was_noticed(load: &Client, from: Duration) {
    served_more(load, 20);
    let sum = load.summary(from, settle(load));
    assert_eq!(sum.failed(), 0, "{}", sum.failures_in_words());
    assert_eq!(breaks(load), []);
}

fn loaded(topology: &Topology) -> Client {
    let load = topology.load(Duration::from_millis(20), 6).unwrap();
    watches_open(&load);
    served_more(&load, 10);
    load
}

#[test]
fn packets_are_shown_by_xdp() {
    let (topology, servers) = serving_both(1, &[OFTEN]);
    let agent = &topology.balancers[0].agent;
    let load = loaded(&topology);
    let from = load.now();
    // Nothing of it is there while nobody looks, nor for a file that there cannot be.
    assert_eq!(shows(agent), 0);
    let (status, text) = agent.command(&["capture", "--write", "/none/xdp.pcapng"]).unwrap();
    assert!(status.code() == Some(1) && text.contains("/none/xdp.pcapng: "), "{text}");
    assert_eq!(told(agent, "packets are shown"), 0);

    let file = topology.run.dir().join("xdp.pcapng");
    let said = captured(agent, &["--write", file.to_str().unwrap(), "--count", "300"]);
    both_sides_of_handshakes(&file, "xdp");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "what packets carry");
    assert!(said.contains("300 packets captured"), "{said}");
    wait("the end to be told", || has_ended(agent, 1));
    assert_eq!(shows(agent), 0);

    // Of IPv6, and only what was asked for.
    let mut process = capturing(agent, &["--address", ipv6::CLIENT]);
    let url = format!("https://[{}]:8443/whoami", ipv6::VIP);
    wait("a connection to be shown", || {
        curl(&topology.client, &topology.authority.ca_file(), &[], &url);
        process.log_tail(200).contains(&format!("[{}]:8443 SYN  ->  forward new_flow: ", ipv6::VIP))
    });
    assert!(!process.log_tail(200).contains(CLIENT), "{}", process.log_tail(200));
    assert!(shows(agent) > 0);

    // One at a time; and one that is gone without a word does not keep the others out for long.
    let (status, text) = agent.command(&["capture", "--count", "1"]).unwrap();
    let refused = format!("packets are shown to uid 0 (process {}) already: end that one, or wait", process.pid());
    assert!(status.code() == Some(1) && text.contains(&refused), "{text}");
    process.kill9().unwrap();
    wait("a dead one to be forgotten", || has_ended(agent, 2));
    let (status, text) = agent.command(&["capture", "--count", "1"]).unwrap();
    assert!(status.success() && text.contains("  ->  "), "{text}");
    let (status, text) = agent.command_of_nobody(&["capture"]).unwrap();
    assert!(status.code() == Some(1) && text.contains("permission"), "{text}");

    // A signal ends one that waits for its reader.
    wait("the end to be told", || has_ended(agent, 3));
    let (mut process, reader) = capturing_for_nobody(agent);
    wait("the pipe to be full", || waits_for_a_reader(&process));
    process.signal(Signal::SIGINT).unwrap();
    assert!(process.wait(LIMIT).unwrap().success(), "{}", process.log_tail(5));
    assert!(process.log_tail(5).contains("packets captured"), "{}", process.log_tail(5));
    wait("the end to be told", || has_ended(agent, 4));
    drop(reader);
    nothing_was_noticed(&load, from);
    drop((load, servers));
    end(topology);
}

#[test]
fn packets_are_shown_by_tc() {
    let mut topology = serving(1, &[OFTEN, ("datapath = \"xdp\"", "datapath = \"tc\"")]);
    let load = loaded(&topology);
    let from = load.now();
    let file = topology.run.dir().join("tc.pcapng");
    assert_eq!(shows(&topology.balancers[0].agent), 0);
    let mut process = capturing(&topology.balancers[0].agent, &["--write", file.to_str().unwrap()]);
    wait("packets in the file", || fs::metadata(&file).is_ok_and(|meta| meta.len() > 50_000));
    assert!(shows(&topology.balancers[0].agent) > 0);
    // The agent may be started anew meanwhile, and goes on to show packets.
    let before = topology.balancers[0].agent.status().unwrap().started_at;
    topology.balancers[0].agent.hand_over(LIMIT).unwrap();
    topology.balancers[0].agent.start().unwrap();
    wait("the next agent to show packets", || {
        let status = topology.balancers[0].agent.status();
        status.is_ok_and(|status| {
            let is_asked = status.events.iter().any(|event| event.text.contains("packets are shown to"));
            status.started_at > before && is_asked
        })
    });
    let so_far = fs::metadata(&file).unwrap().len();
    wait("more packets in the file", || fs::metadata(&file).unwrap().len() > so_far + 50_000);
    process.signal(Signal::SIGINT).unwrap();
    assert!(process.wait(LIMIT).unwrap().success(), "{}", process.log_tail(5));
    both_sides_of_handshakes(&file, "tc");
    let agent = &topology.balancers[0].agent;
    wait("the end to be told", || has_ended(agent, 1));
    nothing_was_noticed(&load, from);
    drop(load);
    end(topology);
}

/// Gives a thread what nobody else wants of the CPUs, or its share again.
fn starve(thread: u32, is_starved: bool) {
    let mut chrt = Command::new("chrt");
    chrt.args([if is_starved { "--idle" } else { "--other" }, "--pid", "0"]).arg(thread.to_string());
    assert!(output_within(chrt, LIMIT).unwrap().0.success());
}

#[test]
fn a_vip_comes_while_the_datapath_is_loaded() {
    let mut topology = serving(2, &[OFTEN]);
    let holder = topology.owner().unwrap();
    let other = 1 - holder;
    let pid = topology.balancers[other].agent.pid().unwrap();
    let loading = || thread_of(pid, "loading");
    let spin = || {
        let mut spin = Command::new("nice");
        spin.args(["-n", "10", "sh", "-c", "while :; do :; done"]);
        Process::spawn(&topology.run, "spin", spin).unwrap()
    };
    let cpus = std::thread::available_parallelism().unwrap().get();
    let spinning: Vec<_> = (0..cpus).map(|_| spin()).collect();
    let mut process = capturing(&topology.balancers[other].agent, &["--all", "--count", "1"]);
    let thread = until("the datapath to be loaded", LIMIT, loading).unwrap();
    starve(thread, true);
    topology.balancers[holder].agent.kill9().unwrap();
    let netns = topology.balancers[other].agent.netns().clone();
    wait("the VIP on the other node", || has_vip(&netns));
    assert_eq!(loading(), Some(thread), "it was loaded too soon to tell");
    topology.balancers[other].agent.wait_for("to be active", LIMIT, |status| status.is_active()).unwrap();
    starve(thread, false);
    drop((spinning, netns));
    assert!(process.wait(LIMIT).unwrap().success(), "{}", process.log_tail(5));
    end(topology);
}

#[test]
fn a_signal_ends_it_while_the_agent_does_not_answer() {
    let run = Run::start().unwrap();
    let socket = run.dir().join("deaf.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut command = Command::new(agent::find().unwrap());
    command.arg("capture").arg("--socket").arg(&socket);
    let mut process = Process::spawn(&run, "capture", command).unwrap();
    let asked = until("the first request", LIMIT, || listener.accept().ok()).unwrap();
    process.signal(Signal::SIGTERM).unwrap();
    // It says that it ends, and is told a second time.
    let ending = until("the last request", LIMIT, || listener.accept().ok()).unwrap();
    process.signal(Signal::SIGTERM).unwrap();
    assert!(process.wait(LIMIT).unwrap().success(), "{}", process.log_tail(5));
    drop((asked, ending));
}
