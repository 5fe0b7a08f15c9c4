// SPDX-License-Identifier: GPL-2.0

//! The state of the arch layer in a VM and in a vCPU: one part of each layer, made and dropped as a
//! whole. Answers to `struct kvm_arch` and `struct kvm_vcpu_arch`.
//!
//! A layer owns its part and reaches it by its type, see [`VmPart`] and [`VcpuPart`]; only this
//! file knows all parts.

use core::{
    cell::UnsafeCell,
    mem::offset_of,
    ptr, //
};

use kernel::{
    prelude::*,
    types::ForeignOwnable, //
};
use pin_init::Wrapper;

use crate::{
    aia::{
        Aia,
        ImsicAddr, //
    },
    arch::vector::GuestVector,
    bindings,
    kvm_core::{
        object::{
            Vcpu,
            VcpuPart,
            Vm,
            VmPart, //
        },
        stats::Gauges, //
    },
    mmu::{
        cache::TableCache,
        tlb::HfenceQueue, //
        Memory,
    },
    vcpu::{
        context::CpuContext,
        host,
        residency,
        token::OwnedVcpu, //
        VcpuInner,
        VcpuShared,
    },
    vm::VmState, //
};

/// The state in a VM.
#[pin_data]
struct VmArch {
    #[pin]
    vm: VmState,
    #[pin]
    memory: Memory,
    #[pin]
    aia: Aia,
}

impl VmArch {
    /// Makes the state of a VM that was just created, and that has `gauges`.
    fn new(gauges: Gauges) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            vm <- VmState::new(),
            memory <- Memory::new(gauges),
            aia <- Aia::new(),
        })
    }
}

/// The state in a vCPU.
#[pin_data]
struct VcpuArch {
    #[pin]
    shared: VcpuShared,
    #[pin]
    inner: UnsafeCell<VcpuInner>,
    #[pin]
    context: UnsafeCell<CpuContext>,
    vector: GuestVector,
    #[pin]
    hfences: HfenceQueue,
    tables: UnsafeCell<TableCache>,
    imsic_addr: ImsicAddr,
}

impl VcpuArch {
    /// Makes the state of a hart before its first reset.
    ///
    /// # Errors
    ///
    /// `ENODEV` before the host was probed; `ENOMEM` from the initialiser.
    fn new() -> Result<impl PinInit<Self, Error>> {
        let host = host::get().ok_or(ENODEV)?;
        let cpus = residency::slots().ok_or(ENODEV)?;
        // SAFETY: The context becomes a part of this state, which is that of a new vCPU.
        let context = unsafe { CpuContext::new(host, cpus) };
        Ok(try_pin_init!(Self {
            shared <- VcpuShared::new(),
            inner <- UnsafeCell::pin_init(VcpuInner::new(host)),
            context <- UnsafeCell::pin_init(context),
            vector: GuestVector::new()?,
            hfences <- HfenceQueue::new(),
            tables: UnsafeCell::new(TableCache::new()),
            imsic_addr: ImsicAddr::new(),
        }))
    }
}

/// Says where each part is in the state.
macro_rules! parts {
    ($state:ident, $part:ident: $($field:ident: $ty:ty,)+) => { $(
        // SAFETY: `create` puts the state with this field into every object before a reference to
        // the object exists. The field is `Sync`, or an `UnsafeCell` that only a holder of the
        // right lock or token looks into, and no code makes a mutable reference to the field
        // itself.
        unsafe impl $part for $ty {
            const OFFSET: usize = offset_of!($state, $field);
        }
    )+ };
}

parts! {
    VmArch, VmPart:
    vm: VmState,
    memory: Memory,
    aia: Aia,
}

parts! {
    VcpuArch, VcpuPart:
    shared: VcpuShared,
    inner: UnsafeCell<VcpuInner>,
    context: UnsafeCell<CpuContext>,
    vector: GuestVector,
    hfences: HfenceQueue,
    tables: UnsafeCell<TableCache>,
    imsic_addr: ImsicAddr,
}

impl Vm {
    /// Puts fresh state into a VM that core KVM is creating.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `kvm` is valid, and no thread but the caller's can reach it yet.
    pub(super) unsafe fn create(kvm: *mut bindings::kvm) -> Result {
        // SAFETY: By the caller's promise `kvm` is valid. It outlives the state that the gauges go
        // to: core KVM frees it after `Vm::destroy`.
        let gauges = unsafe { Gauges::of(kvm) };
        let state = KBox::pin_init(VmArch::new(gauges), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: By the caller's promise `kvm` is valid and no other thread can reach it, so this
        // write does not race.
        unsafe { (*kvm).arch.rust = state.into_foreign() };
        Ok(())
    }

    /// Takes the state out of a VM and drops it.
    ///
    /// # Safety
    ///
    /// `kvm` went through [`Vm::create`], its vCPUs are gone, and no thread but the caller's uses
    /// it any more.
    pub(super) unsafe fn destroy(kvm: *mut bindings::kvm) {
        // SAFETY: By the caller's promise `kvm` is valid and no other thread uses it, so this
        // access does not race.
        let state = unsafe { ptr::replace(ptr::addr_of_mut!((*kvm).arch.rust), ptr::null_mut()) };
        // SAFETY: `Vm::create` got the pointer from `into_foreign()`. Core KVM destroys a VM once,
        // and no reference to the state is left.
        drop(unsafe { Pin::<KBox<VmArch>>::from_foreign(state) });
    }
}

impl Vcpu {
    /// Puts fresh state into a vCPU that core KVM is creating.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `vcpu` is valid, its `kvm` is live and went through [`Vm::create`], and no thread but the
    /// caller's can reach `vcpu` yet.
    pub(super) unsafe fn create(vcpu: *mut bindings::kvm_vcpu) -> Result {
        let state = KBox::pin_init(VcpuArch::new()?, GFP_KERNEL_ACCOUNT)?;
        // SAFETY: By the caller's promise `vcpu` is valid and no other thread can reach it, so this
        // write does not race.
        unsafe { (*vcpu).arch.rust = state.into_foreign() };
        // SAFETY: The state is in place. No other thread can reach `vcpu`, so the caller is alone
        // with it, and a new vCPU is not loaded.
        unsafe { OwnedVcpu::from_raw(vcpu) }.initialise(None);
        Ok(())
    }

    /// Takes the state out of a vCPU and drops it.
    ///
    /// # Safety
    ///
    /// `vcpu` went through [`Vcpu::create`], it is not loaded, and no thread but the caller's uses
    /// it any more. Its perf events and its timer may still fire until this function has stopped
    /// them.
    pub(super) unsafe fn destroy(vcpu: *mut bindings::kvm_vcpu) {
        // SAFETY: `vcpu` went through `Vcpu::create`, it is not loaded, and the caller is alone
        // with it, because no other thread uses it any more.
        let mut last = unsafe { OwnedVcpu::from_raw(vcpu) };
        let shared = last.vcpu().shared();
        // A counter's overflow or the timer could still come, and needs the state.
        last.pmu.reset(&shared.firmware);
        shared.overflows.disconnect();
        shared.timer.reset();
        // SAFETY: No other thread uses `vcpu`, and its perf events and its timer were stopped
        // above. A timer callback that has yet to return has read the field already: all that it
        // may still do is kick the vCPU.
        let state = unsafe { ptr::replace(ptr::addr_of_mut!((*vcpu).arch.rust), ptr::null_mut()) };
        // SAFETY: `Vcpu::create` got the pointer from `into_foreign()`. Core KVM destroys a vCPU
        // once, and `last` is not used any more. Dropping the timer waits for its callback.
        drop(unsafe { Pin::<KBox<VcpuArch>>::from_foreign(state) });
    }

    /// Loads the vCPU on this CPU, `cpu`.
    ///
    /// # Safety
    ///
    /// The caller is core KVM's call of `kvm_arch_vcpu_load()`: this is the vCPU's thread, which
    /// holds `vcpu->mutex`, and preemption is disabled.
    pub(super) unsafe fn sched_load(&self, cpu: usize) {
        // SAFETY: This is the vCPU's thread, which holds `vcpu->mutex`, and preemption is disabled.
        // Neither `vcpu_load()` nor the scheduler runs while a `Pinned` or another reference to the
        // `CpuContext` exists.
        let context = unsafe { self.context_mut() };
        context.load(self, cpu);
        if let Some(imsic) = self.imsic() {
            imsic.load(self, cpu);
        }
        self.shared().steal.load(self);
        // SAFETY: This is the vCPU's thread, in `kvm_arch_vcpu_load()`.
        unsafe { self.set_cpu(cpu as i32) };
    }

    /// Takes the vCPU off this CPU.
    ///
    /// # Safety
    ///
    /// The caller is core KVM's call of `kvm_arch_vcpu_put()`: this is the vCPU's thread, which
    /// holds `vcpu->mutex`, and preemption is disabled.
    pub(super) unsafe fn sched_put(&self) {
        // SAFETY: This is the vCPU's thread, in `kvm_arch_vcpu_put()`.
        unsafe { self.set_cpu(-1) };
        if let Some(imsic) = self.imsic() {
            imsic.put(self);
        }
        // SAFETY: This is the vCPU's thread, which holds `vcpu->mutex`, and preemption is disabled.
        // Neither `vcpu_put()` nor the scheduler runs while a `Pinned` or another reference to the
        // `CpuContext` exists.
        let context = unsafe { self.context_mut() };
        context.put(self);
    }
}
