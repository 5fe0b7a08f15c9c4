// SPDX-License-Identifier: GPL-2.0

//! Accesses that core KVM or userspace completes: loads and stores where there is no memory, and
//! CSRs that userspace emulates. Answers to the emulating half of `vcpu_insn.c`.
//!
//! What is left to do when userspace has answered is a [`PendingExit`], which the next `KVM_RUN`
//! consumes; what userspace wrote into `exit_reason` meanwhile does not matter.

use kernel::prelude::*;

use crate::{
    aia::imsic,
    arch::switch::Trap,
    insn::{
        csr::CsrOutcome, //
        CsrAccess,
        CsrHandler,
        Direction,
        Htinst,
        Illegal,
        Insn,
        InsnLen,
        MmioInsn,
        MmioOp,
    },
    kvm_core::{
        addr::Gpa,
        calls as kvm,
        srcu::SlotsRead, //
    },
    mmu::fault::Access,
    vcpu::{
        pending::{
            PendingCsr,
            PendingExit,
            PendingLoad,
            PendingStore, //
        },
        pmu,
        stat::Counter,
        token::Loaded,
        trace, //
        ExitAction,
    }, //
};

/// Handles a load or store that took a guest-page fault at `gpa`, where there is no memory to map.
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
) -> Result<ExitAction> {
    let insn = match Htinst::decode(trap.htinst).instruction() {
        Ok(Some(insn)) => insn,
        Ok(None) => match vcpu.read_insn(trap.sepc) {
            Ok(word) => Insn::fetched(word),
            Err(fault) => return vcpu.fetch_failed(&fault),
        },
        Err(_) => {
            vcpu.access_fault(access, trap);
            return Ok(ExitAction::Resume);
        }
    };
    let direction = match access {
        Access::Store => Direction::Store,
        Access::Load | Access::Fetch => Direction::Load,
    };
    let Ok(mmio) = MmioInsn::decode(insn, direction, gpa, &vcpu.ctx.gprs) else {
        vcpu.access_fault(access, trap);
        return Ok(ExitAction::Resume);
    };
    let width = mmio.op.width().bytes();
    trace::trace_mmio(vcpu.vcpu(), trap.sepc, insn.stval(), gpa, direction, width);
    match mmio.op {
        MmioOp::Load(load) => {
            if let Some(data) = kvm::bus_read(slots, gpa, width) {
                vcpu.vcpu().count(Counter::MmioExitKernel);
                load.complete(&mut vcpu.ctx.gprs, data);
                vcpu.skip(mmio.len);
                return Ok(ExitAction::Resume);
            }
            vcpu.run_page().exit_mmio_load(gpa, width);
            vcpu.pending = Some(PendingExit::Load(PendingLoad {
                load,
                len: mmio.len,
            }));
        }
        MmioOp::Store(store) => {
            let data = store.data(&vcpu.ctx.gprs);
            if kvm::bus_write(slots, gpa, width, &data) {
                vcpu.vcpu().count(Counter::MmioExitKernel);
                vcpu.skip(mmio.len);
                return Ok(ExitAction::Resume);
            }
            vcpu.run_page().exit_mmio_store(gpa, width, data);
            vcpu.pending = Some(PendingExit::Store(PendingStore { len: mmio.len }));
        }
    }
    vcpu.vcpu().count(Counter::MmioExitUser);
    Ok(ExitAction::Userspace)
}

/// Handles the guest's access to a CSR that is emulated and that it may access.
///
/// # Errors
///
/// [`Illegal`] if nothing answers: there are CSRs behind which there is one register or none,
/// depending on another.
pub(crate) fn csr(vcpu: &mut Loaded<'_>, access: CsrAccess) -> Result<ExitAction, Illegal> {
    let op = access.op();
    let outcome = match access.handler() {
        CsrHandler::Userspace => CsrOutcome::Userspace,
        CsrHandler::Indirect => imsic::csr::indirect(vcpu, op),
        CsrHandler::TopExternal => imsic::csr::top(vcpu, op),
        CsrHandler::Counter => pmu::csr(vcpu, op),
    };
    match outcome {
        CsrOutcome::Done(old) => {
            vcpu.ctx.gprs.set(op.rd, old);
            vcpu.skip(InsnLen::Four);
            vcpu.vcpu().count(Counter::CsrExitKernel);
            Ok(ExitAction::Resume)
        }
        CsrOutcome::Userspace => {
            vcpu.run_page()
                .exit_csr(op.csr.into_raw(), op.new_value, op.write_mask);
            vcpu.pending = Some(PendingExit::Csr(PendingCsr { rd: op.rd }));
            vcpu.vcpu().count(Counter::CsrExitUser);
            Ok(ExitAction::Userspace)
        }
        CsrOutcome::Illegal => Err(Illegal),
    }
}
