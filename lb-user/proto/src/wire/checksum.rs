//! The Internet checksum (RFC 1071) and the pseudo-headers of both families.

use std::net::IpAddr;

/// A running one's complement sum of 16-bit words.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// The pseudo-header of RFC 793 or RFC 8200 section 8.1: addresses, protocol, length of what follows. The fields of the
    /// two stand in another order and have other widths, which makes no difference to the sum.
    pub(super) fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, length: u32) -> Self {
        Self::default().address(src).address(dst).bytes(&[0, protocol]).bytes(&length.to_be_bytes())
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.bytes(&address.octets()),
            IpAddr::V6(address) => self.bytes(&address.octets()),
        }
    }

    /// Adds a run of bytes that starts on an even offset; an odd last byte is padded with zero.
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<2>();
        let mut sum = self.0;
        for word in words {
            sum += u64::from(u16::from_be_bytes(*word));
        }
        if let [last] = rest {
            sum += u64::from(u16::from_be_bytes([*last, 0]));
        }
        Self(sum)
    }

    /// The 16-bit sum with all carries added back.
    pub(super) fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// What goes into the checksum field.
    pub(super) fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether data that includes its checksum field is intact.
    pub(super) fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071 section 3: words 0001 f203 f4f5 f6f7 sum to 2ddf0, folded ddf2.
    #[test]
    fn agrees_with_the_worked_example() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
        assert_eq!(sum.checksum(), 0x220d);
    }

    #[test]
    fn pads_an_odd_byte_and_folds_every_carry() {
        assert_eq!(Sum::default().bytes(&[0xab]).fold(), 0xab00);
        assert_eq!(Sum::default().bytes(&[0xff; 4096]).fold(), 0xffff);
        assert_eq!(Sum::default().bytes(&[0xff, 0xff, 0xff, 0xff, 0, 1]).fold(), 1);
        assert!(!Sum::default().is_valid());
    }
}
