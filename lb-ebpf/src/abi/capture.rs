//! Packets as the datapath hands them to who looks at them.

/// What comes before the bytes of a packet.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Captured {
    /// When, nanosecond of the monotonic clock of the kernel.
    pub at: u64,
    /// Bytes of the packet.
    pub length: u32,
    /// How many of them follow.
    pub kept: u32,
    /// What the program returns, of a packet that leaves it.
    pub action: u32,
    /// Number of the reason it was counted with, of a packet that leaves; [`Self::NO_REASON`]: it was not counted.
    pub reason: u32,
    /// See [`place`].
    pub place: u32,
    /// 0: it enters the program; 1: it leaves it.
    pub leaves: u32,
}

impl Captured {
    /// Of a packet that was looked at and not counted: nothing of ours.
    pub const NO_REASON: u32 = u32::MAX;

    /// From its bytes, which may be followed by others.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let at = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
        let [length, kept, action, reason, place, leaves] =
            [number(8)?, number(12)?, number(16)?, number(20)?, number(24)?, number(28)?];
        Some(Self { at, length, kept, action, reason, place, leaves })
    }
}

/// Where a packet is looked at.
pub mod place {
    /// It enters the interface, in the driver or behind it: XDP.
    pub const XDP: u32 = 0;
    /// It enters the interface, in the stack: TC.
    pub const TC: u32 = 1;
    /// The node's own stack sends it by the interface.
    pub const LEAVING: u32 = 2;
    /// The node's own stack sends it to the node itself.
    pub const HOME: u32 = 3;
}

/// The most that is kept of a packet.
pub const CAPTURE_BYTES: u32 = 32_768;

const _: () = assert!(size_of::<Captured>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        let captured = Captured {
            at: 1 << 40,
            length: 1514,
            kept: 96,
            action: 3,
            reason: Captured::NO_REASON,
            place: 2,
            leaves: 1,
        };
        // SAFETY: plain integers without padding, by the assertion above.
        let bytes: [u8; 32] = unsafe { core::mem::transmute(captured) };
        let mut longer = bytes.to_vec();
        longer.extend([1, 2, 3]);
        assert_eq!(Captured::read(&longer), Some(captured));
        assert_eq!(Captured::read(&bytes[..31]), None);
        assert_eq!(Captured::read(&[]), None);
    }
}
