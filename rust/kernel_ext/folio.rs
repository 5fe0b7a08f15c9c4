// SPDX-License-Identifier: GPL-2.0

//! Folios of the host's memory, and the flags that the host's MM keeps about them. The kernel crate
//! has no folios.

use core::marker::PhantomData;

use crate::bindings;

/// A folio of the host, which stays in use for `'m`: it is mapped and a lock keeps it mapped, or a
/// value holds a reference to it.
///
/// # Invariants
///
/// The pointer points to a folio that stays in use for `'m`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveFolio<'m>(*mut bindings::folio, PhantomData<&'m ()>);

impl LiveFolio<'_> {
    /// Takes a folio that is in use.
    ///
    /// # Safety
    ///
    /// `folio` must point to a folio that stays in use for the lifetime of the result.
    pub(crate) unsafe fn new(folio: *mut bindings::folio) -> Self {
        // INVARIANT: The caller promises that `folio` stays in use for the lifetime of the result.
        Self(folio, PhantomData)
    }

    /// Returns whether it is anonymous memory.
    pub(crate) fn is_anon(self) -> bool {
        // SAFETY: By the type's invariant the folio is in use.
        unsafe { bindings::kvm_rs_folio_anon(self.0) }
    }

    /// Returns whether all CPUs have seen the instructions in it.
    pub(crate) fn is_icache_clean(self) -> bool {
        // SAFETY: By the type's invariant the folio is in use.
        unsafe { bindings::kvm_rs_folio_icache_clean(self.0) }
    }

    /// Marks the folio so (`PG_dcache_clean`): since the host last moved its contents, all CPUs
    /// have executed FENCE.I. The host clears the mark when it frees the folio or writes to it.
    pub(crate) fn set_icache_clean(self) {
        // SAFETY: By the type's invariant the folio is in use.
        unsafe { bindings::kvm_rs_folio_set_icache_clean(self.0) };
    }
}
