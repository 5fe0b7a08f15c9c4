// SPDX-License-Identifier: GPL-2.0

//! Accesses of a guest to `sireg` and `stopei` that the hardware does not serve. Answers to the
//! `kvm_riscv_vcpu_aia_rmw_*` functions of `aia.c`.
//!
//! The hardware serves the interrupt file that `hstatus.VGEIN` names, and no priorities of major
//! interrupts. An access to a register that the guest's machine does not have is an illegal
//! instruction.
//!
//! Locks: none; the vCPU's own thread is the owner of its file.

use crate::{
    aia::imsic::{
        file::{
            NoRegister,
            Register, //
        },
        iprio::{
            NoRow,
            Priorities,
            Row, //
        }, //
        FileLocation,
        Imsic,
    },
    insn::{
        csr::CsrOutcome, //
        CsrOp,
    },
    kvm_core::object::Vcpu,
    vcpu::token::Loaded, //
};

/// Accesses `sireg` for the guest: the register that `siselect` selects.
pub(crate) fn indirect(vcpu: &mut Loaded<'_>, op: &CsrOp) -> CsrOutcome {
    let select = vcpu.pinned(|vcpu| vcpu.context().selected()) as u64;
    match Row::select(select) {
        Ok(row) => return priorities(vcpu, row, op),
        Err(NoRow::Odd) => return CsrOutcome::Illegal,
        Err(NoRow::Elsewhere) => {}
    }
    let Some(imsic) = vcpu.vcpu().imsic() else {
        return CsrOutcome::Userspace;
    };
    match Register::select(select) {
        Ok(register) => imsic.access(vcpu.vcpu(), op, |imsic| {
            let (value, mask) = (op.new_value as u64, op.write_mask as u64);
            imsic.file.modify(register, value, mask) as usize
        }),
        Err(NoRegister::Odd | NoRegister::Elsewhere) => CsrOutcome::Illegal,
    }
}

/// Accesses `stopei` for the guest: the first interrupt of the file. A write claims it, whatever is
/// written.
pub(crate) fn top(vcpu: &mut Loaded<'_>, op: &CsrOp) -> CsrOutcome {
    let Some(imsic) = vcpu.vcpu().imsic() else {
        return CsrOutcome::Userspace;
    };
    imsic.access(vcpu.vcpu(), op, |imsic| {
        let top = if op.writes() {
            imsic.file.claim()
        } else {
            imsic.file.top()
        };
        top.map_or(0, |identity| identity.topei()) as usize
    })
}

impl Imsic {
    /// Runs `access` on a file in software, which it may change.
    fn access(&self, vcpu: &Vcpu, op: &CsrOp, access: impl FnOnce(&Self) -> usize) -> CsrOutcome {
        match self.home() {
            // The hardware serves all registers that its file has. The guest asks for another: it
            // reads as zero and ignores writes, though some implementations raise an exception
            // instead.
            FileLocation::Hardware(_) => CsrOutcome::Done(0),
            FileLocation::Software => {
                let old = access(self);
                if op.writes() {
                    self.drive(&vcpu.shared().irqs);
                }
                CsrOutcome::Done(old)
            }
        }
    }
}

/// Accesses a row of priorities of major interrupts for the guest.
fn priorities(vcpu: &mut Loaded<'_>, row: Row, op: &CsrOp) -> CsrOutcome {
    vcpu.pinned(|vcpu| {
        let mut priorities = Priorities(vcpu.context().priorities());
        let old = priorities.read(row);
        if op.writes() {
            priorities.modify(row, op.new_value as u64, op.write_mask as u64);
            vcpu.context().set_priorities(priorities.0);
        }
        CsrOutcome::Done(old as usize)
    })
}
