//! A headless Chromium in a namespace, driven by the DevTools protocol over a pair of FIFOs, and all that it complained about.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::netns::Netns;
use crate::process::{Process, find_program};

/// How long the browser may take for anything; it starts slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
#[derive(Debug)]
pub struct Chromium {
    process: Process,
    commands: File,
    messages: Receiver<Value>,
    last: u64,
    session: String,
    /// What the page's console and the browser itself complained about.
    pub complaints: Vec<String>,
    /// Every address that the page asked for.
    pub requests: Vec<String>,
}

impl Chromium {
    /// Starts it with a profile of its own in the run's directory.
    pub fn start(netns: &Netns) -> Result<Chromium> {
        let program = find_program("chromium")?;
        let home = netns.run().dir().join("chromium");
        fs::create_dir_all(&home)?;
        let (asked, said) = (home.join("asked"), home.join("said"));
        for fifo in [&asked, &said] {
            mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| format!("making {}", fifo.display()))?;
        }
        // Open for both directions, so that nobody waits for the other end.
        let open = |path: &Path| File::options().read(true).write(true).open(path);
        let (commands, answers) = (open(&asked)?, open(&said)?);
        let mut shell = netns.command("sh");
        shell.args(["-c", "exec \"$@\" 3<\"$ASKED\" 4>\"$SAID\"", "sh"]).arg(program);
        shell.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        shell.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        shell.args(["--disable-extensions", "--hide-scrollbars", "--ignore-certificate-errors"]);
        shell.args(["--remote-debugging-pipe", "about:blank"]);
        shell.arg(format!("--user-data-dir={}", home.join("profile").display()));
        shell.env("ASKED", &asked).env("SAID", &said).env("HOME", &home).env("XDG_RUNTIME_DIR", &home);
        let process = Process::spawn(netns.run(), "chromium", shell)?;
        let (sender, messages) = mpsc::channel();
        // Ends with the last message that nobody wants; the FIFO itself has no end.
        thread::spawn(move || {
            let words = BufReader::new(answers).split(0);
            for word in words.map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&word) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (session, complaints, requests) = (String::new(), Vec::new(), Vec::new());
        let mut browser = Chromium { process, commands, messages, last: 0, session, complaints, requests };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attached = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attached)?;
        browser.session = attached["sessionId"].as_str().context("the browser gave no session")?.to_owned();
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Sends a command and waits for its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.last += 1;
        let id = self.last;
        let mut command = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        let mut line = serde_json::to_vec(&command)?;
        line.push(0);
        self.commands.write_all(&line)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let message = match self.messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    bail!("the browser does not answer {method}; its last words:\n{}", self.process.log_tail(20))
                }
            };
            if message["id"] == id {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].clone());
            }
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        let parameters = &message["params"];
        match message["method"].as_str().unwrap_or_default() {
            "Log.entryAdded" => self.complaints.push(parameters["entry"].to_string()),
            "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" => self.complaints.push(parameters.to_string()),
            "Network.requestWillBeSent" => {
                self.requests.extend(parameters["request"]["url"].as_str().map(str::to_owned));
            }
            _ => {}
        }
    }

    /// Goes to an address.
    pub fn go(&mut self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({ "url": url }))?;
        match gone.get("errorText") {
            None => Ok(()),
            Some(error) => bail!("{url}: {error}"),
        }
    }

    /// What an expression means on the page.
    pub fn eval(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked)?;
        if let Some(fault) = answer.get("exceptionDetails") {
            bail!("{expression}: {fault}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Whether an expression is true on the page, which may just be on its way.
    pub fn holds(&mut self, expression: &str) -> bool {
        self.eval(expression).is_ok_and(|value| value == true)
    }

    /// Size and colour scheme of what it is looked at with.
    pub fn look_with(&mut self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", screen)?;
        let scheme = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": scheme })).map(drop)
    }

    /// The whole page as PNG in a file.
    pub fn picture(&mut self, file: &Path) -> Result<()> {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }))?;
        let png = STANDARD.decode(shot["data"].as_str().unwrap_or_default())?;
        fs::write(file, png).with_context(|| format!("writing {}", file.display()))
    }
}
