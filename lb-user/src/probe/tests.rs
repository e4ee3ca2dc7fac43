//! Probes against real servers on the loopback, well-behaved and otherwise.

use std::sync::{Arc, Mutex};

use rcgen::date_time_ymd;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::servers::*;
use super::*;
use crate::config::{HttpCheck, TlsCheck};

/// Long enough for anything on a loopback.
const AMPLE: Duration = Duration::from_secs(20);
/// For checks that are to time out.
const SHORT: Duration = Duration::from_millis(300);

fn http_check() -> HttpCheck {
    HttpCheck { path: "/readyz?verbose".to_owned(), host: None, expect_status: vec![200] }
}

fn prober(check: &CheckKind, address: SocketAddr) -> Prober {
    Prober::new(&Plan::new(check).unwrap(), address, None)
}

fn http_prober(address: SocketAddr) -> Prober {
    prober(&CheckKind::Http(http_check()), address)
}

fn https(tls: TlsCheck) -> CheckKind {
    CheckKind::Https(http_check(), tls)
}

fn trusting(authority: &Authority) -> TlsCheck {
    TlsCheck { ca_file: Some(authority.file()), ..TlsCheck::default() }
}

/// The outcome of one check, which must respect its deadline.
async fn ask(prober: &mut Prober, timeout: Duration) -> Outcome {
    let start = clock::now();
    let (outcome, took) = prober.probe(start + timeout).await;
    assert!(took <= start.elapsed());
    assert!(start.elapsed() < timeout + Duration::from_secs(5), "{outcome:?} came after {:?}", start.elapsed());
    outcome
}

fn ready(status: u16) -> Outcome {
    Outcome::Ready { status: Some(status) }
}

const CONNECTED: Outcome = Outcome::Ready { status: None };

fn tls_text(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::TlsFailed { text } => text,
        other => panic!("expected a TLS failure, got {other:?}"),
    }
}

// TCP

#[tokio::test]
async fn tcp_ready_and_refused() {
    let server = Server::start(|_, stream| hang(stream)).await;
    assert_eq!(ask(&mut prober(&CheckKind::Tcp, server.address), AMPLE).await, CONNECTED);
    let (_socket, address) = refusing();
    assert_eq!(ask(&mut prober(&CheckKind::Tcp, address), AMPLE).await, Outcome::Refused);
    assert_eq!(ask(&mut http_prober(address), AMPLE).await, Outcome::Refused);
}

#[tokio::test]
async fn dropped_syns_time_out_in_connect() {
    let hole = Blackhole::new();
    for check in [CheckKind::Tcp, CheckKind::Tls(TlsCheck::default()), CheckKind::Http(http_check())] {
        let outcome = ask(&mut prober(&check, hole.address), SHORT).await;
        assert_eq!(outcome, Outcome::TimedOut { phase: Phase::Connect });
    }
}

#[tokio::test]
async fn unreachable_is_told_from_not_asked() {
    let mut to_broadcast = prober(&CheckKind::Tcp, "255.255.255.255:6443".parse().unwrap());
    assert_eq!(ask(&mut to_broadcast, AMPLE).await.result(), "unreachable");
    // An address this host does not have cannot be a source: that says nothing about the backend.
    let plan = Plan::new(&CheckKind::Tcp).unwrap();
    let mut homeless = Prober::new(&plan, "127.0.0.1:1".parse().unwrap(), Some([192, 0, 2, 77].into()));
    assert_eq!(ask(&mut homeless, AMPLE).await.result(), "not_asked");
}

#[tokio::test]
async fn the_source_address_is_the_one_asked_for() {
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let server = Server::start(move |_, stream| {
        *note.lock().unwrap() = Some(stream.peer_addr().unwrap().ip());
        answer_all(stream, OK)
    })
    .await;
    let source = IpAddr::from([127, 0, 0, 9]);
    let plan = Plan::new(&CheckKind::Http(http_check())).unwrap();
    assert_eq!(ask(&mut Prober::new(&plan, server.address, Some(source)), AMPLE).await, ready(200));
    assert_eq!(*seen.lock().unwrap(), Some(source));
}

// IPv6

#[tokio::test]
async fn a_backend_of_ipv6_is_asked_by_its_name_in_brackets() {
    let heard = Arc::new(Mutex::new(String::new()));
    let note = Arc::clone(&heard);
    let server = Server::start_at("[::1]:0", move |_, stream| {
        let note = Arc::clone(&note);
        async move {
            let mut first = [0; 4096];
            let length = stream.peek(&mut first).await.unwrap();
            *note.lock().unwrap() = String::from_utf8_lossy(&first[..length]).to_lowercase();
            answer_all(stream, OK).await;
        }
    })
    .await;
    assert!(server.address.is_ipv6());
    let source = Some("::1".parse().unwrap());
    let plan = Plan::new(&CheckKind::Http(http_check())).unwrap();
    assert_eq!(ask(&mut Prober::new(&plan, server.address, source), AMPLE).await, ready(200));
    let host = format!("host: [::1]:{}\r\n", server.address.port());
    let heard = heard.lock().unwrap().clone();
    assert!(heard.contains(&host), "{heard}");
}

#[tokio::test]
async fn a_certificate_is_verified_against_an_ipv6_address() {
    let authority = Authority::new();
    for (name, good) in [("::1", true), ("::2", false)] {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(authority.server(authority.issue(name))));
        let server = Server::start_at("[::1]:0", move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer_all(stream, OK).await;
                }
            }
        })
        .await;
        let outcome = ask(&mut prober(&https(trusting(&authority)), server.address), AMPLE).await;
        assert_eq!(outcome == ready(200), good, "{name}: {outcome:?}");
    }
}

// TLS

#[tokio::test]
async fn tls_without_a_ca_file_accepts_any_certificate() {
    let authority = Authority::new();
    let config = authority.server(authority.issue("somebody.example"));
    let server = Server::tls(config, |_, stream| answer_all(stream, OK)).await;
    assert_eq!(ask(&mut prober(&CheckKind::Tls(TlsCheck::default()), server.address), AMPLE).await, CONNECTED);
    assert_eq!(ask(&mut prober(&https(TlsCheck::default()), server.address), AMPLE).await, ready(200));
}

#[tokio::test]
async fn tls_without_a_ca_file_still_wants_the_key_of_the_certificate() {
    let authority = Authority::new();
    let (shown, other) = (authority.issue("a.example"), authority.issue("b.example"));
    let key = rustls::crypto::ring::sign::any_supported_type(&other.key).unwrap();
    let mismatched = Arc::new(SingleCertAndKey::from(CertifiedKey::new(shown.chain, key)));
    for version in [&TLS12, &TLS13] {
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::<SingleCertAndKey>::clone(&mismatched));
        let server = Server::tls(config, |_, stream| hang(stream)).await;
        let outcome = ask(&mut prober(&CheckKind::Tls(TlsCheck::default()), server.address), AMPLE).await;
        assert!(tls_text(&outcome).contains("BadSignature"), "{version:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn tls_with_a_ca_file_verifies_chain_and_name() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let named = |name: &str| TlsCheck { server_name: Some(name.to_owned()), ..trusting(&ours) };
    let by_name = Server::https(ours.server(ours.issue("api.example")), OK).await;
    let by_address = Server::https(ours.server(ours.issue("127.0.0.1")), OK).await;
    let foreign = Server::https(theirs.server(theirs.issue("127.0.0.1")), OK).await;
    let expired = ours.issue_with("127.0.0.1", |p| {
        p.not_before = date_time_ymd(2001, 1, 1);
        p.not_after = date_time_ymd(2002, 1, 1);
    });
    let expired = Server::https(ours.server(expired), OK).await;
    // Server, settings, and what the failure says; none: ready.
    let cases: [(&str, &Server, TlsCheck, Option<&str>); 6] = [
        ("right name", &by_name, named("api.example"), None),
        ("right address", &by_address, trusting(&ours), None),
        ("wrong name", &by_name, named("other.example"), Some("not valid for name")),
        ("wrong address", &by_name, trusting(&ours), Some("not valid for name")),
        ("wrong authority", &foreign, trusting(&ours), Some("UnknownIssuer")),
        ("expired", &expired, trusting(&ours), Some("expired")),
    ];
    for (name, server, tls, failure) in cases {
        for check in [CheckKind::Tls(tls.clone()), https(tls.clone())] {
            let outcome = ask(&mut prober(&check, server.address), AMPLE).await;
            match failure {
                None => assert_eq!(outcome.result(), "ready", "{name}: {outcome:?}"),
                Some(words) => assert!(tls_text(&outcome).contains(words), "{name}: {outcome:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_demanded_client_certificate_is_presented_or_missed() {
    let authority = Authority::new();
    let mine = authority.issue("probe.example");
    for version in [&TLS12, &TLS13] {
        let strict = authority.strict_server(authority.issue("127.0.0.1"), &[version]);
        let server = Server::https(strict, OK).await;
        let with = TlsCheck { client_certificate: Some(mine.files.clone()), ..trusting(&authority) };
        assert_eq!(ask(&mut prober(&CheckKind::Tls(with.clone()), server.address), AMPLE).await, CONNECTED);
        assert_eq!(ask(&mut prober(&https(with), server.address), AMPLE).await, ready(200));

        let without = trusting(&authority);
        let outcome = ask(&mut prober(&CheckKind::Tls(without.clone()), server.address), AMPLE).await;
        assert!(tls_text(&outcome).contains("alert"), "{version:?}: {outcome:?}");
        // Over TLS 1.3 the request and the server's alert cross, and a reset may be all that arrives.
        let outcome = ask(&mut prober(&https(without), server.address), AMPLE).await;
        assert!(["tls_failed", "closed"].contains(&outcome.result()), "{version:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_server_without_http11_is_told() {
    let authority = Authority::new();
    let mut config = authority.server(authority.issue("127.0.0.1"));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let server = Server::https(config, OK).await;
    let outcome = ask(&mut prober(&https(TlsCheck::default()), server.address), AMPLE).await;
    assert!(tls_text(&outcome).contains("NoApplicationProtocol"), "{outcome:?}");
}

#[tokio::test]
async fn handshakes_that_never_end_or_make_no_sense() {
    let silent = Server::start(|_, stream| hang(stream)).await;
    let rude = Server::start(|_, mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP ready\r\n").await;
        hang(stream).await;
    })
    .await;
    let gone = Server::start(|_, stream| async move { drop(stream) }).await;
    for check in [CheckKind::Tls(TlsCheck::default()), https(TlsCheck::default())] {
        let outcome = ask(&mut prober(&check, silent.address), SHORT).await;
        assert_eq!(outcome, Outcome::TimedOut { phase: Phase::Handshake });
        let outcome = ask(&mut prober(&check, rude.address), AMPLE).await;
        assert_eq!(outcome.result(), "tls_failed", "{outcome:?}");
        let outcome = ask(&mut prober(&check, gone.address), AMPLE).await;
        assert_eq!(outcome.result(), "closed", "{outcome:?}");
    }
}

// HTTP

#[tokio::test]
async fn http_statuses() {
    let cases = [
        (OK, "ready"),
        (NOT_READY, "not_ready"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "bad_status"),
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "needs_credentials"),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "needs_credentials"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "bad_status"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "ready"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ready"),
    ];
    for (answer, result) in cases {
        let server = Server::http(answer).await;
        let mut prober = http_prober(server.address);
        for _ in 0..3 {
            let outcome = ask(&mut prober, AMPLE).await;
            assert_eq!(outcome.result(), result, "{answer:?} gave {outcome:?}");
        }
        assert_eq!(server.connections(), 1, "{answer:?}: every whole answer leaves the connection usable");
    }
}

#[tokio::test]
async fn the_request_is_what_was_configured() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let server = Server::start(move |_, mut stream| {
        let note = Arc::clone(&note);
        async move {
            while let Some(head) = read_request(&mut stream).await {
                note.lock().unwrap().push(head.to_lowercase());
                let _ = stream.write_all(OK.as_bytes()).await;
            }
        }
    })
    .await;
    let named = HttpCheck { host: Some("api.example:6443".to_owned()), ..http_check() };
    ask(&mut http_prober(server.address), AMPLE).await;
    ask(&mut prober(&CheckKind::Http(named), server.address), AMPLE).await;
    let seen = seen.lock().unwrap();
    let agent = format!("\r\nuser-agent: xvip/{}\r\n", env!("CARGO_PKG_VERSION"));
    let hosts = [format!("\r\nhost: {}\r\n", server.address), "\r\nhost: api.example:6443\r\n".to_owned()];
    assert_eq!(seen.len(), 2);
    for (head, host) in seen.iter().zip(&hosts) {
        assert!(head.starts_with("get /readyz?verbose http/1.1\r\n"), "{head}");
        assert!(head.contains(&agent) && head.contains(host), "{head}");
        assert!(!head.contains("connection: close"), "{head}");
    }
}

/// A server that does `behave` after reading one request on each connection.
async fn after_request<F>(behave: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let behave = Arc::new(behave);
    Server::start(move |_, mut stream| {
        let behave = Arc::clone(&behave);
        async move {
            if read_request(&mut stream).await.is_some() {
                behave(stream).await;
            }
        }
    })
    .await
}

/// Sends `head`, then `again` until the peer is gone, with a pause between.
async fn drip(mut stream: TcpStream, head: &str, again: &[u8], pause: Duration) {
    let mut sent = stream.write_all(head.as_bytes()).await;
    while sent.is_ok() {
        match pause {
            Duration::ZERO => tokio::task::yield_now().await,
            pause => tokio::time::sleep(pause).await,
        }
        sent = stream.write_all(again).await;
    }
}

const ANSWER_TIMED_OUT: Outcome = Outcome::TimedOut { phase: Phase::Answer };

#[tokio::test]
async fn answers_that_never_end_are_cut_off() {
    let pause = Duration::from_millis(20);
    let none = Duration::ZERO;

    let silent = after_request(hang).await;
    assert_eq!(ask(&mut http_prober(silent.address), SHORT).await, ANSWER_TIMED_OUT);

    let loris = after_request(move |s| drip(s, "HTTP/1.1 200 OK\r\nx: ", b"x", pause)).await;
    assert_eq!(ask(&mut http_prober(loris.address), SHORT).await, ANSWER_TIMED_OUT);

    let stalled =
        after_request(move |s| drip(s, "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"x", pause)).await;
    assert_eq!(ask(&mut http_prober(stalled.address), SHORT).await, ANSWER_TIMED_OUT);

    let storm = after_request(move |s| drip(s, "", b"HTTP/1.1 102 Processing\r\n\r\n", none)).await;
    assert_eq!(ask(&mut http_prober(storm.address), SHORT).await, ANSWER_TIMED_OUT);

    let headers = after_request(move |s| drip(s, "HTTP/1.1 200 OK\r\n", b"a: b\r\n", none)).await;
    let outcome = ask(&mut http_prober(headers.address), AMPLE).await;
    assert_eq!(outcome.result(), "malformed", "{outcome:?}");

    let header = after_request(move |s| drip(s, "HTTP/1.1 200 OK\r\na: ", &[b'x'; 100], none)).await;
    let outcome = ask(&mut http_prober(header.address), AMPLE).await;
    assert_eq!(outcome.result(), "malformed", "{outcome:?}");

    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let flood = after_request(move |s| drip(s, chunks, b"4\r\nbomb\r\n", none)).await;
    let mut prober = http_prober(flood.address);
    for connections in 1..=2 {
        assert_eq!(ask(&mut prober, AMPLE).await, ready(200), "64 KiB of a body are enough");
        assert_eq!(flood.connections(), connections, "a connection with an unread answer is not used again");
    }
}

#[tokio::test]
async fn not_ready_does_not_wait_for_the_rest_of_the_answer() {
    let server = after_request(|s| async move {
        drip(s, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n", b"", Duration::from_secs(1)).await;
    })
    .await;
    let start = clock::now();
    assert_eq!(ask(&mut http_prober(server.address), AMPLE).await, Outcome::NotReady { status: 503 });
    assert!(start.elapsed() < AMPLE / 2);
}

#[tokio::test]
async fn answers_that_are_none() {
    let cases: [(&str, &str); 6] = [
        ("", "closed"),
        ("HTTP/1.1 200 OK\r\n", "closed"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", "closed"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "malformed"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "malformed"),
    ];
    for (answer, result) in cases {
        let server = after_request(move |mut s| async move {
            let _ = s.write_all(answer.as_bytes()).await;
        })
        .await;
        let outcome = ask(&mut http_prober(server.address), AMPLE).await;
        assert_eq!(outcome.result(), result, "{answer:?} gave {outcome:?}");
    }
}

// The kept connection

#[tokio::test]
async fn the_connection_is_kept_over_http_and_https() {
    let authority = Authority::new();
    let plain = Server::http(OK).await;
    let secure = Server::https(authority.server(authority.issue("127.0.0.1")), OK).await;
    for (server, check) in [(&plain, CheckKind::Http(http_check())), (&secure, https(trusting(&authority)))] {
        let mut prober = prober(&check, server.address);
        for _ in 0..10 {
            assert_eq!(ask(&mut prober, AMPLE).await, ready(200));
        }
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_kept_connection_closed_by_the_server_is_no_failure() {
    // Each connection serves one request and ends in its own way once that check is over.
    type End = fn(TcpStream);
    let in_order: End = drop;
    let by_reset: End = |stream| SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    for end in [in_order, by_reset] {
        let (checked, closed) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (wait, tell) = (Arc::clone(&checked), Arc::clone(&closed));
        let server = after_request(move |mut stream| {
            let (wait, tell) = (Arc::clone(&wait), Arc::clone(&tell));
            async move {
                let _ = stream.write_all(OK.as_bytes()).await;
                wait.acquire().await.unwrap().forget();
                end(stream);
                tell.add_permits(1);
            }
        })
        .await;
        let mut prober = http_prober(server.address);
        for connections in 1..=5 {
            assert_eq!(ask(&mut prober, AMPLE).await, ready(200));
            assert_eq!(server.connections(), connections);
            checked.add_permits(1);
            closed.acquire().await.unwrap().forget();
        }
    }
}

#[tokio::test]
async fn a_kept_connection_that_closes_under_the_request_is_asked_again_on_a_fresh_one() {
    // Every connection answers its first request and closes on reading the second.
    let server = after_request(|mut stream| async move {
        let _ = stream.write_all(OK.as_bytes()).await;
        let _ = read_request(&mut stream).await;
    })
    .await;
    let mut prober = http_prober(server.address);
    for connections in 1..=5 {
        assert_eq!(ask(&mut prober, AMPLE).await, ready(200));
        assert_eq!(server.connections(), connections);
    }
}

#[tokio::test]
async fn a_fresh_connection_that_closes_is_a_failure_and_not_asked_again() {
    let server = after_request(|stream| async move { drop(stream) }).await;
    assert_eq!(ask(&mut http_prober(server.address), AMPLE).await.result(), "closed");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_timed_out_check_leaves_no_connection_behind() {
    let gone = Arc::new(Semaphore::new(0));
    let tell = Arc::clone(&gone);
    let server = after_request(move |mut stream| {
        let tell = Arc::clone(&tell);
        async move {
            // Nothing more comes, then the end.
            assert_eq!(read_request(&mut stream).await, None);
            tell.add_permits(1);
        }
    })
    .await;
    let mut prober = http_prober(server.address);
    assert_eq!(ask(&mut prober, SHORT).await, ANSWER_TIMED_OUT);
    tokio::time::timeout(AMPLE, gone.acquire()).await.expect("the connection ends").unwrap().forget();
}

// Plans

#[test]
fn plans_that_cannot_be_carried_out_say_why_and_what_to_do() {
    let authority = Authority::new();
    let (mine, other) = (authority.issue("probe.example"), authority.issue("other.example"));
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let missing = dir.path().join("missing.pem");
    let ca = |path: &PathBuf| TlsCheck { ca_file: Some(path.clone()), ..TlsCheck::default() };
    let pair = |cert: &PathBuf, key: &PathBuf| TlsCheck {
        client_certificate: Some((cert.clone(), key.clone())),
        ..TlsCheck::default()
    };
    let bad_block = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let huge = vec![b'\n'; (1 << 20) + 1];
    let cases = [
        (ca(&missing), vec!["CA file", "missing.pem", "No such file", "make it readable"]),
        (ca(&file("empty.pem", b"")), vec!["CA file", "empty.pem", "BEGIN CERTIFICATE"]),
        (ca(&file("cut.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n")), vec!["cut.pem", "no end"]),
        (ca(&file("noise.pem", bad_block)), vec!["noise.pem", "replace it"]),
        (ca(&file("huge.pem", &huge)), vec!["huge.pem", "larger than 1 MiB"]),
        (ca(&mine.files.1), vec!["CA file", "probe.example.key", "BEGIN CERTIFICATE"]),
        (pair(&missing, &mine.files.1), vec!["client certificate", "missing.pem"]),
        (pair(&mine.files.0, &missing), vec!["client key", "missing.pem"]),
        (pair(&mine.files.0, &mine.files.0), vec!["client key", "probe.example.crt", "BEGIN PRIVATE KEY"]),
        (pair(&mine.files.0, &other.files.1), vec!["client key", "other.example.key", "replace it"]),
        (TlsCheck { server_name: Some("a b".to_owned()), ..TlsCheck::default() }, vec!["server_name", "\"a b\""]),
    ];
    for (tls, words) in cases {
        for check in [CheckKind::Tls(tls.clone()), https(tls.clone())] {
            let text = Plan::new(&check).unwrap_err().to_string();
            for word in &words {
                assert!(text.contains(word), "{word:?} is not in {text:?}");
            }
        }
    }
    for path in ["", "readyz", "/a b", "*", "http://x/"] {
        let check = CheckKind::Http(HttpCheck { path: path.to_owned(), ..http_check() });
        assert!(matches!(Plan::new(&check), Err(PlanError::Path(p)) if p == path), "{path:?}");
    }
    let check = CheckKind::Http(HttpCheck { host: Some("a\r\nb: c".to_owned()), ..http_check() });
    assert!(matches!(Plan::new(&check), Err(PlanError::Host(_))));
}

#[test]
fn a_plan_knows_whether_its_files_have_changed() {
    let (one, two) = (Authority::new(), Authority::new());
    let check = https(trusting(&one));
    let before = Plan::new(&check).unwrap();
    assert_eq!(before, Plan::new(&check).unwrap());
    std::fs::copy(two.file(), one.file()).unwrap();
    assert_ne!(before, Plan::new(&check).unwrap());
}

#[test]
fn what_a_peer_sent_is_printable() {
    assert_eq!(printable("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    assert_eq!(printable(&"x".repeat(10_000)).len(), MAX_TEXT);
}
