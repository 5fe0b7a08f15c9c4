// SPDX-License-Identifier: GPL-2.0

//! A virtual machine: what all of its vCPUs share. Answers to `vm.c`.
//!
//! Lock order: `kvm->lock`, then `vcpu->mutex`, then `kvm->slots_lock`, then `kvm->mmu_lock`; leaf
//! spinlocks below.

use kernel::{
    new_spinlock,
    prelude::*,
    sync::SpinLock, //
};

use crate::{
    kernel_ext::{
        atomic::{
            AtomicBool,
            AtomicU64,
            Ordering, //
        },
        time, //
    },
    kvm_core::{
        addr::VcpuIdx,
        object::{
            Vcpu,
            Vm, //
        }, //
    }, //
};

/// The part of a VM that no other layer owns.
#[pin_data]
pub(crate) struct VmState {
    /// What the guest's `time` is ahead of the host's, in ticks, modulo 2^64.
    pub(crate) time_delta: AtomicU64,
    /// Whether userspace has enabled `KVM_CAP_RISCV_MP_STATE_RESET`.
    pub(crate) mp_state_reset: AtomicBool,
    /// Held while a hart starts another, and while all are stopped: see
    /// [`Vm::stop_all`](Vm::stop_all).
    #[pin]
    pub(crate) starts: SpinLock<()>,
}

impl VmState {
    /// Makes the state of a VM that was just created, with a clock that starts now.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            time_delta: AtomicU64::new(time::now().wrapping_neg()),
            mp_state_reset: AtomicBool::new(false),
            starts <- new_spinlock!((), "kvm_riscv::starts"),
        })
    }
}

impl Vm {
    /// Returns this layer's part of the VM.
    pub(crate) fn state(&self) -> &VmState {
        self.part()
    }

    /// Returns all vCPUs, in the order of their creation.
    pub(crate) fn vcpus(&self) -> impl Iterator<Item = &Vcpu> {
        (0..self.online_vcpus()).filter_map(|i| self.vcpu(VcpuIdx::new(i)))
    }

    /// Returns the guest's `time` now, in ticks.
    pub(crate) fn time(&self) -> u64 {
        time::now().wrapping_add(self.time_delta())
    }

    /// Returns what the guest's `time` is ahead of the host's, in ticks, modulo 2^64.
    #[inline]
    pub(crate) fn time_delta(&self) -> u64 {
        self.state().time_delta.load(Ordering::Relaxed)
    }

    /// Sets the time of the whole guest, in ticks. A vCPU follows when it is next loaded.
    pub(crate) fn set_time(&self, time: u64) {
        self.state()
            .time_delta
            .store(time.wrapping_sub(time::now()), Ordering::Relaxed);
    }
}
