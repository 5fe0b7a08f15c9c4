// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The format of fences in the shared memory.
//!
//! Answers to the `nacl_hfence_*()` macros and to `__kvm_riscv_nacl_hfence()`, which drops a fence
//! for which it finds no place. Here the caller gets [`Queued::Full`], and executes the
//! instruction.

use kernel::num::Bounded;

use crate::{
    arch::nacl::memory::{
        HfenceConfig,
        HfenceEntry,
        SharedMemory, //
    },
    bindings,
    kernel_ext::atomic::Ordering,
    kvm_core::addr::{
        Asid,
        GfnRange,
        Vmid, //
        PAGE_SHIFT,
    }, //
};

/// The translations of one stage that a fence flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// All addresses.
    Everything,
    /// The addresses of a number of pages of 4 KiB.
    Pages {
        /// The number of the first page.
        first: u64,
        /// The number of pages.
        count: u64,
    },
}

impl Span {
    /// Returns the span of the guest-physical addresses of `frames`.
    pub(crate) fn frames(frames: GfnRange) -> Self {
        Self::Pages {
            first: frames.start().get(),
            count: frames.len(),
        }
    }
}

/// A fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hfence {
    /// Guest-physical translations, of every VM.
    #[cfg(test)]
    Gvma(Span),
    /// Guest-physical translations of one VM.
    GvmaVmid(Vmid, Span),
    /// Guest-virtual translations of one VM.
    Vvma(Vmid, Span),
    /// Guest-virtual translations of one address space, but for global mappings.
    VvmaAsid(Vmid, Asid, Span),
}

/// Whether a fence waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Queued {
    /// The fence waits.
    Yes,
    /// All entries are in use.
    Full,
}

impl Hfence {
    /// The type for all addresses is the next after that for a range.
    const EVERYTHING: u32 = 1;

    /// Returns the addresses that the fence is for.
    fn span(self) -> Span {
        match self {
            #[cfg(test)]
            Self::Gvma(span) => span,
            Self::GvmaVmid(_, span) | Self::Vvma(_, span) | Self::VvmaAsid(_, _, span) => span,
        }
    }

    /// Returns the type that the specification gives this fence, for a range of addresses.
    fn kind(self) -> u32 {
        match self {
            #[cfg(test)]
            Self::Gvma(_) => bindings::SBI_NACL_SHMEM_HFENCE_TYPE_GVMA,
            Self::GvmaVmid(..) => bindings::SBI_NACL_SHMEM_HFENCE_TYPE_GVMA_VMID,
            Self::Vvma(..) => bindings::SBI_NACL_SHMEM_HFENCE_TYPE_VVMA,
            Self::VvmaAsid(..) => bindings::SBI_NACL_SHMEM_HFENCE_TYPE_VVMA_ASID,
        }
    }

    /// Returns the entry's first word, which makes the fence pending.
    fn config(self) -> HfenceConfig {
        let kind = match self.span() {
            Span::Everything => self.kind() | Self::EVERYTHING,
            Span::Pages { .. } => self.kind(),
        };
        let (vmid, asid) = match self {
            #[cfg(test)]
            Self::Gvma(_) => (0, 0),
            Self::GvmaVmid(vmid, _) | Self::Vvma(vmid, _) => (vmid.get(), 0),
            Self::VvmaAsid(vmid, asid, _) => (vmid.get(), asid.get()),
        };
        // The order stays 0: pages are of 4 KiB. The masks change nothing.
        HfenceConfig::from_raw(0)
            .with_pending(Bounded::<u64, 1>::from_expr(1))
            .with_kind(Bounded::<u64, 4>::from_expr(u64::from(kind) & 0xf))
            .with_vmid(Bounded::<u64, 14>::from_expr(u64::from(vmid) & 0x3fff))
            .with_asid(Bounded::<u64, 16>::from_expr(u64::from(asid)))
    }
}

const _: () = assert!(PAGE_SHIFT == 12);

impl HfenceEntry {
    /// Writes `hfence` to the entry, which is free.
    fn fill(&self, hfence: Hfence) {
        let (first, count) = match hfence.span() {
            Span::Everything => (0, 0),
            Span::Pages { first, count } => (first, count),
        };
        self.page_number.store(first, Ordering::Relaxed);
        self.page_count.store(count, Ordering::Relaxed);
        // Release: a reader that sees the entry pending sees the pages. The other side may read it
        // at any time.
        self.config
            .store(hfence.config().into_raw(), Ordering::Release);
    }
}

impl SharedMemory {
    /// Queues `hfence`, if there is a free entry.
    pub(super) fn queue(&self, hfence: Hfence) -> Queued {
        match self.hfences.iter().find(|entry| entry.is_free()) {
            Some(entry) => {
                entry.fill(hfence);
                Queued::Yes
            }
            None => Queued::Full,
        }
    }
}
