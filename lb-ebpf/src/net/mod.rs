//! Bytes on the wire: byte order, header offsets, checksums, and what differs between the two IP versions.

pub mod be;
pub mod checksum;
mod family;
pub mod header;
mod v4;
mod v6;

pub use be::{Be16, Be32, Be128};
pub use family::{Address, Family};
pub use v4::V4;
pub use v6::V6;
