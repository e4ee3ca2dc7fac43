//! Whatever somebody sends: bounded, answered or cut off, without effect where they have no right, and others are still served.

use std::net::IpAddr;

use tokio::time::timeout;

use super::*;
use crate::http::sessions::LIFE;

/// Everything that acts, and the rest of its form.
const ACTS: [(&str, &str); 6] = [
    ("/do/backend", "&service=apiserver&name=master1&what=drain"),
    ("/do/backend", "&service=apiserver&name=master1&what=disable"),
    ("/do/backend", "&service=apiserver&name=master2&what=enable"),
    ("/do/backend", "&service=apiserver&name=master1&what=weight&weight=7"),
    ("/do/step-down", "&name=k8s"),
    ("/logout", ""),
];

const HERE: &str = "127.0.0.1";
const ELSEWHERE: &str = "192.0.2.10";

/// Gives up where the listener should have closed and has not: its own longest time is ten seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// The answer to somebody at this address, who speaks in clear text.
async fn answer_to(address: &str, sources: &Sources, request: String) -> String {
    let peer = Peer::new(address.parse::<IpAddr>().unwrap(), false);
    let (mut client, server) = tokio::io::duplex(256 * 1024);
    let served = crate::serve::answer("test", server, router(sources.clone()).layer(Extension(peer)), LIMITS);
    let asked = async {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    tokio::join!(served, asked).1
}

/// What is right but for one thing.
struct Request<'a> {
    method: &'a str,
    kind: &'a str,
    cookie: String,
    token: String,
    headers: &'a str,
    from: &'a str,
}

impl<'a> Request<'a> {
    fn new(cookie: &str, token: &str) -> Self {
        Self {
            method: "POST",
            kind: "application/x-www-form-urlencoded",
            cookie: format!("xvip-lb1={cookie}"),
            token: token.to_owned(),
            headers: "origin: http://lb1\r\nsec-fetch-site: same-origin\r\n",
            from: HERE,
        }
    }

    async fn send(&self, sources: &Sources, path: &str, rest: &str) -> String {
        let Self { method, kind, cookie, token, headers, from } = self;
        let form = format!("token={token}{rest}");
        let length = form.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: lb1\r\ncontent-type: {kind}\r\ncontent-length: {length}");
        answer_to(from, sources, format!("{head}\r\ncookie: {cookie}\r\n{headers}\r\n{form}")).await
    }
}

#[tokio::test]
async fn every_act_takes_every_right() {
    let mut agent = start(alive()).await;
    let desk = agent.sources.desk.clone();
    let open = |name: &str, now| {
        let mut sessions = desk.sessions();
        let secret = sessions.open(name, "", HERE.parse().unwrap(), now).unwrap();
        let token = sessions.token(&secret);
        (secret, token)
    };
    let now = clock::now();
    let (secret, token) = open("alice", now);
    let (_, of_bob) = open("bob", now);
    let (old, of_old) = open("alice", now.checked_sub(LIFE).unwrap());
    let right = || Request::new(&secret, &token);
    let wrong = || {
        [
            ("no cookie", 403, Request { cookie: "a=b".to_owned(), ..right() }),
            ("an empty cookie", 403, Request { cookie: "xvip-lb1=".to_owned(), ..right() }),
            ("another cookie", 403, Request { cookie: format!("xvip-lb1={}", "0".repeat(64)), ..right() }),
            ("a cookie cut off", 403, Request { cookie: format!("xvip-lb1={}", &secret[1..]), ..right() }),
            ("the token for a cookie", 403, Request { cookie: format!("xvip-lb1={token}"), ..right() }),
            ("the cookie of TLS", 403, Request { cookie: format!("__Host-xvip-lb1={secret}"), ..right() }),
            ("a session that has ended", 403, Request::new(&old, &of_old)),
            ("no token", 403, Request { token: String::new(), ..right() }),
            ("the token of somebody else", 403, Request { token: of_bob.clone(), ..right() }),
            ("the cookie for a token", 403, Request { token: secret.clone(), ..right() }),
            ("a token cut off", 403, Request { token: token[2..].to_owned(), ..right() }),
            ("another origin", 403, Request { headers: "origin: http://evil.example\r\n", ..right() }),
            ("no origin to speak of", 403, Request { headers: "origin: null\r\n", ..right() }),
            ("two origins", 403, Request { headers: "origin: http://lb1\r\norigin: http://e\r\n", ..right() }),
            ("a host added", 403, Request { headers: "origin: http://lb1.evil.example\r\n", ..right() }),
            ("another port", 403, Request { headers: "origin: http://lb1:9911\r\n", ..right() }),
            ("another site", 403, Request { headers: "sec-fetch-site: cross-site\r\n", ..right() }),
            ("a neighbour's site", 403, Request { headers: "sec-fetch-site: same-site\r\n", ..right() }),
            ("typed by hand", 403, Request { headers: "sec-fetch-site: none\r\n", ..right() }),
            ("in clear text from elsewhere", 403, Request { from: ELSEWHERE, ..right() }),
            ("GET", 405, Request { method: "GET", ..right() }),
            ("HEAD", 405, Request { method: "HEAD", ..right() }),
            ("PUT", 405, Request { method: "PUT", ..right() }),
            ("DELETE", 405, Request { method: "DELETE", ..right() }),
            ("PATCH", 405, Request { method: "PATCH", ..right() }),
            ("OPTIONS", 405, Request { method: "OPTIONS", ..right() }),
            ("a method in small letters", 405, Request { method: "post", ..right() }),
            ("plain text", 415, Request { kind: "text/plain", ..right() }),
            ("JSON", 415, Request { kind: "application/json", ..right() }),
            ("parts", 415, Request { kind: "multipart/form-data; boundary=x", ..right() }),
        ]
    };
    for (path, rest) in ACTS {
        for (what, code, request) in wrong() {
            let answer = request.send(&agent.sources, path, rest).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{path}{rest}: {what}: {answer}");
            assert!(!answer.contains("set-cookie"), "{path}{rest}: {what}: {answer}");
        }
        let twice = format!("{rest}&token={token}");
        let answer = right().send(&agent.sources, path, &twice).await;
        assert!(answer.starts_with("HTTP/1.1 422 "), "{path}: two tokens: {answer}");
    }
    assert!(agent.orders.try_recv().is_err(), "nothing was ordered");
    assert!(agent.events.newest(10).is_empty(), "nobody was logged out");

    // The same without what was wrong.
    for (path, rest) in ACTS {
        let request = right();
        let (answer, ()) = tokio::join!(request.send(&agent.sources, path, rest), async {
            if path == "/logout" {
                return;
            }
            match agent.orders.recv().await.unwrap() {
                Order::Backend(order) => order.reply.send(Ok(String::new().into())).unwrap(),
                Order::StepDown(order, _) => order.reply.send(Vec::new()).unwrap(),
                Order::Reload(_) | Order::Capture(_) => unreachable!("nobody can ask for that here"),
            }
        });
        assert!(answer.starts_with("HTTP/1.1 303 "), "{path}{rest}: {answer}");
    }
    let answer = right().send(&agent.sources, ACTS[0].0, ACTS[0].1).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "the session has ended: {answer}");
}

#[tokio::test]
async fn from_elsewhere_a_node_has_whatever_name_it_is_given() {
    let agent = start(alive()).await;
    for (address, code) in [(ELSEWHERE, 200), (HERE, 421), ("::1", 421)] {
        let request = "GET / HTTP/1.1\r\nhost: balancer.example\r\n\r\n".to_owned();
        let answer = answer_to(address, &agent.sources, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{address}: {answer}");
    }
}

/// Everything that comes back, an end in disorder included.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the listener should have closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends as much as is taken, and no more after it.
async fn send(address: SocketAddr, bytes: &[u8], ends: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    if ends {
        let _ = stream.shutdown().await;
    }
    stream
}

const FORM: &str = "POST /do/backend HTTP/1.1\r\nhost: lb1\r\ncontent-type: application/x-www-form-urlencoded\r\n";

#[tokio::test]
async fn what_is_no_request_gets_no_answer_of_worth() {
    let agent = start(alive()).await;
    let address = agent.server.address();
    let long = "a".repeat(LIMITS.head_bytes * 2);
    let mut many = "GET / HTTP/1.1\r\nhost: lb1\r\n".to_owned();
    for n in 0..500 {
        many.push_str(&format!("x{n}: y\r\n"));
    }
    let cases: Vec<Vec<u8>> = vec![
        b"\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 64 * 1024],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1".to_vec(),
        b"GET / HTTP/9.9\r\nhost: lb1\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nhost: lb1\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: lb1\r\na\x00b: c\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: lb1\r\na: b\r\n folded: c\r\nbad line\r\n\r\n".to_vec(),
        format!("GET /{long} HTTP/1.1\r\nhost: lb1\r\n\r\n").into_bytes(),
        format!("GET /?{long} HTTP/1.1\r\nhost: lb1\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nhost: lb1\r\ncookie: {long}\r\n\r\n").into_bytes(),
        format!("{many}\r\n").into_bytes(),
        format!("{FORM}content-length: 5\r\ncontent-length: 50\r\n\r\ntoken").into_bytes(),
        format!("{FORM}content-length: -1\r\n\r\n").into_bytes(),
        format!("{FORM}content-length: 99999999999999999999999\r\n\r\n").into_bytes(),
        format!("{FORM}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nx").into_bytes(),
        format!("{FORM}transfer-encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        format!("{FORM}transfer-encoding: gzip\r\n\r\nx").into_bytes(),
        format!("{FORM}content-length: 4000\r\n\r\ntoken=").into_bytes(),
    ];
    for (n, case) in cases.iter().enumerate() {
        let answer = rest(&mut send(address, case, true).await).await;
        let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(is_refused, "{n}: {}: {answer}", String::from_utf8_lossy(&case[..case.len().min(80)]));
    }
    assert!(get(address, "/healthz").await.0.starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn what_is_a_request_gets_the_answer_it_deserves() {
    let mut agent = start(alive()).await;
    let address = agent.server.address();
    let query = "a=%ff&".repeat(1000);
    let form = |more: &str, body: &str| format!("{FORM}content-length: {}\r\n{more}\r\n{body}", body.len());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: lb1\r\n\r\n");
    let chunk = format!("{FORM}transfer-encoding: chunked\r\n\r\n1400\r\n{}\r\n0\r\n\r\n", "x".repeat(0x1400));
    for (request, code) in [
        (get(&format!("/?{query}")), 200),
        (get("http://evil.example/healthz"), 200),
        (get("/../../../../etc/passwd"), 404),
        (get("/%2e%2e/%2e%2e/etc/passwd"), 404),
        (get("/do/../metrics"), 404),
        (get("//metrics"), 404),
        (get("/metrics/"), 404),
        (get("/metrics%00"), 404),
        (get("/METRICS"), 404),
        (get("/%ff%fe%c0%af"), 404),
        (get("/do/reload"), 404),
        (get("/v1/reload"), 404),
        ("OPTIONS * HTTP/1.1\r\nhost: lb1\r\n\r\n".to_owned(), 404),
        ("TRACE / HTTP/1.1\r\nhost: lb1\r\ncookie: xvip-lb1=s\r\n\r\n".to_owned(), 405),
        ("BREW / HTTP/1.1\r\nhost: lb1\r\n\r\n".to_owned(), 405),
        (form("", ""), 422),
        (form("", "token=x&service=%ff%fe&name=%00&what=drain"), 403),
        (form("", "token=\u{fffd}&&&=&=x&token"), 422),
        (form("", &"&".repeat(4096)), 422),
        (form("", &"x".repeat(4097)), 413),
        (form("expect: 100-continue\r\n", &"x".repeat(9000)), 413),
        (chunk, 413),
        (form("content-encoding: gzip\r\n", "\u{1f}\u{8b}"), 422),
    ] {
        let answer = rest(&mut send(address, request.as_bytes(), false).await).await;
        let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
        let first = request.lines().next().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{} {code}: {answer}", &first[..first.len().min(80)]);
        assert!(answer.len() < 200_000 && !answer.to_lowercase().contains("set-cookie"), "{answer}");
    }
    // Form and bytes that are no text.
    let body = b"token=\xff\xfe&service=\xc0\x80&name=a&what=drain";
    let request = [form("", &"x".repeat(body.len())).trim_end_matches('x').as_bytes(), body].concat();
    let answer = rest(&mut send(address, &request, false).await).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");

    // One request for each connection: what somebody appends to it is nobody's.
    let smuggled = get("/nothing") + &get("/metrics") + &form("", "token=x&name=a");
    let answer = rest(&mut send(address, smuggled.as_bytes(), false).await).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let both = format!("{FORM}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{}", get("/metrics"));
    let answer = rest(&mut send(address, both.as_bytes(), false).await).await;
    assert!(answer.starts_with("HTTP/1.1 4") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    assert!(agent.orders.try_recv().is_err());
}

/// Holds twice as many connections as there may be, each after these bytes.
async fn held(address: SocketAddr, bytes: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..LIMITS.connections * 2 {
        held.push(send(address, bytes, false).await);
    }
    held
}

#[tokio::test]
async fn who_never_ends_keeps_nobody_out() {
    let agent = start(alive()).await;
    let address = agent.server.address();
    let body = format!("{FORM}content-length: 4000\r\n\r\ntoken=");
    let login = body.replace("/do/backend", "/login");
    let chunks = format!("{FORM}transfer-encoding: chunked\r\n\r\n5\r\ntok");
    for bytes in ["", "GET /", "GET / HTTP/1.1\r\na: ", &body, &login, &chunks] {
        let held = held(address, bytes.as_bytes()).await;
        let (head, _) = get(address, "/healthz").await;
        assert!(head.starts_with("http/1.1 200 "), "{bytes:?}");
        drop(held);
    }
}

#[tokio::test]
async fn many_at_once_are_answered() {
    let agent = start(alive()).await;
    let address = agent.server.address();
    // As many as may be there at a time, and again: each reads its page to the end.
    for _ in 0..3 {
        let all = (0..LIMITS.connections / 2).map(|_| get(address, "/"));
        for (head, page) in futures_util::future::join_all(all).await {
            assert!(head.starts_with("http/1.1 200 ") && page.trim_end().ends_with("</html>"), "{head}");
        }
    }
}

#[tokio::test]
async fn who_does_not_read_keeps_nobody_out() {
    let agent = start(alive()).await;
    let address = agent.server.address();
    let request = b"GET / HTTP/1.1\r\nhost: lb1\r\n\r\n";
    let held = held(address, request).await;
    let (head, _) = get(address, "/").await;
    assert!(head.starts_with("http/1.1 200 "));
    drop(held);
}
