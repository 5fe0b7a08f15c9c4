// SPDX-License-Identifier: GPL-2.0

//! What an exit to userspace left to be finished by the next `KVM_RUN`. Answers to
//! `kvm_riscv_vcpu_mmio_return()` and its kin.
//!
//! What userspace wrote into `exit_reason` meanwhile does not matter.

use crate::{
    arch::gprs::Reg,
    insn::{
        InsnLen,
        Load, //
    },
    sbi_abi::message::Convention,
    vcpu::{
        mp_state::Start,
        token::OwnedVcpu, //
        VcpuInner,
    }, //
};

/// What the next `KVM_RUN` finishes.
#[derive(Clone, Copy)]
pub(crate) enum PendingExit {
    /// `KVM_EXIT_MMIO`, a load.
    Load(PendingLoad),
    /// `KVM_EXIT_MMIO`, a store.
    Store(PendingStore),
    /// `KVM_EXIT_RISCV_CSR`.
    Csr(PendingCsr),
    /// `KVM_EXIT_RISCV_SBI`; its results go back by this convention.
    Sbi(Convention),
    /// `KVM_EXIT_RISCV_SBI` to suspend the system; the hart resumes there.
    Suspend(Start),
}

/// A load whose value userspace provides.
#[derive(Clone, Copy)]
pub(crate) struct PendingLoad {
    /// How the value goes into a register.
    pub(crate) load: Load,
    /// The length of the instruction.
    pub(crate) len: InsnLen,
}

/// A store that userspace has done.
#[derive(Clone, Copy)]
pub(crate) struct PendingStore {
    /// The length of the instruction.
    pub(crate) len: InsnLen,
}

/// A CSR access that userspace has done.
#[derive(Clone, Copy)]
pub(crate) struct PendingCsr {
    /// The register that the old value goes to.
    pub(crate) rd: Reg,
}

impl VcpuInner {
    /// Moves the guest past an instruction of length `len`.
    fn skip(&mut self, len: InsnLen) {
        self.ctx.skip(len.bytes());
    }
}

impl PendingLoad {
    /// Puts what userspace read into the register.
    pub(crate) fn finish(self, vcpu: &mut OwnedVcpu<'_>) {
        let data = vcpu.run_page().mmio_data();
        self.load.complete(&mut vcpu.ctx.gprs, data);
        vcpu.skip(self.len);
    }
}

impl PendingStore {
    /// Moves the guest past the store.
    pub(crate) fn finish(self, vcpu: &mut OwnedVcpu<'_>) {
        vcpu.skip(self.len);
    }
}

impl PendingCsr {
    /// Puts what userspace read into the register.
    pub(crate) fn finish(self, vcpu: &mut OwnedVcpu<'_>) {
        let value = vcpu.run_page().csr_return();
        vcpu.ctx.gprs.set(self.rd, value);
        vcpu.skip(InsnLen::Four);
    }
}
