// SPDX-License-Identifier: GPL-2.0

//! The read side of `kvm->srcu`.

use kernel::{
    ffi::c_int,
    types::NotThreadSafe, //
};

use crate::{
    bindings,
    kvm_core::object::Vcpu, //
};

/// A read-side section of `kvm->srcu`: the memslots and buses of a vCPU's VM stay as they are while
/// this lives.
///
/// Taken around the users of memslots only, not around the whole of `KVM_RUN` as in C. Sections may
/// nest: each has an index of its own, unlike those that core KVM keeps in the vCPU.
pub(crate) struct SlotsRead<'a> {
    /// The vCPU whose VM this is about.
    vcpu: &'a Vcpu,
    /// The index that `srcu_read_lock()` returned.
    index: c_int,
    /// The section must be left by the thread that entered it.
    thread: NotThreadSafe,
}

impl<'a> SlotsRead<'a> {
    /// Enters the read-side section. `vcpu` is the caller's own: its mutex is held.
    #[inline]
    pub(crate) fn new(vcpu: &'a Vcpu) -> Self {
        Self {
            vcpu,
            // SAFETY: A live vCPU keeps its VM live, and `drop` calls the matching unlock with this
            // index.
            index: unsafe { bindings::kvm_rs_slots_read_lock(vcpu.vm().as_ptr()) },
            thread: NotThreadSafe,
        }
    }

    /// Returns the vCPU.
    #[inline]
    pub(crate) fn vcpu(&self) -> &'a Vcpu {
        self.vcpu
    }
}

impl Drop for SlotsRead<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `new` entered the section in this thread, for the same VM, and got this index.
        // The live vCPU keeps the VM live.
        unsafe { bindings::kvm_rs_slots_read_unlock(self.vcpu.vm().as_ptr(), self.index) };
    }
}
