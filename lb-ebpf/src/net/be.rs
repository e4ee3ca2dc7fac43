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

/// A 128-bit integer in network byte order, aligned like a word: an IPv6 address. Where both families meet, an IPv4
/// address is written as an IPv4-mapped one (RFC 4291 section 2.5.5.2).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Be128([Be32; 4]);

impl Be128 {
    /// The third word of an IPv4-mapped address.
    const MAPPED: Be32 = Be32::new(0xffff);

    /// From words in the order of the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [Be32; 4]) -> Self {
        Self(words)
    }

    /// The words, in the order of the wire.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [Be32; 4] {
        self.0
    }

    /// The memory images of the words, for the kernel's own structures.
    #[inline(always)]
    #[must_use]
    pub const fn raw(self) -> [u32; 4] {
        let [a, b, c, d] = self.0;
        [a.raw(), b.raw(), c.raw(), d.raw()]
    }

    /// From the memory images of the words.
    #[inline(always)]
    #[must_use]
    pub const fn from_raw([a, b, c, d]: [u32; 4]) -> Self {
        Self([Be32(a), Be32(b), Be32(c), Be32(d)])
    }

    /// The IPv4 address inside.
    #[inline(always)]
    #[must_use]
    pub const fn mapped(self) -> Option<Be32> {
        let [first, second, third, last] = self.0;
        if first.raw() == 0 && second.raw() == 0 && third.raw() == Self::MAPPED.raw() { Some(last) } else { None }
    }

    /// From the bytes as they are on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_wire(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self([
            Be32::from_wire([a, b, c, d]),
            Be32::from_wire([e, f, g, h]),
            Be32::from_wire([i, j, k, l]),
            Be32::from_wire([m, n, o, p]),
        ])
    }

    /// The bytes as they go on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn wire(self) -> [u8; 16] {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] =
            [self.0[0].wire(), self.0[1].wire(), self.0[2].wire(), self.0[3].wire()];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

impl From<Be32> for Be128 {
    #[inline(always)]
    fn from(address: Be32) -> Self {
        Self([Be32(0), Be32(0), Self::MAPPED, address])
    }
}

impl From<core::net::Ipv4Addr> for Be128 {
    fn from(address: core::net::Ipv4Addr) -> Self {
        Be32::from(address).into()
    }
}

impl From<core::net::Ipv6Addr> for Be128 {
    fn from(address: core::net::Ipv6Addr) -> Self {
        Self::from_wire(address.octets())
    }
}

impl From<core::net::IpAddr> for Be128 {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(address) => address.into(),
            core::net::IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Be128> for core::net::IpAddr {
    fn from(address: Be128) -> Self {
        match address.mapped() {
            Some(address) => Self::V4(address.into()),
            None => Self::V6(address.wire().into()),
        }
    }
}
