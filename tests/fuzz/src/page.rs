//! The metrics listener: requests of whoever can reach it.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, watch};
use xvip::clock;
use xvip::config::Metrics as Section;
use xvip::events::Reporter;
use xvip::heartbeat::Heartbeat;
use xvip::http::{Desk, Settings, Sources, answer};
use xvip::metrics::{Exposition, Metrics};

use crate::admin::example;
use crate::bytes::Bytes;
use crate::pipe::{Pipe, run};

/// A request at the metrics listener of an agent that has administrators.
///
/// It is answered in HTTP or not at all. Nobody is logged in, so nothing is ordered, and nobody gets in: that takes a password
/// which is not among the inputs. What a request says is in no document.
pub fn page(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let step = bytes.byte();
    let pipe = Pipe::asking(bytes.rest(), step);
    let heard = pipe.heard();
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
    run(answer(pipe, sources));
    assert!(orders.try_recv().is_err(), "nobody is logged in");
    let said = heard.bytes();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&said));
    let has = |words: &[u8]| said.windows(words.len()).any(|window| window == words);
    assert!(!has(b"set-cookie: xvip=") || has(b"Max-Age=0"), "nobody knows the password");
    assert!(!has(b"fuzzed<"), "what a request says is in no document");
}

/// Somebody may log in, with a password that nobody knows.
fn settings() -> Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let read = || {
        let file = std::env::temp_dir().join(format!("xvip-fuzz-{}.passwords", std::process::id()));
        let line =
            "alice:$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
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
