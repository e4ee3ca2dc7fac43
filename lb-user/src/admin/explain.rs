//! `GET /v1/explain?client=A:P&listener=V:P`: which backend a connection is on or would go to, and why.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::connections::Flows;
use super::protocol::fault;
use crate::bpf::{self, ConnectionTables, FactTables, TableError};
use crate::connections::Connection;
use crate::explain::{Facts, explanation};
use crate::status::Status;

/// Listeners that an error names.
const NAMED: usize = 4;

/// Path and query of a request.
pub(super) fn path(client: SocketAddr, listener: Option<SocketAddr>) -> String {
    let listener = listener.map(|listener| format!("&listener={listener}")).unwrap_or_default();
    format!("/v1/explain?client={client}{listener}")
}

fn read(query: &str) -> Result<(SocketAddr, Option<SocketAddr>), String> {
    let (mut client, mut listener) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let socket: Result<SocketAddr, _> =
            value.parse().map_err(|_| format!("{key} is {value:?}: ADDRESS:PORT is wanted"));
        match key {
            "client" => client = Some(socket?),
            "listener" => listener = Some(socket?),
            _ => return Err(format!("{key:?} cannot be said here")),
        }
    }
    let client = client.ok_or("client=ADDRESS:PORT is missing")?;
    match listener {
        Some(listener) if listener.is_ipv4() != client.is_ipv4() => {
            Err("client and listener are of different IP versions".to_owned())
        }
        listener => Ok((client, listener)),
    }
}

/// What the tables say.
enum Found {
    /// Of one connection.
    One(Box<Facts>, Option<bpf::Connection>),
    /// Nothing yet, because any of these may be meant.
    Any(Vec<SocketAddr>),
}

fn find(node: &str, client: SocketAddr, listener: Option<SocketAddr>) -> Result<Found, TableError> {
    let (facts, connections) = (FactTables::pinned(node)?, ConnectionTables::pinned(node)?);
    if let Some(listener) = listener {
        return Ok(Found::One(Box::new(facts.of(client, listener)?), connections.one(client, listener)?));
    }
    let listeners: Vec<_> = facts.listeners()?.into_iter().filter(|at| at.is_ipv4() == client.is_ipv4()).collect();
    let mut flows = Vec::new();
    for at in &listeners {
        flows.extend(connections.one(client, *at)?);
    }
    Ok(match (flows.as_slice(), listeners.as_slice()) {
        ([flow], _) => Found::One(Box::new(facts.of(client, flow.listener)?), Some(*flow)),
        ([], [listener]) => Found::One(Box::new(facts.of(client, *listener)?), None),
        ([], _) => Found::Any(listeners),
        (flows, _) => Found::Any(flows.iter().map(|flow| flow.listener).collect()),
    })
}

pub(super) async fn explain(
    State((status, flows)): State<(watch::Receiver<Arc<Status>>, Flows)>, uri: Uri,
) -> Response {
    let (status, naming) = (Arc::clone(&status.borrow()), flows.naming());
    let (client, listener) = match read(uri.query().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(why) => return fault(StatusCode::BAD_REQUEST, why),
    };
    let node = status.node.clone();
    match flows.look(move || find(&node, client, listener)).await {
        Ok(Found::One(facts, flow)) => {
            let flow = flow.map(|flow| Connection::of(&flow, &naming));
            Json(explanation(&facts, flow, &naming, &status)).into_response()
        }
        Ok(Found::Any(listeners)) => {
            let some: Vec<_> = listeners.iter().take(NAMED).map(SocketAddr::to_string).collect();
            let more = if listeners.len() > NAMED { " and others" } else { "" };
            let words = match some.is_empty() {
                true => "nobody listens at a VIP of the client's IP version".to_owned(),
                false => format!("say to which listener: there is {}{more}", some.join(", ")),
            };
            fault(StatusCode::BAD_REQUEST, words)
        }
        Err(response) => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_wanted() {
        for (client, listener) in [
            ("192.0.2.10:40000", None),
            ("192.0.2.10:40000", Some("192.0.2.100:8443")),
            ("[2001:db8::10]:40000", Some("[2001:db8::100]:8443")),
        ] {
            let asked = (client.parse().unwrap(), listener.map(|listener| listener.parse().unwrap()));
            let uri: Uri = path(asked.0, asked.1).parse().unwrap();
            assert_eq!(read(uri.query().unwrap()), Ok(asked));
        }
        let mixed = "client=192.0.2.10:1&listener=[2001:db8::100]:8443";
        for wrong in ["", "client=192.0.2.10", "listener=192.0.2.100:8443", "client=192.0.2.10:1&x=1", mixed] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
