//! What the datapath tells of backends that refuse connections or do not answer.

use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use lb_ebpf::abi::{Suspicion, map};
use lb_proto::plan::Place;

use super::tables::{TableError, take};

/// The ring buffer, whose descriptor is readable when there is something in it.
pub struct Suspicions(RingBuf<MapData>);

impl Suspicions {
    /// Takes it out of the loaded object.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self(take(ebpf, map::EVENTS)?))
    }

    /// The next backend that may be dead.
    pub fn take_one(&mut self) -> Option<Place> {
        loop {
            let item = self.0.next()?;
            if let Some(place) = read(&item) {
                return Some(place);
            }
        }
    }
}

impl AsRawFd for Suspicions {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn read(bytes: &[u8]) -> Option<Place> {
    const { assert!(size_of::<Suspicion>() == 8) };
    let [a, b, c, d, e, f, g, h] = *bytes.first_chunk()?;
    let (slot, generation) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
    Some(Place { slot, generation })
}
