//! The status page in a browser: what it shows, live and on a phone, and what administrators change by it. Needs root.
//!
//! `XVIP_PICTURES=DIRECTORY` keeps pictures of it there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{LIMIT, OFTEN, end, served_more, serving, wait};
use xvip_tests::agent;
use xvip_tests::chromium::Chromium;
use xvip_tests::pki::Authority;
use xvip_tests::process::output_within;
use xvip_tests::status::Status;
use xvip_tests::topology::Topology;

const PLAIN: &str = "http://192.0.2.21:9910/";
const SECURE: &str = "https://192.0.2.21:9910/";

/// What stands at an element that a selector finds.
fn text(selector: &str) -> String {
    format!("document.querySelector({selector:?}).innerText")
}

/// Whether a backend's row says this.
fn row(backend: &str, words: &str) -> String {
    format!("{}.includes({words:?})", text(&format!("tr[data-key='{backend}']")))
}

fn picture(browser: &mut Chromium, name: &str) {
    if let Some(directory) = std::env::var_os("XVIP_PICTURES") {
        browser.picture(&PathBuf::from(directory).join(name)).unwrap();
    }
}

/// `curl` at the client, not to be held up by certificates; status and text of the answer.
fn curl(topology: &Topology, words: &[&str], url: &str) -> String {
    let mut curl = topology.client.command("curl");
    curl.args(["-s", "-k", "--max-time", "20", "-w", "\n%{http_code}"]).args(words).arg(url);
    output_within(curl, LIMIT).unwrap().1
}

/// The block of commands of docs/status-page.md that begins like this, without an end of their own.
fn book(begin: &str) -> String {
    let book = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status-page.md")).unwrap();
    let mut blocks = book.split("```sh\n").filter_map(|rest| Some(rest.split_once("```")?.0));
    blocks.find(|block| block.starts_with(begin)).unwrap_or_else(|| panic!("no {begin}")).to_owned()
}

/// Types commands at the client, in this directory.
fn typed(topology: &Topology, directory: &Path, commands: &str) -> String {
    let mut shell = topology.client.command("sh");
    shell.args(["-e", "-c", commands]).current_dir(directory);
    let (status, said) = output_within(shell, LIMIT).unwrap();
    assert!(status.success(), "{commands}: {said}");
    said
}

#[test]
fn people_have_it_open_all_day() {
    let mut topology = serving(2, &[OFTEN]);
    if topology.owner().unwrap() != 0 {
        let (status, said) = topology.balancers[1].agent.step_down(&[]).unwrap();
        assert!(status.success(), "{said}");
        wait("the VIP on the node whose page it is", || topology.owners() == [0]);
    }
    let load = topology.load(Duration::from_millis(25), 9).unwrap();
    served_more(&load, 20);
    let mut browser = Chromium::start(&topology.client).unwrap();
    browser.look_with(1440, 900, "light").unwrap();
    browser.go(PLAIN).unwrap();
    wait("the page", || browser.holds("document.readyState === 'complete' && !!document.querySelector('#pause')"));
    let node = topology.balancers[0].agent.netns().name().to_owned();
    assert_eq!(browser.eval(&text("h1")).unwrap(), node);
    for backend in ["master1", "master2", "master3"] {
        assert!(browser.holds(&row(backend, "up")), "{backend}");
    }
    let body = browser.eval(&text("body")).unwrap().to_string();
    for words in
        ["Virtual routers", "192.0.2.100/24", "this node", "apiserver", "Dropped packets", "Shared connections"]
    {
        assert!(body.contains(words), "{words}: {body}");
    }
    assert!(browser.holds("document.querySelectorAll('form').length === 0"), "nobody may change anything");

    // Rates come by themselves, and so does what happens; the page is never loaded again.
    browser.eval("window.same = true").unwrap();
    wait("rates", || {
        let cell = "tr[data-key='master1'] td[data-l='New/s']";
        browser.holds(&format!("parseFloat({}) > 1", text(cell)))
    });
    topology.servers[1].kill9().unwrap();
    wait("a dead backend to be seen", || browser.holds(&row("master2", "down")));
    wait("it to be read out", || {
        browser.holds("document.querySelector('#said').textContent.includes('apiserver/master2: up -> down')")
    });
    assert!(browser.holds(&format!("document.title.startsWith('1 down · {node}') && window.same")));
    picture(&mut browser, "light.png");
    topology.servers[1].revive().unwrap();
    wait("it to be back", || browser.holds(&row("master2", "up")));

    // On a phone nothing is wider than the screen, and tables are tables to who cannot see them.
    browser.look_with(360, 740, "light").unwrap();
    wait("the phone", || browser.holds("innerWidth === 360"));
    let wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.hidden, thead') && \
                e.getBoundingClientRect().right > 360.5).map(e => e.outerHTML.slice(0, 90))";
    assert_eq!(browser.eval(wide).unwrap(), serde_json::json!([]));
    assert!(browser.holds("document.documentElement.scrollWidth <= 360"));
    let tree = browser.call("Accessibility.getFullAXTree", serde_json::json!({})).unwrap().to_string();
    for role in ["table", "columnheader", "rowheader", "cell", "main", "heading"] {
        assert!(tree.contains(&format!("\"value\":\"{role}\"")), "{role}");
    }
    picture(&mut browser, "phone.png");

    // An agent that goes away is missed, and what it said last stays.
    browser.look_with(1440, 900, "dark").unwrap();
    topology.balancers[0].agent.hand_over(LIMIT).unwrap();
    wait("it to be missed", || {
        browser.holds("!document.querySelector('#gone').hidden && document.querySelector('#gone').textContent.includes('is not answering since ')")
    });
    assert!(browser.holds(&row("master1", "up")));
    picture(&mut browser, "gone.png");
    let complaints = std::mem::take(&mut browser.complaints);
    assert!(
        complaints.iter().all(|line| line.contains("ERR_CONNECTION_REFUSED") || line.contains("net::ERR_")),
        "{complaints:?}"
    );

    // With administrators and TLS, from the next start on.
    let run = topology.run.dir().to_owned();
    let keys = topology.authority.server("lb1", &["192.0.2.21"]).unwrap();
    let key = run.join("page.key");
    fs::copy(&keys.key, &key).unwrap();
    let passwords = run.join("page.passwords");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "echo 'correct horse' | exec \"$@\" password alice", "sh"]).arg(agent::find().unwrap());
    let (status, line) = output_within(command, LIMIT).unwrap();
    assert!(status.success() && line.starts_with("alice:$argon2id$"), "{line}");
    fs::write(&passwords, line).unwrap();
    for file in [&key, &passwords] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let lb1 = &mut topology.balancers[0].agent;
    let file = fs::read_to_string(lb1.config()).unwrap();
    let listen = "listen = \"0.0.0.0:9910\"";
    let named = format!("{listen}\npassword_file = \"{}\"", passwords.display());
    lb1.write_config(&file.replace(listen, &named)).unwrap();
    lb1.start().unwrap();
    lb1.wait_for("all to be up", LIMIT, Status::all_up).unwrap();
    wait("the page to go on", || {
        browser.holds(
            "document.querySelector('#gone').hidden && window.same && !!document.querySelector('a[href=\"/login\"]')",
        )
    });
    picture(&mut browser, "dark.png");

    // No password in clear text.
    browser.complaints.clear();
    browser.go(&format!("{PLAIN}login")).unwrap();
    wait("to be told why", || browser.holds("document.body.innerText.includes('clear text')"));
    assert!(browser.holds("!document.querySelector('input')"));
    let form = ["-d", "name=alice&password=correct+horse"];
    assert!(curl(&topology, &form, &format!("{PLAIN}login")).ends_with("\n403"));

    // Encrypted after a reload.
    let lb1 = &topology.balancers[0].agent;
    let admins = run.join("admins");
    fs::create_dir(&admins).unwrap();
    typed(&topology, &admins, &book("openssl req -x509").replace("/etc/xvip/", ""));
    let encrypted = format!(
        "{named}\ntls_cert = \"{}\"\ntls_key = \"{}\"\ntls_client_ca = \"{}\"",
        keys.cert.display(),
        key.display(),
        admins.join("page.clients.crt").display()
    );
    lb1.write_config(&file.replace(listen, &encrypted)).unwrap();
    let (status, said) = lb1.command(&["reload"]).unwrap();
    assert!(status.success(), "{said}");
    browser.go(&format!("{SECURE}login")).unwrap();
    wait("the form", || browser.holds("!!document.querySelector('input[name=password]')"));
    picture(&mut browser, "login.png");
    browser
        .eval(
            "document.querySelector('[name=name]').value = 'alice'; document.querySelector('[name=password]').value = \
             'correct horse'; document.querySelector('form').requestSubmit(); 0",
        )
        .unwrap();
    wait("to be in", || {
        browser.holds("location.pathname === '/' && document.querySelector('.who span')?.innerText === 'alice'")
    });
    assert!(browser.holds("document.cookie === ''"), "scripts see no session");
    let panel = "document.querySelector(\"tr[data-key='master3'] details\")";
    browser.eval(&format!("{panel}.open = true; 0")).unwrap();
    picture(&mut browser, "change.png");
    browser.eval(&format!("{panel}.querySelector('[value=drain]').click(); 0")).unwrap();
    wait("the outcome", || {
        browser
            .holds("document.querySelector('#outcome')?.innerText.includes('apiserver/master3 drained on this node')")
    });
    wait("it to be shown", || browser.holds(&row("master3", "draining")));
    let said = lb1.command(&["events"]).unwrap().1;
    let by = "enabled -> drained: command of administrator alice (status page, 192.0.2.10)";
    assert!(said.contains(by) && said.contains("alice (status page, 192.0.2.10) logged in"), "{said}");

    // Nobody else may, whatever they send.
    let token = browser.eval("document.querySelector('[name=token]').value").unwrap();
    let token = token.as_str().unwrap();
    let form = format!("token={token}&service=apiserver&name=master1&what=drain");
    let guessed = format!("cookie: __Host-xvip-{node}=0123456789abcdef");
    for headers in [
        vec![],
        vec!["-H", guessed.as_str()],
        vec!["-H", "origin: https://evil.example"],
        vec!["-H", "sec-fetch-site: cross-site"],
    ] {
        let mut words = vec!["-d", form.as_str()];
        words.extend(headers);
        let answer = curl(&topology, &words, &format!("{SECURE}do/backend"));
        assert!(answer.ends_with("\n403"), "{answer}");
    }
    let session = browser.call("Network.getCookies", serde_json::json!({ "urls": [SECURE] })).unwrap();
    let cookie = &session["cookies"][0];
    assert_eq!(cookie["name"], format!("__Host-xvip-{node}"));
    let session = format!("cookie: __Host-xvip-{node}={}", cookie["value"].as_str().unwrap());
    let wrong = form.replace(token, &"0".repeat(64));
    for (form, more) in [(&wrong, "accept: */*"), (&form, "origin: https://evil.example")] {
        let answer =
            curl(&topology, &["-d", form.as_str(), "-H", session.as_str(), "-H", more], &format!("{SECURE}do/backend"));
        assert!(answer.ends_with("\n403"), "{answer}");
    }
    let status = lb1.status().unwrap();
    assert_eq!(status.backend("master1").unwrap().state, "up");
    assert_eq!(status.config.changes, ["apiserver/master3 drained"]);
    browser.eval(&format!("{panel}.querySelector('[value=enable]').click(); 0")).unwrap();
    wait("it to take connections again", || browser.holds(&row("master3", "up")));

    // Who shows a certificate needs no password, and no less of the rest; who shows another is not let in.
    let (cert, key) = (admins.join("alice.crt"), admins.join("alice.key"));
    let shown = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let page = curl(&topology, &shown, SECURE);
    assert!(page.contains("<span>alice</span> by certificate"), "{page}");
    let token = page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let order = |what: &str| format!("token={token}&service=apiserver&name=master1&what={what}");
    let drain = order("drain");
    let url = format!("{SECURE}do/backend");
    let foreign = ["-d", drain.as_str(), "-H", "origin: https://evil.example"];
    assert!(curl(&topology, &[&shown[..], &foreign].concat(), &url).ends_with("\n403"));
    assert!(curl(&topology, &["-d", drain.as_str()], &url).ends_with("\n403"));
    let program = book("token=$(curl").replace("curl ", "curl -k ").replace("https://lb1:9910/", SECURE);
    typed(&topology, &admins, &program);
    wait("it to be drained", || browser.holds(&row("master1", "draining")));
    let said = lb1.command(&["events"]).unwrap().1;
    assert!(
        said.contains("drained: command of administrator alice (status page, by certificate, 192.0.2.10)"),
        "{said}"
    );
    let enable = order("enable");
    assert!(curl(&topology, &[&shown[..], &["-d", enable.as_str()]].concat(), &url).ends_with("\n303"));
    wait("it to be back once more", || browser.holds(&row("master1", "up")));
    // A new weight is told of too, and reads none of the files that only a reload does.
    let line = fs::read(&passwords).unwrap();
    fs::write(&passwords, "this is no line of a password\n").unwrap();
    let weight = order("weight&weight=2");
    assert!(curl(&topology, &[&shown[..], &["-d", weight.as_str()]].concat(), &url).ends_with("\n303"));
    let page = curl(&topology, &shown, SECURE);
    assert!(page.contains("apiserver/master1: weight 2, until the next reload"), "{page}");
    assert!(browser.holds("document.querySelector('.who span')?.innerText === 'alice'"), "nobody is logged out");
    fs::write(&passwords, line).unwrap();
    let other = run.join("other");
    fs::create_dir(&other).unwrap();
    let stranger = Authority::create(&other).unwrap().client("ops").unwrap();
    let shown = ["--cert", stranger.cert.to_str().unwrap(), "--key", stranger.key.to_str().unwrap()];
    assert!(curl(&topology, &shown, SECURE).ends_with("\n000"));
    // A file that will not do changes nothing.
    lb1.write_config(&file.replace(listen, &encrypted.replace("page.clients.crt", "alice.key"))).unwrap();
    let (status, said) = lb1.command(&["reload"]).unwrap();
    assert!(!status.success() && said.contains("metrics.tls_client_ca "), "{said}");
    assert!(curl(&topology, &[], SECURE).ends_with("\n200"));

    assert_eq!(browser.complaints, Vec::<String>::new());
    let elsewhere: Vec<_> = browser
        .requests
        .iter()
        .filter(|url| ![PLAIN, SECURE, "data:", "about:"].iter().any(|own| url.starts_with(own)))
        .collect();
    assert_eq!(elsewhere, Vec::<&String>::new());
    drop((browser, load));
    end(topology);
}
