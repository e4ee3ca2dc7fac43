//! The listener over loopback.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::admin::Order;
use crate::events::Reporter;
use crate::metrics::Metrics;
use crate::status::example::example;

mod acting;
mod certified;
mod probing;

struct Agent {
    server: HttpServer,
    status: watch::Sender<Arc<Status>>,
    sources: Sources,
    orders: mpsc::Receiver<Order>,
    events: Reporter,
}

async fn start(heartbeat: Heartbeat) -> Agent {
    let (status, receiver) = watch::channel(Arc::new(example()));
    let (sender, orders) = mpsc::channel(4);
    let events = Reporter::default();
    let sources = Sources {
        exposition: Arc::new(Exposition::new(&Metrics::new(), receiver.clone(), heartbeat.clone())),
        status: receiver,
        heartbeat,
        desk: Desk::new(sender, events.clone()).unwrap(),
    };
    Agent { server: listen(loopback(0), sources.clone()).await.unwrap(), status, sources, orders, events }
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn alive() -> Heartbeat {
    Heartbeat::new(clock::now())
}

/// Head and body of the answer to a GET.
async fn get(address: SocketAddr, path: &str) -> (String, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: lb1\r\n\r\n")).await
}

/// Head and body of the answer to a request.
async fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn metrics_have_the_type_of_their_text() {
    let agent = start(alive()).await;
    let (head, body) = get(agent.server.address(), "/metrics").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(body.contains("\nxvip_build_info{version=\"0.1.0\"} 1\n"));
    assert!(body.contains("\nxvip_ready 1\n"));
}

#[tokio::test]
async fn health_is_the_heartbeat() {
    let (head, body) = get(start(alive()).await.server.address(), "/healthz").await;
    assert!(head.starts_with("http/1.1 200 "));
    assert_eq!(body, "ok\n");

    let long_ago = clock::now().checked_sub(STALE + Duration::from_secs(2)).unwrap();
    let heartbeat = Heartbeat::new(long_ago);
    let agent = start(heartbeat.clone()).await;
    for path in ["/healthz", "/readyz"] {
        let (head, body) = get(agent.server.address(), path).await;
        assert!(head.starts_with("http/1.1 503 "), "{path}: {head}");
        assert!(body.starts_with("control loop or VRRP thread: no sign of life for 1"), "{body}");
    }
    heartbeat.beat(clock::now());
    for path in ["/healthz", "/readyz"] {
        let (head, _) = get(agent.server.address(), path).await;
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
    }
}

#[tokio::test]
async fn readiness_is_datapath_and_vrrp() {
    let agent = start(alive()).await;
    let (head, body) = get(agent.server.address(), "/readyz").await;
    assert!(head.starts_with("http/1.1 200 "));
    assert_eq!(body, "ready\n");

    let mut status = example();
    status.starting = true;
    status.datapath.program_id = 0;
    status.vrrp[0].state = "fault".to_owned();
    status.vrrp[0].reason = "eth0 is down".to_owned();
    status.vrrp[1].state = "initialize".to_owned();
    status.vrrp[1].reason = "starting".to_owned();
    agent.status.send_replace(Arc::new(status));
    let (head, body) = get(agent.server.address(), "/readyz").await;
    assert!(head.starts_with("http/1.1 503 "));
    assert_eq!(
        body,
        "health checks: not ready yet: their files are being read\n\
         datapath: not attached: eth0 (veth) takes native programs\n\
         vrrp k8s: fault: eth0 is down\n\
         vrrp ingress: initialize: starting\n"
    );

    let mut status = example();
    status.vrrp.clear();
    agent.status.send_replace(Arc::new(status));
    let (head, _) = get(agent.server.address(), "/readyz").await;
    assert!(head.starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn the_page_runs_only_what_it_has() {
    let agent = start(alive()).await;
    let address = agent.server.address();
    let (head, page) = get(address, "/").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(nonce.len(), 64);
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(
        page.contains(&format!("<script nonce=\"{nonce}\">")) && page.contains(&format!("<style nonce=\"{nonce}\">"))
    );
    let (other, _) = get(address, "/").await;
    assert!(!other.contains(nonce), "each answer has its own");
    for path in ["/", "/live", "/metrics", "/readyz", "/nothing"] {
        let (head, _) = get(address, path).await;
        for guard in [
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "referrer-policy: same-origin",
            "x-frame-options: deny",
            "content-security-policy: default-src 'none'",
        ] {
            assert!(head.contains(guard), "{path}: {guard}: {head}");
        }
    }
}

#[tokio::test]
async fn what_changes_is_told_alone() {
    let agent = start(alive()).await;
    let address = agent.server.address();
    let (_, live) = get(address, "/live").await;
    assert!(live.starts_with("<div id=\"live\"") && !live.contains("<script") && live.contains("connection refused"));
    let mut status = example();
    status.services[0].backends[0].reason = "HTTP 503".to_owned();
    agent.status.send_replace(Arc::new(status));
    let (_, live) = get(address, "/live").await;
    assert!(live.contains("HTTP 503"));
}

#[tokio::test]
async fn a_page_is_at_the_names_of_its_node() {
    let agent = start(alive()).await;
    let address = agent.server.address();
    // A name of somebody else that means 127.0.0.1, for browsers on this host.
    let as_host = async |method: &str, path: &str, host: &str| {
        ask(address, &format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n")).await
    };
    for (method, path) in
        [("GET", "/"), ("GET", "/live"), ("GET", "/login"), ("POST", "/login"), ("POST", "/do/backend")]
    {
        let (head, body) = as_host(method, path, "evil.example:9910").await;
        assert!(head.starts_with("http/1.1 421 ") && head.contains("cache-control: no-store"), "{path}: {head}");
        assert_eq!(body, "over the loopback interface this page is at an address, at localhost, or at lb1\n");
        for host in ["127.0.0.1:9910", "localhost", "LB1:80"] {
            let (head, _) = as_host(method, path, host).await;
            assert!(!head.starts_with("http/1.1 421 "), "{path} {host}: {head}");
        }
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        let (head, _) = as_host("GET", path, "lb1.example").await;
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
    }
    let (head, _) = ask(address, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(head.starts_with("http/1.0 421 "), "{head}");
}

#[tokio::test]
async fn anything_else_is_refused() {
    let agent = start(alive()).await;
    let (head, _) = get(agent.server.address(), "/etc/passwd").await;
    assert!(head.starts_with("http/1.1 404 "));

    let mut stream = TcpStream::connect(agent.server.address()).await.unwrap();
    stream.write_all(b"POST /metrics HTTP/1.1\r\nhost: lb1\r\ncontent-length: 99999999\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 405");
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_the_key() {
    let agent = start(alive()).await;
    let error = listen(agent.server.address(), agent.sources.clone()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("metrics.listen: cannot listen on {}: ", agent.server.address())), "{error}");
    assert!(error.contains("stop it or choose another port"), "{error}");

    let elsewhere = listen(([192, 0, 2, 1], 0).into(), agent.sources.clone()).await;
    let error = elsewhere.unwrap_err().to_string();
    assert!(error.contains("this host does not have the address"), "{error}");
}

#[tokio::test]
async fn it_can_be_moved() {
    let Agent { server: old, sources, .. } = start(alive()).await;
    let left = old.address();
    let new = listen(loopback(0), sources.clone()).await.unwrap();
    // A client that says nothing does not hold the old one for longer than its deadline, nor its address at all.
    let silent = TcpStream::connect(left).await.unwrap();
    let stopping = tokio::spawn(old.stop());
    while TcpStream::connect(left).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (head, _) = get(new.address(), "/healthz").await;
    assert!(head.starts_with("http/1.1 200 "));
    drop(silent);
    stopping.await.unwrap();
    drop(listen(left, sources).await.unwrap());
}

#[tokio::test]
async fn slow_clients_keep_nobody_out() {
    let agent = start(alive()).await;
    let address = agent.server.address();
    let mut held = Vec::new();
    for _ in 0..LIMITS.connections * 2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metr").await.unwrap();
        held.push(stream);
    }
    let (head, _) = get(address, "/metrics").await;
    assert!(head.starts_with("http/1.1 200 "));
}
