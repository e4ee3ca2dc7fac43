//! Where a service listens.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address and a port, or a range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listen {
    /// A VIP, 127.0.0.0/8 or ::1, 0.0.0.0 or :: (every address of the node and every VIP of its family), or the node's own
    /// address.
    pub address: IpAddr,
    /// First port, from 1.
    pub first: u16,
    /// Last port, not below the first.
    pub last: u16,
}

impl Listen {
    /// The ports, each once.
    pub fn ports(&self) -> impl Iterator<Item = u16> + use<> {
        self.first..=self.last
    }

    /// How many ports.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.last.saturating_sub(self.first)) + 1
    }

    /// Whether there is no port, which cannot be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }

    /// Whether `port` is among them.
    #[must_use]
    pub fn has(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether it is a place that no packet from outside reaches, whatever the VIPs are.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.is_loopback()
    }

    /// Whether it is every address.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.address.is_unspecified()
    }
}

impl From<SocketAddr> for Listen {
    fn from(at: SocketAddr) -> Self {
        Self { address: at.ip(), first: at.port(), last: at.port() }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.first).fmt(f)?;
        if self.last == self.first { Ok(()) } else { write!(f, "-{}", self.last) }
    }
}

/// What is listened at so far. Everywhere and one address may meet within a service, not between two.
#[derive(Default)]
pub(super) struct Taken {
    by_address: BTreeMap<IpAddr, Ranges>,
    /// All of one address, by service and whether they are IPv4's, to be compared with what is listened at everywhere.
    by_service: BTreeMap<(usize, bool), Ranges>,
}

impl Taken {
    /// Takes a place for a service; where it was taken before, if it was.
    pub(super) fn take(&mut self, listen: Listen, service: usize, at: usize) -> Option<usize> {
        let is_ipv4 = listen.address.is_ipv4();
        let unspecified: IpAddr = if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let everywhere = self.by_address.get(&unspecified);
        let by_others = match listen.is_everywhere() {
            true => {
                let others = self.by_service.iter().filter(|((other, four), _)| *other != service && *four == is_ipv4);
                others.flat_map(|(_, ranges)| ranges.all(listen)).map(|(_, at)| at).min()
            }
            false => {
                everywhere.and_then(|all| all.meets(listen).find(|(other, _)| *other != service)).map(|(_, at)| at)
            }
        };
        let of_address = self.by_address.get(&listen.address);
        let itself = of_address.and_then(|ranges| ranges.meets(listen).map(|(_, at)| at).min());
        if let Some(first) = itself.or(by_others) {
            return Some(first);
        }
        self.by_address.entry(listen.address).or_default().add(listen, service, at);
        if !listen.is_everywhere() {
            self.by_service.entry((service, is_ipv4)).or_default().add(listen, service, at);
        }
        None
    }
}

/// Ranges of ports: first -> last, service, place in the file. Of those that begin at the same port, which only different
/// addresses have, the first to come stands for all.
#[derive(Default)]
struct Ranges(BTreeMap<u16, (u16, usize, usize)>);

impl Ranges {
    fn add(&mut self, listen: Listen, service: usize, at: usize) {
        let entry = self.0.entry(listen.first).or_insert((listen.last, service, at));
        entry.0 = entry.0.max(listen.last);
    }

    /// Service and place of what meets these ports, where no two meet each other.
    fn meets(&self, listen: Listen) -> impl Iterator<Item = (usize, usize)> + '_ {
        let begun = self.0.range(..=listen.last).rev();
        begun.take_while(move |(_, (last, ..))| *last >= listen.first).map(|(_, (_, service, at))| (*service, *at))
    }

    /// Service and place of what meets these ports.
    fn all(&self, listen: Listen) -> impl Iterator<Item = (usize, usize)> + '_ {
        let begun = self.0.range(..=listen.last);
        begun.filter(move |(_, (last, ..))| *last >= listen.first).map(|(_, (_, service, at))| (*service, *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(last: u8, first: u16, to: u16) -> Listen {
        let address = if last == 0 { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::new(192, 0, 2, last) };
        Listen { address: address.into(), first, last: to }
    }

    #[test]
    fn places_are_taken_once() {
        let mut taken = Taken::default();
        assert_eq!(taken.take(listen(1, 10, 20), 0, 100), None);
        assert_eq!(taken.take(listen(1, 21, 30), 0, 101), None);
        assert_eq!(taken.take(listen(1, 20, 20), 0, 102), Some(100));
        assert_eq!(taken.take(listen(1, 5, 40), 1, 103), Some(100));
        assert_eq!(taken.take(listen(2, 5, 40), 1, 104), None);
        assert_eq!(taken.take(listen(0, 40, 50), 1, 105), None, "its own service has 192.0.2.2:40");
        assert_eq!(taken.take(listen(0, 15, 15), 1, 106), Some(100), "another service has 192.0.2.1:15");
        assert_eq!(taken.take(listen(3, 50, 50), 0, 107), Some(105), "taken everywhere");
    }

    #[test]
    fn shown_as_written() {
        assert_eq!(listen(1, 8443, 8443).to_string(), "192.0.2.1:8443");
        assert_eq!(listen(0, 30_000, 32_767).to_string(), "0.0.0.0:30000-32767");
        assert_eq!(listen(0, 30_000, 32_767).len(), listen(0, 30_000, 32_767).ports().count());
    }
}
