//! Which backend a new flow goes to.

use super::balance::{self, Asking};
use super::tables::Tables;
use super::{Handled, Key, ResetFor, Step, deliver, key, listener};
use crate::abi::{Delivery, Node, Reason, Service};
use crate::net::Family;
use crate::net::header::TcpHead;
use crate::packet::Packet;

/// The slot of the backend for the connection that a packet opens.
///
/// # Errors
/// Why nobody takes it.
#[inline(always)]
pub(super) fn choose<F: Family>(
    head: &TcpHead<F>, tables: &impl Tables<F>, node: &Node, key: &Key<F>, service: &Service,
) -> Result<u32, ResetFor> {
    if deliver::is_forwarded(head, tables, node, key) {
        return deliver::own(tables, service).ok_or(Reason::NoBackend);
    }
    let asking = Asking { address: key.source.into(), ports: [key.source_port, key.destination_port] };
    balance::choose(tables, service, &asking)
}

/// The part for a packet of a connection whose flow is not known here, where other nodes have flows too: the backend may
/// follow from the client's address, and its own node may have the flow. Otherwise that node's stack refuses it.
#[inline(always)]
pub fn again<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let Ok(head) = F::head(packet) else {
        return Step::End(Reason::NotConfigured);
    };
    let key = key(head);
    let Some(service) = tables.service(&listener::<F>(&key)) else {
        return Step::End(Reason::NotService);
    };
    let asking = Asking { address: key.source.into(), ports: [key.source_port, key.destination_port] };
    let backend = balance::hashed(tables, &service, &asking).and_then(|slot| Some((slot, tables.backend(slot)?)));
    match backend {
        Some((slot, backend))
            if backend.delivery == Delivery::Direct as u16 || backend.delivery == Delivery::Tunnelled as u16 =>
        {
            Step::Open(slot)
        }
        _ => Step::Reset(Reason::NoFlow),
    }
}
