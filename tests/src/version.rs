//! The small worlds over one IP version or the other: every host has an address of each, and what is written for IPv4 can be
//! read as IPv6.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Netns;
use crate::until::until;

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// Addresses 192.0.2.0/24.
    #[default]
    V4,
    /// The same below 2001:db8::/64, the last number in its decimal digits: 192.0.2.31 is 2001:db8::31; 198.51.100.0/24 is
    /// 2001:db8:1::/64.
    V6,
}

impl Version {
    /// A text with IPv4 addresses, as this version has it: `192.0.2.100:8443` becomes `[2001:db8::100]:8443`, a prefix of 24
    /// becomes one of 64.
    #[must_use]
    pub fn text(self, text: &str) -> String {
        if self == Self::V4 {
            return text.to_owned();
        }
        let mut sixth = String::new();
        let mut rest = text;
        while let Some(begin) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, from) = rest.split_at(begin);
            sixth.push_str(before);
            let end = from.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            match sixth_of(word) {
                None => {
                    sixth.push_str(word);
                    rest = after;
                }
                Some(address) => {
                    let is_with_port = after.starts_with(':');
                    sixth.push_str(&if is_with_port { format!("[{address}]") } else { address });
                    rest = after;
                    if let Some(after) = after.strip_prefix("/24") {
                        sixth.push_str("/64");
                        rest = after;
                    }
                }
            }
        }
        sixth.push_str(rest);
        sixth
    }

    /// A place, written for IPv4.
    pub fn at(self, place: &str) -> Result<SocketAddr> {
        let place = self.text(place);
        place.parse().with_context(|| format!("{place} is no address and port"))
    }

    /// Gives a host with this IPv4 address its address of this version too, and waits until it can be used.
    pub fn equip(self, netns: &Netns, address: &str) -> Result<()> {
        if self == Self::V4 {
            return Ok(());
        }
        netns.ip(&format!("-6 address add {}/64 dev eth0 nodad", self.text(address)))?;
        // Routers speak from their link-local address.
        let proven = || netns.ip("-6 address show dev eth0 tentative").is_ok_and(|text| text.trim().is_empty());
        until("link-local addresses to be usable", Duration::from_secs(20), || proven().then_some(()))
            .context("giving a host an IPv6 address")
    }
}

/// The IPv6 address for an IPv4 one; `None` where that is something else.
fn sixth_of(word: &str) -> Option<String> {
    let address: std::net::Ipv4Addr = word.parse().ok()?;
    match address.octets() {
        [0, 0, 0, 0] => Some("::".to_owned()),
        [127, 0, 0, 1] => Some("::1".to_owned()),
        [192, 0, 2, host] => Some(format!("2001:db8::{host}")),
        [198, 51, 100, host] => Some(format!("2001:db8:1::{host}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_rewritten_where_they_have_addresses() {
        for (four, six) in [
            ("listen = \"192.0.2.100:8443\"", "listen = \"[2001:db8::100]:8443\""),
            ("[\"0.0.0.0:4300\", \"127.0.0.1:6400-6499\"]", "[\"[::]:4300\", \"[::1]:6400-6499\"]"),
            ("[\"192.0.2.100/24\"]\npriority = 110", "[\"2001:db8::100/64\"]\npriority = 110"),
            ("peers = [\"192.0.2.31\", \"192.0.2.32\"]", "peers = [\"2001:db8::31\", \"2001:db8::32\"]"),
            ("route add 198.51.100.0/24 via 192.0.2.1", "route add 2001:db8:1::0/64 via 2001:db8::1"),
            ("TLS 1.3, 10.0.0.1, 500ms", "TLS 1.3, 10.0.0.1, 500ms"),
        ] {
            assert_eq!(Version::V6.text(four), six);
            assert_eq!(Version::V4.text(four), four);
        }
    }
}
