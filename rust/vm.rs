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
    aia::Aia,
    kernel_ext::atomic::{
        AtomicBool,
        AtomicU64, //
    },
    kvm_core::{
        addr::VcpuIdx,
        object::{
            Vcpu,
            Vm, //
        },
        stats::Gauges, //
    },
    mmu::Memory, //
};

/// Our part of a VM.
#[pin_data]
pub(crate) struct VmState {
    /// The G-stage, the VMID and what the TLBs owe.
    #[pin]
    pub(crate) memory: Memory,
    /// What the guest's `time` is ahead of the host's, in ticks, modulo 2^64.
    pub(crate) time_delta: AtomicU64,
    /// The in-kernel interrupt controller.
    #[pin]
    pub(crate) aia: Aia,
    /// `KVM_CAP_RISCV_MP_STATE_RESET` was enabled.
    pub(crate) mp_state_reset: AtomicBool,
    /// Held while a hart starts another, and while all are stopped: see
    /// [`Vm::stop_all`](Vm::stop_all).
    #[pin]
    pub(crate) starts: SpinLock<()>,
}

impl VmState {
    /// The state of a VM that was just created, and that has `gauges`: no memory, and a clock that
    /// starts now.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(gauges: Gauges) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            memory <- Memory::new(gauges),
            time_delta: AtomicU64::new(crate::kernel_ext::time::now().wrapping_neg()),
            aia <- Aia::new(),
            mp_state_reset: AtomicBool::new(false),
            starts <- new_spinlock!((), "kvm_riscv::starts"),
        })
    }
}

impl Vm {
    /// The VM's guest memory.
    pub(crate) fn memory(&self) -> &Memory {
        &self.state().memory
    }

    /// All vCPUs, in the order of their creation.
    pub(crate) fn vcpus(&self) -> impl Iterator<Item = &Vcpu> {
        (0..self.online_vcpus()).filter_map(|i| self.vcpu(VcpuIdx::new(i)))
    }

    /// The guest's `time` now.
    pub(crate) fn time(&self) -> u64 {
        crate::kernel_ext::time::now().wrapping_add(self.time_delta())
    }
}
