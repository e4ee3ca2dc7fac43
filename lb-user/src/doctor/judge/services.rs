//! What services need of the host, and what their backends show.

use std::net::{IpAddr, SocketAddr};

use lb_proto::health::Outcome;

use super::list;
use super::validity::{self, Shown};
use crate::config::Listen;
use crate::doctor::facts::{Backend, Certificate, Configuration, Facts, Listener, Service};
use crate::doctor::finding::{About, Check, Finding, Subject};

/// Names of a certificate that are printed.
const MOST_NAMES: usize = 8;

pub(super) fn judge(facts: &Facts, now: u64, findings: &mut Vec<Finding>) {
    let Configuration::Good { interface, metrics, .. } = &facts.configuration else { return };
    match &facts.listeners {
        Ok(listeners) => {
            for listener in listeners {
                metrics_port(listener, *metrics, findings);
            }
        }
        Err(why) => About::new(Subject::Host, findings).unseen(Check::Listeners, "listening sockets", why),
    }
    for service in &facts.services {
        of_service(facts, service, findings);
        for backend in &service.backends {
            let subject = Subject::Backend(service.name.clone(), backend.name.clone());
            let mut about = About::new(subject, findings);
            route(backend, interface, &mut about);
            own(facts, backend, interface, &mut about);
            reachable(backend, &mut about);
            path_mtu(facts, backend, interface, &mut about);
            certificate(backend, now, &mut about);
        }
    }
}

fn wildcard(address: IpAddr) -> bool {
    address.is_unspecified()
}

fn owner(listener: &Listener) -> String {
    match &listener.process {
        Some((name, pid)) => format!("{name} (process {pid})"),
        None => "a process that cannot be seen".to_owned(),
    }
}

fn is_xvip(listener: &Listener) -> bool {
    listener.process.as_ref().is_some_and(|(name, _)| name == "xvip")
}

fn metrics_port(listener: &Listener, metrics: SocketAddr, findings: &mut Vec<Finding>) {
    let address = listener.address;
    let same = address.ip() == metrics.ip() || wildcard(address.ip()) || wildcard(metrics.ip());
    if address.port() == metrics.port() && same && !is_xvip(listener) {
        About::new(Subject::Host, findings).problem(
            Check::Listeners,
            format!("{} listens at {address}, where metrics.listen {metrics} is to be", owner(listener)),
            "stop it or choose another port for metrics.listen",
        );
    }
}

/// Whether a backend of the service is this host at this port: then who listens there is no stranger.
fn has_own_at(service: &Service, port: u16) -> bool {
    let is_own = |backend: &Backend| backend.route.as_ref().is_ok_and(|way| way.local);
    service.backends.iter().any(|backend| backend.address.port() == port && is_own(backend))
}

fn of_service(facts: &Facts, service: &Service, findings: &mut Vec<Finding>) {
    let mut about = About::new(Subject::Service(service.name.clone()), findings);
    let mut free = true;
    for listener in facts.listeners.iter().flatten().filter(|listener| !is_xvip(listener)) {
        let same_port = |listen: &&Listen| listen.has(listener.address.port());
        for listen in service.listen.iter().filter(same_port) {
            let seen = format!("{} listens at {}, and the service at {listen}", owner(listener), listener.address);
            let at = listener.address.ip();
            // A socket at :: takes connections of IPv4 as well.
            let everywhere = at.is_unspecified() && (at.is_ipv6() || listen.address.is_ipv4());
            if at == listen.address || everywhere && listen.is_everywhere() {
                free = false;
                about.warning(Check::Listeners, seen, "stop it: once xvip runs, nothing from the wire reaches it");
            } else if everywhere {
                free = false;
                if has_own_at(service, listener.address.port()) {
                    about.ok(Check::Listeners, format!("{seen}: a backend of its own"));
                    continue;
                }
                about.note(
                    Check::Listeners,
                    seen,
                    "know that it is reached by this host's other addresses, not by the VIP",
                );
            }
        }
    }
    if free && facts.listeners.is_ok() {
        about.ok(Check::Listeners, format!("no socket of the host listens at {}", list(&service.listen)));
    }
    if let Some(why) = &service.check_fails {
        let (what, remedy) = why.rsplit_once("; ").unwrap_or((why, "correct it in service.health_check"));
        return about.problem(Check::Reachable, format!("the health check cannot be made: {what}"), remedy);
    }
    let answers = |backend: &Backend| matches!(backend.outcome, Some((Outcome::Ready { .. }, _)));
    match service.backends.iter().filter(|backend| answers(backend)).count() {
        0 => about.problem(
            Check::Reachable,
            "no backend passes its health check",
            "start an API server, or correct service.health_check and the backends' addresses",
        ),
        ready => about.ok(Check::Reachable, format!("{ready} of {} backends pass their check", service.backends.len())),
    }
    if !service.tls {
        about.note(
            Check::Certificate,
            "the health check speaks no TLS, so certificates were not looked at",
            r#"set service.health_check type = "https" (or "tls") if the backends speak it"#,
        );
    }
}

fn route(backend: &Backend, interface: &str, about: &mut About<'_>) {
    let address = backend.address;
    match &backend.route {
        Err(why) => about.problem(
            Check::Route,
            format!("there is no way to {}: {why}", address.ip()),
            format!("add a route by {interface}, or correct the backend's address"),
        ),
        Ok(way) if way.local => about.ok(Check::Route, format!("{} is this host", address.ip())),
        Ok(way) if way.interface != interface => about.problem(
            Check::Route,
            format!("{} is reached by {}, not by {interface}", address.ip(), way.interface),
            format!("route it by {interface}, or set node.interface = {:?}", way.interface),
        ),
        Ok(way) => match way.gateway {
            Some(gateway) => about.ok(Check::Route, format!("{} is behind {gateway} on {interface}", address.ip())),
            None => about.ok(Check::Route, format!("{} is in a subnet of {interface}", address.ip())),
        },
    }
}

/// A backend on this node needs TC at the way out, whichever way packets come in.
fn own(facts: &Facts, backend: &Backend, interface: &str, about: &mut About<'_>) {
    let has_tcx = facts.devices.iter().find(|device| device.name == interface).map(|device| device.traits.has_tcx);
    if backend.route.as_ref().is_ok_and(|way| way.local) && has_tcx == Some(false) {
        about.problem(
            Check::Datapath,
            format!("{} is this host, its answers leave by TC, and the kernel has no tcx", backend.address.ip()),
            "use Linux 6.6 or newer where a balancer is a backend, or balance on other nodes",
        );
    }
}

fn reachable(backend: &Backend, about: &mut About<'_>) {
    let address = backend.address;
    let Some((outcome, took)) = &backend.outcome else { return };
    let seen = format!("{address}: {outcome}");
    match outcome {
        Outcome::Ready { .. } => about.ok(Check::Reachable, format!("{seen} in {:.0} ms", took.as_secs_f64() * 1000.0)),
        Outcome::TlsFailed { .. } => about.problem(
            Check::Reachable,
            seen,
            "correct ca_file, client_certificate or server_name of the health check, or the server's certificate",
        ),
        Outcome::Refused => about.warning(Check::Reachable, seen, "start the server, or correct the port"),
        Outcome::TimedOut { .. } | Outcome::Unreachable { .. } => {
            about.warning(Check::Reachable, seen, "look at the backend's host, its firewall and the way there");
        }
        Outcome::NotReady { .. } => about.warning(Check::Reachable, seen, "look at the server's own log"),
        Outcome::BadAnswer(_) => {
            about.warning(Check::Reachable, seen, "correct path, host or expect_status of the health check");
        }
        Outcome::NotDelivered { .. } => about.warning(Check::Reachable, seen, "start the agent there"),
        Outcome::NotAsked { .. } => about.note(Check::Reachable, seen, "run the doctor again"),
    }
}

fn path_mtu(facts: &Facts, backend: &Backend, interface: &str, about: &mut About<'_>) {
    let device = facts.devices.iter().find(|device| device.name == interface);
    let local = backend.route.as_ref().is_ok_and(|way| way.local);
    let (Some(path), Some(device), false) = (backend.path_mtu, device, local) else { return };
    match path < device.mtu {
        true => about.warning(
            Check::PathMtu,
            format!("packets to {} hold {path} bytes at most, on {interface} {}", backend.address.ip(), device.mtu),
            format!("give the backend's own interface MTU {path} as well, so that both ends agree on shorter segments"),
        ),
        false => about.ok(Check::PathMtu, format!("packets of {} bytes reach {}", device.mtu, backend.address.ip())),
    }
}

fn certificate(backend: &Backend, now: u64, about: &mut About<'_>) {
    let address = backend.address;
    let certificate = match &backend.certificate {
        None => return,
        Some(Ok(certificate)) => certificate,
        // A backend that is down is told of already.
        Some(Err(_)) if !matches!(backend.outcome, Some((Outcome::Ready { .. }, _))) => return,
        Some(Err(why)) => {
            let remedy = "run the doctor again, or look with `openssl s_client -connect`";
            return about.note(Check::Certificate, format!("{address} showed no certificate: {why}"), remedy);
        }
    };
    let Certificate { lacks, names, .. } = certificate;
    if !lacks.is_empty() {
        let more = if names.len() > MOST_NAMES { ", ..." } else { "" };
        let has = list(names.iter().take(MOST_NAMES));
        about.problem(
            Check::Certificate,
            format!("the certificate at {address} does not name {}, it names {has}{more}", list(lacks)),
            "add the VIP to the subject alternative names and sign it anew (kubeadm: apiServer.certSANs, move apiserver.crt and apiserver.key away, `kubeadm init phase certs apiserver --config FILE`, restart the server)",
        );
    }
    let shown = Shown {
        check: Check::Certificate,
        name: &format!("the certificate at {address}"),
        good: if lacks.is_empty() { "the certificate names the VIP and" } else { "the certificate" },
        renew: "renew it (kubeadm: `kubeadm certs renew apiserver`) and restart the server",
    };
    validity::judge(certificate, &shown, now, about);
}
