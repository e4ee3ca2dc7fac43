//! The driver against real servers on the loopback.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncWriteExt;

use super::*;
use crate::config::{Backend, Balance, CheckKind, HttpCheck, Local, ServiceMode, TlsCheck};
use crate::probe::servers::*;

const INTERVAL: Duration = Duration::from_millis(60);
/// Longer than the interval: a busy machine must not fail a check that is not meant to fail.
const TIMEOUT: Duration = Duration::from_secs(10);

fn http() -> HttpCheck {
    HttpCheck { path: "/readyz".to_owned(), host: None, expect_status: vec![200] }
}

/// Service `api` with rise 2 and fall 3, so quick that a test need not wait.
fn service(kind: CheckKind, backends: &[(&str, SocketAddr)]) -> Service {
    let backend = |(name, address): &(&str, SocketAddr)| Backend {
        name: (*name).to_owned(),
        address: *address,
        weight: 1,
        max_connections: 0,
        duty: Default::default(),
    };
    Service {
        name: "api".to_owned(),
        listen: vec![SocketAddr::from(([192, 0, 2, 100], 8443)).into()],
        local: Local::Prefer,
        balance: Balance::RoundRobin,
        hash_key: None,
        max_connections: 0,
        slow_start: None,
        drain_timeout: None,
        mode: ServiceMode::Snat,
        idle_timeout: Duration::from_secs(7200),
        allow: vec![],
        source_limit: None,
        health_check: HealthCheck { kind, port: None, interval: INTERVAL, timeout: TIMEOUT, rise: 2, fall: 3 },
        backends: backends.iter().map(backend).collect(),
    }
}

fn targets(service: &Service) -> Vec<Target> {
    Target::of_service(service, None).unwrap()
}

/// Waits until the health of `backend` is as wanted, and returns it.
async fn until(
    health: &watch::Receiver<HealthSnapshot>, backend: &str, wanted: impl Fn(&BackendHealth) -> bool,
) -> BackendHealth {
    let poll = async {
        loop {
            if let Some(b) = health.borrow().backend("api", backend).filter(|b| wanted(b)) {
                return b.clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(20), poll).await {
        Ok(found) => found,
        Err(_) => panic!("{backend} never came to be as wanted: {:?}", health.borrow()),
    }
}

fn count(health: &BackendHealth, result: &str) -> u64 {
    health.results.get(result).copied().unwrap_or(0)
}

fn checks(health: &BackendHealth) -> u64 {
    health.results.values().sum()
}

fn is(state: State) -> impl Fn(&BackendHealth) -> bool {
    move |b| b.state == state
}

const UP: State = State::Up;
const DOWN: State = State::Down { lost: false };
const LOST: State = State::Down { lost: true };

/// A server that answers 200 or 500 as told at the time.
async fn switchable() -> (Server, Arc<AtomicBool>) {
    let ready = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&ready);
    let server = Server::start(move |_, mut stream| {
        let ready = Arc::clone(&ready);
        async move {
            while read_request(&mut stream).await.is_some() {
                let answer = if ready.load(Ordering::SeqCst) { OK } else { NOT_READY };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (server, switch)
}

/// Remembers what it was told.
#[derive(Default)]
struct Notes {
    checked: Mutex<Vec<(String, &'static str)>>,
    changed: Mutex<Vec<String>>,
}

impl Observer for Notes {
    fn checked(&self, service: &str, backend: &str, result: &'static str, _took: Duration) {
        self.checked.lock().unwrap().push((format!("{service}/{backend}"), result));
    }
    fn changed(&self, service: &str, backend: &str, transition: &Transition) {
        self.changed.lock().unwrap().push(format!("{service}/{backend} {transition}"));
    }
}

#[tokio::test]
async fn not_ready_is_out_at_the_first_answer_and_back_after_rise() {
    let (server, ready) = switchable().await;
    let notes = Arc::new(Notes::default());
    let driver = HealthDriver::spawn(Arc::<Notes>::clone(&notes), None);
    let health = driver.subscribe();
    assert!(health.borrow().iter().next().is_none());
    assert_eq!(health.borrow().state("api", "m1"), State::Unchecked);
    driver.set_targets(targets(&service(CheckKind::Http(http()), &[("m1", server.address)])));

    let up = until(&health, "m1", is(UP)).await;
    assert!(up.last_duration.is_some() && up.checked_at.is_some());

    ready.store(false, Ordering::SeqCst);
    let down = until(&health, "m1", is(DOWN)).await;
    assert_eq!(count(&down, "not_ready"), 1, "the first answer takes it out");
    assert!(down.reason.contains("500"), "{}", down.reason);
    assert!(down.since > up.since);

    ready.store(true, Ordering::SeqCst);
    until(&health, "m1", is(UP)).await;
    assert_eq!(server.connections(), 1, "all over one connection");
    driver.shutdown().await;

    let checked = notes.checked.lock().unwrap();
    assert!(checked.iter().all(|(key, _)| key == "api/m1"));
    // In at the first answer, out at the first other answer, back after two.
    let row: Vec<_> = checked.iter().map(|(_, result)| *result).collect();
    assert_eq!(row.first(), Some(&"ready"));
    let last_bad = row.iter().rposition(|r| *r == "not_ready").unwrap();
    assert!(row.len() >= last_bad + 3, "{row:?}");
    assert_eq!(
        *notes.changed.lock().unwrap(),
        [
            "api/m1 unchecked -> up: answered 200 at the first check",
            "api/m1 up -> down: answered 500: not ready, by its own word",
            "api/m1 down -> up: answered 200, 2 in a row",
        ]
    );
}

#[tokio::test]
async fn refusal_follows_fall_and_loses_connections() {
    let server = Server::http(OK).await;
    let address = server.address;
    let driver = HealthDriver::spawn(Arc::new(()), None);
    let health = driver.subscribe();
    driver.set_targets(targets(&service(CheckKind::Tcp, &[("m1", address)])));
    until(&health, "m1", is(UP)).await;
    drop(server);
    let lost = until(&health, "m1", is(LOST)).await;
    assert!(count(&lost, "refused") >= 3);
    assert!(lost.reason.starts_with("connection refused ("), "{}", lost.reason);
    driver.shutdown().await;
    assert!(health.has_changed().is_err(), "nobody publishes any more");
}

#[tokio::test]
async fn a_suspect_is_checked_at_once_and_only_checks_take_it_down() {
    let server = Server::http(OK).await;
    let mut seldom = service(CheckKind::Tcp, &[("m1", server.address), ("m2", server.address)]);
    seldom.health_check.interval = Duration::from_secs(3600);
    let driver = HealthDriver::spawn(Arc::new(()), None);
    let health = driver.subscribe();
    driver.set_targets(targets(&seldom));
    until(&health, "m1", is(UP)).await;
    until(&health, "m2", is(UP)).await;

    driver.suspect("api", "m1");
    driver.suspect("api", "nobody");
    let answered = until(&health, "m1", |b| checks(b) >= 2).await;
    assert_eq!((answered.state, count(&answered, "ready")), (UP, 2), "it answers");
    drop(server);
    let down = async {
        // Suspicions that come too soon after others are let go.
        while health.borrow().state("api", "m1") == UP {
            driver.suspect("api", "m1");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), down).await.unwrap();
    let down = until(&health, "m1", is(DOWN)).await;
    assert_eq!(count(&down, "refused"), 3);
    assert_eq!(health.borrow().state("api", "m2"), UP, "nobody suspects it");
    driver.shutdown().await;
}

#[tokio::test]
async fn a_backend_that_accepts_and_hangs_keeps_its_connections() {
    let server = Server::start(|_, stream| hang(stream)).await;
    let mut hanging = service(CheckKind::Tls(TlsCheck::default()), &[("m1", server.address)]);
    hanging.health_check.timeout = Duration::from_millis(200);
    let driver = HealthDriver::spawn(Arc::new(()), None);
    let health = driver.subscribe();
    driver.set_targets(targets(&hanging));
    let down = until(&health, "m1", |b| count(b, "timeout_handshake") >= 5).await;
    assert_eq!(down.state, DOWN);
}

#[tokio::test]
async fn one_slow_backend_delays_nobody() {
    let hole = Blackhole::new();
    let good = Server::http(OK).await;
    let mut slow =
        service(CheckKind::Http(http()), &[("m1", hole.address), ("m2", hole.address), ("m3", good.address)]);
    slow.health_check.timeout = Duration::from_secs(60);
    let driver = HealthDriver::spawn(Arc::new(()), None);
    let health = driver.subscribe();
    driver.set_targets(targets(&slow));
    let busy = until(&health, "m3", |b| checks(b) >= 20).await;
    assert_eq!((busy.state, count(&busy, "ready")), (UP, checks(&busy)));
    for hanging in ["m1", "m2"] {
        assert_eq!(health.borrow().state("api", hanging), State::Unchecked, "its first check is still under way");
    }
}

#[tokio::test]
async fn unchanged_backends_keep_history_and_connection() {
    let (kept, gone, moved) = (Server::http(OK).await, Server::http(OK).await, Server::http(OK).await);
    let driver = HealthDriver::spawn(Arc::new(()), None);
    let health = driver.subscribe();
    let check = CheckKind::Http(http());
    driver.set_targets(targets(&service(
        check.clone(),
        &[("m1", kept.address), ("m2", gone.address), ("m3", gone.address)],
    )));
    for backend in ["m1", "m2", "m3"] {
        until(&health, backend, |b| checks(b) >= 3).await;
    }
    let before = until(&health, "m1", is(UP)).await;

    driver.set_targets(targets(&service(
        check.clone(),
        &[("m4", moved.address), ("m3", moved.address), ("m1", kept.address)],
    )));
    until(&health, "m4", is(UP)).await;
    let m1 = until(&health, "m1", |b| checks(b) > checks(&before)).await;
    assert_eq!(m1.since, before.since);
    assert_eq!(kept.connections(), 1);
    assert!(health.borrow().backend("api", "m2").is_none());
    let m3 = until(&health, "m3", is(UP)).await;
    assert!(m3.since > before.since, "another address is another backend");
    let names: Vec<_> = health.borrow().iter().map(|(s, b, _)| format!("{s}/{b}")).collect();
    assert_eq!(names, ["api/m1", "api/m3", "api/m4"]);

    // Another check is another judgement.
    let mut other = service(check, &[("m1", kept.address)]);
    other.health_check.fall = 4;
    driver.set_targets(targets(&other));
    until(&health, "m1", |b| b.since > before.since && b.state == UP).await;
}

#[tokio::test]
async fn a_changed_ca_file_takes_effect_and_keeps_history() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = Server::https(old.server(old.issue("127.0.0.1")), OK).await;
    let tls = TlsCheck { ca_file: Some(old.file()), ..TlsCheck::default() };
    let service = service(CheckKind::Https(http(), tls), &[("m1", server.address)]);
    let driver = HealthDriver::spawn(Arc::new(()), None);
    let health = driver.subscribe();
    driver.set_targets(targets(&service));
    let before = until(&health, "m1", |b| checks(b) >= 2).await;

    driver.set_targets(targets(&service));
    until(&health, "m1", |b| checks(b) > checks(&before) + 1).await;
    assert_eq!(server.connections(), 1, "the same file again changes nothing");

    std::fs::copy(new.file(), old.file()).unwrap();
    driver.set_targets(targets(&service));
    let failing = until(&health, "m1", |b| count(b, "tls_failed") >= 1).await;
    assert!(checks(&failing) > checks(&before), "the count goes on");
    assert_eq!((failing.state, failing.since), (UP, before.since), "one failure of three");
    let down = until(&health, "m1", is(DOWN)).await;
    assert_eq!(count(&down, "tls_failed"), 3);
}

#[tokio::test]
async fn a_service_whose_files_are_missing_is_refused_by_name() {
    let tls = TlsCheck { ca_file: Some("/nonexistent/ca.pem".into()), ..TlsCheck::default() };
    let service = service(CheckKind::Tls(tls), &[("m1", "127.0.0.1:1".parse().unwrap())]);
    let text = Target::of_service(&service, None).unwrap_err().to_string();
    assert!(text.starts_with("health check of service api: CA file /nonexistent/ca.pem: "), "{text}");
}

#[tokio::test]
async fn receivers_are_woken_by_changes_and_not_by_checks() {
    let (server, ready) = switchable().await;
    let driver = HealthDriver::spawn(Arc::new(()), None);
    let mut health = driver.subscribe();
    driver.set_targets(targets(&service(CheckKind::Http(http()), &[("m1", server.address)])));
    until(&health, "m1", is(UP)).await;
    health.mark_unchanged();
    let seen = health.borrow().backend("api", "m1").map_or(0, checks);
    until(&health, "m1", |b| checks(b) >= seen + 3).await;
    assert!(!health.has_changed().unwrap());
    ready.store(false, Ordering::SeqCst);
    health.changed().await.unwrap();
    assert_eq!(health.borrow().state("api", "m1"), DOWN);
}

#[tokio::test]
async fn dropping_the_handle_ends_all_checks() {
    let server = Server::http(OK).await;
    let driver = HealthDriver::spawn(Arc::new(()), None);
    let mut health = driver.subscribe();
    driver.set_targets(targets(&service(CheckKind::Http(http()), &[("m1", server.address)])));
    until(&health, "m1", is(UP)).await;
    drop(driver);
    while health.changed().await.is_ok() {}
}

#[tokio::test]
async fn a_check_that_cannot_be_made_changes_nothing() {
    let server = Server::http(OK).await;
    let service = service(CheckKind::Http(http()), &[("m1", server.address)]);
    let driver = HealthDriver::spawn(Arc::new(()), None);
    let health = driver.subscribe();
    driver.set_targets(targets(&service));
    let before = until(&health, "m1", is(UP)).await;
    // Not an address of this host.
    driver.set_targets(Target::of_service(&service, Some([192, 0, 2, 77].into())).unwrap());
    let after = until(&health, "m1", |b| count(b, "not_asked") >= 5).await;
    assert_eq!((after.state, after.since), (UP, before.since));
}

#[tokio::test]
async fn a_worker_that_dies_is_replaced() {
    let server = Server::http(OK).await;
    let (targets_in, _desired) = watch::channel(Vec::<Target>::new());
    drop(targets_in);
    let (report, mut reports) = mpsc::channel(QUEUE);
    let mut driver = HealthDriver {
        entries: BTreeMap::new(),
        workers: JoinSet::new(),
        report,
        snapshot: watch::channel(HealthSnapshot::default()).0,
        observer: Arc::new(()),
        asker: None,
        random: RandomState::new(),
    };
    let target = targets(&service(CheckKind::Http(http()), &[("m1", server.address)]));
    driver.converge(target.clone());
    let key = target[0].key.clone();
    let dying = driver.workers.spawn(async { panic!("a defect, for the test") });
    driver.entries.get_mut(&key).unwrap().worker.abort();
    driver.entries.get_mut(&key).unwrap().worker = dying.clone();
    while driver.entries[&key].worker.id() == dying.id() {
        let ended = driver.workers.join_next_with_id().await.unwrap();
        driver.on_ended(ended);
    }
    let report = reports.recv().await.unwrap();
    driver.on_report(report);
    assert_eq!(driver.snapshot.borrow().state("api", "m1"), UP);
}
