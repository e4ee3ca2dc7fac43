//! Bytes on the wire: byte order, header offsets, checksums.

pub mod be;
pub mod checksum;
pub mod header;

pub use be::{Be16, Be32};
