//! What the kernel hands a program: a packet, and where it came in.

use core::ffi::c_void;

/// The context of one run, as far as helpers need it.
pub(crate) trait Context: Copy {
    /// For helpers that take it.
    fn as_ptr(self) -> *mut c_void;
    /// Index of the interface that the packet entered.
    fn ifindex(self) -> u32;
    /// Length of an IP packet of `length` bytes, as the kernel should compare it with the MTU of a route; 0: it
    /// looks at the packet itself.
    fn length_to_route(self, length: u16) -> u16;
}

/// For what looks at no packet.
#[derive(Clone, Copy)]
pub(crate) struct NoPacket;

impl Context for NoPacket {
    #[inline(always)]
    fn as_ptr(self) -> *mut c_void {
        core::ptr::null_mut()
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        0
    }

    #[inline(always)]
    fn length_to_route(self, length: u16) -> u16 {
        length
    }
}
