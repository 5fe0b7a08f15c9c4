// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The memory that a CPU shares with the SBI implementation.
//!
//! SBI 3.0, "Nested Acceleration Extension": a scratch space, of which each feature has a part, and
//! one word for each CSR of the H extension that there can be. Words are little-endian, as all
//! memory of a kernel with Rust is.
//!
//! The other side accesses the memory when this CPU calls it, or traps to it; no other CPU uses it.
//! The fields are atomics, because they change without the compiler's knowledge.

use kernel::bitfield;

use crate::kernel_ext::atomic::{
    AtomicU64,
    Ordering, //
};

/// CSRs that there can be.
pub(super) const CSRS: usize = 1024;

/// Fences that can wait.
pub(crate) const HFENCES: usize = 3840 / 64;

/// The shared memory, 12 KiB.
#[repr(C, align(4096))]
pub(crate) struct SharedMemory {
    /// The x registers of the guest that the next synchronous SRET enters; x0 is 0.
    pub(super) gprs: [AtomicU64; 32],
    _unused_by_sret: [AtomicU64; 32],
    /// What synchronous SRET exchanges with CSRs.
    pub(super) autoswap: Autoswap,
    _unused: [AtomicU64; 176],
    /// The fences that wait.
    pub(super) hfences: [HfenceEntry; HFENCES],
    /// A bit for each of `csrs` that was written here and not yet synchronised.
    dirty: [AtomicU64; CSRS / 64],
    /// A word for each CSR of the H extension that there can be.
    csrs: [AtomicU64; CSRS],
}

/// The values that are swapped with CSRs whenever the guest is entered and left.
#[repr(C)]
pub(super) struct Autoswap {
    /// Bit 0: `hstatus` is swapped.
    pub(super) flags: AtomicU64,
    /// The value that changes places with `hstatus`.
    pub(super) hstatus: AtomicU64,
    _reserved: [AtomicU64; 14],
}

/// A fence that waits.
#[repr(C)]
pub(super) struct HfenceEntry {
    /// [`HfenceConfig`]; its pending bit says whether the entry is in use.
    pub(super) config: AtomicU64,
    /// The first page.
    pub(super) page_number: AtomicU64,
    /// A word that is zero.
    _reserved: AtomicU64,
    /// The number of pages.
    pub(super) page_count: AtomicU64,
}

bitfield! {
    /// The first word of a fence that waits.
    pub(super) struct HfenceConfig(u64) {
        /// Whether the fence waits; the other side clears this.
        63:63 pending;
        /// The type of the fence.
        59:56 kind;
        /// Pages are of `1 << (order + 12)` bytes.
        54:48 order;
        /// The VMID.
        29:16 vmid;
        /// The ASID.
        15:0 asid;
    }
}

/// The feature "Autoswap CSR", `Autoswap_Flags.HSTATUS`.
pub(super) const AUTOSWAP_HSTATUS: u64 = 1 << 0;

// The offsets in the specification's tables.
const _: () = {
    use core::mem::offset_of;

    assert!(size_of::<SharedMemory>() == 4096 + 64 * 128);
    assert!(offset_of!(SharedMemory, gprs) == 0);
    assert!(offset_of!(SharedMemory, autoswap) == 0x200);
    assert!(size_of::<Autoswap>() == 0x80);
    assert!(offset_of!(Autoswap, flags) == 0);
    assert!(offset_of!(Autoswap, hstatus) == 8);
    assert!(offset_of!(SharedMemory, hfences) == 0x800);
    assert!(offset_of!(HfenceEntry, page_number) == 8);
    assert!(offset_of!(HfenceEntry, page_count) == 24);
    assert!(size_of::<HfenceEntry>() == 32);
    assert!(offset_of!(SharedMemory, dirty) == 0xf80);
    assert!(offset_of!(SharedMemory, csrs) == 0x1000);
};

/// Returns the position of CSR `N` in `csrs`. Does not compile for a CSR that is not of the H
/// extension.
pub(super) const fn place<const N: u32>() -> usize {
    const { assert!(N < 0x1000 && N & 0x300 == 0x200) };
    ((N & 0xc00) >> 2 | N & 0xff) as usize
}

impl SharedMemory {
    /// Returns the memory as it is before its first use: all zero.
    #[cfg(test)]
    pub(crate) fn zeroed() -> Self {
        // SAFETY: All fields are atomic integers, for which all-zero bytes are a valid value.
        unsafe { core::mem::zeroed() }
    }

    /// Returns the value of CSR `N`, as of the last write here, or of the last time that the other
    /// side stored it.
    #[inline(always)]
    pub(super) fn csr<const N: u32>(&self) -> usize {
        self.csrs[place::<N>()].load(Ordering::Relaxed) as usize
    }

    /// Sets the value that CSR `N` has from the next synchronisation on.
    #[inline(always)]
    pub(super) fn set_csr<const N: u32>(&self, value: usize) {
        let place = place::<N>();
        self.csrs[place].store(value as u64, Ordering::Relaxed);
        self.dirty[place / 64].fetch_or(1 << (place % 64), Ordering::Relaxed);
    }

    /// Returns whether a CSR was written here and not yet synchronised.
    pub(super) fn is_any_csr_dirty(&self) -> bool {
        self.dirty
            .iter()
            .any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Returns whether a fence waits.
    pub(super) fn is_any_hfence_pending(&self) -> bool {
        self.hfences.iter().any(|entry| !entry.is_free())
    }

    /// Drops what was written and not synchronised. The other side does not access the memory now.
    pub(super) fn clear(&self) {
        for entry in &self.hfences {
            entry.config.store(0, Ordering::Relaxed);
        }
        for word in &self.dirty {
            word.store(0, Ordering::Relaxed);
        }
        self.autoswap.flags.store(0, Ordering::Relaxed);
    }
}

impl HfenceEntry {
    /// Returns whether the entry can be used: the other side has executed its fence.
    pub(super) fn is_free(&self) -> bool {
        // Acquire: when the entry is free, the fence has taken effect.
        HfenceConfig::from_raw(self.config.load(Ordering::Acquire)).pending() == 0u64
    }
}
