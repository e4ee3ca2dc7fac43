//! Which backend a new flow goes to.

use super::balance::{self, Asking};
use super::tables::Tables;
use super::{Key, ResetFor, deliver};
use crate::abi::{Node, Reason, Service};
use crate::net::Family;
use crate::net::header::TcpHead;

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
