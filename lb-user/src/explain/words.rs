//! A decision in the words that people read.

use std::net::IpAddr;

use lb_ebpf::abi::{Backend, Balance, Reason, Service};
use lb_ebpf::datapath::balance::{Rounds as _, Standing, standing};

use super::{Candidate, Decision, Explanation, Facts, decide};
use crate::connections::Connection;
use crate::naming::{Named, Naming};
use crate::status::{BackendStatus, ServiceStatus, Status};

/// Explains what the datapath would do by these facts, and names what they number. `flow`: the one that there is.
#[must_use]
pub fn explanation(facts: &Facts, flow: Option<Connection>, naming: &Naming, status: &Status) -> Explanation {
    let decision = decide(facts);
    let mut names = facts.backends.iter().filter_map(|(slot, backend)| named(naming, *slot, backend));
    let service = names.next().map(|named| named.service.clone());
    let known = status.services.iter().find(|known| Some(&known.name) == service.as_ref());
    let candidates = match &facts.service {
        Some(service) => candidates(facts, service, &decision, naming, known),
        None => Vec::new(),
    };
    let words = match &flow {
        Some(flow) => format!("goes on to {}: it is {}", flow.backend_name(), flow.state),
        None => outcome(facts, &decision, &candidates),
    };
    Explanation {
        client: facts.client.to_string(),
        listener: facts.listener.to_string(),
        service,
        balance: facts.service.as_ref().map(|service| balance(service).to_owned()).unwrap_or_default(),
        vip: vip(facts, status),
        allowed: facts.service.as_ref().map(|service| allowed(facts, service, known)).unwrap_or_default(),
        source_limit: facts.service.as_ref().map(|service| source_limit(facts, service, known)).unwrap_or_default(),
        flow,
        candidates,
        outcome: decision.reason.label().to_owned(),
        words,
    }
}

fn named<'n>(naming: &'n Naming, slot: u32, backend: &Backend) -> Option<&'n Named> {
    naming.of((u16::try_from(slot).ok()?, backend.generation))
}

fn balance(service: &Service) -> &'static str {
    match service.balance {
        of if of == Balance::LeastConn as u16 => "leastconn",
        of if of == Balance::Source as u16 => "source",
        of if of == Balance::Maglev as u16 => "maglev",
        _ => "roundrobin",
    }
}

/// Whether packets to the address come here.
fn vip(facts: &Facts, status: &Status) -> String {
    let address = facts.listener.ip();
    if !facts.vips.contains(&address.into()) {
        return format!("{address} is no VIP of this node");
    }
    let has = |net: &String| net.split('/').next().and_then(|text| text.parse::<IpAddr>().ok()) == Some(address);
    match status.vrrp.iter().find(|router| router.virtual_addresses.iter().any(has)) {
        None => "no [[vrrp]] has it: its packets go to whichever host has the address".to_owned(),
        Some(router) if router.state == "active" => format!("this node holds it ({} is active)", router.name),
        Some(router) => {
            let other = router.active_router.as_ref();
            let other = other.map(|other| format!(", {other} is active")).unwrap_or_default();
            format!("not on this node ({} is {}{other}): ask there", router.name, router.state)
        }
    }
}

fn allowed(facts: &Facts, service: &Service, known: Option<&ServiceStatus>) -> String {
    if service.allow == 0 {
        return "everyone may connect".to_owned();
    }
    let list = known.map(|known| known.allow.join(", ")).unwrap_or_default();
    let is = if facts.is_allowed { "is" } else { "is not" };
    format!("{} {is} on the list: {list}", facts.client.ip())
}

fn source_limit(facts: &Facts, service: &Service, known: Option<&ServiceStatus>) -> String {
    let Some(limit) = facts.limit.filter(|_| service.is_limited != 0) else {
        return "none".to_owned();
    };
    let words = known.map(|known| known.source_limit.as_str()).unwrap_or_default();
    let is_fast = |filled| limit.interval != 0 && limit.admit(filled, facts.now).is_none();
    let state = if limit.connections != 0 && facts.full_until.is_some_and(|until| facts.now < until) {
        "it has as many connections as it may"
    } else if facts.filled.is_some_and(is_fast) {
        "used up for now"
    } else {
        "it has room for another"
    };
    format!("{words}: {state}")
}

fn candidates(
    facts: &Facts, service: &Service, decision: &Decision, naming: &Naming, known: Option<&ServiceStatus>,
) -> Vec<Candidate> {
    let of = |(slot, backend): (&u32, &Backend)| {
        let named = named(naming, *slot, backend);
        let its = known
            .zip(named)
            .and_then(|(known, named)| known.backends.iter().find(|backend| backend.name == named.backend));
        let standing = standing(facts, service, *slot);
        Candidate {
            name: named.map_or_else(|| format!("slot {slot}"), |named| named.backend.clone()),
            address: std::net::SocketAddr::from(backend.endpoint.reached_for(listener_port(facts))).to_string(),
            takes: standing == Standing::Takes,
            why: why(facts, *slot, backend, standing, its, known.is_some_and(|known| known.fail_open)),
            connections: facts.connections(*slot).open,
            chance: decision.chance(*slot),
        }
    };
    facts.backends.iter().filter(|(_, backend)| !backend.is_free()).map(of).collect()
}

fn listener_port(facts: &Facts) -> lb_ebpf::net::Be16 {
    lb_ebpf::net::Be16::new(facts.listener.port())
}

fn why(
    facts: &Facts, slot: u32, backend: &Backend, standing: Standing, its: Option<&BackendStatus>, fail_open: bool,
) -> String {
    match standing {
        Standing::Full => {
            format!("full: {} of {} connections", facts.connections(slot).open, backend.max_connections)
        }
        Standing::NotOfService => "removed: it has connections left, and gets no new ones".to_owned(),
        Standing::Takes if facts.is_suspect(slot) => {
            "leaves SYNs unanswered at the moment: the others come first".to_owned()
        }
        Standing::Takes if fail_open => "all backends fail their checks, and all are used all the same".to_owned(),
        Standing::Takes => match its {
            Some(its) if its.effective_weight < f64::from(its.weight) => {
                format!("{}, weight {:.2} of {} (slow start)", its.state, its.effective_weight, its.weight)
            }
            Some(its) => format!("{}, weight {}", its.state, its.weight),
            None => "takes connections".to_owned(),
        },
        Standing::NoShare => match its {
            Some(its) if its.state == "up" && its.weight == 0 => "weight 0".to_owned(),
            Some(its) => format!("{}: {}", its.state, its.reason),
            None => "it is given up".to_owned(),
        },
    }
}

fn outcome(facts: &Facts, decision: &Decision, candidates: &[Candidate]) -> String {
    let names: Vec<_> = candidates.iter().filter(|of| of.chance > 0.0).map(|of| of.name.as_str()).collect();
    let how = match &facts.service {
        Some(service) if service.balance == Balance::Source as u16 => "by the hash of the client's address",
        Some(service) if service.balance == Balance::Maglev as u16 => "by the hash of the client's address and port",
        _ => "the only one that is open to it",
    };
    match decision.reason {
        Reason::NewFlow | Reason::NewLocal => match names.as_slice() {
            [one] => format!("goes to {one}, {how}"),
            several => format!("goes to the next in turn of {}", several.join(", ")),
        },
        Reason::NotVip => "left to this host's own stack: the address is no VIP of this node".to_owned(),
        Reason::NotService => "left to this host's own stack: no service listens there".to_owned(),
        Reason::NotAllowed => "dropped: the client is not on the service's allow list".to_owned(),
        Reason::SourceLimit => {
            "dropped for now: its source opens connections too fast; a SYN that it sends again may pass".to_owned()
        }
        Reason::SourceFull => "refused (RST): its source has as many connections as it may".to_owned(),
        Reason::NoBackend => "refused (RST): no backend takes new connections".to_owned(),
        Reason::BackendsFull => "refused (RST): every backend has as many connections as it may".to_owned(),
        Reason::ServiceFull => "refused (RST): the service has as many connections as it may".to_owned(),
        Reason::Martian => {
            "dropped: no packet from outside has this source (an address of this node, or of nobody)".to_owned()
        }
        Reason::NotConfigured => "left alone: the agent has not said yet what to do".to_owned(),
        other => format!("{}: {}", other.verdict().label(), other.label()),
    }
}
