// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! Decoding of the guest instructions that KVM completes in the guest's stead.
//!
//! This module and those below it turn bits into types; they read no guest memory and change no
//! state, so they need no lock. They answer to the decoding half of `vcpu_insn.c`.
//!
//! - [`Htinst`]: what the hardware said about the instruction that trapped.
//! - [`MmioInsn`]: a load or store whose address no memory backs.
//! - [`SystemInsn`]: an instruction that raised a virtual-instruction exception.
//!
//! Whatever cannot be completed is an exception for the guest ([`Undecodable`](mmio::Undecodable), [`Illegal`]), as
//! it would be on a machine whose devices refuse the access. It is never an error of `KVM_RUN`: a
//! guest must not be able to end its own VM with one instruction.

pub(crate) mod csr;
pub(crate) mod encoding;
pub(crate) mod htinst;
pub(crate) mod mmio;
pub(crate) mod system;

pub(crate) use crate::insn::{
    csr::{
        CounterEnable,
        CsrAccess,
        CsrHandler,
        CsrOp, //
    },
    htinst::{
        Htinst,
        PteAccess, //
    },
    mmio::{
        Direction,
        Load,
        MmioInsn,
        MmioOp, //
    },
    system::{
        Illegal,
        SystemInsn, //
    }, //
};

use crate::insn::encoding::{
    Compressed,
    Wide, //
};

/// How far the program counter moves when an instruction is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsnLen {
    /// A compressed instruction.
    Two,
    /// An instruction of the base encoding.
    Four,
}

impl InsnLen {
    /// The length in bytes.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// An instruction that trapped, by what is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insn {
    /// 16 bits, as they stand in the guest's memory.
    Compressed(Compressed),
    /// 32 bits, as they stand in the guest's memory.
    Wide(Wide),
    /// The transformation that `htinst` gave: no immediate, and the address offset in place of
    /// `rs1`. A compressed instruction was expanded, so its length has to be kept beside it.
    Transformed(Wide, InsnLen),
    /// More than 32 bits: no standard instruction is that long.
    Long,
}

impl Insn {
    /// The instruction that begins at the lowest bit of `word`, as fetched from the guest's memory.
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

    /// The instruction that a virtual-instruction exception left in `stval`, or [`None`] when the
    /// hardware leaves zero there and the instruction has to be fetched.
    pub(crate) fn from_stval(stval: usize) -> Option<Self> {
        match u32::try_from(stval) {
            Ok(0) => None,
            Ok(word) => Some(Self::fetched(word)),
            Err(_) => Some(Self::Long),
        }
    }

    /// The bits of the instruction, as far as they are known: what the guest's `stval` shall hold
    /// when it is illegal, and what a trace shows. Zero, which the privileged specification
    /// allows, for one that is too long.
    pub(crate) fn stval(self) -> usize {
        match self {
            Self::Compressed(insn) => usize::from(insn.into_raw()),
            Self::Wide(insn) | Self::Transformed(insn, _) => insn.into_raw() as usize,
            Self::Long => 0,
        }
    }
}
