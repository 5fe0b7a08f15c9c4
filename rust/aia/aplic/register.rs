// SPDX-License-Identifier: GPL-2.0
// Pure: no kernel, no bindings but constants. The host crate compiles and tests it, too.

//! The registers of the APLIC: their offsets and fields.
//!
//! AIA specification, "Memory-mapped control region for an interrupt domain". Of its registers,
//! `mmsiaddrcfg`, `smsiaddrcfg` and their upper halves belong to machine-level domains, which a
//! guest does not have, and the IDC structures to direct delivery: all of them are reserved here.

use kernel::bitfield;

use crate::aia::msi::{
    GuestIndex,
    HartIndex,
    Msi, //
};

/// One of the registers that a guest sees, decoded once from its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// `domaincfg`.
    DomainCfg,
    /// `sourcecfg[n]` of source n, which need not exist.
    SourceCfg(u32),
    /// `setip[k]`.
    SetIp(usize),
    /// `setipnum`, and `setipnum_le`, which is the same without big-endian mode.
    SetIpNum,
    /// `setipnum_be`.
    SetIpNumBe,
    /// `in_clrip[k]`.
    InClrIp(usize),
    /// `clripnum`.
    ClrIpNum,
    /// `setie[k]`.
    SetIe(usize),
    /// `setienum`.
    SetIeNum,
    /// `clrie[k]`.
    ClrIe(usize),
    /// `clrienum`.
    ClrIeNum,
    /// `genmsi`.
    GenMsi,
    /// `target[n]` of source n, which need not exist.
    Target(u32),
}

impl Register {
    /// Returns the register at `offset`, if there is one: all other bytes of the region are
    /// read-only zeros.
    pub(super) const fn at(offset: u32) -> Option<Register> {
        if offset & 3 != 0 {
            return None;
        }
        Some(match offset {
            0x0000 => Register::DomainCfg,
            0x0004..=0x0ffc => Register::SourceCfg(offset >> 2),
            0x1c00..=0x1c7c => Register::SetIp(word(offset)),
            0x1cdc | 0x2000 => Register::SetIpNum,
            0x1d00..=0x1d7c => Register::InClrIp(word(offset)),
            0x1ddc => Register::ClrIpNum,
            0x1e00..=0x1e7c => Register::SetIe(word(offset)),
            0x1edc => Register::SetIeNum,
            0x1f00..=0x1f7c => Register::ClrIe(word(offset)),
            0x1fdc => Register::ClrIeNum,
            0x2004 => Register::SetIpNumBe,
            0x3000 => Register::GenMsi,
            0x3004..=0x3ffc => Register::Target((offset & 0xfff) >> 2),
            _ => return None,
        })
    }
}

/// Returns which word of a row of 32 registers of bits `offset` is: the rows are aligned to 256
/// bytes.
const fn word(offset: u32) -> usize {
    (offset as usize & 0x7f) >> 2
}

bitfield! {
    /// `domaincfg`. The domain has one delivery mode (MSI) and one byte order (little-endian), so
    /// that IE is all that can be written.
    pub(super) struct DomainCfg(u32) {
        /// Read-only 0x80: tells the byte order.
        31:24 byte_order;
        /// Whether what is pending and enabled is forwarded.
        8:8 ie => bool;
        /// Whether that happens by MSI.
        2:2 dm;
    }
}

impl DomainCfg {
    /// What the register reads as while IE is clear.
    pub(super) const RESET: DomainCfg = DomainCfg::from_raw(0)
        .with_const_byte_order::<0x80>()
        .with_const_dm::<1>();
}

bitfield! {
    /// A value that is written to `sourcecfg`.
    pub(super) struct SourceCfg(u32) {
        /// Delegate to a child domain.
        10:10 d => bool;
        2:0 sm;
    }
}

/// When an interrupt source interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum SourceMode {
    /// Never; it has no state.
    Inactive = 0,
    /// By a write to `setip` alone; the wire is ignored.
    Detached = 1,
    /// When the wire rises.
    EdgeRise = 4,
    /// When the wire falls.
    EdgeFall = 5,
    /// While the wire is high.
    LevelHigh = 6,
    /// While the wire is low.
    LevelLow = 7,
}

impl SourceMode {
    /// Returns the mode that a write of `value` to `sourcecfg` chooses.
    ///
    /// The domain has no children: a guest that tries to delegate gets an inactive source. So does
    /// one that writes a reserved mode.
    pub(super) fn written(value: SourceCfg) -> SourceMode {
        if value.d() {
            return SourceMode::Inactive;
        }
        match value.sm().get() {
            1 => SourceMode::Detached,
            4 => SourceMode::EdgeRise,
            5 => SourceMode::EdgeFall,
            6 => SourceMode::LevelHigh,
            7 => SourceMode::LevelLow,
            _ => SourceMode::Inactive,
        }
    }

    /// Returns its number in `sourcecfg.SM`.
    pub(super) const fn sm(self) -> u32 {
        self as u32
    }
}

bitfield! {
    /// `target` in MSI delivery mode, and `genmsi`, whose fields are the same. `genmsi.Busy` is
    /// always 0: the MSI has arrived before the write is over.
    ///
    /// Guest Index, bits 17:12, is read-only zero: the guest's harts have no H extension.
    pub(super) struct Target(u32) {
        31:18 hart_index;
        10:0 identity;
    }
}

impl Target {
    /// The target of an inactive source.
    pub(super) const ZERO: Target = Target::from_raw(0);

    /// Returns what remains of a `value` that is written.
    pub(super) fn written(value: u32) -> Target {
        let value = Target::from(value);
        Target::ZERO
            .with_hart_index(value.hart_index())
            .with_identity(value.identity())
    }

    /// Returns the MSI that goes there.
    pub(super) fn msi(self) -> Msi {
        Msi {
            hart: HartIndex::new(self.hart_index().get()),
            guest: GuestIndex::new(0),
            id: self.identity().get(),
        }
    }
}
