//! Which backend a new flow goes to.

use super::tables::Tables;
use super::{Key, deliver};
use crate::abi::{Node, Service};
use crate::net::Family;
use crate::net::header::TcpHead;

/// The slot of the backend for the connection that a packet opens; none when nobody takes it.
#[inline(always)]
pub(super) fn choose<F: Family>(
    head: &TcpHead<F>, tables: &impl Tables<F>, node: &Node, key: &Key<F>, service: &Service,
) -> Option<u32> {
    if deliver::is_forwarded(head, tables, node, key) {
        deliver::own(tables, service)
    } else {
        in_turn(tables, service)
    }
}

/// Weighted round robin: the agent has laid out the round, the kernel takes turns.
#[inline(always)]
fn in_turn<F: Family>(tables: &impl Tables<F>, service: &Service) -> Option<u32> {
    let length = service.ring_length as u32;
    if length == 0 {
        return None;
    }
    let turn = tables.take_turn(service.number as u32)?;
    let slot = tables.ring(service.ring_start.wrapping_add(turn % length))?;
    let backend = tables.backend(slot)?;
    (backend.generation != 0).then_some(slot)
}
