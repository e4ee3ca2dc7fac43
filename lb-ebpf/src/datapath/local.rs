//! A node's own clients: what becomes of a connect(2) to a service, decided once and before there is a packet.
//!
//! ```text
//! connect(VIP:port | 127.0.0.1:port | node:port)  ──>  connect(backend)      nothing to do for its packets
//! getpeername() = backend                         ──>  what was dialled
//! ```
//! Only connections of the agent's own network namespace are looked at: elsewhere 127.0.0.1 and the same addresses may
//! be other hosts'.

use super::balance::{self, Among, Rounds};
use crate::abi::{Balance, Dialled, Endpoint, Hook, Service};
use crate::net::{Be16, Be32, Be128};

/// Backends that are looked at for one with room: each is a path for the verifier through all that follows.
const LOOKED_AT: u32 = 32;

/// The kernel's maps and helpers, or a model of them.
pub trait LocalTables: Rounds {
    /// Whose connections are translated.
    fn hook(&self) -> Hook;
    /// What is behind an address and port.
    fn service(&self, listener: &Endpoint) -> Option<Service>;
    /// Whether the address is one of this node's own.
    fn is_own(&self, address: Be128) -> bool;
    /// Whether some backend listens there.
    fn is_backend(&self, endpoint: &Endpoint) -> bool;
    /// The slot that local clients of a service prefer.
    fn preferred(&self, service: u32) -> Option<u32>;
    /// Whether a socket of this network namespace listens there.
    fn listens(&self, at: &Endpoint) -> bool;
}

/// Where a connection goes instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Slot of the backend.
    pub slot: u32,
    /// Its address, and the port to connect to.
    pub reached: Endpoint,
}

/// Decides about a TCP connect(2) to `asked` in the network namespace with this cookie; `None` leaves it as it is.
///
/// It is left where no service listens, where a backend itself is asked for (whoever names one means it; health checks
/// do), and where nobody serves.
#[inline(always)]
pub fn connect(tables: &impl LocalTables, netns: u64, asked: Endpoint) -> Option<Translation> {
    if netns == 0 || tables.hook().netns != netns {
        return None;
    }
    let service = listener(tables, asked)?;
    // One without a port is at every port.
    if tables.is_backend(&asked) || tables.is_backend(&Endpoint::new(asked.address, Be16::new(0))) {
        return None;
    }
    choose(tables, &service, asked.port)
}

/// What getpeername(2) says of a socket whose peer is `peer`; `None`: that. A socket may have been connected again,
/// elsewhere, since it was translated.
#[inline(always)]
pub fn peer(kept: &Dialled, peer: Endpoint) -> Option<Endpoint> {
    (kept.reached == peer).then_some(kept.asked)
}

/// The service that listens at this address and port, or at this port of every address of its IP version.
#[inline(always)]
fn listener(tables: &impl LocalTables, asked: Endpoint) -> Option<Service> {
    let (any, loopback) = every_address(asked.address);
    // Connecting to 0.0.0.0 or :: is connecting to this host.
    let address = if asked.address == any { loopback } else { asked.address };
    if let Some(service) = tables.service(&Endpoint::new(address, asked.port)) {
        return Some(service);
    }
    if !is_loopback(address) && !tables.is_own(address) {
        return None;
    }
    tables.service(&Endpoint::new(any, asked.port))
}

/// What stands for every address of this one's version, and where a host reaches itself.
#[inline(always)]
fn every_address(address: Be128) -> (Be128, Be128) {
    const ZERO: Be32 = Be32::new(0);
    const MAPPED: Be32 = Be32::new(0xffff);
    match address.mapped() {
        Some(_) => {
            let loopback = Be32::from_wire([127, 0, 0, 1]);
            (Be128::from_words([ZERO, ZERO, MAPPED, ZERO]), Be128::from_words([ZERO, ZERO, MAPPED, loopback]))
        }
        None => (Be128::from_words([ZERO; 4]), Be128::from_words([ZERO, ZERO, ZERO, Be32::new(1)])),
    }
}

/// 127.0.0.0/8 or ::1.
#[inline(always)]
fn is_loopback(address: Be128) -> bool {
    match address.mapped() {
        Some(address) => address.wire()[0] == 127,
        None => address == every_address(address).1,
    }
}

/// The preferred backend, else as the service is balanced. This node as a whole is one client; where connections are
/// compared, its own take turns, because their ends are not seen.
///
/// The preferred one is this node's own, so that it can be seen whether its process is there: when it has just died, the
/// others come before it, without waiting for health checks to say so.
#[inline(always)]
fn choose(tables: &impl LocalTables, service: &Service, port: Be16) -> Option<Translation> {
    let number = service.number as u32;
    let mut silent = None;
    if let Some(slot) = tables.preferred(number)
        && let Some(endpoint) = serving(tables, service, slot)
    {
        let own = Translation { slot, reached: endpoint.reached_for(port) };
        if tables.listens(&own.reached) {
            return Some(own);
        }
        silent = Some(own);
    }
    let number = if service.balance == Balance::Source as u16 {
        let [high, low] = tables.hook().client;
        balance::Hash::new(service.key).word(high).word(low).finish()
    } else {
        tables.take_turn(number)?
    };
    let among = Among { compared: 0, looked_at: LOOKED_AT, except: silent.map(|own| own.slot) };
    let Ok(slot) = balance::at(tables, service, number, &among) else {
        return silent;
    };
    let endpoint = tables.backend(slot)?.endpoint;
    Some(Translation { slot, reached: endpoint.reached_for(port) })
}

/// Where the backend in a slot listens, if it is one of this service, not gone, and has room.
#[inline(always)]
fn serving(tables: &impl LocalTables, service: &Service, slot: u32) -> Option<Endpoint> {
    let backend = tables.backend(slot)?;
    (balance::is_of(backend, service) && balance::has_room(tables, slot, backend)).then_some(backend.endpoint)
}

/// A port as the kernel shows it to a hook: in network order, in a word of its own.
#[inline(always)]
#[must_use]
pub const fn port(word: u32) -> Be16 {
    Be16::from_raw(word as u16)
}

#[cfg(test)]
mod tests;
