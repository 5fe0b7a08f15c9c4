// SPDX-License-Identifier: GPL-2.0

//! Core KVM's objects, from the outside: a VM and a vCPU, each with our state behind the one
//! pointer that `<asm/kvm_host.h>` gives it.

use core::ptr;

use kernel::{
    prelude::*,
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
};

use crate::{
    arch::vector::GuestVector,
    bindings,
    kernel_ext::atomic::AtomicU64,
    kvm_core::{
        addr::{
            HartId,
            VcpuIdx, //
        },
        stats::Gauges, //
    },
    vcpu::{
        context::Resident,
        token::OwnedVcpu, //
        Owned,
        Shared,
        VcpuState,
    },
    vm::VmState, //
};

/// Core KVM's `struct kvm`, from the outside.
///
/// # Invariants
///
/// Points into a live `struct kvm`, and its `arch.rust` holds the [`VmState`] that [`Vm::create`]
/// put there. Core KVM keeps the VM alive for the duration of every call into the arch layer, which
/// it calls between `kvm_arch_init_vm()` and `kvm_arch_destroy_vm()`. A function that core KVM also
/// calls later uses [`Vm::from_raw_unless_destroyed`].
#[repr(transparent)]
pub(crate) struct Vm(Opaque<bindings::kvm>);

// SAFETY: Core KVM calls the arch layer from any thread. A `Vm` gives away shared references to its
// `VmState` alone, which atomics and locks protect.
unsafe impl Send for Vm {}
// SAFETY: A `&Vm` gives any thread shared references to the `VmState` alone, which atomics and
// locks protect.
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
    /// `kvm` is valid, and no thread but the caller's can reach it yet.
    pub(crate) unsafe fn create(kvm: *mut bindings::kvm) -> Result {
        // SAFETY: By the caller's promise `kvm` is valid. It outlives the state that the gauges go
        // to: core KVM frees it after `Vm::destroy`.
        let gauges = unsafe { Gauges::of(kvm) };
        let state = KBox::pin_init(VmState::new(gauges), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: By the caller's promise `kvm` is valid and no other thread can reach it, so this
        // write does not race.
        unsafe { (*kvm).arch.rust = state.into_foreign() };
        Ok(())
    }

    /// Takes the [`VmState`] out of a VM and drops it.
    ///
    /// # Safety
    ///
    /// `kvm` went through [`Vm::create`], its vCPUs are gone, and no thread but the caller's uses
    /// it any more.
    pub(crate) unsafe fn destroy(kvm: *mut bindings::kvm) {
        // SAFETY: By the caller's promise `kvm` is valid and no other thread uses it, so this
        // access does not race.
        let state = unsafe { ptr::replace(ptr::addr_of_mut!((*kvm).arch.rust), ptr::null_mut()) };
        // SAFETY: `Vm::create` got the pointer from `into_foreign()`. Core KVM destroys a VM once,
        // and no reference to the state is left.
        drop(unsafe { Pin::<KBox<VmState>>::from_foreign(state) });
    }

    /// # Safety
    ///
    /// For `'a`, `kvm` is live and keeps the state that [`Vm::create`] put into it.
    pub(crate) unsafe fn from_raw<'a>(kvm: *mut bindings::kvm) -> &'a Vm {
        // SAFETY: `Vm` is transparent over `struct kvm`, and the caller keeps `kvm` and its state
        // alive for `'a`.
        unsafe { &*kvm.cast() }
    }

    /// Returns the VM, or [`None`] if [`Vm::destroy`] has already taken its state.
    ///
    /// # Safety
    ///
    /// `kvm` is live for `'a` and went through [`Vm::create`]. [`Vm::destroy`] runs neither during
    /// the call nor during `'a`.
    pub(crate) unsafe fn from_raw_unless_destroyed<'a>(kvm: *mut bindings::kvm) -> Option<&'a Vm> {
        // SAFETY: The caller keeps `kvm` alive, and `Vm::destroy` does not write the field during
        // the call.
        let state = unsafe { (*kvm).arch.rust };
        // SAFETY: The caller keeps `kvm` alive for `'a`. `arch.rust` is not null, so `Vm::destroy`
        // has not run, and by the caller's promise it does not run during `'a`.
        (!state.is_null()).then(|| unsafe { Vm::from_raw(kvm) })
    }

    /// Core KVM's own pointer, for calls into it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::kvm {
        self.0.get()
    }

    /// Our part of the VM.
    pub(crate) fn state(&self) -> &VmState {
        // SAFETY: By the type's invariant `arch.rust` points to a `VmState` that lives as long as
        // `self`, and no code makes a mutable reference to it.
        unsafe { &*(*self.as_ptr()).arch.rust.cast::<VmState>() }
    }

    /// How many vCPUs there are.
    pub(crate) fn online_vcpus(&self) -> usize {
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm`.
        unsafe { bindings::kvm_rs_online_vcpus(self.as_ptr()) as usize }
    }

    /// The vCPU that was created at position `idx`.
    pub(crate) fn vcpu(&self, idx: VcpuIdx) -> Option<&Vcpu> {
        if idx.get() >= self.online_vcpus() {
            return None;
        }
        // SAFETY: By the type's invariant the VM is live; `idx` is below `online_vcpus`, so it fits
        // into an `i32`.
        let vcpu = unsafe { bindings::kvm_get_vcpu(self.as_ptr(), idx.get() as i32) };
        // SAFETY: The vCPU is online, so it went through `Vcpu::create`. Core KVM destroys it with
        // its VM only, so it lives as long as `self`.
        (!vcpu.is_null()).then(|| unsafe { Vcpu::from_raw(vcpu) })
    }

    /// The vCPU that the guest knows as hart `hart`. All 64 bits count (c-review S17).
    pub(crate) fn hart(&self, hart: HartId) -> Option<&Vcpu> {
        let id = i32::try_from(hart.get()).ok()?;
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm`.
        let vcpu = unsafe { bindings::kvm_get_vcpu_by_id(self.as_ptr(), id) };
        // SAFETY: The vCPU is online, so it went through `Vcpu::create`. Core KVM destroys it with
        // its VM only, so it lives as long as `self`.
        (!vcpu.is_null()).then(|| unsafe { Vcpu::from_raw(vcpu) })
    }
}

/// Core KVM's `struct kvm_vcpu`, from the outside.
///
/// # Invariants
///
/// Points into a live `struct kvm_vcpu`, and its `arch.rust` holds the [`VcpuState`] that
/// [`Vcpu::create`] put there.
#[repr(transparent)]
pub(crate) struct Vcpu(Opaque<bindings::kvm_vcpu>);

// SAFETY: What safe code reaches through a `Vcpu` is constant, atomic or protected by a lock.
// `Owned`, `Resident` and the vector registers need an unsafe function or a token.
unsafe impl Send for Vcpu {}
// SAFETY: What safe code reaches through a `&Vcpu` is constant, atomic or protected by a lock.
// `Owned`, `Resident` and the vector registers need an unsafe function or a token.
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
    /// `vcpu` is valid, its `kvm` is live and went through [`Vm::create`], and no thread but the
    /// caller's can reach `vcpu` yet.
    pub(crate) unsafe fn create(vcpu: *mut bindings::kvm_vcpu) -> Result {
        let state = KBox::pin_init(VcpuState::new()?, GFP_KERNEL_ACCOUNT)?;
        // SAFETY: By the caller's promise `vcpu` is valid and no other thread can reach it, so this
        // write does not race.
        unsafe { (*vcpu).arch.rust = state.into_foreign() };
        // SAFETY: The state is in place. No other thread can reach `vcpu`, so the caller is alone
        // with it, and a new vCPU is not loaded.
        unsafe { OwnedVcpu::from_raw(vcpu) }.initialise(None);
        Ok(())
    }

    /// Takes the [`VcpuState`] out of a vCPU and drops it.
    ///
    /// # Safety
    ///
    /// `vcpu` went through [`Vcpu::create`], it is not loaded, and no thread but the caller's uses
    /// it any more. Its perf events and its timer may still fire until this function has stopped
    /// them.
    pub(crate) unsafe fn destroy(vcpu: *mut bindings::kvm_vcpu) {
        // SAFETY: `vcpu` went through `Vcpu::create`, it is not loaded, and the caller is alone
        // with it, because no other thread uses it any more.
        let last = unsafe { OwnedVcpu::from_raw(vcpu) };
        // An overflow or the alarm could still come, and needs the state.
        last.owned.pmu.reset(&last.vcpu.shared().firmware);
        last.vcpu.shared().timer.reset();
        // SAFETY: No other thread uses `vcpu`, and its perf events and its timer were stopped
        // above. A timer callback that has yet to return has read the field already: all that it
        // may still do is kick the vCPU.
        let state = unsafe { ptr::replace(ptr::addr_of_mut!((*vcpu).arch.rust), ptr::null_mut()) };
        // SAFETY: `Vcpu::create` got the pointer from `into_foreign()`. Core KVM destroys a vCPU
        // once, and `last` is not used any more. Dropping the timer waits for its callback.
        drop(unsafe { Pin::<KBox<VcpuState>>::from_foreign(state) });
    }

    /// # Safety
    ///
    /// For `'a`, `vcpu` is live and keeps the state that [`Vcpu::create`] put into it.
    pub(crate) unsafe fn from_raw<'a>(vcpu: *mut bindings::kvm_vcpu) -> &'a Vcpu {
        // SAFETY: `Vcpu` is transparent over `struct kvm_vcpu`, and the caller keeps `vcpu` and its
        // state alive for `'a`.
        unsafe { &*vcpu.cast() }
    }

    /// Core KVM's own pointer, for calls into it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::kvm_vcpu {
        self.0.get()
    }

    fn state(&self) -> &VcpuState {
        // SAFETY: By the type's invariant `arch.rust` points to a `VcpuState` that lives as long as
        // `self`. No code makes a mutable reference to the whole: only its atomics, its locks and
        // its `UnsafeCell`s are ever mutated.
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
        // SAFETY: Core KVM sets `kvm` before it calls `kvm_arch_vcpu_create()` and never changes
        // it. The VM went through `Vm::create`, and it outlives its vCPUs.
        unsafe { Vm::from_raw((*self.as_ptr()).kvm) }
    }

    /// The hart id that the guest knows this vCPU by.
    pub(crate) fn hart(&self) -> HartId {
        // SAFETY: Core KVM sets `vcpu_id` once, before it calls `kvm_arch_vcpu_create()`.
        HartId::new(unsafe { (*self.as_ptr()).vcpu_id } as u64)
    }

    /// Its position among the VM's vCPUs.
    pub(crate) fn idx(&self) -> VcpuIdx {
        // SAFETY: Core KVM writes `vcpu_idx` in the thread that creates the vCPU, while no other
        // thread can reach the vCPU; it is -1 during `kvm_arch_vcpu_create()`.
        VcpuIdx::new(unsafe { (*self.as_ptr()).vcpu_idx } as usize)
    }

    /// The pending requests, by bit.
    pub(crate) fn requests(&self) -> &AtomicU64 {
        // SAFETY: By the type's invariant the field is live, and core KVM only ever touches it with
        // atomic operations.
        unsafe { AtomicU64::from_ptr(ptr::addr_of_mut!((*self.as_ptr()).requests)) }
    }

    /// What `vcpu->mutex` protects.
    ///
    /// # Safety
    ///
    /// The caller holds `vcpu->mutex`, or is alone with the vCPU. It makes no second reference
    /// while the result lives.
    #[expect(clippy::mut_from_ref, reason = "the mutex is core KVM's")]
    pub(crate) unsafe fn owned_mut(&self) -> &mut Owned {
        // SAFETY: The caller holds `vcpu->mutex`, or is alone with the vCPU, and makes no second
        // reference, so this one is exclusive.
        unsafe { &mut *self.state().owned.get() }
    }

    /// What loading moves.
    ///
    /// # Safety
    ///
    /// The caller holds `vcpu->mutex`, which keeps other threads out, or is alone with the vCPU.
    /// The vCPU is not loaded, or preemption is disabled, so the scheduler neither loads nor puts
    /// the vCPU. The caller makes no second reference while the result lives.
    #[expect(clippy::mut_from_ref, reason = "the mutex is core KVM's")]
    pub(crate) unsafe fn resident_mut(&self) -> &mut Resident {
        // SAFETY: The caller holds `vcpu->mutex`, or is alone with the vCPU; it keeps the scheduler
        // from loading and putting the vCPU, and makes no second reference, so this one is
        // exclusive.
        unsafe { &mut *self.state().resident.get() }
    }

    /// Makes the vCPU look at its requests and interrupts: wakes it, or has it leave the guest.
    pub(crate) fn kick(&self) {
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm_vcpu`.
        unsafe { bindings::kvm_vcpu_kick(self.as_ptr()) };
    }

    /// Wakes the vCPU if it blocks.
    pub(crate) fn wake(&self) {
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm_vcpu`.
        unsafe { bindings::kvm_vcpu_wake_up(self.as_ptr()) };
    }

    /// Whether its thread is about to block, or blocks, in the kernel.
    pub(crate) fn is_blocking(&self) -> bool {
        // SAFETY: By the type's invariant `as_ptr()` points to a live `struct kvm_vcpu`.
        unsafe { bindings::kvm_vcpu_is_blocking(self.as_ptr()) }
    }

    /// The scheduler puts the vCPU on this CPU (`kvm_arch_vcpu_load()`).
    ///
    /// # Safety
    ///
    /// The caller is core KVM's call of `kvm_arch_vcpu_load()`: this is the vCPU's thread, which
    /// holds `vcpu->mutex`, and preemption is disabled.
    pub(crate) unsafe fn sched_load(&self, cpu: usize) {
        // SAFETY: This is the vCPU's thread, which holds `vcpu->mutex`, and preemption is disabled.
        // Neither `vcpu_load()` nor the scheduler runs while a `Pinned` or another reference to the
        // `Resident` exists.
        let resident = unsafe { self.resident_mut() };
        resident.load(self, cpu);
        self.shared().steal.load(self);
        // SAFETY: By the type's invariant the vCPU is live. Once it exists, load and put alone
        // write `cpu`, both in the vCPU's thread; other CPUs read the aligned word with
        // `READ_ONCE()`.
        unsafe { (*self.as_ptr()).cpu = cpu as i32 };
    }

    /// The scheduler takes the vCPU off this CPU (`kvm_arch_vcpu_put()`).
    ///
    /// # Safety
    ///
    /// The caller is core KVM's call of `kvm_arch_vcpu_put()`: this is the vCPU's thread, which
    /// holds `vcpu->mutex`, and preemption is disabled.
    pub(crate) unsafe fn sched_put(&self) {
        // SAFETY: By the type's invariant the vCPU is live. Once it exists, load and put alone
        // write `cpu`, both in the vCPU's thread; other CPUs read the aligned word with
        // `READ_ONCE()`.
        unsafe { (*self.as_ptr()).cpu = -1 };
        // SAFETY: This is the vCPU's thread, which holds `vcpu->mutex`, and preemption is disabled.
        // Neither `vcpu_put()` nor the scheduler runs while a `Pinned` or another reference to the
        // `Resident` exists.
        let resident = unsafe { self.resident_mut() };
        resident.put(self);
    }
}
