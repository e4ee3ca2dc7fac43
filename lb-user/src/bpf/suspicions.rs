//! What the datapath tells the agent at once: backends that refuse connections or do not answer, and hosts that claim a VIP.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use lb_ebpf::abi::{Claim, Suspicion, map};
use lb_proto::plan::Place;

use super::tables::{TableError, take};

/// The ring buffer, whose descriptor is readable when there is something in it.
pub struct Suspicions(RingBuf<MapData>);

/// Something that the agent should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The backend at this place may be dead.
    Suspect(Place),
    /// Another host says that it has a virtual address which this node holds.
    Claimed {
        /// The address.
        address: IpAddr,
        /// Where it is said to be.
        mac: [u8; 6],
    },
}

impl Suspicions {
    /// Takes it out of the loaded object.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self(take(ebpf, map::EVENTS)?))
    }

    /// The next word.
    pub fn take_one(&mut self) -> Option<Word> {
        loop {
            let item = self.0.next()?;
            if let Some(word) = read(&item) {
                return Some(word);
            }
        }
    }
}

impl AsRawFd for Suspicions {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The kinds are told apart by their sizes.
fn read(bytes: &[u8]) -> Option<Word> {
    match bytes.len() {
        len if len == size_of::<Suspicion>() => {
            let (slot, generation) = (bytes.first_chunk::<4>()?, bytes.last_chunk::<4>()?);
            Some(Word::Suspect(Place { slot: u32::from_ne_bytes(*slot), generation: u32::from_ne_bytes(*generation) }))
        }
        len if len == size_of::<Claim>() => {
            let (address, rest) = bytes.split_first_chunk::<16>()?;
            let address = std::net::Ipv6Addr::from(*address);
            let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
            Some(Word::Claimed { address, mac: *rest.first_chunk()? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_by_their_sizes() {
        let suspicion = [5_u32.to_ne_bytes(), 9_u32.to_ne_bytes()].concat();
        assert_eq!(read(&suspicion), Some(Word::Suspect(Place { slot: 5, generation: 9 })));
        let claim = |address: IpAddr| {
            let six = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            [&six.octets()[..], &[2, 0, 0, 0, 0, 7], &[0, 0]].concat()
        };
        for address in ["192.0.2.100", "2001:db8::100"].map(|text| text.parse().unwrap()) {
            assert_eq!(read(&claim(address)), Some(Word::Claimed { address, mac: [2, 0, 0, 0, 0, 7] }));
        }
        for length in (0..40).filter(|length| ![8, 24].contains(length)) {
            assert_eq!(read(&vec![0; length]), None, "{length}");
        }
    }
}
