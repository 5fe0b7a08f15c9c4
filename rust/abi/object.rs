// SPDX-License-Identifier: GPL-2.0

//! Core KVM's objects, from the outside: a VM and a vCPU, each with our state behind the one
//! pointer that `<asm/kvm_host.h>` gives it.

use core::ptr;

use kernel::{
    prelude::*,
    types::{
        ForeignOwnable,
        Opaque, //
    },
};

use super::stats::Gauges;
use crate::{
    arch::{
        resident::Resident,
        vector::GuestVector, //
    },
    bindings,
    mem::addr::{
        HartId,
        VcpuIdx, //
    },
    sync::{
        atomic::AtomicU64,
        token::OwnedVcpu, //
    },
    vcpu::{
        Owned,
        Shared,
        VcpuState, //
    },
    vm::VmState, //
};

/// Core KVM's `struct kvm`, from the outside.
///
/// # Invariants
///
/// Points into a live `struct kvm` whose `arch.rust` holds the [`VmState`] that [`Vm::create`] put
/// there: core KVM calls the arch layer between `kvm_arch_init_vm()` and `kvm_arch_destroy_vm()`
/// alone, and holds a reference for the duration of every call.
#[repr(transparent)]
pub(crate) struct Vm(Opaque<bindings::kvm>);

// SAFETY: core KVM calls from any thread; all that this type gives away is shared state.
unsafe impl Send for Vm {}
// SAFETY: as above.
unsafe impl Sync for Vm {}

impl Vm {
    /// Puts a fresh [`VmState`] into a VM that core KVM is creating.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `kvm` is valid, and not yet known to anybody but the caller.
    pub(crate) unsafe fn create(kvm: *mut bindings::kvm) -> Result {
        // SAFETY: `kvm` is valid, and outlives the state that the gauges go to.
        let gauges = unsafe { Gauges::of(kvm) };
        let state = KBox::pin_init(VmState::new(gauges), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: the caller is the only one who knows `kvm`.
        unsafe { (*kvm).arch.rust = state.into_foreign() };
        Ok(())
    }

    /// Takes the [`VmState`] out of a VM and drops it.
    ///
    /// # Safety
    ///
    /// `kvm` went through [`Vm::create`], its vCPUs are gone, and nobody uses it any more.
    pub(crate) unsafe fn destroy(kvm: *mut bindings::kvm) {
        // SAFETY: the caller is the last user.
        let state = unsafe { ptr::replace(ptr::addr_of_mut!((*kvm).arch.rust), ptr::null_mut()) };
        // SAFETY: `create` put it there, and a VM is destroyed once.
        drop(unsafe { Pin::<KBox<VmState>>::from_foreign(state) });
    }

    /// # Safety
    ///
    /// `kvm` is live for `'a` and went through [`Vm::create`].
    pub(crate) unsafe fn from_raw<'a>(kvm: *mut bindings::kvm) -> &'a Vm {
        // SAFETY: `Vm` is transparent over `struct kvm`; the caller keeps it alive.
        unsafe { &*kvm.cast() }
    }

    /// Returns the VM, or [`None`] if [`Vm::destroy`] has already taken its state.
    ///
    /// # Safety
    ///
    /// `kvm` is live for `'a` and went through [`Vm::create`]. `Vm::destroy` does not run during
    /// the call or `'a`.
    pub(crate) unsafe fn from_raw_unless_destroyed<'a>(kvm: *mut bindings::kvm) -> Option<&'a Vm> {
        // SAFETY: the caller keeps `kvm` alive, and `Vm::destroy` does not write the field now.
        let state = unsafe { (*kvm).arch.rust };
        // SAFETY: the state that `Vm::create` put there is there as long as the caller promises.
        (!state.is_null()).then(|| unsafe { Vm::from_raw(kvm) })
    }

    /// Core KVM's own pointer, for calls into it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::kvm {
        self.0.get()
    }

    /// Our part of the VM.
    pub(crate) fn state(&self) -> &VmState {
        // SAFETY: by the type's invariant `arch.rust` is a `VmState` that lives as long as `self`,
        // and nobody has a mutable reference to it.
        unsafe { &*(*self.as_ptr()).arch.rust.cast::<VmState>() }
    }

    /// How many vCPUs there are.
    pub(crate) fn online_vcpus(&self) -> usize {
        // SAFETY: the VM is live.
        unsafe { bindings::kvm_rs_online_vcpus(self.as_ptr()) as usize }
    }

    /// The vCPU that was created at position `idx`.
    pub(crate) fn vcpu(&self, idx: VcpuIdx) -> Option<&Vcpu> {
        if idx.get() >= self.online_vcpus() {
            return None;
        }
        // SAFETY: the VM is live; `idx` is below `online_vcpus`, hence fits.
        let vcpu = unsafe { bindings::kvm_get_vcpu(self.as_ptr(), idx.get() as i32) };
        // SAFETY: an online vCPU lives as long as its VM.
        (!vcpu.is_null()).then(|| unsafe { Vcpu::from_raw(vcpu) })
    }

    /// The vCPU that the guest knows as hart `hart`. All 64 bits count (c-review S17).
    pub(crate) fn hart(&self, hart: HartId) -> Option<&Vcpu> {
        let id = i32::try_from(hart.get()).ok()?;
        // SAFETY: the VM is live.
        let vcpu = unsafe { bindings::kvm_get_vcpu_by_id(self.as_ptr(), id) };
        // SAFETY: an online vCPU lives as long as its VM.
        (!vcpu.is_null()).then(|| unsafe { Vcpu::from_raw(vcpu) })
    }
}

/// Core KVM's `struct kvm_vcpu`, from the outside.
///
/// # Invariants
///
/// Points into a live `struct kvm_vcpu` whose `arch.rust` holds the [`VcpuState`] that
/// [`Vcpu::create`] put there.
#[repr(transparent)]
pub(crate) struct Vcpu(Opaque<bindings::kvm_vcpu>);

// SAFETY: what `&Vcpu` gives away is shared state, or needs a token.
unsafe impl Send for Vcpu {}
// SAFETY: as above.
unsafe impl Sync for Vcpu {}

impl Vcpu {
    /// Puts a fresh [`VcpuState`] into a vCPU that core KVM is creating.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `vcpu` is valid, its `kvm` is live, and nobody else knows it yet.
    pub(crate) unsafe fn create(vcpu: *mut bindings::kvm_vcpu) -> Result {
        let state = KBox::pin_init(VcpuState::new()?, GFP_KERNEL_ACCOUNT)?;
        // SAFETY: the caller is the only one who knows `vcpu`.
        unsafe { (*vcpu).arch.rust = state.into_foreign() };
        // SAFETY: as above; the state is in place.
        unsafe { OwnedVcpu::from_raw(vcpu) }.initialise(None);
        Ok(())
    }

    /// Takes the [`VcpuState`] out of a vCPU and drops it.
    ///
    /// # Safety
    ///
    /// `vcpu` went through [`Vcpu::create`] and nobody uses it any more.
    pub(crate) unsafe fn destroy(vcpu: *mut bindings::kvm_vcpu) {
        // SAFETY: the caller is the last user.
        let last = unsafe { OwnedVcpu::from_raw(vcpu) };
        // An overflow or the alarm could still come, and needs the state.
        last.owned.pmu.reset(&last.vcpu.shared().firmware);
        last.vcpu.shared().timer.reset();
        // SAFETY: the caller is the last user.
        let state = unsafe { ptr::replace(ptr::addr_of_mut!((*vcpu).arch.rust), ptr::null_mut()) };
        // SAFETY: `create` put it there, and a vCPU is destroyed once.
        drop(unsafe { Pin::<KBox<VcpuState>>::from_foreign(state) });
    }

    /// # Safety
    ///
    /// `vcpu` is live for `'a` and went through [`Vcpu::create`].
    pub(crate) unsafe fn from_raw<'a>(vcpu: *mut bindings::kvm_vcpu) -> &'a Vcpu {
        // SAFETY: `Vcpu` is transparent over `struct kvm_vcpu`; the caller keeps it alive.
        unsafe { &*vcpu.cast() }
    }

    /// Core KVM's own pointer, for calls into it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::kvm_vcpu {
        self.0.get()
    }

    fn state(&self) -> &VcpuState {
        // SAFETY: by the type's invariant; only the `UnsafeCell`s in it are ever mutated.
        unsafe { &*(*self.as_ptr()).arch.rust.cast::<VcpuState>() }
    }

    /// What any CPU may touch.
    pub(crate) fn shared(&self) -> &Shared {
        &self.state().shared
    }

    /// Its vector registers.
    #[inline]
    pub(crate) fn vector(&self) -> &GuestVector {
        &self.state().vector
    }

    /// The VM that this vCPU belongs to.
    pub(crate) fn vm(&self) -> &Vm {
        // SAFETY: `kvm` is set before the arch layer sees the vCPU and never changes.
        unsafe { Vm::from_raw((*self.as_ptr()).kvm) }
    }

    /// The hart id that the guest knows this vCPU by.
    pub(crate) fn hart(&self) -> HartId {
        // SAFETY: set once, before the arch layer sees the vCPU.
        HartId::new(unsafe { (*self.as_ptr()).vcpu_id } as u64)
    }

    /// Its position among the VM's vCPUs.
    pub(crate) fn idx(&self) -> VcpuIdx {
        // SAFETY: set once, before the arch layer sees the vCPU.
        VcpuIdx::new(unsafe { (*self.as_ptr()).vcpu_idx } as usize)
    }

    /// The pending requests, by bit.
    pub(crate) fn requests(&self) -> &AtomicU64 {
        // SAFETY: core KVM only ever touches the field with atomic operations.
        unsafe { AtomicU64::from_ptr(ptr::addr_of_mut!((*self.as_ptr()).requests)) }
    }

    /// What `vcpu->mutex` protects.
    ///
    /// # Safety
    ///
    /// The caller holds the mutex, or is alone with the vCPU, and makes no second reference.
    #[expect(clippy::mut_from_ref, reason = "the mutex is core KVM's")]
    pub(crate) unsafe fn owned_mut(&self) -> &mut Owned {
        // SAFETY: as the caller promises.
        unsafe { &mut *self.state().owned.get() }
    }

    /// What loading moves.
    ///
    /// # Safety
    ///
    /// The caller keeps other threads out by the mutex, and the scheduler because the vCPU is not
    /// loaded or preemption is off; it makes no second reference.
    #[expect(clippy::mut_from_ref, reason = "the mutex is core KVM's")]
    pub(crate) unsafe fn resident_mut(&self) -> &mut Resident {
        // SAFETY: as the caller promises.
        unsafe { &mut *self.state().resident.get() }
    }

    /// Makes the vCPU look at its requests and interrupts: wakes it, or has it leave the guest.
    pub(crate) fn kick(&self) {
        // SAFETY: the vCPU is live.
        unsafe { bindings::kvm_vcpu_kick(self.as_ptr()) };
    }

    /// Wakes the vCPU if it blocks.
    pub(crate) fn wake(&self) {
        // SAFETY: the vCPU is live.
        unsafe { bindings::kvm_vcpu_wake_up(self.as_ptr()) };
    }

    /// Whether its thread is about to block, or blocks, in the kernel.
    pub(crate) fn is_blocking(&self) -> bool {
        // SAFETY: the vCPU is live.
        unsafe { bindings::kvm_vcpu_is_blocking(self.as_ptr()) }
    }

    /// The scheduler puts the vCPU on this CPU (`kvm_arch_vcpu_load()`).
    ///
    /// # Safety
    ///
    /// Core KVM's call, with preemption off, in the vCPU's thread.
    pub(crate) unsafe fn sched_load(&self, cpu: usize) {
        // SAFETY: preemption is off and this is the vCPU's thread, so no `Pinned` exists.
        let resident = unsafe { self.resident_mut() };
        resident.load(self, cpu);
        self.shared().steal.load(self);
        // SAFETY: `cpu` is written by load and put only.
        unsafe { (*self.as_ptr()).cpu = cpu as i32 };
    }

    /// The scheduler takes the vCPU off this CPU (`kvm_arch_vcpu_put()`).
    ///
    /// # Safety
    ///
    /// As [`sched_load`](Self::sched_load).
    pub(crate) unsafe fn sched_put(&self) {
        // SAFETY: `cpu` is written by load and put only.
        unsafe { (*self.as_ptr()).cpu = -1 };
        // SAFETY: as in `sched_load`.
        let resident = unsafe { self.resident_mut() };
        resident.put(self);
    }
}
