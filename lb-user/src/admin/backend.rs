//! `POST /v1/backend/{drain,disable,enable,weight,add,remove}?service=S&name=N&...`: one backend changed by command.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::protocol::{Caller, fault};
use super::{Order, Unanswered};
use crate::config::said::backend_address;
use crate::config::{Edit, MOST_WEIGHT, shown_address};

/// As for a reload, which some of the changes are.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is wanted of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// No new connections.
    Drain,
    /// None at all.
    Disable,
    /// As the configuration has it.
    Enable,
    /// The configuration changed.
    Edit(Edit),
}

/// A backend to be changed.
#[derive(Debug)]
pub struct BackendOrder {
    /// The service, where it was said.
    pub service: Option<String>,
    /// The backend.
    pub name: String,
    /// What is wanted.
    pub change: Change,
    /// Whether the configuration file is to have it as well.
    pub save: bool,
    /// Who wants it.
    pub caller: Caller,
    /// What was done, or why nothing was.
    pub reply: oneshot::Sender<Result<Done, Vec<String>>>,
}

/// What an order has done, in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// What holds now.
    pub outcome: String,
    /// What was wanted as well and is not so, or not for sure: the file does not have it.
    pub warning: Option<String>,
}

impl From<String> for Done {
    fn from(outcome: String) -> Self {
        Self { outcome, warning: None }
    }
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// What was done; empty when nothing was.
    pub(super) outcome: String,
    pub(super) faults: Vec<String>,
    /// What of it was not done.
    #[serde(default)]
    pub(super) warning: Option<String>,
}

/// Path and query of a request.
pub(super) fn path(service: Option<&str>, name: &str, change: &Change, save: bool) -> String {
    let (verb, more) = match change {
        Change::Drain => ("drain", String::new()),
        Change::Disable => ("disable", String::new()),
        Change::Enable => ("enable", String::new()),
        Change::Edit(Edit::Remove) => ("remove", String::new()),
        Change::Edit(Edit::Weight(weight)) => ("weight", format!("&weight={weight}")),
        Change::Edit(Edit::Add { address, weight, max_connections }) => {
            let address = shown_address(*address);
            let weight = weight.map(|weight| format!("&weight={weight}")).unwrap_or_default();
            let most = max_connections.map(|most| format!("&max_connections={most}")).unwrap_or_default();
            ("add", format!("&address={address}{weight}{most}"))
        }
    };
    let service = service.map(|service| format!("&service={service}")).unwrap_or_default();
    let save = if save { "&save=true" } else { "" };
    format!("/v1/backend/{verb}?name={name}{service}{more}{save}")
}

#[derive(Default)]
struct Said {
    service: Option<String>,
    name: Option<String>,
    weight: Option<u16>,
    max_connections: Option<u32>,
    address: Option<SocketAddr>,
    save: bool,
}

impl Said {
    fn read(query: &str) -> Result<Self, String> {
        let mut said = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong = |wanted: &str| format!("{key} is {value:?}: {wanted}");
            match key {
                "service" => said.service = Some(value.to_owned()),
                "name" => said.name = Some(value.to_owned()),
                "weight" => {
                    let weight = value.parse().ok().filter(|weight| *weight <= MOST_WEIGHT);
                    let wanted = || wrong(&format!("a whole number from 0 to {MOST_WEIGHT} is wanted"));
                    said.weight = Some(weight.ok_or_else(wanted)?);
                }
                "max_connections" => {
                    said.max_connections = Some(value.parse().map_err(|_| wrong("a whole number is wanted"))?);
                }
                "address" => said.address = Some(backend_address(value)?),
                "save" => said.save = value.parse().map_err(|_| wrong("true or false is wanted"))?,
                _ => return Err(format!("{key:?} cannot be said here")),
            }
        }
        Ok(said)
    }

    fn change(&self, verb: &str) -> Result<Change, String> {
        let Self { weight, max_connections, address, save, .. } = self;
        let missing = |key: &str| format!("{key} is missing");
        let change = match verb {
            "drain" => Change::Drain,
            "disable" => Change::Disable,
            "enable" => Change::Enable,
            "remove" => Change::Edit(Edit::Remove),
            "weight" => Change::Edit(Edit::Weight(weight.ok_or_else(|| missing("weight"))?)),
            "add" => Change::Edit(Edit::Add {
                address: address.ok_or_else(|| missing("address"))?,
                weight: *weight,
                max_connections: *max_connections,
            }),
            _ => return Err("what can be done is drain, disable, enable, weight, add and remove".to_owned()),
        };
        let adds = verb == "add";
        let surplus = [
            ("weight", weight.is_some() && !adds && verb != "weight"),
            ("address", address.is_some() && !adds),
            ("max_connections", max_connections.is_some() && !adds),
            ("save", *save && !matches!(change, Change::Edit(_))),
        ];
        match surplus.into_iter().find(|(_, surplus)| *surplus) {
            Some((key, _)) => Err(format!("{key} cannot be said with {verb}")),
            None => Ok(change),
        }
    }
}

/// Has the agent change a backend, and waits for what becomes of it.
///
/// # Errors
/// Why nothing was done, or is not known to be done.
pub(crate) async fn change(
    orders: &mpsc::Sender<Order>, service: Option<String>, name: String, change: Change, save: bool, caller: Caller,
) -> Result<Done, NotDone> {
    let order = |reply| Order::Backend(BackendOrder { service, name, change, save, caller, reply });
    super::ask(orders, PATIENCE, order).await?.map_err(NotDone::Refused)
}

/// Why an order was not carried out, as far as is known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotDone {
    /// The agent will not.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// It did not say.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

pub(super) async fn ask(
    State(orders): State<mpsc::Sender<Order>>, Extension(caller): Extension<Caller>, Path(verb): Path<String>, uri: Uri,
) -> Response {
    let wanted = Said::read(uri.query().unwrap_or_default()).and_then(|said| Ok((said.change(&verb)?, said)));
    let (change, Said { service, name, save, .. }) = match wanted {
        Ok(wanted) => wanted,
        Err(what) => return fault(StatusCode::BAD_REQUEST, what),
    };
    let Some(name) = name else {
        return fault(StatusCode::BAD_REQUEST, "name is missing");
    };
    match self::change(&orders, service, name, change, save, caller).await {
        Ok(Done { outcome, warning }) => Json(Answer { outcome, faults: Vec::new(), warning }).into_response(),
        Err(NotDone::Refused(faults)) => {
            let answer = Answer { outcome: String::new(), faults, warning: None };
            (StatusCode::UNPROCESSABLE_ENTITY, Json(answer)).into_response()
        }
        Err(NotDone::Unanswered(why)) => fault(why.code(), why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_wanted() {
        let add = |address: &str, weight, max_connections| {
            Change::Edit(Edit::Add { address: backend_address(address).unwrap(), weight, max_connections })
        };
        for change in [
            Change::Drain,
            Change::Disable,
            Change::Enable,
            Change::Edit(Edit::Remove),
            Change::Edit(Edit::Weight(256)),
            add("192.0.2.31:6443", None, None),
            add("[2001:db8::31]:6443", Some(0), Some(u32::MAX)),
            add("192.0.2.31", Some(3), None),
            add("[2001:db8::31]", None, None),
        ] {
            let save = matches!(change, Change::Edit(_));
            for service in [None, Some("api.v-1")] {
                let uri: Uri = path(service, "master1", &change, save).parse().unwrap();
                let said = Said::read(uri.query().unwrap()).unwrap();
                let verb = uri.path().strip_prefix("/v1/backend/").unwrap();
                assert_eq!(said.change(verb), Ok(change.clone()));
                assert_eq!(
                    (said.service.as_deref(), said.name.as_deref(), said.save),
                    (service, Some("master1"), save)
                );
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (verb, query, words) in [
            ("drain", "name=a&save=true", "save cannot be said with drain"),
            ("drain", "name=a&weight=1", "weight cannot be said"),
            ("weight", "name=a", "weight is missing"),
            ("weight", "weight=257", "from 0 to 256"),
            ("weight", "weight=-1", "from 0 to 256"),
            ("add", "name=a", "address is missing"),
            ("add", "address=master1:6443", "has no IP address before its port"),
            ("add", "address=192.0.2.1:0", "has port 0"),
            ("add", "address=127.0.0.1:6443", "is a loopback address"),
            ("add", "address=2001:db8::31", "is an IPv6 address without a port"),
            ("remove", "name=a&address=192.0.2.1:1", "address cannot be said"),
            ("enable", "save=maybe", "true or false"),
            ("enable", "nam=a", "cannot be said here"),
            ("kill", "name=a", "what can be done is"),
        ] {
            let fault = Said::read(query).and_then(|said| said.change(verb)).unwrap_err();
            assert!(fault.contains(words), "{verb} {query}: {fault}");
        }
    }
}
