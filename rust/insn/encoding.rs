// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The formats of instructions, and the numbers that tell them apart.
//!
//! Unprivileged specification, "RV32/64G Instruction Set Listings", "C Extension for Compressed
//! Instructions" and "Zc* Extension for Code Size Reduction". No lock: these are values.

use kernel::bitfield;

/// Bits 6:2 of an instruction of 32 bits.
pub(crate) mod opcode {
    /// Integer loads.
    pub(crate) const LOAD: u32 = 0b00_000;
    /// Floating-point and vector loads.
    pub(crate) const LOAD_FP: u32 = 0b00_001;
    /// For custom extensions.
    pub(crate) const CUSTOM_0: u32 = 0b00_010;
    /// Fences and cache-block operations.
    pub(crate) const MISC_MEM: u32 = 0b00_011;
    /// Integer stores.
    pub(crate) const STORE: u32 = 0b01_000;
    /// Floating-point and vector stores.
    pub(crate) const STORE_FP: u32 = 0b01_001;
    /// For custom extensions.
    pub(crate) const CUSTOM_1: u32 = 0b01_010;
    /// Atomics of every kind.
    pub(crate) const AMO: u32 = 0b01_011;
    /// For custom extensions, and a future RV128.
    pub(crate) const CUSTOM_2: u32 = 0b10_110;
    /// CSRs, waits, fences of address translation, hypervisor loads and stores.
    pub(crate) const SYSTEM: u32 = 0b11_100;
    /// For custom extensions, and a future RV128.
    pub(crate) const CUSTOM_3: u32 = 0b11_110;
}

/// Bits 1:0 of an instruction that is not compressed.
const NOT_COMPRESSED: u16 = 0b11;

bitfield! {
    /// An instruction of 32 bits, with the fields of every format that is decoded here.
    pub(crate) struct Wide(u32) {
        /// I format: the CSR of a CSR instruction, the function of a privileged one.
        31:20 funct12;
        /// I format: the low bits of a load's offset, which decide its alignment.
        22:20 load_offset_low;
        /// S format: the register that is stored.
        24:20 rs2;
        /// The base register, or the immediate of a CSR instruction, or in a transformed
        /// instruction the distance from the access's first byte to the one that faulted.
        19:15 rs1;
        /// Width of an access, kind of a CSR instruction.
        14:12 funct3;
        /// The register that is written.
        11:7 rd;
        /// S format: the low bits of a store's offset, which decide its alignment.
        9:7 store_offset_low;
        /// The major opcode.
        6:2 opcode;
        /// The part of the opcode that is 0b111 in longer encodings.
        4:2 length;
        /// `11` in memory; in `htinst` also `01`, which marks what was compressed.
        1:0 space;
    }
}

impl Wide {
    /// Returns whether this is the beginning of an instruction of more than 32 bits.
    pub(crate) fn is_long(self) -> bool {
        self.length() == 0b111
    }
}

bitfield! {
    /// An instruction of 16 bits, with the fields of every format that is decoded here.
    pub(crate) struct Compressed(u16) {
        /// Kind of instruction within the quadrant.
        15:13 funct3;
        /// Kind of instruction within [`quadrant_0::ZCB`].
        12:10 funct3_zcb;
        /// The base register, x8 to x15.
        9:7 rs1_popular;
        /// CI format: the register that is loaded.
        11:7 rd;
        /// Kind of instruction within the halfword accesses of Zcb.
        6:6 funct1_zcb;
        /// CSS format: the register that is stored.
        6:2 rs2;
        /// The register that is loaded or stored, x8 to x15.
        4:2 rd_popular;
        /// Which of the three compressed opcode spaces this is.
        1:0 quadrant;
    }
}

impl Compressed {
    /// Returns whether this is a whole instruction and not the first half of a longer one.
    pub(crate) fn is_compressed(self) -> bool {
        self.quadrant() != NOT_COMPRESSED
    }
}

/// Bits 15:13 in quadrant 0: accesses relative to one of x8 to x15.
pub(crate) mod quadrant_0 {
    /// Bits 1:0.
    pub(crate) const NUMBER: u16 = 0b00;
    /// `c.fld`.
    pub(crate) const FLD: u16 = 0b001;
    /// `c.lw`.
    pub(crate) const LW: u16 = 0b010;
    /// `c.ld`; RV32 has `c.flw` here.
    pub(crate) const LD: u16 = 0b011;
    /// The accesses of Zcb: bits 12:10 tell which.
    pub(crate) const ZCB: u16 = 0b100;
    /// `c.fsd`.
    pub(crate) const FSD: u16 = 0b101;
    /// `c.sw`.
    pub(crate) const SW: u16 = 0b110;
    /// `c.sd`; RV32 has `c.fsw` here.
    pub(crate) const SD: u16 = 0b111;
}

/// Bits 12:10 within [`quadrant_0::ZCB`].
pub(crate) mod zcb {
    /// `c.lbu`.
    pub(crate) const LBU: u16 = 0b000;
    /// `c.lhu` or `c.lh`: bit 6 tells which.
    pub(crate) const LH: u16 = 0b001;
    /// `c.sb`.
    pub(crate) const SB: u16 = 0b010;
    /// `c.sh`, with bit 6 clear.
    pub(crate) const SH: u16 = 0b011;
}

/// Bits 15:13 in quadrant 2: accesses relative to the stack pointer.
pub(crate) mod quadrant_2 {
    /// Bits 1:0.
    pub(crate) const NUMBER: u16 = 0b10;
    /// `c.fldsp`.
    pub(crate) const FLDSP: u16 = 0b001;
    /// `c.lwsp`; reserved with `rd` = x0.
    pub(crate) const LWSP: u16 = 0b010;
    /// `c.ldsp`; reserved with `rd` = x0. RV32 has `c.flwsp` here.
    pub(crate) const LDSP: u16 = 0b011;
    /// `c.fsdsp`; without D, the pushes, pops and table jumps of Zcmp and Zcmt.
    pub(crate) const FSDSP: u16 = 0b101;
    /// `c.swsp`.
    pub(crate) const SWSP: u16 = 0b110;
    /// `c.sdsp`. RV32 has `c.fswsp` here.
    pub(crate) const SDSP: u16 = 0b111;
}

/// The length of an instruction, by which the pc advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsnLen {
    /// A compressed instruction.
    Two,
    /// An instruction of the base encoding.
    Four,
}

impl InsnLen {
    /// Returns the length in bytes.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// An instruction that trapped, by its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insn {
    /// 16 bits, as they stand in the guest's memory.
    Compressed(Compressed),
    /// 32 bits, as they stand in the guest's memory.
    Wide(Wide),
    /// The transformed instruction in `htinst`: without immediate, and with the address offset in
    /// place of `rs1`. A compressed instruction was expanded, so its length has to be kept beside
    /// it.
    Transformed(Wide, InsnLen),
    /// More than 32 bits: no standard instruction is that long.
    Long,
}

impl Insn {
    /// Returns the instruction that begins at the lowest bit of `word`, as fetched from the guest's
    /// memory.
    ///
    /// Of a compressed instruction only the low half counts: it may be the last one of a mapped
    /// page, so its fetcher need not have more.
    pub(crate) fn fetched(word: u32) -> Self {
        let low = Compressed::from_raw(word as u16);
        let wide = Wide::from_raw(word);
        if low.is_compressed() {
            Self::Compressed(low)
        } else if wide.is_long() {
            Self::Long
        } else {
            Self::Wide(wide)
        }
    }

    /// Returns the instruction that a virtual-instruction exception left in `stval`, or [`None`]
    /// when the hardware leaves zero there and the instruction has to be fetched.
    pub(crate) fn from_stval(stval: usize) -> Option<Self> {
        match u32::try_from(stval) {
            Ok(0) => None,
            Ok(word) => Some(Self::fetched(word)),
            Err(_) => Some(Self::Long),
        }
    }

    /// Returns the bits of the instruction, as far as they are known: what the guest's `stval`
    /// shall hold when it is illegal, and what a trace shows. Zero, which the privileged
    /// specification allows, for one that is too long.
    pub(crate) fn stval(self) -> usize {
        match self {
            Self::Compressed(insn) => usize::from(insn.into_raw()),
            Self::Wide(insn) | Self::Transformed(insn, _) => insn.into_raw() as usize,
            Self::Long => 0,
        }
    }
}
