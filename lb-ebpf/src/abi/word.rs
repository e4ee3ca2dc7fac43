//! Words of an entry that every CPU may read and write.

use core::cell::UnsafeCell;

/// Something that holds a 32-bit value.
pub trait Readable {
    /// The value now.
    fn get(&self) -> u32;
}

impl Readable for u32 {
    #[inline(always)]
    fn get(&self) -> u32 {
        *self
    }
}

/// A 32-bit value read and written whole, in no order with others: what the kernel calls READ_ONCE and WRITE_ONCE.
///
/// The target has no atomic type of this size, and nothing here needs more than whole words.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Word(UnsafeCell<u32>);

// SAFETY: a `Word` is only ever read and written by one aligned 32-bit access, which the hardware does at once.
unsafe impl Sync for Word {}

impl Word {
    /// Replaces the value.
    #[inline(always)]
    pub fn set(&self, value: u32) {
        // SAFETY: the cell is valid and aligned; see the type about other CPUs.
        unsafe { self.0.get().write_volatile(value) };
    }
}

/// The same of 64 bits.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Moment(UnsafeCell<u64>);

// SAFETY: as `Word`, by aligned 64-bit accesses.
unsafe impl Sync for Moment {}

impl Moment {
    /// The value now.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        // SAFETY: the cell is valid and aligned; see the type about other CPUs.
        unsafe { self.0.get().read_volatile() }
    }

    /// Replaces the value.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        // SAFETY: the cell is valid and aligned; see the type about other CPUs.
        unsafe { self.0.get().write_volatile(value) };
    }
}

impl From<u64> for Moment {
    fn from(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }
}

impl From<u32> for Word {
    fn from(value: u32) -> Self {
        Self(UnsafeCell::new(value))
    }
}

impl Readable for Word {
    #[inline(always)]
    fn get(&self) -> u32 {
        // SAFETY: the cell is valid and aligned; see the type about other CPUs.
        unsafe { self.0.get().read_volatile() }
    }
}

/// 64 bits that every CPU may read, and set one by one.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Bits(UnsafeCell<u64>);

// SAFETY: `Bits` are only ever read by one aligned 64-bit access, which the hardware does at once, and written by an atomic
// instruction.
unsafe impl Sync for Bits {}

impl Bits {
    /// The bits now.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        // SAFETY: the cell is valid and aligned; see the type about other CPUs.
        unsafe { self.0.get().read_volatile() }
    }

    /// Sets bits; returns what was there before.
    #[cfg(not(target_arch = "bpf"))]
    #[inline(always)]
    pub fn add(&self, bits: u64) -> u64 {
        // SAFETY: the cell is valid and aligned, and nothing else writes to it.
        let word = unsafe { core::sync::atomic::AtomicU64::from_ptr(self.0.get()) };
        word.fetch_or(bits, core::sync::atomic::Ordering::Relaxed)
    }

    /// Sets bits; returns what was there before (`BPF_OR | BPF_FETCH`, Linux 5.12).
    #[cfg(target_arch = "bpf")]
    #[inline(always)]
    pub fn add(&self, bits: u64) -> u64 {
        let mut value = bits;
        // SAFETY: the word is valid and aligned, and the instruction reads and writes nothing else.
        unsafe {
            core::arch::asm!(
                "{value} = atomic_fetch_or((u64 *)({word} + 0), {value})",
                word = in(reg) self.0.get(),
                value = inout(reg) value,
                options(nostack),
            );
        }
        value
    }
}

impl From<u64> for Bits {
    fn from(bits: u64) -> Self {
        Self(UnsafeCell::new(bits))
    }
}
