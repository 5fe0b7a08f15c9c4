// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Decodes `htinst`, the hardware's description of the instruction that trapped.
//!
//! Privileged specification, "Transformed Instruction or Pseudoinstruction for mtinst or htinst".
//! No lock: these are values. It answers to the uses of `htinst` in `vcpu_insn.c`, which tests a
//! single bit of it.

use crate::insn::{
    encoding::{
        opcode, //
        Insn,
        InsnLen,
        Wide,
    },
    mmio::Undecodable, //
};

/// An access that the hardware made by itself to the guest's own page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PteAccess {
    /// The hardware read an entry.
    Read,
    /// The hardware set the accessed or the dirty bit of an entry, maybe on behalf of a *load*, so
    /// it needs a writable mapping.
    Write,
}

/// The register `htinst`, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Htinst {
    /// Zero: the hardware gives no description, so the instruction must be fetched.
    Absent,
    /// The instruction that trapped, without the address, which is in `htval` and `stval`.
    Transformed(Insn),
    /// The instruction itself did not fault, but the walk of the guest's page table on its behalf.
    /// The faulting address is that of a page-table entry.
    Pseudo(PteAccess),
    /// A custom instruction trapped, whose format is not known.
    Custom,
    /// A value that the specification does not define.
    Reserved,
}

/// A read of an entry of four bytes.
const PTE_READ_4: usize = 0x2000;
/// A write of an entry of four bytes.
const PTE_WRITE_4: usize = 0x2020;
/// A read of an entry of eight bytes.
const PTE_READ_8: usize = 0x3000;
/// A write of an entry of eight bytes.
const PTE_WRITE_8: usize = 0x3020;

/// Bits 1:0 of a transformed instruction that was compressed.
const WAS_COMPRESSED: u32 = 0b01;
/// Bits 1:0 of a transformed instruction that was not.
const WAS_WIDE: u32 = 0b11;

impl Htinst {
    /// Decodes the register.
    pub(crate) fn decode(raw: usize) -> Self {
        match raw {
            0 => Self::Absent,
            PTE_READ_4 | PTE_READ_8 => Self::Pseudo(PteAccess::Read),
            PTE_WRITE_4 | PTE_WRITE_8 => Self::Pseudo(PteAccess::Write),
            _ => match u32::try_from(raw) {
                Ok(word) => Self::transformed(Wide::from_raw(word)),
                Err(_) => Self::Reserved,
            },
        }
    }

    /// Decodes a value that is neither zero nor a pseudoinstruction.
    fn transformed(word: Wide) -> Self {
        let len = match word.space().get() {
            WAS_COMPRESSED => InsnLen::Two,
            WAS_WIDE => InsnLen::Four,
            _ => return Self::Reserved,
        };
        if word.is_long() {
            return Self::Reserved;
        }
        match word.opcode().get() {
            opcode::CUSTOM_0 | opcode::CUSTOM_1 | opcode::CUSTOM_2 | opcode::CUSTOM_3 => {
                Self::Custom
            }
            _ => Self::Transformed(Insn::Transformed(word, len)),
        }
    }

    /// Returns the instruction to complete when no memory backs the faulting address, or [`None`]
    /// when it has to be fetched.
    ///
    /// # Errors
    ///
    /// [`Undecodable::PageTableWalk`] when it was not the instruction's own access that faulted:
    /// to complete the instruction would be to make it access its own page-table entry. As when
    /// physical memory refuses the walk of a real machine, the guest gets an access fault of the
    /// original access's type.
    pub(crate) fn instruction(self) -> Result<Option<Insn>, Undecodable> {
        match self {
            Self::Absent => Ok(None),
            Self::Transformed(insn) => Ok(Some(insn)),
            Self::Pseudo(_) => Err(Undecodable::PageTableWalk),
            Self::Custom => Err(Undecodable::Custom),
            Self::Reserved => Err(Undecodable::Unknown),
        }
    }
}
