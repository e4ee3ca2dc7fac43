//! Netlink attributes by number, for messages of which only a few matter.

use rtnetlink::packet_core::NlasIterator;

/// Kind and value of each attribute, up to the first that is malformed.
pub(super) fn attributes(bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let attributes = NlasIterator::new(bytes).map_while(Result::ok);
    let parts = attributes.filter_map(|attribute| {
        let (kind, length) = (attribute.kind(), attribute.value_length());
        let value = attribute.into_inner().get(HEADER..)?.get(..length)?;
        Some((kind, value))
    });
    parts.collect()
}

/// Length and kind.
const HEADER: usize = 4;

/// A number of 32 bits.
pub(super) fn word(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

/// A string of the kernel's, which ends with a zero byte.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + value.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_padding_are_not_part_of_it() {
        let nested = 3 | libc::NLA_F_NESTED as u16;
        let bytes = [attribute(nested, b"abc"), attribute(4, &7_u32.to_ne_bytes()), vec![1, 0]].concat();
        let seven = 7_u32.to_ne_bytes();
        assert_eq!(attributes(&bytes), [(3, b"abc".as_slice()), (4, &seven)]);
        assert_eq!((word(&seven), word(b"abc"), text(b"eth0\0x").as_str()), (Some(7), None, "eth0"));
    }
}
