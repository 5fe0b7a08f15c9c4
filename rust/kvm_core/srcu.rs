// SPDX-License-Identifier: GPL-2.0

//! The read side of `kvm->srcu`.

use kernel::ffi::c_int;

use crate::{
    bindings,
    kvm_core::object::HeldVcpu, //
};

/// A read-side section of `kvm->srcu`: the memslots and buses of a vCPU's VM stay as they are while
/// this lives.
///
/// Taken around the users of memslots only, not around the whole of `KVM_RUN` as in C. Sections may
/// nest: each has an index of its own, unlike those that core KVM keeps in the vCPU.
pub(crate) struct SlotsRead<'a> {
    /// Not [`Send`]: the thread that entered the section leaves it.
    vcpu: HeldVcpu<'a>,
    /// The index that `srcu_read_lock()` returned.
    index: c_int,
}

impl<'a> SlotsRead<'a> {
    /// Enters the read-side section.
    #[inline]
    pub(crate) fn new(vcpu: HeldVcpu<'a>) -> Self {
        Self {
            vcpu,
            // SAFETY: A live vCPU keeps its VM live, and `drop` calls the matching unlock with this
            // index.
            index: unsafe { bindings::kvm_rs_slots_read_lock(vcpu.get().vm().as_ptr()) },
        }
    }

    /// Returns the vCPU, whose mutex the calling thread holds.
    #[inline]
    pub(crate) fn vcpu(&self) -> HeldVcpu<'a> {
        self.vcpu
    }
}

impl Drop for SlotsRead<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `new` entered the section in this thread, for the same VM, and got this index.
        // The live vCPU keeps the VM live.
        unsafe { bindings::kvm_rs_slots_read_unlock(self.vcpu.get().vm().as_ptr(), self.index) };
    }
}
