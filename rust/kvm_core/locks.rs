// SPDX-License-Identifier: GPL-2.0

//! Core KVM's locks of a VM: `kvm->lock` and `kvm->slots_lock`. The first is taken before the
//! second. The thread that took a lock gives it back, so what stands for one stays in its thread.

use kernel::types::NotThreadSafe;

use crate::{
    bindings,
    kvm_core::object::Vm, //
};

/// Proof that `kvm->lock` is held. The holder of the lock only ever lends it out by reference.
pub(crate) struct VmLock<'v>(&'v Vm, NotThreadSafe);

impl<'v> VmLock<'v> {
    /// Runs `f` with the lock taken.
    pub(crate) fn with<R>(vm: &'v Vm, f: impl FnOnce(&VmLock<'v>) -> R) -> R {
        // SAFETY: By the invariant of `Vm` the VM is live.
        unsafe { bindings::kvm_rs_lock(vm.as_ptr()) };
        let result = f(&VmLock(vm, NotThreadSafe));
        // SAFETY: This thread took `kvm->lock` before it called `f`, and still holds it.
        unsafe { bindings::kvm_rs_unlock(vm.as_ptr()) };
        result
    }

    /// Runs `f` with the lock that the caller of a hook holds.
    ///
    /// # Safety
    ///
    /// The calling thread holds `kvm->lock` of `vm` until this returns.
    pub(crate) unsafe fn assume<R>(vm: &Vm, f: impl FnOnce(&VmLock<'_>) -> R) -> R {
        f(&VmLock(vm, NotThreadSafe))
    }

    /// Returns the VM.
    pub(crate) fn vm(&self) -> &'v Vm {
        self.0
    }

    /// Returns whether a vCPU is being created.
    pub(crate) fn is_creating_vcpu(&self) -> bool {
        // SAFETY: `self` exists, so `kvm->lock` is held. By the invariant of `Vm` the VM is live.
        unsafe { bindings::kvm_is_vcpu_creation_in_progress(self.0.as_ptr()) }
    }
}

/// `kvm->slots_lock`, held.
pub(crate) struct SlotsLock<'v>(&'v Vm, NotThreadSafe);

impl<'v> SlotsLock<'v> {
    /// Takes it.
    pub(crate) fn lock(vm: &'v Vm) -> Self {
        // SAFETY: By the invariant of `Vm` the VM is live. `drop` unlocks what this locks.
        unsafe { bindings::kvm_rs_lock_slots(vm.as_ptr()) };
        Self(vm, NotThreadSafe)
    }
}

impl Drop for SlotsLock<'_> {
    fn drop(&mut self) {
        // SAFETY: `lock` took `kvm->slots_lock`, and only this unlocks it. By the invariant of `Vm`
        // the VM is live.
        unsafe { bindings::kvm_rs_unlock_slots(self.0.as_ptr()) };
    }
}

/// A VM without vCPUs and without populated memslots, which stays so while this lives: it holds
/// `kvm->lock` and `kvm->slots_lock`.
pub(crate) struct Uncommitted<'a>(&'a Vm, NotThreadSafe);

impl<'a> Uncommitted<'a> {
    /// Takes the locks, in their order; [`None`] if the VM is committed already.
    pub(crate) fn lock(vm: &'a Vm) -> Option<Self> {
        // SAFETY: By the invariant of `Vm` the VM is live. The caller may sleep and holds no lock
        // of the VM, and `drop` releases both locks.
        unsafe { bindings::kvm_rs_lock_vm(vm.as_ptr()) };
        let this = Self(vm, NotThreadSafe);
        // SAFETY: The VM is live, and this thread holds `kvm->lock`, which protects the field.
        let created_vcpus = unsafe { (*vm.as_ptr()).created_vcpus };
        // SAFETY: The VM is live, and this thread holds `kvm->slots_lock`, as the call requires.
        let is_empty = unsafe { bindings::kvm_are_all_memslots_empty(vm.as_ptr()) };
        (created_vcpus == 0 && is_empty).then_some(this)
    }

    /// Returns the VM.
    pub(crate) fn vm(&self) -> &'a Vm {
        self.0
    }
}

impl Drop for Uncommitted<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant of `Vm` the VM is live. `lock` took both locks, and only this
        // releases them.
        unsafe { bindings::kvm_rs_unlock_vm(self.0.as_ptr()) };
    }
}
