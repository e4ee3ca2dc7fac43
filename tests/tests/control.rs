//! The commands that change a running agent, who may give them, and what becomes of clients meanwhile. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::{LIMIT, OFTEN, breaks, end, served_more, serving, settle, streams_of, wait, watches_open};
use xvip_tests::agent::Agent;
use xvip_tests::status::Status;

/// What a command said, after this exit status.
#[track_caller]
fn said(agent: &Agent, exit: i32, line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let (status, text) = agent.command(&words).unwrap();
    assert_eq!(status.code(), Some(exit), "xvip {line}: {text}");
    println!("$ xvip {line}\n{}", text.trim_end());
    text
}

#[track_caller]
fn is(agent: &Agent, backend: &str, state: &str) {
    let status = agent.status().unwrap();
    assert_eq!(status.backend(backend).map(|backend| backend.state.as_str()), Some(state), "{backend}");
}

#[test]
fn backends_are_steered_under_load() {
    let mut topology = serving(1, &[OFTEN]);
    let load = topology.load(Duration::from_millis(15), 9).unwrap();
    watches_open(&load);
    let on3 = streams_of(&load, "master3");
    assert!(!on3.is_empty());
    let server = |name: &str| load.servers().iter().position(|known| known == name).unwrap() as u16;
    let (master1, master3) = (server("master1"), server("master3"));
    let agent = &mut topology.balancers[0].agent;
    let file = agent.config();
    let started_at = agent.status().unwrap().started_at;

    // Drained: nothing new, and nothing is touched that is there.
    let text = said(agent, 0, "backend drain master3");
    assert!(text.contains("apiserver/master3 drained on this node"), "{text}");
    is(agent, "master3", "draining");
    let from = load.now();
    served_more(&load, 50);
    let sum = load.summary(from, settle(&load));
    assert_eq!((sum.failed(), sum.by_server.get(&master3)), (0, None), "{sum:?}");
    assert_eq!(breaks(&load), []);
    assert_eq!(agent.status().unwrap().config.changes, ["apiserver/master3 drained"]);
    assert!(said(agent, 0, "backend drain master3").contains("drained already"));

    assert_eq!(agent.status().unwrap().started_at.to_bits(), started_at.to_bits(), "agents are told apart by it");

    // Disabled: its streams are told, and come to the others.
    said(agent, 0, "backend disable apiserver/master3");
    is(agent, "master3", "disabled");
    wait("the streams of master3 to be reset", || {
        let broken = breaks(&load);
        on3.iter().all(|stream| broken.iter().any(|(other, _)| other == stream))
    });
    assert!(breaks(&load).iter().all(|(stream, _)| on3.contains(stream)), "{:?}", breaks(&load));
    watches_open(&load);

    // Somebody always serves.
    said(agent, 0, "backend drain master2");
    let text = said(agent, 1, "backend disable master1");
    assert!(text.contains("no other backend of apiserver takes connections"), "{text}");
    said(agent, 1, "backend remove master1 --save");
    said(agent, 1, "backend weight master1 0");
    is(agent, "master1", "up");
    said(agent, 0, "backend enable master2");
    said(agent, 0, "backend enable master3");
    agent.wait_for("all to be up", LIMIT, Status::all_up).unwrap();

    // Weights.
    assert!(said(agent, 0, "backend weight master1 8").contains("weight 8, until the next reload"));
    let from = load.now();
    served_more(&load, 100);
    let sum = load.summary(from, settle(&load));
    let share = sum.by_server.get(&master1).copied().unwrap_or_default();
    assert!((70..=90).contains(&(share * 100 / sum.served)), "eight of ten: {sum:?}");

    // Removed and added, for now.
    said(agent, 0, "backend remove master3");
    said(agent, 0, "backend add spare 192.0.2.33:6443 --weight 2");
    assert_eq!(
        agent.status().unwrap().config.changes,
        [
            "apiserver/master1 has weight 8 instead of 1",
            "apiserver/spare added, 192.0.2.33:6443",
            "apiserver/master3 removed"
        ]
    );
    agent.wait_for("all to be up", LIMIT, Status::all_up).unwrap();
    let from = load.now();
    wait("the new one to be used", || load.summary(from, load.now()).by_server.contains_key(&master3));
    for (line, words) in [
        ("backend add spare 192.0.2.34:6443", "apiserver/spare is there already"),
        ("backend add other 192.0.2.33:6443", "is already a backend of this service"),
        ("backend add other [2001:db8::1]:6443", "give the backend one of the service's family"),
        ("backend drain master9", "there is no backend \"master9\"; there is apiserver/master1, apiserver/master2"),
        ("backend drain web/master1", "there is no service \"web\""),
    ] {
        let text = said(agent, 1, line);
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(said(agent, 0, "reload"), "applied\n");
    let status = agent.wait_for("all to be up", LIMIT, Status::all_up).unwrap();
    assert!(
        status.config.changes.is_empty() && status.backend("spare").is_none() && status.backend("master3").is_some()
    );

    // Saved: comments, order, mode and owner stay.
    let before = fs::read_to_string(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&file, None, Some(2345)).unwrap();
    said(agent, 0, "backend weight master2 3 --save");
    said(agent, 0, "backend add spare 192.0.2.34:6443 --save");
    let after = fs::read_to_string(&file).unwrap();
    let gone: Vec<_> = before.lines().filter(|line| !after.contains(line)).collect();
    assert!(gone.is_empty() && after.lines().count() == before.lines().count() + 5, "{after}");
    assert!(after.contains("\nname = \"master2\"\naddress = \"192.0.2.32:6443\"\nweight = 3\n"), "{after}");
    let meta = fs::metadata(&file).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 0, 2345));
    assert!(agent.status().unwrap().config.changes.is_empty());
    // One of another owner, too.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::chown(&file, Some(1234), None).unwrap();
    said(agent, 0, "backend remove spare --save");
    let meta = fs::metadata(&file).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o644, 1234, 2345));
    said(agent, 0, "reload");
    let status = agent.status().unwrap();
    assert!(status.backend("spare").is_none() && status.config.changes.is_empty());

    // Where the file cannot be written nothing is changed.
    let directory = file.parent().unwrap();
    let mode = fs::metadata(directory).unwrap().permissions();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o555)).unwrap();
    let text = said(agent, 1, "backend weight master2 5 --save");
    assert!(text.contains("cannot make ") && text.contains("chown root"), "{text}");
    assert!(agent.status().unwrap().config.changes.is_empty());
    fs::set_permissions(directory, mode).unwrap();

    // A file that somebody else has changed is not overwritten.
    let saved = fs::read_to_string(&file).unwrap();
    let changed = format!("{saved}# mine\n");
    agent.write_config(&changed).unwrap();
    let text = said(agent, 1, "backend weight master2 1 --save");
    assert!(text.contains("has changed since it was loaded"), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), changed);

    // A file with a fault.
    agent.write_config(&changed.replace("\nweight = 3\n", "\nweight = 300\n")).unwrap();
    let text = said(agent, 1, "reload");
    assert!(text.contains(&format!("{}:", file.display())) && text.contains("whole number from 0 to 256"), "{text}");

    let text = said(agent, 1, "vrrp step-down --hold 1");
    assert!(text.contains("nobody took over"), "{text}");

    // What happened, and by whom.
    let text = said(agent, 0, "events");
    let step_down = text.lines().find(|line| line.contains("step-down for 1 s: command of uid 0 (process "));
    assert!(step_down.is_some_and(|line| line.ends_with("nobody took over, so this node keeps it")), "{text}");
    assert!(text.contains("backend apiserver/master3  enabled -> drained: command of uid 0"), "{text}");
    assert!(text.contains("configuration  refused: command of uid 0"), "{text}");
    let json = said(agent, 0, "events --json");
    let events: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> = events.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
    assert!(events.iter().any(|event| event["from"] == "backup" && event["to"] == "active"));

    let sum = load.summary(Duration::ZERO, settle(&load));
    println!("{} connections meanwhile, {} failed", sum.attempts, sum.failed());
    assert_eq!(sum.failed(), 0, "{sum:?}");
    drop(load);
    end(topology);
}

#[test]
fn who_has_no_right_changes_nothing_and_disturbs_nobody() {
    let mut topology = serving(1, &[OFTEN]);
    let load = topology.load(Duration::from_millis(15), 2).unwrap();
    watches_open(&load);
    let agent = &mut topology.balancers[0].agent;
    let socket = Agent::socket_of(agent.netns());
    let look = socket.with_file_name(format!("{}-read.sock", agent.name()));
    let before = agent.status().unwrap();

    // Who may look sees all there is, and cannot even reach the other socket.
    let nobody = |line: &str| agent.command_of_nobody(&line.split(' ').collect::<Vec<_>>()).unwrap();
    let (status, text) = nobody("status --json");
    assert!(status.success(), "{text}");
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap().node, before.node);
    assert!(nobody("events").0.success());
    for line in ["backend disable master1", "backend remove master1 --save", "reload", "vrrp step-down"] {
        let (status, text) = nobody(line);
        assert_eq!(status.code(), Some(1), "{line}: {text}");
        assert!(text.contains("no permission to use"), "{line}: {text}");
    }
    // Nor is there a way through the socket that he may use.
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&look).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    for of in ["reload", "vrrp/step-down", "backend/disable?name=master1", "backend/remove?name=master1&save=true"] {
        let answer = ask(&format!("POST /v1/{of} HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }

    // Many who say nothing, begin and do not end, never read, or send lines without an end.
    let mut held = Vec::new();
    let endless = "x".repeat(300_000);
    #[allow(clippy::disallowed_methods, reason = "how long somebody is a nuisance, by the real clock")]
    let start = Instant::now();
    let mut answers = 0;
    while start.elapsed() < Duration::from_secs(6) {
        for words in ["", "GET /v1/st", "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n", &endless] {
            for to in [&look, &socket] {
                // A full queue is what this is about.
                let Ok(mut stream) = UnixStream::connect(to) else { continue };
                stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
                let _ = stream.write_all(words.as_bytes());
                held.push(stream);
            }
        }
        if held.len() > 400 {
            held.drain(..200);
        }
        let (status, text) = agent.command(&["status", "--json"]).unwrap();
        answers += u32::from(status.success() && text.starts_with('{'));
    }
    println!("{answers} answers beside {} connections that were held at the end", held.len());
    assert!(answers > 20, "the commands are answered all the while");
    drop(held);

    let agent = &mut topology.balancers[0].agent;
    let after = agent.status().unwrap();
    assert_eq!((after.config.reloads, after.config.reload_failures), (0, 0));
    assert!(after.config.changes.is_empty() && after.is_active() && after.all_up());
    assert_eq!(after.events.len(), before.events.len(), "nothing happened: {:?}", after.events);
    let sum = load.summary(Duration::ZERO, settle(&load));
    assert_eq!((sum.failed(), breaks(&load)), (0, Vec::new()), "{sum:?}");
    drop(load);
    end(topology);
}
