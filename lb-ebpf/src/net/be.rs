//! Integers held in network byte order, so that nothing swaps what it only moves or compares.

/// A 16-bit integer in network byte order.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Be16(u16);

impl Be16 {
    /// From a value in host order.
    #[inline(always)]
    #[must_use]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// The value in host order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// From the bytes as they are on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_wire(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    /// The bytes as they go on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn wire(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }

    /// From the memory image.
    #[inline(always)]
    #[must_use]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// The memory image, for checksum arithmetic, which does not care for byte order.
    #[inline(always)]
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

/// A 32-bit integer in network byte order.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Be32(u32);

impl Be32 {
    /// From a value in host order.
    #[inline(always)]
    #[must_use]
    pub const fn new(host: u32) -> Self {
        Self(host.to_be())
    }

    /// The value in host order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u32 {
        u32::from_be(self.0)
    }

    /// From the bytes as they are on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_wire(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// The bytes as they go on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn wire(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// From the two halves of the memory image, in their order there.
    ///
    /// Taken as wholes, because a compiler that takes them apart into bytes puts them together byte by byte.
    #[inline(always)]
    #[must_use]
    pub const fn from_halves([first, second]: [u16; 2]) -> Self {
        let (low, high) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
        Self(low as u32 | (high as u32) << 16)
    }

    /// The memory image, for checksum arithmetic and for the kernel's own structures.
    #[inline(always)]
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl From<core::net::Ipv4Addr> for Be32 {
    fn from(address: core::net::Ipv4Addr) -> Self {
        Self::from_wire(address.octets())
    }
}

impl From<Be32> for core::net::Ipv4Addr {
    fn from(address: Be32) -> Self {
        Self::from(address.wire())
    }
}
