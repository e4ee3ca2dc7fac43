//! The socket and both ends of it, over real sockets in temporary directories.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::*;
use crate::config::{Edit, read_socket};
use crate::lock::LockFile;
use crate::status::example::example;

mod probing;

struct Agent {
    server: AdminServer,
    reloads: mpsc::Receiver<Order>,
    status: watch::Sender<Arc<Status>>,
}

async fn start(path: &Path) -> Result<Agent, ClaimError> {
    let (status, receiver) = watch::channel(Arc::new(example()));
    let (sender, reloads) = mpsc::channel(1);
    let access = Access { status: receiver, orders: sender, events: Reporter::default(), flows: Flows::default() };
    let admin = Admin { socket: path.to_owned(), read: Readers::Everyone };
    let server = listen(&admin, access).await?;
    Ok(Agent { server, reloads, status })
}

fn temporary() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Sends `request` as it is and returns everything that comes back until the other side closes.
async fn raw(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // The server may have answered and closed before it took everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn status_travels_whole_and_newest() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let agent = start(&path).await.unwrap();
    assert_eq!(fetch_status(&path).await.unwrap(), example());

    let mut newer = example();
    newer.node = "lb2".to_owned();
    agent.status.send_replace(Arc::new(newer.clone()));
    assert_eq!(fetch_status(&path).await.unwrap(), newer);
}

#[tokio::test]
async fn the_file_has_its_mode_and_goes_with_the_agent() {
    let dir = temporary();
    let path = dir.path().join("run/xvip/admin.sock");
    let agent = start(&path).await.unwrap();
    let meta = fs::symlink_metadata(&path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.mode() & 0o7777, 0o660);
    let parent = fs::metadata(path.parent().unwrap()).unwrap();
    // The umask of whoever runs this may take bits away, never add any.
    assert_eq!(parent.mode() & 0o7777 & !0o755, 0);

    agent.server.stop().await;
    assert!(!path.exists());
    assert!(fetch_status(&path).await.is_err());
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists());
    assert!(matches!(fetch_status(&path).await, Err(AdminError::NoAgent { .. })));
    let _agent = start(&path).await.unwrap();
    assert_eq!(fetch_status(&path).await.unwrap(), example());
}

#[tokio::test]
async fn a_living_agent_is_left_alone() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let _agent = start(&path).await.unwrap();
    let Err(error) = start(&path).await else {
        panic!("two agents on one socket");
    };
    assert!(matches!(error, ClaimError::InUse(_)));
    assert!(error.to_string().contains("another xvip is running here"));
    assert_eq!(fetch_status(&path).await.unwrap(), example());
}

#[tokio::test]
async fn of_agents_that_start_together_one_wins() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    drop(StdListener::bind(&path).unwrap());
    let starts = futures_util::future::join_all((0..8).map(|_| start(&path))).await;
    assert_eq!(starts.iter().filter(|s| s.is_ok()).count(), 1);
    assert!(starts.iter().all(|s| matches!(s, Ok(_) | Err(ClaimError::InUse(_)))));
    assert_eq!(fetch_status(&path).await.unwrap(), example());
}

#[tokio::test]
async fn a_claim_waits_for_the_one_under_way() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    drop(StdListener::bind(&path).unwrap());
    let other = LockFile::take(&dir.path().join(".admin.sock.lock")).unwrap();
    let early = timeout(Duration::from_millis(200), start(&path)).await;
    assert!(early.is_err(), "claimed while another agent was about to");
    drop(other);
    let _agent = start(&path).await.unwrap();
}

#[tokio::test]
async fn who_may_only_read_the_directory_keeps_no_agent_from_it() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let everybody = Flock::lock(fs::File::open(dir.path()).unwrap(), FlockArg::LockExclusive).unwrap();
    let agent = start(&path).await.unwrap();
    agent.server.stop().await;
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(names.is_empty(), "left behind: {names:?}");
    drop(everybody);
    // A lock that stays with somebody is named.
    let file = dir.path().join(".admin.sock.lock");
    let _other = LockFile::take(&file).unwrap();
    let Err(error) = start(&path).await else { panic!("two at once") };
    let words = format!("admin.socket: another process holds {0}: `fuser {0}` names it", file.display());
    assert_eq!(error.to_string(), words);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(start(&path).await, Err(ClaimError::NotASocket(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn the_socket_of_a_successor_is_not_removed() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let agent = start(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    fs::remove_file(read_socket(&path)).unwrap();
    let _successor = start(&path).await.unwrap();
    agent.server.stop().await;
    assert_eq!(fetch_status(&path).await.unwrap(), example());
}

#[tokio::test]
async fn a_path_too_long_is_an_error_that_names_the_key() {
    let dir = temporary();
    let path = dir.path().join("x".repeat(120));
    let Err(error) = start(&path).await else {
        panic!("the kernel takes 107 bytes");
    };
    assert!(error.to_string().starts_with("admin.socket: cannot listen on"));
}

#[tokio::test]
async fn reload_brings_its_outcome_back() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let mut agent = start(&path).await.unwrap();
    let faults = vec!["xvip.toml:7:1: unknown key".to_owned(), "and more".to_owned()];

    for outcome in [Ok(()), Err(faults)] {
        let expected = outcome.clone();
        let (asked, ()) = tokio::join!(request_reload(&path), async {
            let Order::Reload(request) = agent.reloads.recv().await.unwrap() else { panic!("something else") };
            request.reply.send(outcome).unwrap();
        });
        assert_eq!(asked.unwrap(), expected);
    }

    drop(agent.reloads);
    let error = request_reload(&path).await.unwrap_err();
    assert!(error.to_string().contains("the agent is stopping"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn reload_speaks_http() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let mut agent = start(&path).await.unwrap();
    let request = b"POST /v1/reload HTTP/1.1\r\nhost: x\r\n\r\n";
    let (text, ()) = tokio::join!(raw(&path, request), async {
        let Order::Reload(request) = agent.reloads.recv().await.unwrap() else { panic!("something else") };
        request.reply.send(Err(vec!["no".to_owned()])).unwrap();
    });
    assert!(text.starts_with("HTTP/1.1 422 "), "{text}");
    assert!(text.ends_with(r#"{"applied":false,"faults":["no"]}"#), "{text}");

    let get = raw(&path, b"GET /v1/reload HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(get.starts_with("HTTP/1.1 405 "), "{get}");
    for (other, words) in [("/v2/status", "speaks version 1"), ("/v1/forecast", "does not know this request")] {
        let other = raw(&path, format!("GET {other} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
        assert!(other.starts_with("HTTP/1.1 404 ") && other.contains("xvip-protocol: 1\r\n"), "{other}");
        assert!(other.contains(words), "{other}");
    }
}

#[tokio::test]
async fn the_tables_are_asked_for_in_words_that_mean_something() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let _agent = start(&path).await.unwrap();
    for (asked, code, words) in [
        ("connections?limit=0", 400, "limit is"),
        ("connections?service=none", 404, "there is no service"),
        ("connections?backend=none", 404, "there is no backend"),
        ("explain", 400, "client=ADDRESS:PORT is missing"),
        ("explain?client=192.0.2.10:1&listener=[2001:db8::1]:1", 400, "different IP versions"),
        // The agent of this test has no datapath.
        ("connections", 503, "the tables of flows cannot be read"),
        ("explain?client=192.0.2.10:1", 503, "the tables of flows cannot be read"),
    ] {
        let request = format!("GET /v1/{asked} HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = raw(&path, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")) && answer.contains(words), "{asked}: {answer}");
    }
}

#[tokio::test]
async fn a_request_too_long_is_refused() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let _agent = start(&path).await.unwrap();
    let mut request = b"GET /v1/status HTTP/1.1\r\nx: ".to_vec();
    request.resize(100 * 1024, b'a');
    let text = raw(&path, &request).await;
    assert!(!text.contains("200 OK"), "{text}");
    assert_eq!(fetch_status(&path).await.unwrap(), example());
}

#[tokio::test]
async fn clients_that_hold_connections_keep_nobody_out() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let _agent = start(&path).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..LIMITS.connections * 2 {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET /v1/st").await.unwrap();
        held.push(stream);
    }
    assert_eq!(fetch_status(&path).await.unwrap(), example());
}

#[tokio::test]
async fn no_agent() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let error = fetch_status(&path).await.unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("no agent answers on"), "{error}");
    assert!(error.to_string().contains("there is no such socket"), "{error}");
}

#[tokio::test]
async fn an_agent_that_hangs_does_not_answer() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let _silent = UnixListener::bind(&path).unwrap();
    let error = fetch_status(&path).await.unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("nothing came within 2 s"), "{error}");
    // It may come back: its socket stays its own.
    assert!(matches!(start(&path).await, Err(ClaimError::InUse(_))));
}

#[tokio::test]
async fn an_answer_that_is_no_status() {
    for (reply, what) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "missing field"),
        ("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", "500"),
        ("220 mail.example ESMTP\r\n", "invalid"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", ""),
        ("", ""),
    ] {
        let dir = temporary();
        let path = dir.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
        };
        let (result, ()) = tokio::join!(fetch_status(&path), serve);
        let error = result.unwrap_err();
        assert!(matches!(error, AdminError::Answer { .. }), "{reply}: {error}");
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains(what), "{reply}: {error}");
    }
}

#[tokio::test]
async fn a_socket_of_somebody_else() {
    if nix::unistd::geteuid().is_root() {
        // Root may use every socket; the mapping of the error is what is left to check.
        let error =
            client::unreachable_agent(Path::new("/x"), &std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert!(matches!(error, AdminError::Denied { .. }));
        return;
    }
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let _agent = start(&path).await.unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    assert!(matches!(fetch_status(&path).await, Err(AdminError::Denied { .. })));
}

#[tokio::test]
async fn who_may_only_look_hears_of_an_agent_that_died() {
    let dir = temporary();
    let (path, look) = (dir.path().join("admin.sock"), dir.path().join("admin-read.sock"));
    let of = |looked, is_there| client::of_both(path.clone(), looked, is_there);
    let dead = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let error = of(client::unreachable_agent(&look, &dead), true);
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("the socket is left from an agent that ended"), "{error}");
    for (kind, is_there) in [(std::io::ErrorKind::PermissionDenied, true), (std::io::ErrorKind::NotFound, false)] {
        let error = of(client::unreachable_agent(&look, &kind.into()), is_there);
        assert!(matches!(&error, AdminError::Denied { socket } if *socket == path), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
    if nix::unistd::geteuid().is_root() {
        // Nobody is kept out who is root.
        return;
    }
    drop((StdListener::bind(&path).unwrap(), StdListener::bind(&look).unwrap()));
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    assert_eq!(fetch_status(&path).await.unwrap_err().exit_code(), 3);
    fs::remove_file(&look).unwrap();
    assert_eq!(fetch_status(&path).await.unwrap_err().exit_code(), 1);
}

#[tokio::test]
async fn a_step_down_brings_every_outcome_back() {
    use crate::drivers::vrrp::Outcome;
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let mut agent = start(&path).await.unwrap();
    let hold = Duration::from_secs(60);
    let good = ("k8s".to_owned(), Outcome::HandedOver { to: [192, 0, 2, 22].into() });
    let bad = ("k8s6".to_owned(), Outcome::NobodyTookOver);
    for outcomes in [vec![good.clone()], vec![good, bad], vec![]] {
        let (asked, ()) = tokio::join!(request_step_down(&path, Some("k8s"), hold), async {
            let Order::StepDown(order, caller) = agent.reloads.recv().await.unwrap() else { panic!("something else") };
            assert_eq!((order.name.as_deref(), order.hold), (Some("k8s"), hold));
            assert!(caller.to_string().starts_with(&format!("uid {} (", nix::unistd::geteuid())), "{caller}");
            order.reply.send(outcomes.clone()).unwrap();
        });
        match asked.unwrap() {
            Ok(handovers) => {
                let done: Vec<_> = handovers.iter().map(|handover| (handover.name.as_str(), handover.done)).collect();
                let expected: Vec<_> =
                    outcomes.iter().map(|(name, outcome)| (name.as_str(), outcome.is_good())).collect();
                assert_eq!(done, expected);
            }
            Err(fault) => assert_eq!((outcomes.len(), fault.as_str()), (0, "there is no [[vrrp]] of the name \"k8s\"")),
        }
    }
    let text = raw(&path, b"POST /v1/vrrp/step-down?hold=x HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    drop(agent.reloads);
    let fault = request_step_down(&path, None, hold).await.unwrap().unwrap_err();
    assert_eq!(fault, "the agent is stopping");
}

#[tokio::test]
async fn who_may_look_changes_nothing() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let mut agent = start(&path).await.unwrap();
    let look = read_socket(&path);
    assert_eq!(look, dir.path().join("admin-read.sock"));
    assert_eq!(fs::symlink_metadata(&look).unwrap().mode() & 0o7777, 0o666);
    assert_eq!(fetch_status(&look).await.unwrap(), example());
    assert!(fetch_events(&look, 0).await.unwrap().events.is_empty());
    let refusals = [
        request_reload(&look).await.unwrap_err(),
        request_step_down(&look, None, Duration::ZERO).await.unwrap_err(),
        request_backend(&look, None, "a", &Change::Disable, false).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert!(refusal.to_string().contains("for looking only"), "{refusal}");
        assert_eq!(refusal.exit_code(), 1);
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "post"] {
        for of in ["reload", "backend/drain?name=a", "backend/remove?name=a", "vrrp/step-down", "status"] {
            let _ = raw(&look, format!("{method} /v1/{of} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
        }
    }
    for words in ["POST //v1/reload", "POST /v1/status/../reload", "POST /v1/%72eload", "POST http://x/v1/reload"] {
        let _ = raw(&look, format!("{words} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
    }
    assert!(agent.reloads.try_recv().is_err(), "nothing came through");
    agent.server.stop().await;
    assert!(!look.exists());
}

#[tokio::test]
async fn the_socket_for_looking_is_as_configured() {
    for (read, mode) in [(Readers::Group, Some(0o660)), (Readers::Nobody, None)] {
        let dir = temporary();
        let admin = Admin { socket: dir.path().join("admin.sock"), read };
        let (_sender, status) = watch::channel(Arc::new(example()));
        let access =
            Access { status, orders: mpsc::channel(1).0, events: Reporter::default(), flows: Flows::default() };
        let _server = listen(&admin, access).await.unwrap();
        let found = fs::symlink_metadata(admin.read_socket()).ok().map(|meta| meta.mode() & 0o7777);
        assert_eq!(found, mode);
    }
}

#[tokio::test]
async fn another_version_is_said_on_both_sides() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let _agent = start(&path).await.unwrap();
    let text = raw(&path, b"GET /v1/status HTTP/1.1\r\nhost: x\r\nxvip-protocol: 2\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("speaks version 1 of the protocol"), "{text}");

    let path = dir.path().join("newer.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        let reply = b"HTTP/1.1 400 Bad Request\r\nxvip-protocol: 2\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(reply).await.unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    };
    let (result, request) = tokio::join!(fetch_status(&path), serve);
    assert!(request.contains("xvip-protocol: 1\r\n"), "{request}");
    let error = result.unwrap_err();
    assert!(matches!(&error, AdminError::Version { theirs, .. } if theirs == "2"), "{error}");
    assert!(error.to_string().contains("speaks version 2 of the protocol, this xvip speaks 1"), "{error}");
}

#[tokio::test]
async fn a_backend_is_changed_and_every_outcome_comes_back() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let mut agent = start(&path).await.unwrap();
    let unsaved = Done { outcome: "api/a: removed".to_owned(), warning: Some("not saved".to_owned()) };
    for outcome in [Ok("api/a: removed".to_owned().into()), Ok(unsaved), Err(vec!["no".to_owned(), "never".to_owned()])]
    {
        let change = Change::Edit(Edit::Remove);
        let (asked, ()) = tokio::join!(request_backend(&path, Some("api"), "a", &change, true), async {
            let Order::Backend(order) = agent.reloads.recv().await.unwrap() else { panic!("something else") };
            assert_eq!((order.service.as_deref(), order.name.as_str(), order.save), (Some("api"), "a", true));
            assert_eq!(order.change, change);
            let uid = nix::unistd::geteuid();
            assert!(order.caller.to_string().starts_with(&format!("uid {uid} (process ")), "{}", order.caller);
            order.reply.send(outcome.clone()).unwrap();
        });
        assert_eq!(asked.unwrap(), outcome);
    }
    drop(agent.reloads);
    let error = request_backend(&path, None, "a", &Change::Drain, false).await.unwrap_err();
    assert!(error.to_string().contains("the agent is stopping"), "{error}");
}

#[tokio::test]
async fn events_are_told_from_a_number_on() {
    let dir = temporary();
    let path = dir.path().join("admin.sock");
    let (_sender, status) = watch::channel(Arc::new(example()));
    let events = Reporter::default();
    let access = Access { status, orders: mpsc::channel(1).0, events: events.clone(), flows: Flows::default() };
    let admin = Admin { socket: path.clone(), read: Readers::Nobody };
    let _server = listen(&admin, access).await.unwrap();
    for n in 1..=3 {
        events.report("datapath".to_owned(), n.to_string());
    }
    let page = fetch_events(&path, 1).await.unwrap();
    assert_eq!(page.started_at, example().started_at);
    assert_eq!(page.events.iter().map(|event| event.text.as_str()).collect::<Vec<_>>(), ["2", "3"]);
    assert!(fetch_events(&path, u64::MAX).await.unwrap().events.is_empty());
    let text = raw(&path, b"GET /v1/events?after=x HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
}
