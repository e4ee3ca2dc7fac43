//! The `events` command: what has happened on this node, and what happens.

use std::io::{self, Write};
use std::time::Duration;

use super::Event;
use super::render::clean;
use super::words::instant;
use crate::admin::{AdminError, Page, fetch_events};
use crate::cli::EventsArgs;

/// Time between two questions of `--follow`.
const ASK: Duration = Duration::from_millis(500);

/// Runs `xvip events`. Returns the exit code: 0, 3 when no agent answers, 1 when its answer cannot be used. With `--follow` it
/// returns when the output is closed.
pub async fn events(args: &EventsArgs) -> u8 {
    let mut reader = Reader::default();
    loop {
        let lines = match fetch_events(&args.agent.socket, reader.after).await {
            Ok(page) => reader.take(page, args.json),
            Err(error) => match reader.failed(error, args.follow) {
                Ok(line) => line,
                Err(error) => {
                    eprintln!("xvip: {error}");
                    return error.exit_code();
                }
            },
        };
        let mut out = io::stdout().lock();
        // Whoever closed the output has seen enough.
        if out.write_all(lines.as_bytes()).and_then(|()| out.flush()).is_err() || !args.follow {
            return 0;
        }
        drop(out);
        tokio::time::sleep(ASK).await;
    }
}

/// What has been shown so far.
#[derive(Default)]
struct Reader {
    started_at: Option<f64>,
    after: u64,
    /// Nobody answered when last asked, and that was said.
    silent: bool,
}

impl Reader {
    /// The lines of what is new.
    fn take(&mut self, page: Page, json: bool) -> String {
        self.silent = false;
        if self.started_at.replace(page.started_at).is_some_and(|before| before != page.started_at) && self.after > 0 {
            // Another agent counts from 1, and this page began where the other one was.
            self.after = 0;
            eprintln!("xvip: the agent has started anew");
            return String::new();
        }
        let mut lines = String::new();
        for event in &page.events {
            if self.after > 0 && event.number > self.after + 1 {
                eprintln!("xvip: {} events were forgotten before they were asked for", event.number - self.after - 1);
            }
            self.after = event.number;
            lines.push_str(&line(event, json));
        }
        lines
    }

    /// What to print where nobody answers: an agent that is followed may come back. As it does, its socket for looking is there
    /// last, so that who may use no other is kept out for a moment.
    fn failed(&mut self, error: AdminError, follow: bool) -> Result<String, AdminError> {
        let may_pass = matches!(error, AdminError::NoAgent { .. } | AdminError::Denied { .. });
        if !follow || self.started_at.is_none() || !may_pass {
            return Err(error);
        }
        if !std::mem::replace(&mut self.silent, true) {
            eprintln!("xvip: {error}");
        }
        Ok(String::new())
    }
}

fn line(event: &Event, json: bool) -> String {
    if json {
        return serde_json::to_string(event).map(|json| json + "\n").unwrap_or_default();
    }
    format!("{}  {}  {}\n", instant(event.at), clean(&event.subject), clean(&event.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> Event {
        let text = |text: &str| text.to_owned();
        Event {
            number,
            at: 1_763_840_000.25,
            subject: text("backend api/a"),
            text: text("up -> down: \x1b[2J"),
            from: text("up"),
            to: text("down"),
            cause: text("\x1b[2J"),
        }
    }

    #[test]
    fn each_event_is_shown_once_in_either_form() {
        let mut reader = Reader::default();
        let page =
            |started_at, numbers: &[u64]| Page { started_at, events: numbers.iter().copied().map(event).collect() };
        let text = reader.take(page(1.0, &[3, 4]), false);
        assert_eq!(text, "2025-11-22T19:33:20.250Z  backend api/a  up -> down: \u{fffd}[2J\n".repeat(2));
        assert_eq!(reader.after, 4);
        let json = reader.take(page(1.0, &[9]), true);
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event(9));
        assert_eq!(reader.take(page(2.0, &[]), true), "", "another agent");
        assert_eq!(reader.after, 0);
        assert_eq!(reader.take(page(2.0, &[1]), true).lines().count(), 1);
    }

    #[test]
    fn an_agent_that_is_followed_may_come_back() {
        let socket = || std::path::PathBuf::from("/run/xvip/admin-read.sock");
        let gone = || AdminError::NoAgent { socket: socket(), why: "it ended".to_owned() };
        let denied = || AdminError::Denied { socket: socket() };
        let mut reader = Reader::default();
        assert_eq!(reader.failed(gone(), true).unwrap_err().exit_code(), 3, "nobody was there at first");
        reader.take(Page { started_at: 1.0, events: vec![event(1)] }, false);
        assert_eq!(reader.failed(gone(), true).unwrap(), "");
        assert_eq!(reader.failed(denied(), true).unwrap(), "");
        assert!(reader.silent);
        let other = AdminError::Answer { socket: socket(), what: "no".to_owned() };
        assert_eq!(reader.failed(other, true).unwrap_err().exit_code(), 1);
        assert_eq!(reader.failed(gone(), false).unwrap_err().exit_code(), 3);
    }
}
