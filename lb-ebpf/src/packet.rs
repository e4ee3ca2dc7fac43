//! The packet as the datapath sees it: a checked head of known length, and a tail that can be cut.

use crate::abi::SYN_OPTIONS;
#[cfg(any(test, feature = "cases", feature = "user"))]
use crate::net::header::ETHERNET;

/// The packet is shorter than what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short;

/// A frame, from the first byte of its Ethernet header.
pub trait Packet {
    /// Length of the whole frame in bytes.
    fn len(&self) -> usize;

    /// Whether there is no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `N` halfwords, as they lie in memory.
    ///
    /// # Errors
    /// [`Short`] when the frame, or the part of it that can be reached, ends earlier.
    fn head<const N: usize>(&mut self) -> Result<&mut [u16; N], Short>;

    /// Cuts the frame to `len` bytes; a shorter frame stays as it is.
    ///
    /// # Errors
    /// [`Short`] when the device cannot.
    fn truncate(&mut self, len: usize) -> Result<(), Short>;

    /// Makes the frame `len` bytes long; what is in it then may be anything.
    ///
    /// # Errors
    /// [`Short`] when the device has no room.
    fn resize(&mut self, len: usize) -> Result<(), Short>;

    /// Copies `bytes` bytes, a multiple of four, that begin at byte `at`.
    ///
    /// # Errors
    /// [`Short`] when the frame ends earlier.
    fn options(&mut self, at: usize, bytes: u32, into: &mut [u16; SYN_OPTIONS]) -> Result<(), Short>;

    /// Whether its TCP checksum is yet to be finished by the device that sends it.
    fn is_unfinished(&mut self) -> bool {
        false
    }

    /// Writes them there.
    ///
    /// # Errors
    /// [`Short`] when the frame ends earlier.
    fn set_options(&mut self, at: usize, bytes: u32, from: &[u16; SYN_OPTIONS]) -> Result<(), Short>;

    /// Puts an Ethernet and an outer IP header in place of the Ethernet header.
    ///
    /// # Errors
    /// [`Short`] when there is no room.
    fn push<const N: usize>(&mut self, front: &[u16; N]) -> Result<(), Short>;

    /// Takes out what is behind the Ethernet header among the first `N` halfwords.
    ///
    /// # Errors
    /// [`Short`] when there are not so many.
    fn pull<const N: usize>(&mut self) -> Result<(), Short>;

    /// Becomes another frame.
    ///
    /// # Errors
    /// [`Short`] when the device cannot.
    fn replace<const N: usize>(&mut self, frame: &[u16; N]) -> Result<(), Short>;
}

/// A frame in memory of our own.
#[cfg(any(test, feature = "cases", feature = "user"))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    halfwords: Vec<u16>,
    length: usize,
}

#[cfg(any(test, feature = "cases", feature = "user"))]
impl Owned {
    /// A copy of a frame.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        let halfwords =
            frame.chunks(2).map(|pair| u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])).collect();
        Self { halfwords, length: frame.len() }
    }

    /// The frame as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.halfwords.iter().flat_map(|pair| pair.to_ne_bytes()).take(self.length).collect()
    }
}

#[cfg(any(test, feature = "cases", feature = "user"))]
impl Packet for Owned {
    fn len(&self) -> usize {
        self.length
    }

    fn head<const N: usize>(&mut self) -> Result<&mut [u16; N], Short> {
        if self.length < 2 * N {
            return Err(Short);
        }
        self.halfwords.first_chunk_mut::<N>().ok_or(Short)
    }

    fn truncate(&mut self, len: usize) -> Result<(), Short> {
        self.length = self.length.min(len);
        Ok(())
    }

    fn resize(&mut self, len: usize) -> Result<(), Short> {
        self.halfwords.resize(len.div_ceil(2), 0);
        self.length = len;
        Ok(())
    }

    fn options(&mut self, at: usize, bytes: u32, into: &mut [u16; SYN_OPTIONS]) -> Result<(), Short> {
        let (at, count) = (at / 2, bytes as usize / 2);
        if self.length < 2 * (at + count) {
            return Err(Short);
        }
        into[..count].copy_from_slice(&self.halfwords[at..at + count]);
        Ok(())
    }

    fn set_options(&mut self, at: usize, bytes: u32, from: &[u16; SYN_OPTIONS]) -> Result<(), Short> {
        let (at, count) = (at / 2, bytes as usize / 2);
        if self.length < 2 * (at + count) {
            return Err(Short);
        }
        self.halfwords[at..at + count].copy_from_slice(&from[..count]);
        Ok(())
    }

    fn push<const N: usize>(&mut self, front: &[u16; N]) -> Result<(), Short> {
        self.halfwords.splice(..ETHERNET / 2, front.iter().copied());
        self.length += 2 * N - ETHERNET;
        Ok(())
    }

    fn pull<const N: usize>(&mut self) -> Result<(), Short> {
        self.head::<N>()?;
        self.halfwords.drain(ETHERNET / 2..N);
        self.length -= 2 * N - ETHERNET;
        Ok(())
    }

    fn replace<const N: usize>(&mut self, frame: &[u16; N]) -> Result<(), Short> {
        self.resize(2 * N)?;
        self.head::<N>()?.copy_from_slice(frame);
        Ok(())
    }
}
