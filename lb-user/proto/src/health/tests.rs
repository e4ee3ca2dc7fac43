//! Outcomes: classification of statuses, labels, words.

use super::*;

/// One outcome of each kind, in the order of `Outcome::RESULTS`.
pub(crate) fn one_of_each() -> Vec<Outcome> {
    let text = || "x".to_owned();
    vec![
        Outcome::Ready { status: Some(200) },
        Outcome::NotReady { status: 500 },
        Outcome::BadAnswer(BadAnswer::Status(404)),
        Outcome::BadAnswer(BadAnswer::Credentials(403)),
        Outcome::BadAnswer(BadAnswer::Malformed(text())),
        Outcome::BadAnswer(BadAnswer::Closed),
        Outcome::TlsFailed { text: text() },
        Outcome::TimedOut { phase: Phase::Connect },
        Outcome::TimedOut { phase: Phase::Handshake },
        Outcome::TimedOut { phase: Phase::Answer },
        Outcome::Refused,
        Outcome::Unreachable { text: text() },
        Outcome::NotDelivered { presence: Presence::Silent, listener: listener() },
        Outcome::NotDelivered { presence: Presence::NotServed, listener: listener() },
        Outcome::NotAsked { text: text() },
    ]
}

fn listener() -> SocketAddr {
    "192.0.2.100:8443".parse().unwrap()
}

#[test]
fn a_node_that_does_not_deliver_is_told_what_to_do() {
    let said = |presence| Outcome::NotDelivered { presence, listener: listener() }.to_string();
    assert_eq!(
        said(Presence::Silent),
        "no agent delivers for 192.0.2.100:8443 there (start xvip on it, with this service in mode dsr and, unless it \
         holds the VIP too, role = \"backend\"; let UDP to its peer_port through)"
    );
    assert_eq!(said(Presence::Leaving), "the agent there is stopping");
}

#[test]
fn every_outcome_has_its_label_and_the_set_is_closed() {
    let labels: Vec<_> = one_of_each().iter().map(Outcome::result).collect();
    assert_eq!(labels, Outcome::RESULTS);
}

#[test]
fn tcp_failures_are_exactly_those_before_a_connection() {
    let tcp: Vec<_> = one_of_each().iter().filter(|o| o.is_tcp_failure()).map(Outcome::result).collect();
    assert_eq!(tcp, ["timeout_connect", "refused", "unreachable"]);
}

#[test]
fn statuses_are_classified() {
    let cases: [(u16, &[u16], &str); 12] = [
        (200, &[200], "ready"),
        (204, &[200], "bad_status"),
        (204, &[200, 204], "ready"),
        (101, &[200], "bad_status"),
        (302, &[200], "bad_status"),
        (401, &[200], "needs_credentials"),
        (403, &[200], "needs_credentials"),
        (401, &[200, 401], "ready"),
        (429, &[200], "bad_status"),
        (500, &[200], "not_ready"),
        (503, &[503], "ready"),
        (600, &[200], "bad_status"),
    ];
    for (status, expected, result) in cases {
        assert_eq!(Outcome::of_status(status, expected).result(), result, "{status} of {expected:?}");
    }
}

#[test]
fn words_name_what_happened() {
    let cases = [
        (Outcome::of_status(500, &[200]), "answered 500: not ready, by its own word"),
        (Outcome::of_status(403, &[200]), "answered 403: the endpoint needs credentials"),
        (Outcome::TimedOut { phase: Phase::Handshake }, "TLS handshake timed out"),
        (Outcome::Refused, "connection refused"),
    ];
    for (outcome, words) in cases {
        assert_eq!(outcome.to_string(), words);
    }
}
