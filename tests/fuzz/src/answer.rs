//! What a server, or somebody in its place, answers to a health check.

use std::time::Duration;

use lb_proto::health::{BadAnswer, Outcome};
use xvip::clock;
use xvip::config::HttpCheck;
use xvip::probe::judge;

use crate::bytes::Bytes;
use crate::pipe::{Pipe, run};

/// Asks somebody whose answer is these bytes, and who closes then.
///
/// The check ends with an outcome. It is "ready" only where an HTTP answer says so with an expected status; what is told of
/// a bad one is short and fit for a terminal.
pub fn answer(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (step, which) = (bytes.byte(), bytes.byte());
    let words = bytes.rest();
    let expect_status = if which & 1 == 0 { vec![200] } else { vec![200, 204, 301, 503] };
    let check = HttpCheck { path: "/readyz".to_owned(), host: None, expect_status: expect_status.clone() };
    let pipe = Pipe::answering(words, step);
    let heard = pipe.heard();
    let outcome = run(async { judge(&check, pipe, clock::now() + Duration::from_secs(10)).await });
    let Ok(outcome) = outcome else { unreachable!("a check of /readyz can be made ready") };
    assert!(heard.bytes().starts_with(b"GET /readyz HTTP/1.1\r\n"), "what is asked does not depend on the answer");
    let says = |status: u16| {
        let status = status.to_string();
        words.windows(12).any(|line| line.starts_with(b"HTTP/1.") && &line[9..12] == status.as_bytes())
    };
    match outcome {
        Outcome::Ready { status: Some(status) } => {
            assert!(expect_status.contains(&status) && says(status), "{status} makes ready");
        }
        Outcome::NotReady { status } => {
            assert!((500..600).contains(&status) && !expect_status.contains(&status) && says(status));
        }
        Outcome::BadAnswer(BadAnswer::Malformed(text)) => {
            assert!(text.chars().count() <= 240 && !text.chars().any(char::is_control), "{text:?}");
        }
        Outcome::BadAnswer(_) => {}
        other => unreachable!("{other:?} after a connection was made and closed"),
    }
}
