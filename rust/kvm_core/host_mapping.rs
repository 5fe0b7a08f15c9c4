// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Memory of the host that a guest may be given.

use core::marker::PhantomData;

use crate::kvm_core::addr::{
    PageSize,
    Pfn, //
};

/// What a store of the process meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostWrite {
    /// A fault: the page is read-only, or the host must first make the process's own copy of it.
    ReadOnly,
    /// No fault, but the entry is clean: the store marks it dirty, by hardware or a fault that
    /// does nothing else. A store that goes around the entry would not.
    Clean,
    /// Nothing.
    Dirty,
}

/// A frame that the process of the VM may access, any memory's, a device's included, for as long as
/// `mmu_lock` is held, which `'l` stands for.
///
/// Only core KVM and the host's page table give it, so no other frame reaches a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostMapping<'l> {
    /// The frame of the page itself.
    pfn: Pfn,
    /// How much the host maps around it, with the same rights.
    size: PageSize,
    /// What a store of the process meets.
    stores: HostWrite,
    lock: PhantomData<&'l ()>,
}

impl<'l> HostMapping<'l> {
    /// Says that the process may access the block of `size` around `pfn`, and store to it as
    /// `stores` says.
    #[inline(always)]
    pub(super) const fn new(pfn: Pfn, size: PageSize, stores: HostWrite) -> Self {
        Self {
            pfn,
            size,
            stores,
            lock: PhantomData,
        }
    }

    /// Returns the frame of the page itself, also where the host maps more.
    #[inline(always)]
    pub(crate) const fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Returns how much the host maps around the page, with the same rights; 4 KiB if the host is
    /// about to take away a part of that.
    #[inline(always)]
    pub(crate) const fn size(&self) -> PageSize {
        self.size
    }

    /// Returns what the process may do.
    #[inline(always)]
    pub(crate) const fn stores(&self) -> HostWrite {
        self.stores
    }

    /// Leaves at most `size` around the page.
    #[inline(always)]
    pub(crate) fn limit(self, size: PageSize) -> Self {
        Self {
            size: self.size.min(size),
            ..self
        }
    }

    /// Takes over the size of `other`, if that is about the same frame.
    #[inline(always)]
    pub(crate) fn widen(self, other: Option<HostMapping<'l>>) -> Self {
        match other {
            Some(other) if other.pfn == self.pfn => Self {
                size: other.size,
                ..self
            },
            _ => self,
        }
    }
}
