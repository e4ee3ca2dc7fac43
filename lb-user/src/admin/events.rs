//! `GET /v1/events?after=NUMBER`: what has happened, from the oldest that is kept on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::protocol::fault;
use crate::events::Reporter;
use crate::status::{Event, Status};

/// Events in one answer.
const MOST: usize = 1000;

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Seconds since the Unix epoch at which the agent started: another one counts its events from 1 again.
    pub started_at: f64,
    /// Oldest first.
    pub events: Vec<Event>,
}

/// Path and query of a request.
pub(super) fn path(after: u64) -> String {
    format!("/v1/events?after={after}")
}

pub(super) async fn tell(
    State((status, events)): State<(watch::Receiver<Arc<Status>>, Reporter)>, uri: Uri,
) -> Response {
    let after = match uri.query().unwrap_or_default() {
        "" => Some(0),
        query => query.strip_prefix("after=").and_then(|number| number.parse().ok()),
    };
    let Some(after) = after else {
        return fault(StatusCode::BAD_REQUEST, "only after=NUMBER can be said");
    };
    let started_at = status.borrow().started_at;
    Json(Page { started_at, events: events.after(after, MOST) }).into_response()
}
