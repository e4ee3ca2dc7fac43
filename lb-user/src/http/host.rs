//! What a request has to call this node by. Over the loopback interface without TLS a name is all that tells a page of ours from
//! one whose name its owner has made to mean 127.0.0.1, which a browser on this host then takes for ours.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::door::Peer;
use super::{Sources, words};

/// Answers those who mean this node; others are told what it is called.
pub(super) async fn check(State(sources): State<Sources>, request: Request, next: Next) -> Response {
    let is_exposed = request.extensions().get().is_none_or(|peer: &Peer| !peer.has_tls && peer.address.is_loopback());
    let node = sources.status.borrow().node.clone();
    if is_exposed && !is_ours(request.headers(), &node) {
        let line = format!("over the loopback interface this page is at an address, at localhost, or at {node}");
        return words(StatusCode::MISDIRECTED_REQUEST, &[line]);
    }
    next.run(request).await
}

/// Whether the one `Host` of a request is an address, localhost, or the node's name, with or without a port.
fn is_ours(headers: &HeaderMap, node: &str) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_name = |known: &str| name.eq_ignore_ascii_case(known);
    !authority.as_str().contains('@') && (address.parse::<IpAddr>().is_ok() || is_name("localhost") || is_name(node))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_of_this_node_mean_it() {
        let of = |hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            is_ours(&headers, "lb1.example")
        };
        for ours in [
            "127.0.0.1",
            "127.0.0.1:9910",
            "192.0.2.21:1",
            "[::1]",
            "[::1]:9910",
            "localhost",
            "LocalHost:8080",
            "lb1.example",
            "LB1.example:9910",
        ] {
            assert!(of(&[ours]), "{ours}");
        }
        for other in [
            "",
            ":9910",
            "evil.example",
            "evil.example:9910",
            "lb1",
            "lb1.example.evil.example",
            "xlb1.example",
            "localhost.",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.1",
            "0x7f000001",
            "a@127.0.0.1",
            "[::1",
            "::1",
            "lb1.example:x:1",
            "127.0.0.1/",
            "127.0.0.1 ",
            "lb1.example,evil.example",
        ] {
            assert!(!of(&[other]), "{other}");
        }
        assert!(!of(&[]) && !of(&["localhost", "evil.example"]) && !of(&["localhost", "localhost"]));
    }
}
