//! Logging in and changing things, and everything that must not.

use std::net::IpAddr;
use std::sync::OnceLock;

use super::*;
use crate::admin::Change;
use crate::config::{Edit, Metrics as Section, TlsFiles};
use crate::passwords;

const PASSWORD: &str = "correct horse";

/// The file of passwords: alice may.
fn file() -> &'static tempfile::NamedTempFile {
    static FILE: OnceLock<tempfile::NamedTempFile> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), passwords::line("alice", PASSWORD).unwrap()).unwrap();
        file
    })
}

fn settings(tls: Option<TlsFiles>) -> Settings {
    let section = Section { listen: loopback(0), password_file: Some(file().path().to_owned()), tls };
    Settings::read(&section).unwrap()
}

async fn start_with_alice() -> Agent {
    let agent = start(alive()).await;
    agent.sources.desk.configure(settings(None));
    agent
}

async fn post(address: SocketAddr, path: &str, headers: &str, form: &str) -> (String, String) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: lb1\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n{headers}\r\n{form}",
        form.len()
    );
    ask(address, &request).await
}

/// The cookie of a session, as a header.
async fn log_in(address: SocketAddr) -> String {
    let (head, _) = post(address, "/login", "", "name=alice&password=correct+horse").await;
    assert!(head.starts_with("http/1.1 303 ") && head.contains("location: /\r\n"), "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.ends_with("; path=/; max-age=28800; httponly; samesite=strict"), "{cookie}");
    format!("cookie: other=1; {}\r\n", cookie.split(';').next().unwrap())
}

/// The token of the forms on the page.
async fn token(address: SocketAddr, cookie: &str) -> String {
    let (_, page) = ask(address, &format!("GET / HTTP/1.1\r\nhost: lb1\r\n{cookie}\r\n")).await;
    let token = page.split("name=\"token\" value=\"").nth(1).unwrap();
    token.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn nobody_may_unless_somebody_is_named() {
    let mut agent = start(alive()).await;
    let address = agent.server.address();
    assert!(!get(address, "/").await.1.contains("/login"));
    assert!(get(address, "/login").await.0.starts_with("http/1.1 404 "));
    for (path, form) in [
        ("/login", "name=alice&password=correct+horse"),
        ("/logout", "token=x"),
        ("/do/backend", "token=x&service=apiserver&name=master1&what=drain"),
        ("/do/step-down", "token=x&name=k8s"),
    ] {
        let (head, _) = post(address, path, "", form).await;
        assert!(head.starts_with("http/1.1 404 ") || head.starts_with("http/1.1 403 "), "{path}: {head}");
        let (head, _) = get(address, path).await;
        assert!(!head.starts_with("http/1.1 2"), "{path}: {head}");
    }
    assert!(agent.orders.try_recv().is_err());
}

#[tokio::test]
async fn orders_are_of_who_is_logged_in() {
    let mut agent = start_with_alice().await;
    let address = agent.server.address();
    assert!(get(address, "/").await.1.contains("/login"));
    let cookie = log_in(address).await;
    let token = token(address, &cookie).await;
    let events = agent.events.clone();
    let serving = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(order) = agent.orders.recv().await {
            match order {
                Order::Backend(order) => {
                    seen.push((
                        order.service.clone(),
                        order.name.clone(),
                        order.change.clone(),
                        order.caller.to_string(),
                    ));
                    let outcome = if order.name == "master1" {
                        Ok("done <so>".to_owned().into())
                    } else {
                        Err(vec!["no".to_owned()])
                    };
                    let _ = order.reply.send(outcome);
                }
                Order::StepDown(order, caller) => {
                    assert_eq!(caller.to_string(), "administrator alice (status page, 127.0.0.1)");
                    assert_eq!(order.hold, Duration::from_secs(3600));
                    let _ = order.reply.send(Vec::new());
                }
                Order::Reload(_) | Order::Capture(_) => unreachable!("nobody can ask for that here"),
            }
        }
        seen
    });
    for (form, outcome) in [
        (
            "service=apiserver&name=master1&what=drain",
            "<p id=\"outcome\" class=\"good\" role=\"status\">done &lt;so&gt;</p>",
        ),
        ("service=apiserver&name=master2&what=disable", "Not done: no"),
        ("service=apiserver&name=master1&what=weight&weight=256", "done"),
        ("service=apiserver&name=master1&what=weight&weight=257", "Not done: a weight is 0 to 256"),
        ("service=apiserver&name=master1&what=weight", "Not done: a weight is 0 to 256"),
        ("service=apiserver&name=master1&what=explode", "Not done: what can be done is"),
    ] {
        let (head, _) = post(address, "/do/backend", &cookie, &format!("token={token}&{form}")).await;
        assert!(head.starts_with("http/1.1 303 "), "{head}");
        let (_, page) = ask(address, &format!("GET / HTTP/1.1\r\nhost: lb1\r\n{cookie}\r\n")).await;
        assert!(page.contains(outcome), "{form}");
    }
    let (_, page) = ask(address, &format!("GET / HTTP/1.1\r\nhost: lb1\r\n{cookie}\r\n")).await;
    assert!(!page.contains("id=\"outcome\""), "it is told once");
    post(address, "/do/step-down", &cookie, &format!("token={token}&name=k8s")).await;
    let (_, page) = ask(address, &format!("GET / HTTP/1.1\r\nhost: lb1\r\n{cookie}\r\n")).await;
    assert!(page.contains("Not done: there is no [[vrrp]] of the name &quot;k8s&quot;"));

    let (head, _) = post(address, "/logout", &cookie, &format!("token={token}")).await;
    assert!(head.contains("set-cookie: xvip-lb1=; path=/; max-age=0;"), "{head}");
    let (_, page) = ask(address, &format!("GET / HTTP/1.1\r\nhost: lb1\r\n{cookie}\r\n")).await;
    assert!(!page.contains("<form"));
    let texts: Vec<_> = events.newest(10).into_iter().map(|event| event.text).collect();
    let alice = "administrator alice (status page, 127.0.0.1)";
    // Who has made a change, and what came of it, the agent tells.
    assert_eq!(texts, [format!("{alice} logged in"), format!("{alice} logged out")]);
    agent.server.stop().await;
    drop(agent.sources);
    let seen = serving.await.unwrap();
    let changes: Vec<_> = seen.iter().map(|(_, _, change, _)| change.clone()).collect();
    assert_eq!(changes, [Change::Drain, Change::Disable, Change::Edit(Edit::Weight(256))]);
    assert!(seen.iter().all(|(service, _, _, caller)| service.as_deref() == Some("apiserver") && *caller == alice));
}

#[tokio::test]
async fn nothing_is_done_for_another_site() {
    let mut agent = start_with_alice().await;
    let address = agent.server.address();
    let cookie = log_in(address).await;
    let token = token(address, &cookie).await;
    let form = |token: &str| format!("token={token}&service=apiserver&name=master1&what=drain");
    let other = log_in(address).await;
    let theirs = super::acting::token(address, &other).await;
    let refused = [
        // No session, none of ours, or none over this way.
        (String::new(), form(&token)),
        ("cookie: xvip-lb1=0123\r\n".to_owned(), form(&token)),
        (cookie.replace("xvip-lb1=", "__Host-xvip-lb1="), form(&token)),
        // No token, or that of another session.
        (cookie.clone(), form("")),
        (cookie.clone(), form(&theirs)),
        (cookie.clone(), "service=apiserver&name=master1&what=drain".to_owned()),
        // Another site.
        (format!("{cookie}sec-fetch-site: cross-site\r\n"), form(&token)),
        (format!("{cookie}sec-fetch-site: same-site\r\n"), form(&token)),
        (format!("{cookie}sec-fetch-site: none\r\n"), form(&token)),
        (format!("{cookie}origin: http://evil.example\r\n"), form(&token)),
        (format!("{cookie}origin: null\r\n"), form(&token)),
        (format!("{cookie}origin: http://lb1:81\r\n"), form(&token)),
        // More than is asked for.
        (cookie.clone(), format!("{}&save=true", form(&token))),
        (cookie.clone(), format!("{}&weight={}", form(&token), "0".repeat(5_000))),
    ];
    for (headers, form) in refused {
        let (head, _) = post(address, "/do/backend", &headers, &form).await;
        assert!(head.starts_with("http/1.1 4"), "{headers} {form}: {head}");
    }
    let (head, _) =
        ask(address, &format!("GET /do/backend?{} HTTP/1.1\r\nhost: lb1\r\n{cookie}\r\n", form(&token))).await;
    assert!(head.starts_with("http/1.1 405 "), "{head}");
    assert!(agent.orders.try_recv().is_err());
    let (head, _) =
        post(address, "/login", "origin: http://evil.example\r\n", "name=alice&password=correct+horse").await;
    assert!(head.starts_with("http/1.1 403 ") && !head.contains("set-cookie"), "{head}");

    // From our own page it goes through.
    let own = format!("{cookie}origin: http://lb1\r\nsec-fetch-site: same-origin\r\n");
    let posted = tokio::spawn(async move { post(address, "/do/backend", &own, &form(&token)).await });
    assert!(matches!(agent.orders.recv().await, Some(Order::Backend(_))));
    drop(agent.orders);
    assert!(posted.await.unwrap().0.starts_with("http/1.1 303 "));
}

#[tokio::test]
async fn guessing_is_slow() {
    let agent = start_with_alice().await;
    let address = agent.server.address();
    for (form, words) in [
        ("name=alice&password=wrong", "do not belong together"),
        ("name=bob&password=correct+horse", "do not belong together"),
        ("name=&password=", "do not belong together"),
        ("name=alice&password=x", "do not belong together"),
        ("name=alice&password=y", "do not belong together"),
    ] {
        let (head, page) = post(address, "/login", "", form).await;
        assert!(head.starts_with("http/1.1 403 ") && page.contains(words) && !head.contains("set-cookie"), "{head}");
    }
    for _ in 0..2 {
        let (head, _) = post(address, "/login", "", "name=alice&password=correct+horse").await;
        assert!(head.starts_with("http/1.1 429 "), "{head}");
    }
    let events = agent.events.newest(10);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].text, "too many attempts to log in: 1 refused, the last from 127.0.0.1");
}

#[tokio::test]
async fn a_changed_file_ends_sessions() {
    let agent = start_with_alice().await;
    let address = agent.server.address();
    let cookie = log_in(address).await;
    agent.sources.desk.configure(settings(None));
    token(address, &cookie).await;
    agent.sources.desk.configure(Settings::default());
    let (_, page) = ask(address, &format!("GET /live HTTP/1.1\r\nhost: lb1\r\n{cookie}\r\n")).await;
    assert!(!page.contains("<form"));
}

#[test]
fn a_password_crosses_no_network_in_clear_text() {
    let peer = |address: &str, has_tls| Peer::new(address.parse::<IpAddr>().unwrap(), has_tls);
    for (peer, is_private) in [
        (peer("127.0.0.1", false), true),
        (peer("::1", false), true),
        (peer("::ffff:127.0.0.9", false), true),
        (peer("192.0.2.10", false), false),
        (peer("2001:db8::10", false), false),
        (peer("192.0.2.10", true), true),
    ] {
        assert_eq!(peer.is_private(), is_private, "{peer:?}");
        let mut headers = HeaderMap::new();
        let name = if peer.has_tls { "__Host-xvip-lb1=s" } else { "xvip-lb1=s" };
        headers.insert(header::COOKIE, HeaderValue::from_static(name));
        assert_eq!(act::secret(&peer, &headers, "lb1"), is_private.then_some("s"));
    }
}

#[tokio::test]
async fn it_speaks_tls_where_it_has_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificate: directory.path().join("crt"),
        key: directory.path().join("key"),
        client_authorities: None,
    };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let section = Section { listen: loopback(0), password_file: None, tls: Some(files.clone()) };
    let fault = Settings::read(&section).map(|_| ()).unwrap_err().to_string();
    assert!(fault.starts_with("metrics.tls_key ") && fault.contains("chmod 600"), "{fault}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&files.key, mode).unwrap();

    let agent = start(alive()).await;
    agent.sources.desk.configure(settings(Some(files)));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let ask = async |request: String| {
        let tcp = TcpStream::connect(agent.server.address()).await.unwrap();
        let mut tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // hyper closes without close_notify where it need not.
        let _ = tls.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    let page = ask("GET / HTTP/1.1\r\nhost: lb1\r\n\r\n".to_owned()).await;
    assert!(page.starts_with("HTTP/1.1 200 OK") && page.contains("<h1>lb1</h1>"), "{page}");
    let form = "name=alice&password=correct+horse";
    let head = "POST /login HTTP/1.1\r\nhost: lb1\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length";
    let answer = ask(format!("{head}: {}\r\n\r\n{form}", form.len())).await;
    assert!(
        answer.contains("set-cookie: __Host-xvip-lb1=") && answer.contains("; SameSite=Strict; Secure\r\n"),
        "{answer}"
    );

    // Who speaks no TLS gets no answer, and holds up nobody.
    let mut plain = TcpStream::connect(agent.server.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: lb1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
