//! Up to when this node may say that it has a virtual address.

use super::word::Moment;
use crate::net::Be128;

/// The right to an address that nodes take turns to hold. `M` is as `W` in [`super::Flow`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lease<M = u64> {
    /// When it ends, in nanoseconds of the kernel's clock that goes on while the machine sleeps (`CLOCK_BOOTTIME`); 0: it has.
    pub until: M,
    /// The virtual router's VRID.
    pub router: u32,
    /// See [`lease_flag`].
    pub flags: u32,
}

/// A lease as it lies in the table.
pub type SharedLease = Lease<Moment>;

/// Flags in [`Lease::flags`].
pub mod lease_flag {
    /// The node gives the address up: the lease ends as soon as another claims it.
    pub const YIELDS: u32 = 1;
}

/// Another host says that it has an address which this node holds. Told apart from [`super::Suspicion`] by its size.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claim {
    /// The address.
    pub address: Be128,
    /// Where it is said to be.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: u16,
}

/// Claims that each CPU tells the agent of in a second.
pub const CLAIMS_PER_SECOND: u32 = 4;

const _: () = {
    assert!(size_of::<Lease>() == 16);
    assert!(size_of::<SharedLease>() == size_of::<Lease>() && align_of::<SharedLease>() == align_of::<Lease>());
    assert!(size_of::<Claim>() == 24);
};
