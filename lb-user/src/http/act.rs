//! What changes things: logging in and out, and orders of administrators. Each is a POST from a page of our own, with a
//! session or a certificate, and the token that belongs to it.

use axum::Extension;
use axum::extract::{DefaultBodyLimit, Form, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, http::uri::Authority};
use serde::Deserialize;

use super::desk::Denied;
use super::door::Peer;
use super::page::{self, Refusal};
use super::sessions::{LIFE, Sessions};
use super::{Sources, document, words};
use crate::admin::{self, Caller, Change, USUAL_HOLD};
use crate::clock;
use crate::config::{Edit, MOST_WEIGHT};

/// Octets of a form.
const LONGEST_FORM: usize = 4096;

/// The routes.
pub(super) fn routes() -> Router<Sources> {
    Router::new()
        .route("/login", get(show_login).post(log_in))
        .route("/logout", post(log_out))
        .route("/do/backend", post(change_backend))
        .route("/do/step-down", post(step_down))
        .layer(DefaultBodyLimit::max(LONGEST_FORM))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    name: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogOut {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendForm {
    token: String,
    service: String,
    name: String,
    what: String,
    weight: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepDownForm {
    token: String,
    name: String,
}

async fn show_login(State(sources): State<Sources>, Extension(peer): Extension<Peer>) -> Response {
    if !sources.desk.has_administrators() {
        return nobody();
    }
    let refusal = (!peer.is_private()).then_some(Refusal::Plain);
    login_page(&sources, StatusCode::OK, refusal)
}

fn login_page(sources: &Sources, code: StatusCode, refusal: Option<Refusal>) -> Response {
    let node = node(sources);
    document(&sources.desk, code, |nonce| page::login(&node, refusal, nonce))
}

async fn log_in(
    State(sources): State<Sources>, Extension(peer): Extension<Peer>, headers: HeaderMap, Form(form): Form<LogIn>,
) -> Response {
    if is_foreign(&headers) {
        return forbidden(FOREIGN);
    }
    if !sources.desk.has_administrators() {
        return nobody();
    }
    if !peer.is_private() {
        return login_page(&sources, StatusCode::FORBIDDEN, Some(Refusal::Plain));
    }
    match sources.desk.log_in(form.name, form.password, peer.address).await {
        Ok(secret) => {
            let mut answer = home();
            let cookie = cookie(&peer, &node(&sources), &secret, LIFE.as_secs());
            answer.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
            answer
        }
        Err(Denied::Wrong) => login_page(&sources, StatusCode::FORBIDDEN, Some(Refusal::Wrong)),
        Err(Denied::TooMany) => login_page(&sources, StatusCode::TOO_MANY_REQUESTS, Some(Refusal::TooMany)),
        Err(Denied::Broken) => no_random(),
    }
}

async fn log_out(
    State(sources): State<Sources>, Extension(peer): Extension<Peer>, headers: HeaderMap, Form(form): Form<LogOut>,
) -> Response {
    let secret = match entitled(&sources, &peer, &headers, &form.token) {
        Ok((_, Caller::Certified { .. })) => return forbidden("the browser shows its certificate by itself"),
        Ok((secret, _)) => secret,
        Err(why) => return forbidden(why),
    };
    sources.desk.log_out(&secret);
    let mut answer = home();
    answer.headers_mut().extend(cookie(&peer, &node(&sources), "", 0).map(|cookie| (header::SET_COOKIE, cookie)));
    answer
}

async fn change_backend(
    State(sources): State<Sources>, Extension(peer): Extension<Peer>, headers: HeaderMap, Form(form): Form<BackendForm>,
) -> Response {
    let desk = &sources.desk;
    let caller = match entitled(&sources, &peer, &headers, &form.token) {
        Ok((_, caller)) => caller,
        Err(why) => return forbidden(why),
    };
    let weight = || form.weight.as_ref()?.trim().parse().ok().filter(|weight| *weight <= MOST_WEIGHT);
    let change = match form.what.as_str() {
        "drain" => Ok(Change::Drain),
        "disable" => Ok(Change::Disable),
        "enable" => Ok(Change::Enable),
        "weight" => weight().map(|weight| Change::Edit(Edit::Weight(weight))).ok_or("a weight is 0 to 256"),
        _ => Err("what can be done is drain, disable, enable and weight"),
    };
    let outcome = match change {
        Ok(change) => {
            let done = admin::change(desk.orders(), Some(form.service), form.name, change, false, caller);
            done.await.map(|done| done.outcome).map_err(|error| error.to_string())
        }
        Err(fault) => Err(fault.to_owned()),
    };
    told(&sources, &peer, &headers, outcome)
}

async fn step_down(
    State(sources): State<Sources>, Extension(peer): Extension<Peer>, headers: HeaderMap,
    Form(form): Form<StepDownForm>,
) -> Response {
    let desk = &sources.desk;
    let caller = match entitled(&sources, &peer, &headers, &form.token) {
        Ok((_, caller)) => caller,
        Err(why) => return forbidden(why),
    };
    let outcome = match admin::hand_over(desk.orders(), Some(form.name), USUAL_HOLD, caller).await {
        Ok(handovers) => {
            let lines: Vec<_> = handovers.iter().map(|one| format!("{}: {}", one.name, one.outcome)).collect();
            let lines = lines.join("; ");
            if handovers.iter().all(|one| one.done) { Ok(lines) } else { Err(lines) }
        }
        Err((_, fault)) => Err(fault),
    };
    told(&sources, &peer, &headers, outcome)
}

/// Back to the page, which will show what came of it.
fn told(sources: &Sources, peer: &Peer, headers: &HeaderMap, outcome: Result<String, String>) -> Response {
    let mut sessions = sources.desk.sessions();
    // Looked for again, because a reload may have come meanwhile: a certificate's session then begins anew.
    let secret = session(&mut sessions, peer, headers, &node(sources));
    if let Some(session) = secret.and_then(|secret| sessions.find(&secret, clock::now())) {
        session.outcome = Some(match outcome {
            Ok(text) => (true, text),
            Err(text) => (false, format!("Not done: {text}")),
        });
    }
    home()
}

/// The session's secret and whose it is, where this request may change things.
fn entitled(
    sources: &Sources, peer: &Peer, headers: &HeaderMap, token: &str,
) -> Result<(String, Caller), &'static str> {
    const NO_SESSION: &str = "log in first (/login), or show a certificate";
    if is_foreign(headers) {
        return Err(FOREIGN);
    }
    let mut sessions = sources.desk.sessions();
    let secret = session(&mut sessions, peer, headers, &node(sources)).ok_or(NO_SESSION)?;
    let caller = sessions.find(&secret, clock::now()).map(|session| session.caller(peer.address)).ok_or(NO_SESSION)?;
    if !sessions.is_token(&secret, token) {
        return Err("this form is not of your session: load the page again");
    }
    Ok((secret, caller))
}

/// The name of this node.
fn node(sources: &Sources) -> String {
    sources.status.borrow().node.clone()
}

/// The secret of the session at this node that a request belongs to: of the one that was logged in to, else of the certificate.
pub(super) fn session(sessions: &mut Sessions, peer: &Peer, headers: &HeaderMap, node: &str) -> Option<String> {
    let now = clock::now();
    match secret(peer, headers, node).filter(|secret| sessions.find(secret, now).is_some()) {
        Some(secret) => Some(secret.to_owned()),
        None => peer.client().map(|client| sessions.of_client(client, peer.address, now)),
    }
}

/// What a request says its session is known by; nothing where somebody on the way could have read it.
pub(super) fn secret<'a>(peer: &Peer, headers: &'a HeaderMap, node: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let wanted = cookie_name(peer, node);
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value).filter(|_| peer.is_private())
}

/// Each node has its own: for browsers all ports of a host are one, and so are both ends of tunnels to several nodes.
fn cookie_name(peer: &Peer, node: &str) -> String {
    // Browsers take the prefix only with Secure, without a domain, and for the whole host.
    let prefix = if peer.has_tls { "__Host-" } else { "" };
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || ".-_".contains(*c);
    format!("{prefix}xvip-{}", node.chars().filter(is_plain).collect::<String>())
}

fn cookie(peer: &Peer, node: &str, secret: &str, seconds: u64) -> Option<HeaderValue> {
    let secure = if peer.has_tls { "; Secure" } else { "" };
    let name = cookie_name(peer, node);
    format!("{name}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}").parse().ok()
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const FOREIGN: &str = "this request comes from another site";

/// Whether a page of somebody else has made a request. Programs that are no browser say nothing of where it comes from; they
/// have no cookies and no certificates of somebody else either.
fn is_foreign(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(FETCH_SITE).iter();
    let mut origins = headers.get_all(header::ORIGIN).iter();
    sites.any(|site| site != "same-origin") || origins.any(|origin| !is_host(origin, headers.get(header::HOST)))
}

fn is_host(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
    let host = host.and_then(|host| host.to_str().ok());
    let parse = |text: &str| text.parse::<Authority>().ok();
    matches!((origin.and_then(parse), host.and_then(parse)), (Some(origin), Some(host)) if origin == host)
}

fn home() -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response()
}

fn forbidden(why: &str) -> Response {
    words(StatusCode::FORBIDDEN, &[why.to_owned()])
}

fn nobody() -> Response {
    words(StatusCode::NOT_FOUND, &["nobody can log in: there is no password_file in [metrics]".to_owned()])
}

fn no_random() -> Response {
    words(StatusCode::INTERNAL_SERVER_ERROR, &["this system has no random numbers".to_owned()])
}
