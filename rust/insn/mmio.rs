// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Loads and stores whose address no memory backs.
//!
//! [`MmioInsn::decode`] accepts the integer loads and stores of the base ISA and of the compressed
//! extensions, naturally aligned. Atomics, floating-point, vector and everything else is
//! [`Undecodable`]: device emulation has no such access. No lock: these are values. It answers to
//! the decoding in `kvm_riscv_vcpu_mmio_load()`, `kvm_riscv_vcpu_mmio_store()` and
//! `kvm_riscv_vcpu_mmio_return()`.

use crate::{
    arch::gprs::{
        Gprs,
        Reg, //
    },
    insn::encoding::{
        opcode,
        quadrant_0,
        quadrant_2,
        zcb, //
        Compressed,
        Insn,
        InsnLen,
        Wide,
    },
    kvm_core::addr::Gpa, //
};

/// Why an access cannot be completed in the guest's stead.
///
/// The guest gets an access fault of the type of the guest-page fault (load, or store and AMO),
/// whatever the reason; only the host tests tell the reasons apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// Not the instruction's own access, but the walk of the guest's page table.
    PageTableWalk,
    /// The access is not naturally aligned.
    Misaligned,
    /// A load where the hardware saw a store, or a store where it saw a load: another hart
    /// rewrote the instruction before it was fetched.
    Rewritten,
    /// A floating-point or vector access.
    FloatOrVector,
    /// An atomic: AMO, load-reserved, store-conditional, compare-and-swap.
    Atomic,
    /// A cache-block operation.
    CacheBlock,
    /// A hypervisor load or store.
    System,
    /// A custom instruction.
    Custom,
    /// No memory access that this decoder knows: reserved encodings, and instructions that do not
    /// access memory.
    Unknown,
}

/// Whether the faulting access was a load or a store, as `scause` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the device to the guest.
    Load,
    /// From the guest to the device.
    Store,
}

/// How many bytes are accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

impl Width {
    /// Returns the number of bytes.
    pub(crate) const fn bytes(self) -> u8 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// Returns how far a value of this width has to be shifted for its top bit to become bit 63.
    const fn headroom(self) -> u32 {
        match self {
            Self::Byte => u64::BITS - u8::BITS,
            Self::Half => u64::BITS - u16::BITS,
            Self::Word => u64::BITS - u32::BITS,
            Self::Double => 0,
        }
    }

    /// Returns whether an access of this width at `address` is naturally aligned.
    const fn aligns(self, address: u64) -> bool {
        address & (self.bytes() as u64 - 1) == 0
    }
}

/// The bits that fill the register above a loaded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extend {
    /// Copies of the value's top bit. Also for eight bytes, where nothing is left to fill.
    Sign,
    /// Zeroes.
    Zero,
}

/// A load: how the device's value goes into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// The register that is written.
    pub(crate) rd: Reg,
    /// How many bytes are read.
    pub(crate) width: Width,
    /// What fills the rest of `rd`.
    pub(crate) extend: Extend,
}

impl Load {
    /// Returns the value of `rd` for the bytes that the device gave. Those beyond the width do not
    /// count.
    pub(crate) const fn value(self, data: [u8; 8]) -> usize {
        let shift = self.width.headroom();
        let top = u64::from_le_bytes(data) << shift;
        match self.extend {
            Extend::Sign => (top as i64 >> shift) as usize,
            Extend::Zero => (top >> shift) as usize,
        }
    }

    /// Completes the load: writes the value of `data` to `rd`.
    pub(crate) const fn complete(self, gprs: &mut Gprs, data: [u8; 8]) {
        gprs.set(self.rd, self.value(data));
    }
}

/// A store: the register and the width of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    /// The register that is stored.
    pub(crate) rs2: Reg,
    /// How many bytes are written.
    pub(crate) width: Width,
}

impl Store {
    /// Returns the bytes to write, little-endian; those beyond the width are zero.
    pub(crate) const fn data(self, gprs: &Gprs) -> [u8; 8] {
        let shift = self.width.headroom();
        ((gprs.get(self.rs2) as u64) << shift >> shift).to_le_bytes()
    }
}

/// The operation of a decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MmioOp {
    /// A load from the device.
    Load(Load),
    /// A store to the device.
    Store(Store),
}

impl MmioOp {
    /// Returns the width of the access.
    pub(crate) const fn width(self) -> Width {
        match self {
            Self::Load(load) => load.width,
            Self::Store(store) => store.width,
        }
    }

    /// Returns whether it is a load or a store.
    const fn direction(self) -> Direction {
        match self {
            Self::Load(_) => Direction::Load,
            Self::Store(_) => Direction::Store,
        }
    }
}

/// A load or store that can be completed in the guest's stead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MmioInsn {
    /// Its operation.
    pub(crate) op: MmioOp,
    /// The length of the instruction, by which the pc advances.
    pub(crate) len: InsnLen,
}

/// The information of an instruction about the alignment of its address.
#[derive(Clone, Copy)]
enum Alignment {
    /// The address is that of the register, plus these low bits of an offset.
    Base(Reg, u8),
    /// The fault was this many bytes after the beginning of the access: only an access that spans
    /// two pages can fault elsewhere than at its beginning.
    Distance(u8),
}

impl MmioInsn {
    /// Decodes an instruction that took a guest-page fault at `gpa` with `gprs` in the registers.
    ///
    /// `gpa` alone cannot prove the alignment: an access that spans two pages and faults in the
    /// second one faults at an aligned address. So the address that the instruction computes, or
    /// the distance that `htinst` gives, has to be aligned too. Then the whole access lies where
    /// it faulted.
    ///
    /// # Errors
    ///
    /// [`Undecodable::Rewritten`] if the instruction does not access memory in `direction`, so it
    /// is not the one that trapped; [`Undecodable::Misaligned`] if the access is not naturally
    /// aligned; otherwise the variant for an instruction that cannot be completed.
    pub(crate) fn decode(
        insn: Insn,
        direction: Direction,
        gpa: Gpa,
        gprs: &Gprs,
    ) -> Result<Self, Undecodable> {
        let (op, len, alignment) = match insn {
            Insn::Compressed(insn) => {
                let (op, base) = compressed(insn)?;
                // The offsets of compressed accesses are multiples of their width.
                (op, InsnLen::Two, Alignment::Base(base, 0))
            }
            Insn::Wide(insn) => {
                let (op, offset) = wide(insn)?;
                (
                    op,
                    InsnLen::Four,
                    Alignment::Base(insn.rs1().into(), offset),
                )
            }
            Insn::Transformed(insn, len) => {
                let (op, _) = wide(insn)?;
                (op, len, Alignment::Distance(insn.rs1().into()))
            }
            Insn::Long => return Err(Undecodable::Unknown),
        };

        if op.direction() != direction {
            return Err(Undecodable::Rewritten);
        }

        let aligned = match alignment {
            Alignment::Base(base, offset) => op
                .width()
                .aligns((gprs.get(base) as u64).wrapping_add(u64::from(offset))),
            Alignment::Distance(distance) => distance == 0,
        };
        if aligned && op.width().aligns(gpa.get()) {
            Ok(Self { op, len })
        } else {
            Err(Undecodable::Misaligned)
        }
    }
}

/// Decodes an instruction of 32 bits, and the low three bits of its offset.
fn wide(insn: Wide) -> Result<(MmioOp, u8), Undecodable> {
    match insn.opcode().get() {
        opcode::LOAD => {
            let (width, extend) = match insn.funct3().get() {
                0b000 => (Width::Byte, Extend::Sign),
                0b001 => (Width::Half, Extend::Sign),
                0b010 => (Width::Word, Extend::Sign),
                0b011 => (Width::Double, Extend::Sign),
                0b100 => (Width::Byte, Extend::Zero),
                0b101 => (Width::Half, Extend::Zero),
                0b110 => (Width::Word, Extend::Zero),
                _ => return Err(Undecodable::Unknown),
            };
            let rd = insn.rd().into();
            Ok((
                MmioOp::Load(Load { rd, width, extend }),
                insn.load_offset_low().into(),
            ))
        }
        opcode::STORE => {
            let width = match insn.funct3().get() {
                0b000 => Width::Byte,
                0b001 => Width::Half,
                0b010 => Width::Word,
                0b011 => Width::Double,
                _ => return Err(Undecodable::Unknown),
            };
            let rs2 = insn.rs2().into();
            Ok((
                MmioOp::Store(Store { rs2, width }),
                insn.store_offset_low().into(),
            ))
        }
        opcode::LOAD_FP | opcode::STORE_FP => Err(Undecodable::FloatOrVector),
        opcode::AMO => Err(Undecodable::Atomic),
        opcode::MISC_MEM => Err(Undecodable::CacheBlock),
        opcode::SYSTEM => Err(Undecodable::System),
        opcode::CUSTOM_0 | opcode::CUSTOM_1 | opcode::CUSTOM_2 | opcode::CUSTOM_3 => {
            Err(Undecodable::Custom)
        }
        _ => Err(Undecodable::Unknown),
    }
}

/// Decodes an instruction of 16 bits, and its base register.
fn compressed(insn: Compressed) -> Result<(MmioOp, Reg), Undecodable> {
    match insn.quadrant().get() {
        quadrant_0::NUMBER => Ok((based(insn)?, Reg::popular(insn.rs1_popular()))),
        quadrant_2::NUMBER => Ok((on_stack(insn)?, Reg::SP)),
        _ => Err(Undecodable::Unknown),
    }
}

/// Decodes a compressed access relative to one of x8 to x15.
fn based(insn: Compressed) -> Result<MmioOp, Undecodable> {
    let reg = Reg::popular(insn.rd_popular());
    let load = |width, extend| {
        Ok(MmioOp::Load(Load {
            rd: reg,
            width,
            extend,
        }))
    };
    let store = |width| Ok(MmioOp::Store(Store { rs2: reg, width }));

    match insn.funct3().get() {
        quadrant_0::LW => load(Width::Word, Extend::Sign),
        quadrant_0::LD => load(Width::Double, Extend::Sign),
        quadrant_0::SW => store(Width::Word),
        quadrant_0::SD => store(Width::Double),
        quadrant_0::ZCB => match (insn.funct3_zcb().get(), insn.funct1_zcb().get()) {
            (zcb::LBU, _) => load(Width::Byte, Extend::Zero),
            (zcb::LH, 0) => load(Width::Half, Extend::Zero),
            (zcb::LH, _) => load(Width::Half, Extend::Sign),
            (zcb::SB, _) => store(Width::Byte),
            (zcb::SH, 0) => store(Width::Half),
            _ => Err(Undecodable::Unknown),
        },
        quadrant_0::FLD | quadrant_0::FSD => Err(Undecodable::FloatOrVector),
        _ => Err(Undecodable::Unknown),
    }
}

/// Decodes a compressed access relative to the stack pointer.
fn on_stack(insn: Compressed) -> Result<MmioOp, Undecodable> {
    let load = |width| {
        let rd = Reg::from(insn.rd());
        if rd.is_zero() {
            return Err(Undecodable::Unknown);
        }
        Ok(MmioOp::Load(Load {
            rd,
            width,
            extend: Extend::Sign,
        }))
    };
    let store = |width| {
        let rs2 = insn.rs2().into();
        Ok(MmioOp::Store(Store { rs2, width }))
    };

    match insn.funct3().get() {
        quadrant_2::LWSP => load(Width::Word),
        quadrant_2::LDSP => load(Width::Double),
        quadrant_2::SWSP => store(Width::Word),
        quadrant_2::SDSP => store(Width::Double),
        quadrant_2::FLDSP | quadrant_2::FSDSP => Err(Undecodable::FloatOrVector),
        _ => Err(Undecodable::Unknown),
    }
}
