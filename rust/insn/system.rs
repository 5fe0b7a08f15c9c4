// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Instructions that raise a virtual-instruction exception.
//!
//! The hardware raises it where a hypervisor may have something to emulate, and also where a
//! machine without hypervisor would call the instruction illegal: in user mode, for instance, for
//! every supervisor CSR. So the mode that the guest was in is part of the decoding, and an
//! instruction that the guest may not execute never becomes a [`SystemInsn`]. No lock: these are
//! values. It answers to `kvm_riscv_vcpu_virtual_insn()` and its tables.

use crate::{
    arch::{
        gprs::Gprs,
        registers::GuestMode, //
    },
    insn::{
        csr::{
            CounterEnable,
            CsrAccess,
            CsrOp,
            Illegal, //
        },
        encoding::{
            opcode, //
            Insn,
            Wide,
        }, //
    },
    isa::EffectiveIsa, //
};

/// An instruction to emulate, which the guest was allowed to execute.
///
/// All of them are four bytes long ([`InsnLen::Four`](crate::insn::InsnLen::Four)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemInsn {
    /// `wfi`: sleep until an interrupt is pending.
    Wfi,
    /// `wrs.nto`: let other threads run for a while. The hypervisor cannot watch the memory that it
    /// waits for, and the wait may end at any time.
    WrsNto,
    /// Access to a CSR that is emulated.
    Csr(CsrAccess),
}

/// `wfi`.
const WFI: u32 = 0x1050_0073;
/// `wrs.nto`. Its sibling `wrs.sto` has a time limit of its own and never traps.
const WRS_NTO: u32 = 0x00d0_0073;

impl SystemInsn {
    /// Decodes an instruction that raised a virtual-instruction exception in `mode`, of a guest
    /// with `isa`, with `counters` in its `scounteren` and `gprs` in the registers.
    ///
    /// # Errors
    ///
    /// [`Illegal`] for an instruction that is not emulated, or that the guest may not execute in
    /// `mode`.
    pub(crate) fn decode(
        insn: Insn,
        mode: GuestMode,
        isa: EffectiveIsa,
        counters: CounterEnable,
        gprs: &Gprs,
    ) -> Result<Self, Illegal> {
        let insn = match insn {
            Insn::Wide(insn) => insn,
            Insn::Compressed(_) | Insn::Transformed(..) | Insn::Long => return Err(Illegal),
        };
        match insn.into_raw() {
            // In user mode, `wfi` is illegal unless it ends within a bounded time; nothing bounds
            // the wait for an interrupt.
            WFI => match mode {
                GuestMode::Supervisor => Ok(Self::Wfi),
                GuestMode::User => Err(Illegal),
            },
            WRS_NTO => Ok(Self::WrsNto),
            _ => Self::csr(insn, mode, isa, counters, gprs),
        }
    }

    /// Decodes an instruction that can only be an access to a CSR.
    fn csr(
        insn: Wide,
        mode: GuestMode,
        isa: EffectiveIsa,
        counters: CounterEnable,
        gprs: &Gprs,
    ) -> Result<Self, Illegal> {
        if insn.opcode() != opcode::SYSTEM {
            return Err(Illegal);
        }
        let op = CsrOp::decode(insn, gprs).ok_or(Illegal)?;
        CsrAccess::authorise(op, mode, isa, counters).map(Self::Csr)
    }
}
