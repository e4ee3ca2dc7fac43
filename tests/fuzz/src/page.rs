//! The metrics listener: requests of whoever can reach it, and what a session does for them.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, watch};
use xvip::admin::Order;
use xvip::clock;
use xvip::config::Metrics as Section;
use xvip::drivers::vrrp::Outcome;
use xvip::events::Reporter;
use xvip::heartbeat::Heartbeat;
use xvip::http::{Desk, Settings, Sources, answer};
use xvip::metrics::{Exposition, Metrics};

use crate::admin::example;
use crate::bytes::Bytes;
use crate::pipe::{Pipe, run};

/// Stand in the input for what nobody can guess: the cookie and the token of somebody who is logged in.
const COOKIE: &[u8] = b"@C";
const TOKEN: &[u8] = b"@T";

/// A request at the metrics listener of an agent that has administrators.
///
/// It is answered in HTTP or not at all. Something is ordered only by a POST with the cookie and the token of a session, and not
/// where it says that it comes from another site; nobody gets in by a password, which is not among the inputs. What a request
/// says is in no document, and neither is what a session is known by.
pub fn page(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let step = bytes.byte();
    let words = bytes.rest();
    let (_status, receiver) = watch::channel(Arc::new(example()));
    let (sender, mut orders) = mpsc::channel(4);
    let Ok(desk) = Desk::new(sender, Reporter::default()) else {
        unreachable!("there are random numbers where there is a fuzzer");
    };
    desk.configure(settings());
    let heartbeat = Heartbeat::new(clock::now());
    let sources = Sources {
        exposition: Arc::new(Exposition::new(&Metrics::new(), receiver.clone(), heartbeat.clone())),
        status: receiver,
        heartbeat,
        desk,
    };
    let session = has(words, COOKIE).then(|| logged_in(&sources));
    let asked = session.as_ref().map_or_else(|| words.to_vec(), |session| session.fill(words));
    let pipe = Pipe::asking(&asked, step);
    let heard = pipe.heard();
    let ordered = run(async {
        let agent = async {
            let mut ordered = 0;
            while let Some(order) = orders.recv().await {
                ordered += 1;
                // Whoever asked may be gone.
                match order {
                    Order::Backend(order) => drop(order.reply.send(Ok(order.name.into()))),
                    Order::StepDown(order, _) => {
                        let name = order.name.unwrap_or_default();
                        drop(order.reply.send(vec![(name, Outcome::NobodyTookOver)]));
                    }
                    Order::Reload(_) | Order::Capture(_) => unreachable!("nobody can ask for that here"),
                }
            }
            ordered
        };
        tokio::join!(answer(pipe, sources), agent).1
    });
    let said = heard.bytes();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&said));
    assert!(!has(&said, b"set-cookie: xvip-lb1=") || has(&said, b"Max-Age=0"), "nobody knows the password");
    assert!(!has(&said, b"fuzzed<"), "what a request says is in no document");
    if let Some(session) = &session {
        assert!(!has(&said, session.cookie.as_bytes()), "what a session is known by is told once");
    }
    if ordered > 0 {
        assert_eq!(ordered, 1, "one request for each connection");
        assert!(session.is_some() && has(words, TOKEN), "only by cookie and token");
        assert!(asked.trim_ascii_start().starts_with(b"POST "), "only by POST");
        assert!(!is_of_another_site(&asked), "not for another site");
    }
}

fn has(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// Whether a browser has said so in the head of this request.
fn is_of_another_site(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let head: Vec<_> = text.trim_start().lines().take_while(|line| !line.is_empty()).collect();
    let says = |name: &str, value: &str| {
        head.iter().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.trim().starts_with(value)))
    };
    let is_elsewhere = says("origin:", "http://evil") || says("host:", "evil");
    says("sec-fetch-site:", "cross") || says("origin:", "null") || is_elsewhere
}

/// What somebody who is logged in has.
struct Session {
    cookie: String,
    token: String,
}

impl Session {
    /// The words with what they have in place of what stands for it.
    fn fill(&self, words: &[u8]) -> Vec<u8> {
        let mut filled = Vec::with_capacity(words.len() + 128);
        let mut rest = words;
        while let Some((first, more)) = rest.split_first() {
            let known = [(COOKIE, &self.cookie), (TOKEN, &self.token)];
            match known.iter().find_map(|(mark, text)| Some((rest.strip_prefix(*mark)?, text))) {
                Some((after, text)) => {
                    filled.extend_from_slice(text.as_bytes());
                    rest = after;
                }
                None => {
                    filled.push(*first);
                    rest = more;
                }
            }
        }
        filled
    }
}

/// Logs somebody in as a browser does.
fn logged_in(sources: &Sources) -> Session {
    let ask = |request: String| {
        let pipe = Pipe::waiting(request.as_bytes());
        let heard = pipe.heard();
        run(answer(pipe, sources.clone()));
        String::from_utf8_lossy(&heard.bytes()).into_owned()
    };
    let between = |text: &str, before: &str, after: char| {
        let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
        found.map(|(found, _)| found.to_owned()).unwrap_or_default()
    };
    let form = format!("name=alice&password={PASSWORD}");
    let kind = "content-type: application/x-www-form-urlencoded";
    let length = form.len();
    let answer = ask(format!("POST /login HTTP/1.1\r\nhost: lb1\r\n{kind}\r\ncontent-length: {length}\r\n\r\n{form}"));
    let cookie = between(&answer, "set-cookie: xvip-lb1=", ';');
    assert_eq!(cookie.len(), 64, "{answer}");
    let answer = ask(format!("GET / HTTP/1.1\r\nhost: lb1\r\ncookie: xvip-lb1={cookie}\r\n\r\n"));
    let token = between(&answer, "name=\"token\" value=\"", '"');
    assert_eq!(token.len(), 64, "{answer}");
    Session { cookie, token }
}

/// Of alice. The fuzzer does not find it, and its hash is cheap.
const PASSWORD: &str = "four-words-nobody-says";
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$umeEOTrTdDrfwArwRwO+IAsDmWwy+oSECpwpCayV7rw";

/// Alice may log in.
fn settings() -> Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let read = || {
        let file = std::env::temp_dir().join(format!("xvip-fuzz-{}.passwords", std::process::id()));
        let line = format!("alice:{HASH}\n");
        let options = std::os::unix::fs::OpenOptionsExt::mode(std::fs::File::options().write(true).create(true), 0o600)
            .open(&file)
            .and_then(|mut opened| std::io::Write::write_all(&mut opened, line.as_bytes()));
        let section = Section { listen: ([127, 0, 0, 1], 0).into(), password_file: Some(file.clone()), tls: None };
        let settings = options.ok().and_then(|()| Settings::read(&section).ok());
        // Whatever is left of it harms nobody.
        let _ = std::fs::remove_file(&file);
        match settings {
            Some(settings) => settings,
            None => unreachable!("a file in the temporary directory can be read back"),
        }
    };
    SETTINGS.get_or_init(read).clone()
}
