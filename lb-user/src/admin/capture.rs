//! `POST /v1/capture?seconds=N&bytes=N&id=N`: the datapath shows packets for so long, in a table that root can read.

use std::path::Path;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use lb_ebpf::abi::CAPTURE_BYTES;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::protocol::fault;
use super::{Caller, Order, Unanswered};

/// How long a request waits for the programs to be loaded: shorter than the connection lasts.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How often one command asks for the same: a busy host takes its time to load programs.
const TIMES: u32 = 4;
/// The longest that is granted at once: whoever goes on looking asks again.
const LONGEST: u64 = 60;

/// Somebody wants to see packets.
#[derive(Debug)]
pub struct CaptureOrder {
    /// By which one who asks again is known; 0 where none was given.
    pub id: u64,
    /// For how long from now; zero: no more.
    pub hold: Duration,
    /// Bytes of each packet, at least 1.
    pub bytes: u32,
    /// Who wants it, for people.
    pub caller: Caller,
    /// Where the outcome goes: what is shown, or why nothing is.
    pub reply: oneshot::Sender<Result<Capturing, String>>,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capturing {
    /// The node whose packets they are; its pins have the table.
    pub node: String,
    /// The interface.
    pub interface: String,
    /// The program that shows them: another one has another table. 0: none does.
    pub program: u32,
}

/// Path and query of a request.
fn path(id: u64, hold: Duration, bytes: u32) -> String {
    format!("/v1/capture?seconds={}&bytes={bytes}&id={id}", hold.as_secs())
}

pub(super) async fn ask(
    State(orders): State<mpsc::Sender<Order>>, Extension(caller): Extension<Caller>, uri: Uri,
) -> Response {
    let (id, hold, bytes) = match wanted(uri.query().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(why) => return fault(StatusCode::BAD_REQUEST, why),
    };
    let order = |reply| Order::Capture(CaptureOrder { id, hold, bytes, caller, reply });
    match super::ask(&orders, PATIENCE, order).await {
        Ok(Ok(capturing)) => Json(capturing).into_response(),
        Ok(Err(why)) => fault(StatusCode::CONFLICT, why),
        Err(stopping @ Unanswered::Stopping) => fault(stopping.code(), stopping.to_string()),
        // Whoever asks again gets it, whether or not the agent knows of this one.
        Err(Unanswered::Slow | Unanswered::Busy) => {
            fault(StatusCode::GATEWAY_TIMEOUT, "the datapath is not loaded for it yet: try again")
        }
    }
}

fn wanted(query: &str) -> Result<(u64, Duration, u32), String> {
    let (mut id, mut hold, mut bytes) = (0, None, CAPTURE_BYTES);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("seconds", value)) => match value.parse() {
                Ok(seconds) if seconds <= LONGEST => hold = Some(Duration::from_secs(seconds)),
                _ => return Err(format!("seconds is not a number up to {LONGEST}")),
            },
            Some(("bytes", value)) => match value.parse() {
                Ok(number) if (1..=CAPTURE_BYTES).contains(&number) => bytes = number,
                _ => return Err(format!("bytes is not a number from 1 to {CAPTURE_BYTES}")),
            },
            Some(("id", value)) => id = value.parse().map_err(|_| "id is not a number of 64 bits".to_owned())?,
            _ => return Err("only seconds, bytes and id can be said".to_owned()),
        }
    }
    Ok((id, hold.ok_or("seconds are missing")?, bytes))
}

/// Asks the agent that listens on `socket` to have packets shown.
///
/// # Errors
/// When it does not answer, or refuses.
pub async fn request_capture(
    socket: &Path, id: u64, hold: Duration, bytes: u32,
) -> Result<Capturing, super::AdminError> {
    super::client::post_again(socket, &path(id, hold, bytes), TIMES).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_wanted() {
        for (id, seconds, bytes) in [(1, 0, 1), (u64::MAX, 10, 256), (7, LONGEST, CAPTURE_BYTES)] {
            let uri: Uri = path(id, Duration::from_secs(seconds), bytes).parse().unwrap();
            assert_eq!(wanted(uri.query().unwrap()), Ok((id, Duration::from_secs(seconds), bytes)));
        }
        assert_eq!(wanted("seconds=1"), Ok((0, Duration::from_secs(1), CAPTURE_BYTES)));
        for wrong in [
            "",
            "bytes=1",
            "seconds=61",
            "seconds=x",
            "seconds=1&bytes=0",
            "seconds=1&bytes=32769",
            "seconds=1&id=-1",
            "a=b",
        ] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }
}
