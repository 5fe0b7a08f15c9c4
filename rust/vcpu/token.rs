// SPDX-License-Identifier: GPL-2.0

//! The states of a vCPU as tokens: the thread that holds one may do what the token's type offers.
//!
//! [`OwnedVcpu`] (mutex held, registers in memory) gives [`Loaded`] (registers in the CPU), gives
//! [`Pinned`] (preemption off), gives [`EntryToken`](crate::run::EntryToken) (interrupts off),
//! which enters the guest. The scheduler loads and puts the vCPU whenever it switches the thread,
//! so a `&mut` of [`CpuContext`] exists only where it cannot switch.

use core::{
    cell::UnsafeCell,
    ops::{
        Deref,
        DerefMut, //
    }, //
};

use kernel::prelude::*;

use crate::{
    arch::vector::VectorRegs,
    bindings,
    kernel_ext::context::PreemptOff,
    kvm_core::{
        locks::VmLock,
        object::{
            HeldVcpu,
            Vcpu, //
        },
    },
    vcpu::{
        context::CpuContext, //
        VcpuInner,
    }, //
};

impl Vcpu {
    /// Returns what `vcpu->mutex` protects.
    ///
    /// # Safety
    ///
    /// The caller holds `vcpu->mutex`, or is alone with the vCPU. It makes no second reference
    /// while the result lives.
    #[expect(clippy::mut_from_ref, reason = "the mutex is core KVM's")]
    unsafe fn inner_mut(&self) -> &mut VcpuInner {
        // SAFETY: The caller holds `vcpu->mutex`, or is alone with the vCPU, and makes no second
        // reference, so this one is exclusive.
        unsafe { &mut *self.part::<UnsafeCell<VcpuInner>>().get() }
    }

    /// Returns what loading moves between memory and registers.
    ///
    /// # Safety
    ///
    /// The caller holds `vcpu->mutex`, which keeps other threads out, or is alone with the vCPU.
    /// The vCPU is not loaded, or preemption is disabled, so the scheduler neither loads nor puts
    /// the vCPU. The caller makes no second reference while the result lives.
    #[expect(clippy::mut_from_ref, reason = "the mutex is core KVM's")]
    pub(crate) unsafe fn context_mut(&self) -> &mut CpuContext {
        // SAFETY: The caller holds `vcpu->mutex`, or is alone with the vCPU; it keeps the scheduler
        // from loading and putting the vCPU, and makes no second reference, so this one is
        // exclusive.
        unsafe { &mut *self.part::<UnsafeCell<CpuContext>>().get() }
    }
}

/// A vCPU with its registers in memory. This thread holds its `vcpu->mutex`.
///
/// Core KVM takes the mutex before every vCPU ioctl but `KVM_INTERRUPT`, so the hooks create this,
/// as does [`with_vcpu`]. Safe code cannot create one of its own.
///
/// # Invariants
///
/// For `'a` this thread holds `vcpu->mutex`, or is the only user of the vCPU. The vCPU is not
/// loaded, except while [`loaded`](OwnedVcpu::loaded) runs. `inner` is the only reference to what
/// the mutex protects. Only this file makes this token, like the other ones.
pub(crate) struct OwnedVcpu<'a> {
    /// The vCPU.
    vcpu: HeldVcpu<'a>,
    /// What the mutex protects.
    inner: &'a mut VcpuInner,
}

impl<'a> OwnedVcpu<'a> {
    /// Takes a vCPU that core KVM passes, with `vcpu->mutex` held.
    ///
    /// # Safety
    ///
    /// `vcpu` is live and went through [`Vcpu::create`]. The caller holds `vcpu->mutex`, or is
    /// alone with the vCPU, for `'a`, and makes no second token of the vCPU. The vCPU is not
    /// loaded.
    pub(crate) unsafe fn from_raw(vcpu: *mut bindings::kvm_vcpu) -> Self {
        // SAFETY: The caller passes a live vCPU that went through `Vcpu::create`.
        let vcpu = unsafe { Vcpu::from_raw(vcpu) };
        // SAFETY: The caller holds `vcpu->mutex`, or is alone with the vCPU, and makes no second
        // token of the vCPU, so this is the only reference.
        let inner = unsafe { vcpu.inner_mut() };
        // SAFETY: The caller holds `vcpu->mutex`, or is alone with the vCPU, for `'a`.
        let vcpu = unsafe { HeldVcpu::new(vcpu) };
        // INVARIANT: The caller holds `vcpu->mutex`, or is alone with the vCPU, for `'a`. The vCPU
        // is not loaded, and `inner` is the only reference.
        Self { vcpu, inner }
    }

    /// Returns the state that loading moves into registers.
    pub(crate) fn context(&mut self) -> &mut CpuContext {
        // SAFETY: By the type's invariant the vCPU is not loaded, so the scheduler does not touch
        // it, and the mutex keeps other threads out, if there are any. The result borrows `self`,
        // so no second reference exists.
        unsafe { self.vcpu().context_mut() }
    }

    /// Returns the vector registers.
    pub(crate) fn vector(&mut self) -> &mut VectorRegs {
        // SAFETY: By the type's invariant the vCPU is not loaded, and the mutex keeps other threads
        // out, if there are any. The result borrows `self`, so no second reference exists.
        unsafe { self.vcpu().vector().regs_mut() }
    }

    /// Returns both parts at once.
    pub(crate) fn split(&mut self) -> (&mut VcpuInner, &mut CpuContext) {
        // SAFETY: By the type's invariant the vCPU is not loaded, so the scheduler does not touch
        // it, and the mutex keeps other threads out, if there are any. Both results borrow `self`,
        // and the two parts are disjoint.
        let context = unsafe { self.vcpu().context_mut() };
        (self.inner, context)
    }

    /// Runs `f` with the guest's registers in the CPU, and saves them afterwards.
    pub(crate) fn loaded<R>(&mut self, f: impl FnOnce(&mut Loaded<'_>) -> R) -> R {
        // SAFETY: By the type's invariant the vCPU is not loaded, and this thread holds its mutex,
        // as core KVM requires, or is its only user. By the invariant of `Vcpu` the vCPU is live.
        unsafe { bindings::vcpu_load(self.vcpu().as_ptr()) };
        // INVARIANT: This thread still holds the mutex, and has just loaded the vCPU. `inner` is
        // borrowed from `self`, so it is the only reference in use.
        let result = f(&mut Loaded {
            vcpu: self.vcpu,
            inner: self.inner,
        });
        // SAFETY: This thread loaded the vCPU above, and `Loaded::unloaded` loads it again before
        // it returns, so the vCPU is loaded.
        unsafe { bindings::vcpu_put(self.vcpu().as_ptr()) };
        result
    }
}

/// A vCPU with its registers in this CPU; preemptible, so the scheduler may move it.
///
/// # Invariants
///
/// For `'l` this thread holds `vcpu->mutex`, or is the only user of the vCPU, and has loaded the
/// vCPU, except while [`unloaded`](Loaded::unloaded) runs. `inner` is the only reference to what
/// the mutex protects.
pub(crate) struct Loaded<'l> {
    /// The vCPU.
    vcpu: HeldVcpu<'l>,
    /// What the mutex protects.
    inner: &'l mut VcpuInner,
}

impl<'l> Loaded<'l> {
    /// Takes a vCPU that core KVM passes, loaded and with `vcpu->mutex` held.
    ///
    /// # Safety
    ///
    /// `vcpu` is live and went through [`Vcpu::create`]. The caller holds `vcpu->mutex` for `'l`,
    /// has loaded the vCPU, and makes no second token of it.
    pub(crate) unsafe fn from_raw(vcpu: *mut bindings::kvm_vcpu) -> Self {
        // SAFETY: The caller passes a live vCPU that went through `Vcpu::create`.
        let vcpu = unsafe { Vcpu::from_raw(vcpu) };
        // SAFETY: The caller holds `vcpu->mutex`, and makes no second token of the vCPU, so this is
        // the only reference.
        let inner = unsafe { vcpu.inner_mut() };
        // SAFETY: The caller holds `vcpu->mutex` for `'l`.
        let vcpu = unsafe { HeldVcpu::new(vcpu) };
        // INVARIANT: The caller holds `vcpu->mutex` for `'l`, and has loaded the vCPU. `inner` is
        // the only reference.
        Self { vcpu, inner }
    }
}

impl Loaded<'_> {
    /// Runs `f` with preemption off: on one CPU, with the scheduler kept away.
    pub(crate) fn pinned<R>(&mut self, f: impl FnOnce(&mut Pinned<'_>) -> R) -> R {
        let preempt = PreemptOff::new();
        // SAFETY: By the type's invariant the vCPU is loaded, and the mutex keeps other threads
        // out, if there are any. Preemption is off, so neither load nor put runs while the
        // reference lives. `&mut self` is borrowed as long, so no second reference exists.
        let context = unsafe { self.vcpu().context_mut() };
        f(&mut Pinned {
            vcpu: self.vcpu,
            inner: self.inner,
            context,
            preempt: &preempt,
        })
    }

    /// Runs `f` with the vCPU's registers in memory, then loads them again.
    pub(crate) fn unloaded<R>(&mut self, f: impl FnOnce(&mut OwnedVcpu<'_>) -> R) -> R {
        // SAFETY: By the type's invariant this thread has loaded the vCPU. It loads the vCPU again
        // below.
        unsafe { bindings::vcpu_put(self.vcpu().as_ptr()) };
        // INVARIANT: This thread still holds the mutex, and has just put the vCPU. `inner` is
        // borrowed from `self`, so it is the only reference in use.
        let result = f(&mut OwnedVcpu {
            vcpu: self.vcpu,
            inner: self.inner,
        });
        // SAFETY: By the type's invariant this thread holds the mutex of the vCPU, or is its only
        // user, and by the invariant of `Vcpu` the vCPU is live. This thread put it above, and
        // `OwnedVcpu::loaded` puts it again before it returns, so the vCPU is not loaded.
        unsafe { bindings::vcpu_load(self.vcpu().as_ptr()) };
        result
    }
}

/// A loaded vCPU with preemption off.
///
/// # Invariants
///
/// As for [`Loaded`]. Preemption is off for `'p`, and `context` is the only reference to what
/// loading moves.
pub(crate) struct Pinned<'p> {
    /// The vCPU.
    vcpu: HeldVcpu<'p>,
    /// What the mutex protects.
    inner: &'p mut VcpuInner,
    /// What loading moves; the registers in the CPU are newer.
    context: &'p mut CpuContext,
    /// Preemption, which is off.
    preempt: &'p PreemptOff,
}

/// What the tokens have in common: they are for one vCPU, which does not change, and each gives
/// access to what its mutex protects as a lock guard does.
macro_rules! token {
    ($token:ident, $life:lifetime) => {
        impl<$life> $token<$life> {
            /// Returns the vCPU.
            #[inline(always)]
            pub(crate) fn vcpu(&self) -> &$life Vcpu {
                self.vcpu.get()
            }

            /// Returns the vCPU, as one whose mutex the calling thread holds.
            #[inline(always)]
            pub(crate) fn held(&self) -> HeldVcpu<$life> {
                self.vcpu
            }
        }

        impl Deref for $token<'_> {
            type Target = VcpuInner;

            #[inline(always)]
            fn deref(&self) -> &VcpuInner {
                self.inner
            }
        }

        impl DerefMut for $token<'_> {
            #[inline(always)]
            fn deref_mut(&mut self) -> &mut VcpuInner {
                self.inner
            }
        }
    };
}
token!(OwnedVcpu, 'a);
token!(Loaded, 'l);
token!(Pinned, 'p);

impl<'p> Pinned<'p> {
    /// Returns the CPU that the vCPU is on.
    pub(crate) fn cpu(&self) -> usize {
        self.preempt.cpu()
    }

    /// Returns what keeps the vCPU there.
    pub(crate) fn preempt(&self) -> &'p PreemptOff {
        self.preempt
    }

    /// Returns what loading moves; the registers in the CPU are newer.
    #[inline(always)]
    pub(crate) fn context(&mut self) -> &mut CpuContext {
        self.context
    }

    /// Returns what the mutex protects, and what loading moves.
    #[inline(always)]
    pub(crate) fn split(&mut self) -> (&mut VcpuInner, &mut CpuContext) {
        (self.inner, self.context)
    }
}

/// Runs `f` with the vCPU's mutex held. May wait for as long as the vCPU runs.
///
/// # Errors
///
/// `EINTR` if the process is killed meanwhile.
pub(crate) fn with_vcpu<R>(vcpu: &Vcpu, f: impl FnOnce(&mut OwnedVcpu<'_>) -> R) -> Result<R> {
    // SAFETY: By the invariant of `Vcpu` the vCPU is live.
    if unsafe { bindings::kvm_rs_lock_vcpu_killable(vcpu.as_ptr()) } != 0 {
        return Err(EINTR);
    }
    // SAFETY: This thread just took the mutex, so no other thread has the vCPU, and it is not
    // loaded. By the invariant of `Vcpu` it is live and went through `Vcpu::create`.
    let result = f(&mut unsafe { OwnedVcpu::from_raw(vcpu.as_ptr()) });
    // SAFETY: This thread took the mutex above, and still holds it.
    unsafe { bindings::kvm_rs_unlock_vcpu(vcpu.as_ptr()) };
    Ok(result)
}

/// Notes in the vCPU which debugging userspace asked for.
pub(crate) fn set_guest_debug(vcpu: &OwnedVcpu<'_>, control: u32) {
    // SAFETY: By the invariant of `OwnedVcpu` this thread holds `vcpu->mutex`, which protects the
    // field, or is the only user of the vCPU.
    unsafe { (*vcpu.vcpu().as_ptr()).guest_debug = control as usize };
}

/// Returns whether `f` says so of any vCPU, while none of them runs; [`None`] if one is in use, or
/// is being created.
pub(crate) fn any_idle_vcpu(
    lock: &VmLock<'_>,
    mut f: impl FnMut(&OwnedVcpu<'_>) -> bool,
) -> Option<bool> {
    let vm = lock.vm();
    // `kvm_trylock_all_vcpus()` would warn.
    if lock.is_creating_vcpu() {
        return None;
    }
    // SAFETY: `lock` exists, so `kvm->lock` is held, and the check above found no vCPU that is
    // being created.
    if unsafe { bindings::kvm_trylock_all_vcpus(vm.as_ptr()) } != 0 {
        return None;
    }
    let found = vm.vcpus().any(|vcpu| {
        // SAFETY: This thread holds the mutex of every vCPU. A thread loads a vCPU only with its
        // mutex held and puts it before it unlocks the mutex, so this vCPU is not loaded either. It
        // went through `Vcpu::create`.
        f(&unsafe { OwnedVcpu::from_raw(vcpu.as_ptr()) })
    });
    // SAFETY: This thread took the mutexes of all vCPUs above, and `kvm->lock` has kept new vCPUs
    // out since.
    unsafe { bindings::kvm_unlock_all_vcpus(vm.as_ptr()) };
    Some(found)
}
