// SPDX-License-Identifier: GPL-2.0

//! Traps that the guest takes. Answers to `kvm_riscv_vcpu_trap_redirect()`.

use crate::{
    arch::{
        csr::{
            self,
            Registers, //
        },
        nacl::with_registers,
        registers::GuestMode,
        switch::Trap, //
    },
    bindings,
    insn::InsnLen,
    vcpu::token::Loaded, //
};

impl Loaded<'_> {
    /// Moves the guest past an instruction of length `len`.
    pub(crate) fn skip(&mut self, len: InsnLen) {
        self.ctx.skip(len.bytes());
    }

    /// Has the guest take `trap` (Privileged Architecture, "Trap Entry", for a trap into VS-mode).
    #[inline(never)]
    pub(crate) fn redirect(&mut self, trap: &Trap) {
        with_registers!(regs => self.redirect_by(regs, trap));
    }

    /// Has the guest take `trap`, by way of `regs`.
    fn redirect_by(&mut self, regs: &impl Registers, trap: &Trap) {
        let ctx = &mut self.ctx;
        let mut status = regs.read(csr::VSSTATUS);

        // SPELP tells whether a landing pad is expected where the trap came from; at the vector
        // none is. Zero on harts without them.
        status &= !(bindings::SR_SPP | bindings::SR_SPIE | bindings::SR_SPELP);
        status |= ctx.take_trap_status();
        if status & bindings::SR_SIE != 0 {
            status |= bindings::SR_SPIE;
        }
        status &= !bindings::SR_SIE;

        regs.write(csr::VSSTATUS, status);
        regs.write(csr::VSCAUSE, trap.scause);
        regs.write(csr::VSTVAL, trap.stval);
        regs.write(csr::VSEPC, trap.sepc);
        // Exceptions go to the base, whatever the mode of the vector.
        ctx.set_pc(regs.read(csr::VSTVEC) & !3);
        ctx.set_mode(GuestMode::Supervisor);
    }
}
