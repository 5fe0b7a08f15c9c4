// SPDX-License-Identifier: GPL-2.0

//! `kvm->mmu_lock`, held for reading or for writing. The thread that took it gives it back, so what
//! stands for it stays in its thread.

use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::types::NotThreadSafe;

use crate::{
    bindings,
    kvm_core::{
        addr::Gfn,
        hostmm::HostPgtable,
        memslot::InvalidateSeq,
        object::Vm, //
    }, //
};

/// `kvm->mmu_lock`, held for reading.
pub(crate) struct ReadGuard<'v>(&'v Vm, NotThreadSafe);

impl<'v> ReadGuard<'v> {
    /// Takes the lock.
    pub(crate) fn lock(vm: &'v Vm) -> Self {
        // SAFETY: By its type's invariant `vm` points to a live `struct kvm`. `drop` releases the
        // lock.
        unsafe { bindings::kvm_rs_mmu_read_lock(vm.as_ptr()) };
        Self(vm, NotThreadSafe)
    }

    /// Returns what the host maps.
    #[inline]
    pub(crate) fn host(&self) -> HostPgtable<'_> {
        // SAFETY: `self` holds `mmu_lock` for reading for as long as the result borrows it.
        unsafe { HostPgtable::new(self.0) }
    }

    /// Returns whether the host has changed, or is changing, what it had at `gfn` when `seq` was
    /// read.
    pub(super) fn is_stale(&self, seq: InvalidateSeq, gfn: Gfn) -> bool {
        // SAFETY: By its type's invariant the VM is live, and `self` holds `mmu_lock` for reading.
        unsafe { bindings::mmu_invalidate_retry_gfn(self.0.as_ptr(), seq.get(), gfn.get()) }
    }

    /// Returns the VM.
    pub(crate) fn vm(&self) -> &'v Vm {
        self.0
    }
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: `lock()` took the lock for reading, and the VM is live by its type's invariant.
        unsafe { bindings::kvm_rs_mmu_read_unlock(self.0.as_ptr()) };
    }
}

/// `kvm->mmu_lock`, held for writing, by core KVM or by [`WriteGuard`].
///
/// # Invariants
///
/// The lock is held, but for the time that [`unlocked`](Self::unlocked) runs its closure, and no
/// other value for this VM is in use.
pub(crate) struct WriteHeld<'v>(&'v Vm, NotThreadSafe);

impl<'v> WriteHeld<'v> {
    /// Returns the guard of a hook that core KVM calls with the lock held.
    ///
    /// # Safety
    ///
    /// The lock must be held for writing by the calling thread for as long as the value lives, and
    /// there must be no other value for this VM.
    pub(crate) unsafe fn assume(vm: &'v Vm) -> Self {
        // INVARIANT: The caller promises that the lock is held for writing for as long as the value
        // lives, and that there is no other value for this VM.
        Self(vm, NotThreadSafe)
    }

    /// Returns the VM.
    pub(crate) fn vm(&self) -> &'v Vm {
        self.0
    }

    /// Runs `f`, which may sleep, without the lock. Facts about the tree from before are void
    /// afterwards.
    pub(crate) fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type's invariant the lock is held. This function takes it again below, and
        // no view of the tree can live on, because views borrow `self`.
        unsafe { bindings::kvm_rs_mmu_write_unlock(self.0.as_ptr()) };
        let result = f();
        // SAFETY: By its type's invariant the VM is live. The lock was dropped above.
        unsafe { bindings::kvm_rs_mmu_write_lock(self.0.as_ptr()) };
        result
    }

    /// Drops the lock for a moment and calls `cond_resched()`, so that other CPUs get the lock and
    /// other threads this CPU.
    pub(crate) fn cond_resched_lock(&mut self) {
        self.unlocked(|| {
            // SAFETY: `unlocked()` has dropped `mmu_lock`, and callers that hold other spinlocks do
            // not call `cond_resched_lock()`.
            unsafe { bindings::kvm_rs_cond_resched() }
        })
    }
}

/// Returns whether another CPU waits for the lock, or another thread for this CPU.
pub(crate) fn is_contended(vm: &Vm) -> bool {
    // SAFETY: By its type's invariant `vm` points to a live `struct kvm`.
    unsafe { bindings::kvm_rs_mmu_needbreak(vm.as_ptr()) }
}

/// `kvm->mmu_lock`, held for writing by this value.
pub(crate) struct WriteGuard<'v>(WriteHeld<'v>);

impl<'v> WriteGuard<'v> {
    /// Takes the lock.
    pub(crate) fn lock(vm: &'v Vm) -> Self {
        // SAFETY: By its type's invariant `vm` points to a live `struct kvm`. `drop` releases the
        // lock.
        unsafe { bindings::kvm_rs_mmu_write_lock(vm.as_ptr()) };
        // SAFETY: The lock was just taken for writing and is held until `drop`. Another value in
        // use for this VM would hold it, too, so there is none.
        Self(unsafe { WriteHeld::assume(vm) })
    }
}

impl<'v> Deref for WriteGuard<'v> {
    type Target = WriteHeld<'v>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for WriteGuard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: `lock()` took the lock for writing, and the VM is live by its type's invariant.
        unsafe { bindings::kvm_rs_mmu_write_unlock(self.0.vm().as_ptr()) };
    }
}
