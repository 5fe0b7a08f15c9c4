// SPDX-License-Identifier: GPL-2.0

//! Blocking a vCPU, and what unblocks it. Answers to `kvm_arch_vcpu_runnable()`,
//! `kvm_riscv_vcpu_has_interrupts()` and `kvm_riscv_vcpu_wfi()`.

use crate::{
    kvm_core::{
        calls as kvm,
        object::Vcpu, //
    },
    vcpu::token::Loaded, //
};

impl Vcpu {
    /// Returns whether the vCPU could go on if it blocked: an interrupt that it has enabled is
    /// pending, and it is not stopped.
    pub(crate) fn is_runnable(&self) -> bool {
        (self.shared().irqs.deliverable() || self.is_signalled())
            && !self.shared().mp_state.is_stopped()
    }

    /// Returns whether the vCPU's interrupt file is in hardware and signals an interrupt that it
    /// has enabled.
    fn is_signalled(&self) -> bool {
        self.imsic()
            .is_some_and(|imsic| self.awaits_external() && imsic.signals())
    }
}

/// Blocks until an interrupt that the guest has enabled is pending.
pub(crate) fn wait_for_interrupt(vcpu: &mut Loaded<'_>) {
    let me = vcpu.vcpu();
    vcpu.pinned(|vcpu| vcpu.context().snapshot(me));
    if !me.is_runnable() {
        kvm::halt(vcpu.held());
    }
}
