// SPDX-License-Identifier: GPL-2.0

//! Accesses that somebody else completes: loads and stores where there is no memory, and CSRs that
//! userspace emulates. Answers to the emulating half of `vcpu_insn.c`.
//!
//! What is left to do when userspace has answered is a [`Pending`], which the next `KVM_RUN`
//! consumes; what userspace wrote into `exit_reason` meanwhile does not matter.

use kernel::prelude::*;

use crate::{
    aia::imsic::{
        self,
        csr::Outcome, //
    },
    arch::{
        gprs::Reg,
        switch::Trap, //
    },
    insn::{
        CsrAccess,
        CsrHandler,
        Direction,
        Htinst,
        Illegal,
        Insn,
        InsnLen,
        Load,
        MmioInsn,
        MmioOp, //
    },
    kvm_core::{
        addr::Gpa,
        calls as kvm,
        srcu::SlotsRead, //
    },
    mmu::fault::Access,
    sbi_abi::message::Convention,
    vcpu::{
        mp_state::Start,
        pmu,
        stat::Counter,
        token::{
            Loaded,
            OwnedVcpu, //
        },
        trace, //
        Next,
        Owned,
    }, //
};

/// What the next `KVM_RUN` finishes.
#[derive(Clone, Copy)]
pub(crate) enum Pending {
    /// `KVM_EXIT_MMIO`, a load.
    Load(PendingLoad),
    /// `KVM_EXIT_MMIO`, a store.
    Store(PendingStore),
    /// `KVM_EXIT_RISCV_CSR`
    Csr(PendingCsr),
    /// `KVM_EXIT_RISCV_SBI`, whose results go back so.
    Sbi(Convention),
    /// The same, to suspend the system: where the hart resumes.
    Suspend(Start),
}

/// A load whose value userspace provides.
#[derive(Clone, Copy)]
pub(crate) struct PendingLoad {
    load: Load,
    len: InsnLen,
}

/// A store that userspace has done.
#[derive(Clone, Copy)]
pub(crate) struct PendingStore {
    len: InsnLen,
}

/// A CSR access that userspace has done.
#[derive(Clone, Copy)]
pub(crate) struct PendingCsr {
    rd: Reg,
}

impl Owned {
    fn skip(&mut self, len: InsnLen) {
        self.ctx.skip(len.bytes());
    }
}

impl PendingLoad {
    /// Puts what userspace read into the register.
    pub(crate) fn finish(self, vcpu: &mut OwnedVcpu<'_>) {
        let data = vcpu.run_page().mmio_data();
        self.load.complete(&mut vcpu.owned.ctx.gprs, data);
        vcpu.owned.skip(self.len);
    }
}

impl PendingStore {
    /// Goes on behind the store.
    pub(crate) fn finish(self, vcpu: &mut OwnedVcpu<'_>) {
        vcpu.owned.skip(self.len);
    }
}

impl PendingCsr {
    /// Puts what userspace read into the register.
    pub(crate) fn finish(self, vcpu: &mut OwnedVcpu<'_>) {
        let value = vcpu.run_page().csr_return();
        vcpu.owned.ctx.gprs.set(self.rd, value);
        vcpu.owned.skip(InsnLen::Four);
    }
}

/// A load or store took a guest-page fault at `gpa`, where there is no memory to map.
///
/// # Errors
///
/// `EINTR`, `ENOMEM` while the instruction is read. What cannot be completed is the guest's access
/// fault.
pub(crate) fn access(
    vcpu: &mut Loaded<'_>,
    slots: &SlotsRead<'_>,
    gpa: Gpa,
    access: Access,
    trap: &Trap,
) -> Result<Next> {
    let insn = match Htinst::decode(trap.htinst).instruction() {
        Ok(Some(insn)) => insn,
        Ok(None) => match vcpu.read_insn(trap.sepc) {
            Ok(word) => Insn::fetched(word),
            Err(fault) => return vcpu.fetch_failed(&fault),
        },
        Err(_) => {
            vcpu.access_fault(access, trap);
            return Ok(Next::Resume);
        }
    };
    let direction = match access {
        Access::Store => Direction::Store,
        Access::Load | Access::Fetch => Direction::Load,
    };
    let Ok(mmio) = MmioInsn::decode(insn, direction, gpa, &vcpu.owned.ctx.gprs) else {
        vcpu.access_fault(access, trap);
        return Ok(Next::Resume);
    };
    let width = mmio.op.width().bytes();
    trace::trace_mmio(vcpu.vcpu, trap.sepc, insn.stval(), gpa, direction, width);
    match mmio.op {
        MmioOp::Load(load) => {
            if let Some(data) = kvm::bus_read(vcpu.vcpu, slots, gpa, width) {
                vcpu.vcpu.count(Counter::MmioExitKernel);
                load.complete(&mut vcpu.owned.ctx.gprs, data);
                vcpu.skip(mmio.len);
                return Ok(Next::Resume);
            }
            vcpu.run_page().exit_mmio_load(gpa, width);
            vcpu.owned.pending = Some(Pending::Load(PendingLoad {
                load,
                len: mmio.len,
            }));
        }
        MmioOp::Store(store) => {
            let data = store.data(&vcpu.owned.ctx.gprs);
            if kvm::bus_write(vcpu.vcpu, slots, gpa, width, &data) {
                vcpu.vcpu.count(Counter::MmioExitKernel);
                vcpu.skip(mmio.len);
                return Ok(Next::Resume);
            }
            vcpu.run_page().exit_mmio_store(gpa, width, data);
            vcpu.owned.pending = Some(Pending::Store(PendingStore { len: mmio.len }));
        }
    }
    vcpu.vcpu.count(Counter::MmioExitUser);
    Ok(Next::Userspace)
}

/// The guest accesses a CSR that is emulated, and may.
///
/// # Errors
///
/// [`Illegal`] if nothing answers: there are CSRs behind which there is one register or none,
/// depending on another.
pub(crate) fn csr(vcpu: &mut Loaded<'_>, access: CsrAccess) -> Result<Next, Illegal> {
    let op = access.op();
    let outcome = match access.handler() {
        CsrHandler::Userspace => Outcome::Userspace,
        CsrHandler::Indirect => imsic::csr::indirect(vcpu, op),
        CsrHandler::TopExternal => imsic::csr::top(vcpu, op),
        CsrHandler::Counter => pmu::csr(vcpu, op),
    };
    match outcome {
        Outcome::Done(old) => {
            vcpu.owned.ctx.gprs.set(op.rd, old);
            vcpu.skip(InsnLen::Four);
            vcpu.vcpu.count(Counter::CsrExitKernel);
            Ok(Next::Resume)
        }
        Outcome::Userspace => {
            vcpu.run_page().exit_csr(*op);
            vcpu.owned.pending = Some(Pending::Csr(PendingCsr { rd: op.rd }));
            vcpu.vcpu.count(Counter::CsrExitUser);
            Ok(Next::Userspace)
        }
        Outcome::Illegal => Err(Illegal),
    }
}
