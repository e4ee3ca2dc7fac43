//! `POST /v1/vrrp/step-down?name=NAME&hold=SECONDS`: VIPs handed over to other nodes by command.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Caller, Order, Unanswered};
use crate::drivers::vrrp::StepDown;

/// How long a request waits for the other node: longer than a hand-over lasts, and shorter than the connection.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How long a node that has stepped down preempts nobody, unless something else is said.
pub(crate) const USUAL_HOLD: Duration = Duration::from_secs(3600);
/// The longest hold, in seconds: a day.
pub(crate) const LONGEST_HOLD: u64 = 86_400;

/// What became of one virtual router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// `vrrp.name`
    pub name: String,
    /// Whether this node does not hold it now.
    pub done: bool,
    /// In words.
    pub outcome: String,
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) handovers: Vec<Handover>,
    pub(super) fault: Option<String>,
}

/// Path and query of a request.
pub(super) fn path(name: Option<&str>, hold: Duration) -> String {
    let name = name.map(|name| format!("name={name}&")).unwrap_or_default();
    format!("/v1/vrrp/step-down?{name}hold={}", hold.as_secs())
}

/// Has the agent hand VIPs over, and waits for what becomes of each virtual router.
///
/// # Errors
/// Why nothing was done, or is not known to be done, and the status that says so.
pub(crate) async fn hand_over(
    orders: &mpsc::Sender<Order>, name: Option<String>, hold: Duration, caller: Caller,
) -> Result<Vec<Handover>, (StatusCode, String)> {
    let order = |reply| Order::StepDown(StepDown { name: name.clone(), hold, reply }, caller);
    match super::ask(orders, PATIENCE, order).await {
        Ok(outcomes) if outcomes.is_empty() => {
            let fault = match name {
                Some(name) => format!("there is no [[vrrp]] of the name {name:?}"),
                None => "there is no [[vrrp]] on this node".to_owned(),
            };
            Err((StatusCode::NOT_FOUND, fault))
        }
        Ok(outcomes) => {
            let handover =
                |(name, outcome)| (name, crate::drivers::vrrp::Outcome::is_good(&outcome), outcome.to_string());
            let handovers = outcomes.into_iter().map(handover);
            Ok(handovers.map(|(name, done, outcome)| Handover { name, done, outcome }).collect())
        }
        Err(slow @ Unanswered::Slow) => {
            Err((slow.code(), "the hand-over is not finished yet; its outcome will be in the log".to_owned()))
        }
        Err(why) => Err((why.code(), why.to_string())),
    }
}

pub(super) async fn ask(
    State(orders): State<mpsc::Sender<Order>>, Extension(caller): Extension<Caller>, uri: Uri,
) -> Response {
    let (name, hold) = match wanted(uri.query().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(fault) => return refused(StatusCode::BAD_REQUEST, fault),
    };
    match hand_over(&orders, name, hold, caller).await {
        Ok(handovers) => (StatusCode::OK, Json(Answer { handovers, fault: None })).into_response(),
        Err((code, fault)) => refused(code, fault),
    }
}

fn refused(code: StatusCode, fault: String) -> Response {
    (code, Json(Answer { handovers: Vec::new(), fault: Some(fault) })).into_response()
}

fn wanted(query: &str) -> Result<(Option<String>, Duration), String> {
    let (mut name, mut hold) = (None, USUAL_HOLD);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("name", value)) => name = Some(value.to_owned()),
            Some(("hold", value)) => match value.parse() {
                Ok(seconds) if seconds <= LONGEST_HOLD => hold = Duration::from_secs(seconds),
                _ => return Err(format!("hold is not a number of seconds up to {LONGEST_HOLD}")),
            },
            _ => return Err("only name and hold can be said".to_owned()),
        }
    }
    Ok((name, hold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_wanted() {
        for (name, hold) in [(None, 0), (Some("k8s"), 60), (Some("a.b-c"), LONGEST_HOLD)] {
            let uri: Uri = path(name, Duration::from_secs(hold)).parse().unwrap();
            let wanted = wanted(uri.query().unwrap()).unwrap();
            assert_eq!(wanted, (name.map(str::to_owned), Duration::from_secs(hold)));
        }
        assert_eq!(wanted(""), Ok((None, Duration::from_secs(3600))));
        for wrong in ["hold=x", "hold=86401", "hold=-1", "nam=k8s", "name"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }
}
