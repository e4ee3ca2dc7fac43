//! `GET /v1/connections?client=A&port=P&service=S&backend=B&limit=N`: flows as the datapath has them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;
use tokio::time::timeout;

use super::protocol::fault;
use crate::bpf::{ConnectionTables, TableError, Wanted};
use crate::connections::{Connection, Connections, Filter, MOST};
use crate::naming::Naming;
use crate::status::Status;
use crate::turns::Turns;

/// Shorter than a connection to the socket lasts.
const PATIENCE: Duration = Duration::from_secs(4);
/// Where nothing is said about it.
const USUAL: usize = 1000;

/// The way to the tables of flows, and what is in them by name. They are gone over on threads apart, one at a time and at
/// most half of the time: whoever may ask cannot keep a processor busy, nor who asks and hangs up.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    naming: Option<watch::Receiver<Arc<Naming>>>,
    turns: Turns,
}

impl Flows {
    /// Those of an agent that publishes its names.
    #[must_use]
    pub fn new(naming: watch::Receiver<Arc<Naming>>) -> Self {
        Self { naming: Some(naming), turns: Turns::default() }
    }

    /// The names of now.
    pub(super) fn naming(&self) -> Arc<Naming> {
        self.naming.as_ref().map(|naming| Arc::clone(&naming.borrow())).unwrap_or_default()
    }

    /// Looks at the tables when it is its turn.
    pub(super) async fn look<T: Send + 'static>(
        &self, look: impl FnOnce() -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, Response> {
        match timeout(PATIENCE, self.turns.take(|took| took, look)).await {
            Ok(Some(found)) => found.map_err(|error| {
                fault(StatusCode::SERVICE_UNAVAILABLE, format!("the tables of flows cannot be read: {error}"))
            }),
            Ok(None) => Err(fault(StatusCode::INTERNAL_SERVER_ERROR, "looking at the tables has failed")),
            Err(_) => Err(fault(StatusCode::GATEWAY_TIMEOUT, "others are looking at the tables: try again")),
        }
    }
}

/// Path and query of a request.
pub(super) fn path(filter: &Filter) -> String {
    let mut path = format!("/v1/connections?limit={}", filter.limit);
    let words = [
        ("client", filter.client.map(|client| client.to_string())),
        ("port", filter.client_port.map(|port| port.to_string())),
        ("service", filter.service.clone()),
        ("backend", filter.backend.clone()),
    ];
    for (key, value) in words.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        path.push_str(&format!("&{key}={value}"));
    }
    path
}

fn read(query: &str) -> Result<Filter, String> {
    let mut filter = Filter { client: None, client_port: None, service: None, backend: None, limit: USUAL };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = |wanted: &str| format!("{key} is {value:?}: {wanted}");
        match key {
            "client" => {
                let client: Result<IpAddr, _> = value.parse();
                filter.client = Some(client.map_err(|_| wrong("an address is wanted"))?);
            }
            "port" => filter.client_port = Some(value.parse().map_err(|_| wrong("a port is wanted"))?),
            "service" => filter.service = Some(value.to_owned()),
            "backend" => filter.backend = Some(value.to_owned()),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                filter.limit = limit.ok_or_else(|| wrong(&format!("a whole number from 1 to {MOST} is wanted")))?;
            }
            _ => return Err(format!("{key:?} cannot be said here")),
        }
    }
    Ok(filter)
}

/// What is wanted of the tables.
fn wanted(filter: &Filter, naming: &Naming, status: &Status) -> Result<Wanted, String> {
    let is_asked = |asked: &Option<String>, name: &str| asked.as_ref().is_none_or(|asked| asked == name);
    let services = || status.services.iter().filter(|service| is_asked(&filter.service, &service.name));
    if let (Some(service), None) = (&filter.service, services().next()) {
        return Err(format!("there is no service {service:?}"));
    }
    let places = (filter.service.is_some() || filter.backend.is_some())
        .then(|| naming.places(filter.service.as_deref(), filter.backend.as_deref()));
    if let (Some(backend), Some(places)) = (&filter.backend, &places)
        && places.is_empty()
    {
        return Err(format!("there is no backend {backend:?} there"));
    }
    Ok(Wanted { client: filter.client, client_port: filter.client_port, places, most: filter.limit })
}

pub(super) async fn list(State((status, flows)): State<(watch::Receiver<Arc<Status>>, Flows)>, uri: Uri) -> Response {
    let (status, naming) = (Arc::clone(&status.borrow()), flows.naming());
    let filter = match read(uri.query().unwrap_or_default()) {
        Ok(filter) => filter,
        Err(why) => return fault(StatusCode::BAD_REQUEST, why),
    };
    let wanted = match wanted(&filter, &naming, &status) {
        Ok(wanted) => wanted,
        Err(why) => return fault(StatusCode::NOT_FOUND, why),
    };
    let node = status.node.clone();
    // Many connections are a long text, which is made on that thread too.
    let look = move || -> Result<Vec<u8>, TableError> {
        let listed = ConnectionTables::pinned(&node)?.list(&wanted)?;
        let connections = listed.connections.iter().map(|found| Connection::of(found, &naming)).collect();
        Ok(serde_json::to_vec(&Connections { connections, total: listed.total }).unwrap_or_default())
    };
    match flows.look(look).await {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(response) => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_wanted() {
        let text = |text: &str| Some(text.to_owned());
        for (client, client_port, service, backend) in [
            (None, None, None, None),
            (Some("192.0.2.10"), Some(40000), None, text("master1")),
            (Some("2001:db8::10"), None, text("api"), text("a.b-c")),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            let filter = Filter { client, client_port, service, backend, limit: 7 };
            let uri: Uri = path(&filter).parse().unwrap();
            assert_eq!(read(uri.query().unwrap()), Ok(filter));
        }
        assert_eq!(read("").unwrap().limit, USUAL);
        for wrong in ["client=x", "port=70000", "limit=0", "limit=50001", "limit", "clients=192.0.2.10"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
