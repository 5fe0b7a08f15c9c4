// SPDX-License-Identifier: GPL-2.0

//! A virtual machine: what all of its vCPUs share. Answers to `vm.c`.
//!
//! Lock order: `kvm->lock`, then `vcpu->mutex`, then `kvm->slots_lock`, then `kvm->mmu_lock`; leaf
//! spinlocks below.

use core::ptr;

use kernel::{
    prelude::*,
    types::Opaque, //
};

use crate::{
    bindings,
    mem::{
        addr::{
            HartId,
            VcpuIdx, //
        },
        Memory, //
    },
    sync::atomic::{
        AtomicBool,
        AtomicU64, //
    },
    vcpu::Vcpu,
};

pub(crate) mod cap;

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

/// Our part of a VM.
#[pin_data]
pub(crate) struct VmState {
    /// The G-stage, the VMID and what the TLBs owe.
    #[pin]
    pub(crate) memory: Memory,
    /// What the guest's `time` is ahead of the host's, in ticks, modulo 2^64.
    pub(crate) time_delta: AtomicU64,
    /// `KVM_CAP_RISCV_MP_STATE_RESET` was enabled.
    pub(crate) mp_state_reset: AtomicBool,
}

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
        let state = KBox::pin_init(
            try_pin_init!(VmState {
                memory <- Memory::new(),
                time_delta: AtomicU64::new(crate::time::now().wrapping_neg()),
                mp_state_reset: AtomicBool::new(false),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // SAFETY: `KBox::into_raw` of a pinned box; it stays where it is until `destroy`.
        let raw = KBox::into_raw(unsafe { Pin::into_inner_unchecked(state) });
        // SAFETY: the caller is the only one who knows `kvm`.
        unsafe { (*kvm).arch.rust = raw.cast() };
        Ok(())
    }

    /// Takes the [`VmState`] out of a VM and drops it.
    ///
    /// # Safety
    ///
    /// `kvm` went through [`Vm::create`], its vCPUs are gone, and nobody uses it any more.
    pub(crate) unsafe fn destroy(kvm: *mut bindings::kvm) {
        // SAFETY: the caller is the last user.
        let raw = unsafe { (*kvm).arch.rust }.cast::<VmState>();
        // SAFETY: `create` made it from a pinned box, and a VM is destroyed once.
        drop(Pin::from(unsafe { KBox::from_raw(raw) }));
        // SAFETY: as above.
        unsafe { (*kvm).arch.rust = ptr::null_mut() };
    }

    /// # Safety
    ///
    /// `kvm` is live for `'a` and went through [`Vm::create`].
    pub(crate) unsafe fn from_raw<'a>(kvm: *mut bindings::kvm) -> &'a Vm {
        // SAFETY: `Vm` is transparent over `struct kvm`; the caller keeps it alive.
        unsafe { &*kvm.cast() }
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

    /// The VM's guest memory.
    pub(crate) fn memory(&self) -> &Memory {
        &self.state().memory
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

    /// All vCPUs, in the order of their creation.
    pub(crate) fn vcpus(&self) -> impl Iterator<Item = &Vcpu> {
        (0..self.online_vcpus()).filter_map(|i| self.vcpu(VcpuIdx::new(i)))
    }

    /// The vCPU that the guest knows as hart `hart`. All 64 bits count (c-review S17).
    pub(crate) fn hart(&self, hart: HartId) -> Option<&Vcpu> {
        let id = i32::try_from(hart.get()).ok()?;
        // SAFETY: the VM is live.
        let vcpu = unsafe { bindings::kvm_get_vcpu_by_id(self.as_ptr(), id) };
        // SAFETY: an online vCPU lives as long as its VM.
        (!vcpu.is_null()).then(|| unsafe { Vcpu::from_raw(vcpu) })
    }

    /// The guest's `time` now.
    pub(crate) fn time(&self) -> u64 {
        crate::time::now().wrapping_add(self.time_delta())
    }
}
