//! Packet logic of xvip, without the kernel: parse, decide, rewrite.
//!
//! - [`abi`]: what crosses the boundary to the agent, and only that.
//! - [`net`]: header offsets, byte order and checksums.
//! - [`datapath`]: the story of a packet. It sees the packet as [`packet::Packet`] and everything else as
//!   [`datapath::tables::Tables`], so the same code runs on a slice with tree maps and in the kernel.
//! - [`cases`]: what the datapath must do, as data; run on the host and on the loaded program.
//!
//! Byte order: an address or a port is always held as it is on the wire ([`net::Be32`], [`net::Be16`]).
//! Stack: the kernel allows 512 bytes in all, so nothing here keeps more than two flow records alive.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(not(any(test, feature = "cases", feature = "user")), no_std)]
#![allow(clippy::cast_lossless, reason = "`From` cannot be used in constant functions, which much of this is")]

pub mod abi;
#[cfg(any(test, feature = "cases"))]
pub mod cases;
pub mod datapath;
pub mod net;
pub mod packet;
