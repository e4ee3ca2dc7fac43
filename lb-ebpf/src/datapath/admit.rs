//! Who may open connections: the services' allow lists, and how many connections a source may open and have.
//!
//! Only what belongs to no flow is asked. A connection that was let in stays when the list changes, and what its client sends
//! again during the handshake counts once.

use super::tables::Tables;
use super::{Handled, Step, deliver, key, listener, of_no_flow, parse, track};
use crate::abi::{Reason, Service, Source};
use crate::net::Family;
use crate::packet::Packet;

/// The third part: a packet of no flow, for a service that not everyone may use.
///
/// Who is not allowed gets no answer, as from a firewall: addresses can be forged, and answers to forged ones would spend
/// what is there for clients. Who is too fast gets none either, and its next try comes by itself. Who has as many
/// connections as it may is told so: its tries would go on for minutes.
#[inline(always)]
pub fn admit<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return Step::End(Reason::NotConfigured);
    };
    let key = key(head);
    let Some(service) = tables.service(&listener::<F>(&key)) else {
        return Step::End(Reason::NotService);
    };
    if parse::is_martian(&key, tables) {
        return Step::End(Reason::Martian);
    }
    if service.allow != 0 && !tables.is_allowed(service.allow, key.source) {
        return Step::End(Reason::NotAllowed);
    }
    if !track::is_opening(head) {
        return of_no_flow(head, tables, node, &key, true);
    }
    // What another node forwards has been counted there.
    if service.is_limited != 0 && !deliver::is_forwarded(head, tables, node, &key) {
        return within_limit::<F>(tables, &service, key.source);
    }
    Step::Choose
}

/// Counts one more connection of a source, unless that is too many. Two CPUs that do so in the same moment may count one.
#[inline(always)]
fn within_limit<F: Family>(tables: &impl Tables<F>, service: &Service, address: F::Address) -> Step {
    let number = service.number as u32;
    let Some(limit) = tables.source_limit(number) else {
        return Step::Choose;
    };
    let source = Source::of(number, address.into(), limit);
    let now = tables.nanoseconds();
    if limit.connections != 0 && tables.full_until(&source).is_some_and(|until| now < until) {
        return Step::Reset(Reason::SourceFull);
    }
    if limit.interval == 0 {
        return Step::Choose;
    }
    match tables.limited(&source) {
        Some(filled) => match limit.admit(filled.get(), now) {
            Some(next) => filled.set(next),
            None => return Step::End(Reason::SourceLimit),
        },
        None => tables.add_limited(&source, now.saturating_add(limit.interval)),
    }
    Step::Choose
}
