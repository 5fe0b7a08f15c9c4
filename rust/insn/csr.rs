// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! CSRs that the guest has but the hardware does not implement for it.
//!
//! One table row per range of CSRs. The only way to a row's handler is [`CsrAccess::authorise`],
//! which takes the mode that the guest was in, so that no handler can forget to check it. No lock:
//! the table is constant. It answers to `csr_insn()` and `csr_funcs` in `vcpu_insn.c`.
//!
//! A CSR without a row is illegal, as in C: userspace gets only those that a handler sends there.
//! `time` has no row: the hardware serves it.

use kernel::bitfield;

use crate::{
    arch::{
        gprs::{
            Gprs,
            Reg, //
        },
        registers::GuestMode, //
    },
    bindings,
    insn::encoding::Wide,
    isa::{
        EffectiveIsa,
        Ext, //
    }, //
};

bitfield! {
    /// The number of a CSR, twelve bits.
    ///
    /// Privileged specification, "CSR Address Mapping Conventions".
    pub(crate) struct CsrNum(u16) {
        /// All ones for a CSR that cannot be written.
        11:10 access;
        /// The least privilege that may access it.
        9:8 privilege;
    }
}

impl CsrNum {
    /// The entropy source (Zkr).
    pub(crate) const SEED: Self = Self::from_raw(0x015);
    /// The register that `siselect` selects (Ssaia).
    pub(crate) const SIREG: Self = Self::from_raw(bindings::CSR_SIREG as u16);
    /// The first external interrupt (Ssaia).
    pub(crate) const STOPEI: Self = Self::from_raw(bindings::CSR_STOPEI as u16);
    /// Cycles (Zicntr); the number of the first counter.
    pub(crate) const CYCLE: Self = Self::from_raw(bindings::CSR_CYCLE as u16);
    /// Instructions retired (Zicntr).
    pub(crate) const INSTRET: Self = Self::from_raw(bindings::CSR_INSTRET as u16);
    /// The first counter that may count anything (Zihpm).
    pub(crate) const HPMCOUNTER3: Self = Self::from_raw(bindings::CSR_HPMCOUNTER3 as u16);
    /// The last one.
    pub(crate) const HPMCOUNTER31: Self = Self::from_raw(bindings::CSR_HPMCOUNTER31 as u16);

    /// Returns whether the number makes the CSR read-only: its top two bits are set.
    fn is_read_only(self) -> bool {
        self.access() == 0b11
    }
}

/// The effect of a CSR instruction on the CSR. It depends on the registers that the instruction
/// names, not on their values: to set no bits with a register that holds zero is a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CsrEffect {
    /// The instruction reads only: it sets or clears the bits of x0.
    Read,
    /// The instruction writes only: the old value goes to x0.
    Write,
    /// The instruction reads and writes.
    ReadWrite,
}

/// A CSR instruction with its operand: the new value of the CSR shall be
/// `old & !write_mask | new_value & write_mask`, and the old one goes to `rd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CsrOp {
    /// The CSR.
    pub(crate) csr: CsrNum,
    /// The register that gets the old value.
    pub(crate) rd: Reg,
    /// The bits to write, where `write_mask` has ones.
    pub(crate) new_value: usize,
    /// Which bits to write.
    pub(crate) write_mask: usize,
    /// Whether it reads, writes, or both.
    pub(crate) effect: CsrEffect,
}

impl CsrOp {
    /// Decodes an instruction of the SYSTEM opcode; [`None`] if it does not access a CSR.
    pub(crate) fn decode(insn: Wide, gprs: &Gprs) -> Option<Self> {
        let rd = Reg::from(insn.rd());
        let source = Reg::from(insn.rs1());
        let register = || gprs.get(source);
        let immediate = || usize::from(insn.rs1());

        let swap = |operand| {
            let effect = if rd.is_zero() {
                CsrEffect::Write
            } else {
                CsrEffect::ReadWrite
            };
            (operand, usize::MAX, effect)
        };
        let modify = |operand, new_value| {
            let effect = if source.is_zero() {
                CsrEffect::Read
            } else {
                CsrEffect::ReadWrite
            };
            (new_value, operand, effect)
        };

        let (new_value, write_mask, effect) = match insn.funct3().get() {
            0b001 => swap(register()),
            0b010 => modify(register(), usize::MAX),
            0b011 => modify(register(), 0),
            0b101 => swap(immediate()),
            0b110 => modify(immediate(), usize::MAX),
            0b111 => modify(immediate(), 0),
            _ => return None,
        };
        Some(Self {
            csr: CsrNum::from_raw(insn.funct12().into()),
            rd,
            new_value,
            write_mask,
            effect,
        })
    }

    /// Returns whether the instruction writes the CSR. `csrrs` and its kin with x0 do not.
    pub(crate) const fn writes(&self) -> bool {
        match self.effect {
            CsrEffect::Read => false,
            CsrEffect::Write | CsrEffect::ReadWrite => true,
        }
    }
}

/// What emulates a CSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CsrHandler {
    /// Userspace, by `KVM_EXIT_RISCV_CSR`.
    Userspace,
    /// The interrupt file, or the priorities of major interrupts: what `siselect` selects.
    Indirect,
    /// The interrupt file: the first interrupt.
    TopExternal,
    /// A performance counter.
    Counter,
}

/// The restrictions on accesses to a CSR, beyond those of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CsrManner {
    /// Any access is allowed.
    Any,
    /// Only instructions that write are allowed, whatever they write.
    MustWrite,
    /// User mode needs the counter's bit in `scounteren`.
    Counter,
}

/// The guest's `scounteren`: a bit for each counter that user mode may read, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CounterEnable(u32);

impl CounterEnable {
    /// Returns the enables in `scounteren`, which has 32 bits.
    pub(crate) const fn from_raw(scounteren: usize) -> Self {
        Self(scounteren as u32)
    }

    /// Returns whether `mode` may read the counter behind `csr`.
    fn admits(self, csr: CsrNum, mode: GuestMode) -> bool {
        let number = csr.into_raw().checked_sub(CsrNum::CYCLE.into_raw());
        let bit = number.and_then(|number| 1u32.checked_shl(number.into()));
        match mode {
            GuestMode::Supervisor => true,
            GuestMode::User => bit.is_some_and(|bit| self.0 & bit != 0),
        }
    }
}

/// A range of CSRs, with the rules for accesses to it.
pub(crate) struct CsrRange {
    /// The first CSR of the range.
    pub(crate) first: CsrNum,
    /// The last one.
    pub(crate) last: CsrNum,
    /// The extension that defines them.
    pub(crate) extension: Ext,
    /// The least privilege that may access them.
    pub(crate) least: GuestMode,
    /// In which ways they can be accessed.
    pub(crate) manner: CsrManner,
    /// What emulates them.
    pub(crate) handler: CsrHandler,
}

impl CsrRange {
    /// Returns whether `csr` is in the row's range.
    fn contains(&self, csr: CsrNum) -> bool {
        (self.first.into_raw()..=self.last.into_raw()).contains(&csr.into_raw())
    }

    /// Returns whether a guest with `isa` may do `op` in `mode`, with `counters` in its
    /// `scounteren`.
    pub(crate) fn admits(
        &self,
        op: &CsrOp,
        mode: GuestMode,
        isa: EffectiveIsa,
        counters: CounterEnable,
    ) -> bool {
        let writable = !op.csr.is_read_only() || !op.writes();
        let manner = match self.manner {
            CsrManner::Any => true,
            CsrManner::MustWrite => op.writes(),
            CsrManner::Counter => counters.admits(op.csr, mode),
        };
        self.contains(op.csr) && isa.has(self.extension) && mode >= self.least && writable && manner
    }
}

/// Every CSR that is emulated, by rising number.
const CSRS: &[CsrRange] = &[
    CsrRange {
        first: CsrNum::SEED,
        last: CsrNum::SEED,
        extension: Ext::Zkr,
        // The number allows user mode, but a machine starts with `mseccfg.USEED` clear, and a
        // guest has no firmware call that could set it.
        least: GuestMode::Supervisor,
        // Each access consumes entropy, so the specification demands one that looks like a write.
        manner: CsrManner::MustWrite,
        handler: CsrHandler::Userspace,
    },
    CsrRange {
        first: CsrNum::SIREG,
        last: CsrNum::SIREG,
        extension: Ext::Ssaia,
        least: GuestMode::Supervisor,
        manner: CsrManner::Any,
        handler: CsrHandler::Indirect,
    },
    CsrRange {
        first: CsrNum::STOPEI,
        last: CsrNum::STOPEI,
        extension: Ext::Ssaia,
        least: GuestMode::Supervisor,
        manner: CsrManner::Any,
        handler: CsrHandler::TopExternal,
    },
    CsrRange {
        first: CsrNum::CYCLE,
        last: CsrNum::CYCLE,
        extension: Ext::Zicntr,
        least: GuestMode::User,
        manner: CsrManner::Counter,
        handler: CsrHandler::Counter,
    },
    CsrRange {
        first: CsrNum::INSTRET,
        last: CsrNum::INSTRET,
        extension: Ext::Zicntr,
        least: GuestMode::User,
        manner: CsrManner::Counter,
        handler: CsrHandler::Counter,
    },
    CsrRange {
        first: CsrNum::HPMCOUNTER3,
        last: CsrNum::HPMCOUNTER31,
        extension: Ext::Zihpm,
        least: GuestMode::User,
        manner: CsrManner::Counter,
        handler: CsrHandler::Counter,
    },
];

/// The rows are in order and do not overlap, and none allows an access that the numbers of its CSRs
/// forbid.
const _: () = {
    let mut i = 0;
    while i < CSRS.len() {
        let row = &CSRS[i];
        assert!(row.first.into_raw() <= row.last.into_raw());
        assert!(row.last.into_raw() < 1 << 12);
        assert!(i == 0 || CSRS[i - 1].last.into_raw() < row.first.into_raw());

        let mut csr = row.first.into_raw();
        while csr <= row.last.into_raw() {
            let least = match (csr & CsrNum::PRIVILEGE_MASK) >> CsrNum::PRIVILEGE_SHIFT {
                0 => GuestMode::User,
                1 => GuestMode::Supervisor,
                _ => panic!("a guest cannot have this CSR"),
            };
            assert!(least as u8 <= row.least as u8);
            csr += 1;
        }
        i += 1;
    }
};

/// An access that the guest was allowed to make, and what emulates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CsrAccess {
    /// What emulates the CSR.
    handler: CsrHandler,
    /// The instruction with its operand.
    op: CsrOp,
}

impl CsrAccess {
    /// Admits `op`, done in `mode` by a guest with `isa`, with `counters` in its `scounteren`.
    ///
    /// # Errors
    ///
    /// [`Illegal`] if the CSR is not emulated, if the guest does not have it, if `mode` is too low
    /// for it, or if it cannot be accessed in this way.
    pub(crate) fn authorise(
        op: CsrOp,
        mode: GuestMode,
        isa: EffectiveIsa,
        counters: CounterEnable,
    ) -> Result<Self, Illegal> {
        CSRS.iter()
            .find(|row| row.admits(&op, mode, isa, counters))
            .map(|row| Self {
                handler: row.handler,
                op,
            })
            .ok_or(Illegal)
    }

    /// Returns what emulates the CSR.
    pub(crate) const fn handler(&self) -> CsrHandler {
        self.handler
    }

    /// Returns the instruction with its operand.
    pub(crate) const fn op(&self) -> &CsrOp {
        &self.op
    }
}

/// The outcome of an access to an emulated CSR.
#[must_use]
pub(crate) enum CsrOutcome {
    /// The access is done, and the register held this value.
    Done(usize),
    /// Userspace must complete the access, because it has the interrupt controller.
    Userspace,
    /// There is no such register.
    Illegal,
}

/// The instruction is one that the guest's machine does not have, or not in this mode: the guest
/// gets an illegal-instruction exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Illegal;
